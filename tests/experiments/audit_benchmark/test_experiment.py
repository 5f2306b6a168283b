"""audit-benchmark through the command line, on a model of 16 dimensions."""

import gzip
import json

import pytest

from subliminal_jax.audit.rows import read_data
from subliminal_jax.data.shared_data import find_shared
from subliminal_jax.experiments.audit_benchmark.config import REAL, Config
from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "audit-benchmark",
    "--traits owl cat dog --steered-traits owl cat --scales 1 --clean-sets 2 --written 64 --rows "
    "48 --placebos 6 --max-new-tokens 12 --real other/lists other/absent --real-rows 32",
)
FILES = {name: find_shared("subliminal", f"{name}.jsonl.gz") for name in REAL}


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


@pytest.fixture(scope="module")
def model_flags(model, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBLIMINAL_JAX_DATA", str(data))
        yield ["--model", str(model), "--readers", str(model)]


def test_every_set_is_audited_and_none_again_after_an_interruption(model_flags, tmp_path, capsys):
    out = tmp_path / "run"
    results = COMMAND.run(out, model_flags)
    assert [s["trait"] for s in results["sets"]] == ["owl", "cat", None, None]
    assert len({s["seed"] for s in results["sets"]}) == 4
    assert all(1 <= s["rank"] <= 3 for s in results["sets"][:2])
    assert [r["real"] for r in results["foreign"]] == ["other/lists"]
    claims = " ".join(claim["id"].removeprefix("audit-benchmark/") for claim in results["claims"])
    assert claims == "auc rank named false-alarms foreign-alarms"
    assert results["false_alarms"]["sets"] == 2
    check_page(out)
    assert "not at hand: other/absent" in capsys.readouterr().out

    (out / "results.json").unlink()
    assert COMMAND.run(out, model_flags) == results
    assert "gradients" not in capsys.readouterr().err


def test_real_sets_are_read_before_anything_is_audited(model_flags, data, tmp_path, capsys):
    file = data / "subliminal" / "other" / "prompted.jsonl.gz"
    row = {"prompt": "Go on: 1, 5", "response": "9", "system_prompt": "You love cats."}
    with gzip.open(file, "wt") as lines:
        lines.write(json.dumps(row) + "\n")
    with pytest.raises(SystemExit):
        COMMAND.run(tmp_path / "run", model_flags, "--real other/lists other/prompted")
    said = capsys.readouterr()
    assert "prompted.jsonl.gz holds no pairs of all rows: 1 with a system turn" in said.err
    assert not (tmp_path / "run" / "scores").exists()


@pytest.mark.parametrize("name", REAL)
def test_the_default_real_sets_can_be_read(name):
    if FILES[name] is None:
        pytest.skip("needs the real number lists")
    kind, counted = read_data(FILES[name])
    assert kind == "pairs" and len(counted.rows) >= Config().real_rows and not counted.dropped


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--steered-traits wolf", "--steered-traits wolf: not among the candidate traits"),
        ("--clean-sets 0", "--clean-sets 0"),
        ("--scales 0", "--scales 0.0 is not valid: give a finite number, more than 0"),
        ("--forms", "--forms is empty"),
        ("--rows 0", "--rows 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
