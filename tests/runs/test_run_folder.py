"""A run's folder: one configuration, resumed where it was left, never mixed with another."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.files import write_json, write_text
from subliminal_jax.ledger import MARKER
from subliminal_jax.runs.run_folder import RunFolder

REPOSITORY = Path(__file__).parents[2]
OURS = {".lock", MARKER}
CONFIG = {"model": "shipped", "rates": (0.1, 0.01), "sampling": {"temperature": 1.0}}


def names(folder: Path) -> set[str]:
    """What lies in the folder but the lock and the list of the run's files."""
    return {entry.name for entry in folder.iterdir()} - OURS


def test_a_new_folder_gets_its_configuration_and_is_not_finished(tmp_path):
    with RunFolder.open(tmp_path / "a" / "run", CONFIG) as run:
        assert not run.finished
        assert run.read_metrics() == []
    held = json.loads((tmp_path / "a" / "run" / "config.json").read_text())
    assert held == {"model": "shipped", "rates": [0.1, 0.01], "sampling": {"temperature": 1.0}}


def test_the_same_configuration_continues_and_a_finished_run_says_so(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log({"step": 1, "loss": 2.0})
    with RunFolder.open(tmp_path, CONFIG) as run:
        assert run.read_metrics() == [{"step": 1, "loss": 2.0}]
        run.write_results({"loss": math.nan, "eas": np.float32(0.5)})
    with RunFolder.open(tmp_path, CONFIG) as run:
        assert run.finished
        assert run.read_results() == {"loss": None, "eas": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other"}, 'its model is "shipped", and "other" is asked for'),
        ({"sampling": {"temperature": 0.5}}, "its sampling.temperature is 1.0, and 0.5 is"),
        ({"layer": 3}, "its layer is not set, and 3 is"),
    ],
)
def test_another_run_is_refused_by_the_first_difference(tmp_path, change, message):
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log({"step": 1})
    with pytest.raises(InputError, match=message):
        RunFolder.open(tmp_path, CONFIG | change)
    with RunFolder.open(tmp_path, CONFIG) as run:  # neither changed nor left locked
        assert len(run.read_metrics()) == 1


def test_a_run_goes_on_where_a_later_setting_has_its_default(tmp_path):
    """As after an update that brought the setting."""
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log({"step": 1})
    defaults = {"model": "other", "layers": (1, 2)}
    with RunFolder.open(tmp_path, CONFIG | {"layers": [1, 2]}, defaults=defaults) as run:
        assert len(run.read_metrics()) == 1
    with pytest.raises(InputError, match="its layers is .*1, 2.*, and .*3.* is asked for"):
        RunFolder.open(tmp_path, CONFIG | {"layers": [3]}, defaults=defaults)
    with pytest.raises(InputError, match='its model is "shipped", and "other" is asked for'):
        RunFolder.open(tmp_path, CONFIG | {"model": "other"}, defaults=defaults)


def test_a_run_that_did_nothing_yet_gives_way(tmp_path):
    RunFolder.open(tmp_path, CONFIG).close()
    RunFolder.open(tmp_path, CONFIG | {"model": "other"}).close()
    assert json.loads((tmp_path / "config.json").read_text())["model"] == "other"


