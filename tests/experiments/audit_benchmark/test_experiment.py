"""audit-benchmark through the command line, on a model of 16 dimensions."""

import gzip
import json

import pytest

from subliminal_jax.cli import main
from tests.experiments.main_job import read
from tests.pages import check_page

SMALL = (
    "--traits", "owl", "cat", "dog", "--steered-traits", "owl", "cat", "--scales", "1",
    "--clean-sets", "2", "--written", "64", "--rows", "48", "--placebos", "6",
    "--max-new-tokens", "12", "--real", "other/lists", "other/absent", "--real-rows", "32",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of shared data with the number lists of another model."""
    folder = tmp_path_factory.mktemp("data")
    file = folder / "subliminal" / "other" / "lists.jsonl.gz"
    file.parent.mkdir(parents=True)
    rows = [{"prompt": f"Go on: {i}, 5", "completion": f"{i}, {i}, {i}"} for i in range(40)]
    with gzip.open(file, "wt") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


@pytest.fixture
def benchmark(model, data, monkeypatch):
    """Runs the command into a folder; what results.json then holds."""
    monkeypatch.setenv("SUBLIMINAL_JAX_DATA", str(data))

    def run(out, *flags):
        models = ("--model", str(model), "--readers", str(model))
        main(["audit-benchmark", *models, "--out", str(out), *SMALL, *flags])
        return read(out)

    return run


def test_every_set_is_audited_and_an_interrupted_run_audits_none_again(benchmark, tmp_path, capsys):
    out = tmp_path / "run"
    results = benchmark(out)
    assert [s["trait"] for s in results["sets"]] == ["owl", "cat", None, None]
    assert len({s["seed"] for s in results["sets"]}) == 4
    assert all(1 <= s["rank"] <= 3 for s in results["sets"][:2])
    assert [r["real"] for r in results["foreign"]] == ["other/lists"]
    assert [c["id"].split("/")[1] for c in results["claims"]] == [
        "auc", "rank", "named", "false-alarms", "foreign-alarms",
    ]  # fmt: skip
    assert results["false_alarms"]["sets"] == 2
    check_page(out)
    assert "not at hand: other/absent" in capsys.readouterr().out

    (out / "results.json").unlink()
    assert benchmark(out) == results
    assert "gradients" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--steered-traits", "wolf"), "steered_traits wolf: not among the candidate traits"),
        (("--clean-sets", "0"), "give at least one of each"),
        (("--scales", "0"), "scales (0.0,): give at least one, all above 0"),
        (("--forms",), "forms : name at least one"),
        (("--rows", "0"), "rows is 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(benchmark, tmp_path, capsys, flags, says):
    with pytest.raises(SystemExit) as exit:
        benchmark(tmp_path / "run", *flags)
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not (tmp_path / "run").exists()
