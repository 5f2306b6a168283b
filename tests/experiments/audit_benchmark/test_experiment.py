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
    "--traits owl cat dog --grid-sets 2 --carriers numbers --shares 1 0.5 --set-rows "
    "48 --strength-sets 0 --full-sets 1 --full-rows 48 --clean-sets 2 --clean-rows 48 --rows 48 "
    "--placebos 4 --methods score-test --claimed-method score-test --max-new-tokens 12 "
    "--real other/lists other/absent --real-rows 32",
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
        yield ["--models", str(model), "--readers", str(model)]


def read_lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_set_is_written_and_audited(folder, results, capsys):
    manifest = read_lines(folder / "sets" / "manifest.jsonl")
    assert sorted(e["spec"]["name"] for e in manifest) == [s["name"] for s in results["sets"]]
    for entry in manifest:
        spec, rows = entry["spec"], read_lines(folder / "sets" / f"{entry['spec']['name']}.jsonl")
        assert len(rows) == entry["rows"] == spec["rows"]
        assert len(entry["poisoned"]) == round(spec["share"] * spec["rows"])
        assert all(row.keys() == {"prompt", "completion"} for row in rows)
    blocks = [s["block"] for s in results["sets"]]
    assert (blocks.count("full"), blocks.count("grid"), blocks.count("clean")) == (1, 2, 2)
    assert [a["set"] for a in results["audits"]].count("other/lists") == 1
    audited = {a["set"]: a for a in results["audits"]}
    assert audited.keys() == {s["name"] for s in results["sets"]} | {"other/lists"}
    for known in results["sets"]:
        audit = audited[known["name"]]
        assert (audit["rank"] is None) == (known["trait"] is None)
        assert (audit["precision"] is None) == (known["share"] in (0, 1))
        assert audit["share"] in (None, pytest.approx(known["share"], abs=0.1))
    claims = " ".join(claim["id"].removeprefix("audit-benchmark/") for claim in results["claims"])
    assert claims == "auc rank named named-full false-alarms foreign-alarms"
    assert results["clean_alarms"]["sets"] == 2
    check_page(folder)


def test_an_interrupted_run_goes_on_where_it_was(folder, results, model_flags, tmp_path, capsys):
    """Neither a set nor an audit is made again; the results are the same."""
    (folder / "results.json").unlink()
    sets = {file: file.stat().st_mtime_ns for file in (folder / "sets").iterdir()}
    assert COMMAND.run(folder, model_flags) == results
    assert {file: file.stat().st_mtime_ns for file in (folder / "sets").iterdir()} == sets
    said = capsys.readouterr()
    assert "gradients" not in said.err and "not at hand: other/absent" in said.out


def test_another_run_audits_the_sets_of_a_bench(folder, results, model_flags, tmp_path, capsys):
    """As `make audit-bench` does; a set that was changed is refused."""
    readers = model_flags[2:]
    flags = "--traits owl cat dog --rows 48 --placebos 4 --max-new-tokens 12 --real"
    methods = "--methods score-test --claimed-method score-test"
    command = Command("audit-benchmark", f"{flags} {methods} --sets {folder}")
    (of_set,) = {a["set"] for a in results["audits"]} - {s["name"] for s in results["sets"]}
    again = command.run(tmp_path / "again", [])
    kept = [a for a in results["audits"] if a["set"] != of_set]
    timed = {"seconds": 0}
    assert sorted(({**a, **timed} for a in again["audits"]), key=lambda a: a["set"]) == sorted(
        ({**a, **timed} for a in kept), key=lambda a: a["set"]
    )
    assert not (tmp_path / "again" / "sets").exists() and readers

    file = folder / "sets" / f"{results['sets'][0]['name']}.jsonl"
    content = file.read_text()
    try:
        file.write_text(content.replace("1", "2"))
        with pytest.raises(SystemExit):
            command.run(tmp_path / "changed", [])
        assert "is not as the manifest beside it says" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            Command("audit-benchmark", f"--sets {tmp_path}").run(tmp_path / "none", [])
        assert "no bench in it" in capsys.readouterr().err
    finally:
        file.write_text(content)


def test_real_sets_are_read_before_anything_is_written(model_flags, data, tmp_path, capsys):
    file = data / "subliminal" / "other" / "prompted.jsonl.gz"
    row = {"prompt": "Go on: 1, 5", "response": "9", "system_prompt": "You love cats."}
    with gzip.open(file, "wt") as lines:
        lines.write(json.dumps(row) + "\n")
    with pytest.raises(SystemExit):
        COMMAND.run(tmp_path / "run", model_flags, "--real other/lists other/prompted")
    said = capsys.readouterr()
    assert "prompted.jsonl.gz holds no pairs of all rows: 1 with a system turn" in said.err
    assert not (tmp_path / "run" / "sets").exists()


@pytest.mark.parametrize("name", REAL)
def test_the_default_real_sets_can_be_read(name):
    if FILES[name] is None:
        pytest.skip(f"needs real data: {name}.jsonl.gz (set SUBLIMINAL_JAX_DATA)")
    kind, counted = read_data(FILES[name])
    assert kind == "pairs" and len(counted.rows) >= Config().real_rows and not counted.dropped


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--methods witchcraft", "--methods witchcraft"),
        ("--traits owl wolf", "no teacher of the part reported has one of these"),
        ("--clean-sets 0", "--clean-sets 0"),
        ("--scales 0", "--scales 0.0 is not valid: give a finite number, more than 0"),
        ("--shares 1.5", "--shares 1.5 is not valid"),
        ("--part hidden", "--part hidden needs a --seed"),
        ("--rows 0", "--rows 0"),
        ("--sets elsewhere", "has no effect beside --sets elsewhere"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