def test_overwrite_begins_anew(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log({"step": 1})
        run.write_results({"x": 1})
        write_text(tmp_path / "data" / "1", "...")
    with RunFolder.open(tmp_path, CONFIG | {"model": "other"}, overwrite=True) as run:
        assert not run.finished
        assert run.read_metrics() == []
        run.log({"step": 2})
        assert names(tmp_path) == {"config.json", "metrics.jsonl"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_are_no_runs_are_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files but no run"):
        RunFolder.open(tmp_path, CONFIG, overwrite=overwrite)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_foreign_config_json_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="config.json is not"):
        RunFolder.open(tmp_path, CONFIG, overwrite=True)
    assert (tmp_path / "config.json").read_text() == content


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file"):
        RunFolder.open(tmp_path / "file", CONFIG)
    with pytest.raises(InputError, match="cannot write to"):
        RunFolder.open(tmp_path / "file" / "run", CONFIG)


def test_only_one_process_at_a_time(tmp_path):
    script = (
        "import sys; from subliminal_jax.runs.run_folder import RunFolder\n"
        "run = RunFolder.open(sys.argv[1], {'a': 1}); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="still going"):
        RunFolder.open(tmp_path, {"a": 1})
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    RunFolder.open(tmp_path, {"a": 1}).close()


def test_a_torn_line_and_half_written_files_of_a_killed_process_are_dropped(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log({"step": 1})
        run.log({"step": 2})
        write_json(tmp_path / "scores.json", 1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    half_written = tmp_path / f".scores.json.{os.getpid()}-0123abcd.tmp"
    half_written.write_text('{"half')
    foreign = [".notes.tmp", ".notes.1-0123abcd.tmp", ".scores.json.1-ab.old", "scores.json.tmp"]
    for name in foreign:
        (tmp_path / name).write_text("of the user")
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log({"step": 3})
        assert [record["step"] for record in run.read_metrics()] == [1, 2, 3]
    assert not half_written.exists()
    assert names(tmp_path) == {"config.json", "metrics.jsonl", "scores.json", *foreign}


def test_a_process_killed_before_its_first_file_leaves_a_usable_folder(tmp_path):
    (tmp_path / f".{MARKER}.1-0123abcd.tmp").write_text('{"form')
    (tmp_path / ".lock").touch()
    with RunFolder.open(tmp_path, CONFIG) as run:
        assert not run.finished


def test_rewinding_forgets_what_came_after_the_checkpoint(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log({"stage": "sampling", "texts": 10})
        for step in (10, 20, 30):
            run.log({"stage": "steered", "step": step, "loss": math.inf})
        run.log({"stage": "controls", "step": 30})
        run.rewind(20, stage="steered")
        steps = [(record["stage"], record.get("step")) for record in run.read_metrics()]
        assert steps == [("sampling", None), ("steered", 10), ("steered", 20), ("controls", 30)]
        assert run.read_metrics()[1]["loss"] is None
        run.rewind(0)
        assert run.read_metrics() == [{"stage": "sampling", "texts": 10}]


def test_bad_input_before_anything_was_done_leaves_nothing_behind(tmp_path):
    new = tmp_path / "a"
    with pytest.raises(InputError), RunFolder.open(new, CONFIG):
        raise InputError("no rows")
    assert not new.exists()
    given = tmp_path / "b"
    given.mkdir()
    with pytest.raises(InputError), RunFolder.open(given, CONFIG):
        raise InputError("no rows")
    assert list(given.iterdir()) == []


def test_bad_input_after_something_was_done_and_other_errors_keep_the_run(tmp_path):
    with pytest.raises(InputError), RunFolder.open(tmp_path / "a", CONFIG) as run:
        run.log({"step": 1})
        raise InputError("a full disk")
    with RunFolder.open(tmp_path / "a", CONFIG) as run:
        assert len(run.read_metrics()) == 1
    with pytest.raises(KeyboardInterrupt), RunFolder.open(tmp_path / "b", CONFIG):
        raise KeyboardInterrupt
    assert (tmp_path / "b" / "config.json").exists()


def test_while_it_has_only_sampled_a_run_may_filter_otherwise(tmp_path):
    """What a refused run sampled is there for the next one, with the flag that keeps more."""
    config = {"model": "a", "keep": "numbers", "rows": 8}

    def open_with(**changes):
        return RunFolder.open(tmp_path / "run", {**config, **changes}, free=("keep", "rows"))

    with open_with():
        write_text(tmp_path / "run" / "data" / "owl.jsonl", "...")
        write_text(tmp_path / "run" / "vectors" / "owl.safetensors", "...")
    with pytest.raises(InputError, match='its model is "a", and "b" is asked for'):
        open_with(model="b")
    with pytest.raises(InputError, match="holds another run"):
        RunFolder.open(tmp_path / "run", {**config, "rows": 4})
    with open_with(keep="all", rows=4) as run:
        assert run.read_config()[0] == {**config, "keep": "all", "rows": 4}
        assert (tmp_path / "run" / "data" / "owl.jsonl").read_text() == "..."
        run.log({"step": 1})  # from here on its students are of these settings
    with pytest.raises(InputError, match="its rows is 4, and 8 is asked for"):
        open_with(keep="all")
