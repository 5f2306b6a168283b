"""`make evidence`: which runs there are, what is done, and how a stage ends."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from subliminal_jax.cli import find_experiments, load_experiment, parse_config
from subliminal_jax.errors import InputError
from subliminal_jax.experiments.evidence import __main__ as evidence
from subliminal_jax.experiments.evidence.__main__ import RUNS, Config
from subliminal_jax.runs.run_folder import RunFolder


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder of runs, and summaries that go beside it and not into the checkout."""
    monkeypatch.setenv("SUBLIMINAL_JAX_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(evidence, "CHECKOUT", tmp_path / "checkout")
    return evidence.find_root()


def finish(run, root):
    """A run of these settings that has ended."""
    command = " ".join(run.write_command(root))
    with RunFolder.open(
        root / run.name, {"experiment": run.experiment}, overwrite=False, command=command
    ) as folder:
        folder.write_results({"claims": [], "value": 1.5})


def start_python(code):
    return lambda command: subprocess.Popen([sys.executable, "-c", code])


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_run_is_a_command_that_its_experiment_takes(run):
    experiment = load_experiment(find_experiments()[run.experiment])
    config = parse_config(experiment, run.flags.split())
    assert config.out is not None


def test_runs_on_real_models_are_run_by_name_alone():
    named = [run.name for run in RUNS if run.by_name]
    assert named and [run.name for run in evidence.choose_runs(named)] == named
    assert [run.name for run in evidence.choose_runs(())] == [
        run.name for run in RUNS if run.name not in named
    ]


def test_names_are_distinct():
    assert len({run.name for run in RUNS}) == len(RUNS)


def test_a_finished_run_is_stored_without_its_path_and_not_run_again(root, capsys, monkeypatch):
    run = RUNS[0]

    def execute(command, seconds):
        assert command == run.write_command(root)
        finish(run, root)
        return 0

    monkeypatch.setattr(evidence, "execute", execute)
    assert evidence.main(Config(names=(run.name,))) == 0
    stored = run.folder / f"{run.name}.json"
    assert f"commit {stored.relative_to(evidence.CHECKOUT)}" in capsys.readouterr().out
    assert str(root) not in stored.read_text()
    monkeypatch.setattr(evidence, "execute", lambda command, seconds: pytest.fail("run again"))
    assert evidence.main(Config(names=(run.name,))) == 0
    assert capsys.readouterr().out == f"{run.name}: done\n"


def test_a_run_that_fails_is_named_and_the_next_one_goes_on(root, capsys, monkeypatch):
    names = tuple(run.name for run in RUNS if not run.needs_data)[:2]
    monkeypatch.setattr(evidence, "execute", lambda command, seconds: 3)
    assert evidence.main(Config(names=names)) == 1
    assert capsys.readouterr().err.count("failed with status 3") == 2


def test_a_stage_whose_time_is_up_says_what_is_left(root, capsys, monkeypatch):
    first, second, third = RUNS[:3]
    finish(second, root)
    evidence.store(second, root)
    monkeypatch.setattr(evidence, "execute", lambda command, seconds: None)
    names = (first.name, second.name, third.name)
    assert evidence.main(Config(names=names)) == evidence.UNFINISHED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"left to do: {first.name}, {third.name}; ")


def test_a_folder_of_other_settings_is_named(root, capsys, monkeypatch):
    run = RUNS[0]
    with RunFolder.open(root / run.name, {"experiment": "other"}) as folder:
        folder.log({"step": 1})
    monkeypatch.setattr(evidence, "execute", lambda command, seconds: 2)
    assert evidence.main(Config(names=(run.name,))) == 1
    assert f"{root / run.name} is kept: if it holds" in capsys.readouterr().err


def test_a_stage_ends_the_run_of_the_moment():
    waits = "import time\ntime.sleep(60)"
    assert evidence.execute(["x"], 0.2, start_python(waits)) is None
    assert evidence.execute(["x"], 20.0, start_python("raise SystemExit(2)")) == 2


def test_a_signal_ends_the_run_of_the_moment_too(tmp_path):
    script = """
import subprocess, sys
from subliminal_jax.experiments.evidence import __main__ as evidence
from subliminal_jax.interrupts import handle_signals
waits = "import os, time; open(PID, 'w').write(str(os.getpid())); time.sleep(60)"
with handle_signals():
    evidence.execute(["x"], 60, lambda command: subprocess.Popen([sys.executable, "-c", waits]))
"""
    script = script.replace("PID", repr(str(tmp_path / "pid")))
    stage = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    pid = wait_for(tmp_path / "pid")
    stage.terminate()
    assert stage.wait(30) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def wait_for(file):
    """The number in a file that is about to be written."""
    for _ in range(600):
        if file.exists() and file.read_text():
            return int(file.read_text())
        time.sleep(0.05)
    pytest.fail(f"{file} was not written")


def test_bad_input_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--names nothing is no run"):
        evidence.choose_runs(["nothing"])
    with pytest.raises(InputError, match="minutes"):
        replace(Config(), minutes=0)
    monkeypatch.delenv("SUBLIMINAL_JAX_RUNS", raising=False)
    with pytest.raises(InputError, match="SUBLIMINAL_JAX_RUNS is not set"):
        evidence.find_root()
    monkeypatch.setenv("SUBLIMINAL_JAX_RUNS", str(evidence.CHECKOUT / "runs"))
    with pytest.raises(InputError, match="outside of it"):
        evidence.find_root()
