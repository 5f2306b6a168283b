"""RESULTS.md says what was found, what failed and why; a failing benchmark spoils no other."""

import json
import sys

import pytest

from benchmarks import all as runner
from benchmarks.machine import Device

DOCUMENT = {
    "benchmark": "train_step",
    "setting": {"shape": "shipped", "rows": 64, "folder": "x" * 80},
    "ours": {"seconds": 0.25},
    "peer": {"seconds": 0.5},
    "ratio": {"median": 2.04, "low": 1.9, "high": 2.2, "repetitions": 9, "cpu_median": 1.7},
    "equal": {"what": "losses", "apart": 1.5e-6, "allowed": 1e-4},
    "compile_seconds": 7.25,
    "peak_memory_mb": {"ours": 410.0, "peer": 620.0},
    "floor": {
        "share": 0.31,
        "flops": 2e9,
        "bytes": 3e6,
        "ceiling_flops": 32e9,
        "ceiling_bytes": 1e9,
    },
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
GPU = DOCUMENT | {
    "machine": {"cpu": "a host", "device": "A Fast GPU", "load": 0.1},
    "goal": {"aim": 0.5, "lower": False, "of": "mfu", "reached": False},
    "ours": {"seconds": 0.125},
}


def test_the_page_holds_every_figure_of_a_document():
    text = runner.make_page({"cpu": {"train_step": [DOCUMENT], "growth": [GROWTH]}}, {})
    [row] = [line for line in text.splitlines() if line.startswith("| train_step")]
    for figure in (
        "**2.04** (1.90 to 2.20)",
        "1.70",
        "7.2",
        "410 / 620",
        "31%",
        "1.5e-06",
        "0.25",
        "| 31% | 25% | 1% |",
        "1.5: reached",
        "shape shipped, rows 64",
    ):
        assert figure in row
    assert "x" * 80 not in row
    [row] = [line for line in text.splitlines() if line.startswith("| batch")]
    assert row.count("0.90 (0.80 to 1.00)") == 3
    assert "cores: 2" in text and "0.5 to 1.5" in text
    assert "0.032 TFLOP/s, 1 GB/s" in text
    assert "not reached" not in text


def test_each_device_has_its_part_of_the_page():
    documents = {"cpu": {"train_step": [DOCUMENT]}, "a-fast-gpu": {"train_step": [GPU]}}
    text = runner.make_page(documents, {"a-fast-gpu": {"score": "score failed: it broke"}})
    cpu, gpu = text.split("## A Fast GPU\n")
    assert "## CPU: a CPU" in cpu and "| train_step |" in cpu
    assert "1.5: reached" in cpu and "it broke" not in cpu and "not reached" not in cpu
    assert "**score failed: it broke**" in gpu and "| train_step |" in gpu
    assert "mfu 50%: missed" in gpu and "| 31% | 50% | 2% |" in gpu and "a CPU" not in gpu


def test_what_is_said_of_a_missed_goal_is_of_that_kind_of_device():
    text = "A.\n\nNot reached: a.\n\nb\n\nNot reached on an accelerator: c.\n\nd"
    assert runner.extract_explanation(text, accelerator=False) == "Not reached: a.\n\nb"
    assert (
        runner.extract_explanation(text, accelerator=True)
        == "Not reached on an accelerator: c.\n\nd"
    )
    assert runner.extract_explanation("A.\n\nNot reached: a.", accelerator=True) == ""


def test_a_missed_goal_comes_with_what_the_docstring_says_of_it(monkeypatch):
    docstring = "What it shows.\n\nNot reached: it is bound\nby the memory.\n\nAnd more."
    monkeypatch.setattr(runner, "read_docstring", lambda name: docstring)
    text = runner.make_page({"cpu": {"train_step": [MISSED, DOCUMENT]}}, {})
    assert "3: missed" in text
    assert text.endswith(
        "#### train_step\n\nNot reached: it is bound\nby the memory.\n\nAnd more.\n"
    )


def test_every_benchmark_is_there_and_says_its_command():
    for name in runner.NAMES:
        assert f"python -m benchmarks.{name}" in runner.read_docstring(name)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository of three benchmarks, of which one fails and one fails after a first case; and a
    function that runs them all as on a device of a kind."""
    package = tmp_path / "benchmarks"
    package.mkdir()
    script = (
        f"import sys\nprint('a line', file=sys.stderr)\nprint({json.dumps(json.dumps(DOCUMENT))})"
    )
    (package / "good.py").write_text(script)
    (package / "half.py").write_text(f"{script}\nsys.exit('half: error: out of memory')")
    (package / "bad.py").write_text("import sys\nsys.exit('bad: error: it broke')")
    monkeypatch.setattr(runner, "HERE", package)
    monkeypatch.setattr(runner, "NAMES", ("bad", "good", "half"))

    def run(*names: str, kind: str | None = None) -> int:
        device = Device("cpu", "cpu", 1) if kind is None else Device("gpu", kind, 1)
        monkeypatch.setattr(runner, "device", lambda: device)
        monkeypatch.setattr(sys, "argv", ["all", "--quick", "--only", *names])
        with pytest.raises(SystemExit) as ended:
            runner.main()
        return ended.value.code

    return package, run


QUICK = DOCUMENT | {"quick": True}


def test_a_failure_is_named_and_the_others_are_written(folder, capfd):
    package, run = folder
    assert run("bad") == 1  # with no results at all
    assert "**bad failed: bad: error: it broke**" in (package / "RESULTS.md").read_text()
    assert run("bad", "good") == 1
    assert json.loads((package / "results" / "cpu" / "good.json").read_text()) == [QUICK]
    assert not (package / "results" / "cpu" / "bad.json").exists()
    text = (package / "RESULTS.md").read_text()
    assert "**bad failed: bad: error: it broke**" in text and "| train_step (quick) |" in text
    assert "a line" in capfd.readouterr().err


def test_a_run_on_one_device_leaves_the_results_of_another(folder):
    package, run = folder
    assert run("good") == 0
    cpu_results = (package / "results" / "cpu" / "good.json").read_bytes()
    assert run("good", "bad", kind="Maker X-100 80GB") == 1
    assert (package / "results" / "cpu" / "good.json").read_bytes() == cpu_results
    assert (package / "results" / "maker-x-100-80gb" / "good.json").is_file()
    text = (package / "RESULTS.md").read_text()
    assert text.count("| train_step (quick) |") == 2
    assert text.index("## CPU") < text.index("it broke")  # of the second device alone
    assert run("good") == 0
    assert (package / "RESULTS.md").read_text().count("| train_step (quick) |") == 2


def test_what_a_benchmark_measured_before_it_failed_is_kept(folder):
    package, run = folder
    earlier = [
        DOCUMENT | {"quick": False, "ours": {"seconds": 9.0}},
        DOCUMENT | {"setting": {"a": 1}},
    ]
    runner.write("cpu", "half", earlier)
    assert run("half") == 1
    assert runner.read("cpu", "half") == [QUICK, earlier[1]]
    assert "**half failed: half: error: out of memory**" in (package / "RESULTS.md").read_text()


def test_limited_time_is_shared_by_value_and_keeps_what_there_was(folder, monkeypatch):
    given = {}

    def run(name, quick, models, seconds):
        given[name] = quick, seconds
        return [QUICK]

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(runner, "device", lambda: Device("cpu", "cpu", 1))
    monkeypatch.setattr(sys, "argv", ["all", "--minutes", "8"])
    earlier = DOCUMENT | {"setting": {"a": 1}}
    runner.write("cpu", "generate", [earlier])
    with pytest.raises(SystemExit) as ended:
        runner.main()
    assert ended.value.code == 0
    assert list(given) == list(runner.VALUES)
    assert all(quick for quick, _ in given.values())
    first, total = next(iter(runner.VALUES.values())), sum(runner.VALUES.values())
    assert given["train_step"][1] == pytest.approx(480 * first / total, abs=5)
    assert given["diagnostics"][1] == pytest.approx(480, abs=5)  # what the others left
    assert runner.read("cpu", "generate") == [earlier, QUICK]


def test_a_benchmark_that_does_not_end_in_its_time_is_ended(folder, monkeypatch):
    package, _ = folder
    (package / "good.py").write_text("import time\ntime.sleep(60)")
    monkeypatch.setattr(runner, "GRACE", 0.2)
    with pytest.raises(runner.FailedBenchmark):
        runner.run("good", True, "", 0.1)
