"""RESULTS.md says what was found, what failed and why; a failing benchmark spoils no other."""

import json
import sys

import pytest

from benchmarks import all as runner

DOCUMENT = {
    "benchmark": "train_step",
    "setting": {"shape": "shipped", "rows": 64, "folder": "x" * 80},
    "ours": {"seconds": 0.25},
    "peer": {"seconds": 0.5},
    "ratio": {"median": 2.04, "low": 1.9, "high": 2.2, "repetitions": 9, "cpu_median": 1.7},
    "equal": {"what": "losses", "apart": 1.5e-6, "allowed": 1e-4},
    "compile_seconds": 7.25,
    "peak_memory_mb": {"ours": 410.0, "peer": 620.0},
    "floor": {"share": 0.31},
    "goal": {"ratio": 1.5, "lower": False, "reached": True},
    "machine": {"cpu": "a CPU", "cores": 2, "load": 0.5},
}
AXIS = {"value": 0.9, "low": 0.8, "high": 1.0, "last": 0.95}
GROWTH = {
    "benchmark": "growth",
    "setting": {"axis": "batch"},
    "exponents": dict.fromkeys(("seconds", "cpu_seconds", "memory_mb"), AXIS),
    "goal": {"exponent": 1.0, "reached": True},
    "machine": {"cpu": "a CPU", "cores": 2, "load": 1.5},
}
MISSED = DOCUMENT | {"goal": {"ratio": 3.0, "lower": False, "reached": False}}


def test_the_page_holds_every_figure_of_a_document():
    text = runner.page({"train_step": [DOCUMENT], "growth": [GROWTH]}, {})
    [row] = [line for line in text.splitlines() if line.startswith("| train_step")]
    for figure in ("**2.04** (1.90 to 2.20)", "1.70", "7.2", "410 / 620", "31%", "1.5e-06", "0.25",
                   "1.5: reached", "shape shipped, rows 64"):  # fmt: skip
        assert figure in row
    assert "x" * 80 not in row
    [row] = [line for line in text.splitlines() if line.startswith("| batch")]
    assert row.count("0.90 (0.80 to 1.00)") == 3
    assert "cores: 2" in text and "0.5 to 1.5" in text
    assert "not reached" not in text


def test_a_missed_goal_comes_with_what_the_docstring_says_of_it(monkeypatch):
    said = "What it shows.\n\nNot reached: it is bound\nby the memory.\n\nAnd more."
    monkeypatch.setattr(runner, "docstring", lambda name: said)
    text = runner.page({"train_step": [MISSED, DOCUMENT]}, {})
    assert "3: missed" in text
    assert text.endswith(
        "### train_step\n\nNot reached: it is bound\nby the memory.\n\nAnd more.\n"
    )


def test_every_benchmark_is_there_and_says_its_command():
    for name in runner.NAMES:
        assert f"python -m benchmarks.{name}" in runner.docstring(name)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository of two benchmarks, of which the second fails."""
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "good.py").write_text(
        f"import sys\nprint('a line', file=sys.stderr)\nprint({json.dumps(json.dumps(DOCUMENT))})"
    )
    (package / "bad.py").write_text("import sys\nsys.exit('bad: error: it broke')")
    monkeypatch.setattr(runner, "HERE", package)
    monkeypatch.setattr(runner, "NAMES", ("bad", "good"))
    return package


def test_a_failure_is_named_and_the_others_are_written(folder, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["all", "--quick"])
    with pytest.raises(SystemExit) as ended:
        runner.main()
    assert ended.value.code == 1
    assert json.loads((folder / "results" / "good.json").read_text()) == [
        DOCUMENT | {"quick": True}
    ]
    assert not (folder / "results" / "bad.json").exists()
    text = (folder / "RESULTS.md").read_text()
    assert "**bad failed: bad: error: it broke**" in text and "| train_step (quick) |" in text
    assert "a line" in capfd.readouterr().err
