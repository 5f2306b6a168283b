"""An interrupted run ends as one that was not; no checkpoint is taken for what it is not."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.compilation import count_compilations
from subliminal_jax.errors import InputError
from subliminal_jax.seals import find_damage
from subliminal_jax.training.adapters import LoRA
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.checkpoints import Checkpoints
from subliminal_jax.training.loop import run_sweep
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep
from tests.training import killed_run
from tests.training.tiny import CFG, base, identical, rows

REPOSITORY = Path(__file__).parents[2]
CONFIG = TrainConfig(steps=8, batch_size=4, adapter=LoRA(rank=2, targets=("q", "up")), log_every=2)


# -- runs that go on ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep():
    specs = map(OptimizerSpec, ("adamw", "schedule_free_adamw", "dog"))
    arms = [Arm(spec, 1e-2, seed, "x") for seed, spec in enumerate(specs)]
    return Sweep(base(), CFG, arms, {"x": rows(10)}, CONFIG)


@pytest.fixture(scope="module")
def uninterrupted(sweep):
    return run_sweep(sweep)


class Interrupted(Exception):
    """What stands for the interruption in the tests of one process."""


def test_an_interrupted_run_goes_on_bit_for_bit(sweep, uninterrupted, tmp_path):
    seen, starts = [], []

    def stop(step, metrics):
        seen.append(step)
        if step == 6:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_sweep(sweep, tmp_path, on_start=starts.append, on_log=stop)
    assert seen == [2, 4, 6]
    again = {}
    with count_compilations() as compiled:
        end = run_sweep(sweep, tmp_path, on_start=starts.append, on_log=again.__setitem__)
    assert (starts, list(again)) == ([0, 4], [6, 8])
    assert compiled.count("_advance_fn") == 0
    identical(end, uninterrupted)
    run_sweep(sweep, tmp_path, on_start=starts.append, on_log=stop)  # nothing is left to do
    assert starts == [0, 4, 8]
    assert Checkpoints(tmp_path).latest() == 8


def test_metrics_are_those_of_the_steps_with_and_without_checkpoints(sweep, tmp_path):
    logs = {}
    for folder in (None, tmp_path):
        logs[folder] = metrics = {}
        run_sweep(sweep, folder, on_log=metrics.__setitem__)
        assert list(metrics) == [2, 4, 6, 8]
        assert all(isinstance(x, np.ndarray) for x in metrics[2].values())
    identical(logs[tmp_path], logs[None])


def run_until(folder: Path, line: str, delay: float) -> list[str]:
    """What a process of its own prints until it is killed, `delay` seconds after `line`."""
    process = subprocess.Popen(
        [sys.executable, "-m", killed_run.__name__, str(folder)],
        cwd=REPOSITORY,
        env=os.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for printed in process.stdout:
        lines.append(printed.strip())
        if lines[-1] == line:
            time.sleep(delay)
            process.kill()
            break
    process.stdout.close()
    assert process.wait() == -9
    return lines


def test_killed_at_three_random_moments_it_ends_with_the_same_parameters(tmp_path, capsys):
    """SIGKILL a random time after steps 4, 10 and 18: while it writes, renames, or computes. This
    process, which has the programs of the whole run, takes the killed one to its end."""
    moments = random.Random(0)
    expected = killed_run.run(tmp_path / "whole")
    assert "step 24" in capsys.readouterr().out
    printed = [
        run_until(tmp_path / "killed", line, moments.uniform(0, 0.08))
        for line in ("step 4", "step 10", "step 18")
    ]
    resumed = killed_run.run(tmp_path / "killed")
    printed.append(capsys.readouterr().out.splitlines())
    starts = [int(lines[0].removeprefix("start ")) for lines in printed]
    for start, lines in zip(starts, printed, strict=True):
        steps = [int(text.removeprefix("step ")) for text in lines[1:]]
        assert steps == list(range(start + 2, steps[-1] + 1, 2))
    assert 0 == starts[0] < starts[1] < starts[2] < starts[3] and steps[-1] == 24
    identical(resumed, expected)
    assert len(jax.tree.leaves(expected)) > 20


# -- checkpoints that are not whole, or another run's --------------------------------------------


class Inner(NamedTuple):
    count: jax.Array
    nothing: None = None


def state(step: int):
    return {"w": jnp.full((3, 2), float(step)), "rest": (Inner(jnp.asarray(step)), {})}


@pytest.fixture
def folder(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    for step in (1, 2, 3):
        checkpoints.save(step, state(step))
    checkpoints.close()
    return tmp_path / "run"


def test_the_newest_state_comes_back_and_two_are_kept(folder):
    checkpoints = Checkpoints(folder)
    assert checkpoints.latest() == 3
    identical(checkpoints.restore(state(0)), state(3))
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]
    checkpoints.save(4, state(4))
    identical(checkpoints.restore(state(0)), state(4))


def remove(name):
    return lambda path: (path / name).unlink()


def truncate(path):
    for file in path.glob("default/d/*"):
        file.write_bytes(file.read_bytes()[:-20])


def half_written(path):
    shutil.rmtree(path)
    (path / "default").mkdir(parents=True)


def change_byte(file, byte):
    content = bytearray(file.read_bytes())
    content[byte % len(content)] ^= 1
    file.write_bytes(content)


def replace_by_folder(path):
    remove("default/manifest.ocdbt")(path)
    (path / "default" / "manifest.ocdbt").mkdir()


def replace_by_link(path):
    file = path / "default" / "_METADATA"
    file.rename(path.parent / "elsewhere")
    file.symlink_to(path.parent / "elsewhere")


def replace_by_older(path):
    shutil.rmtree(path)
    shutil.copytree(path.parent / "2", path)


DAMAGES = {
    "half written": half_written,
    "no commit marker": remove("_CHECKPOINT_METADATA"),
    "no index": remove("default/manifest.ocdbt"),
    "no description": remove("default/_METADATA"),
    "no digests": remove("digests.json"),
    "truncated": truncate,
    "folder for a file": replace_by_folder,
    "link for a file": replace_by_link,
    "added file": lambda path: (path / "default" / "more").write_text("x"),
    "the one before under its name": replace_by_older,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_counts(folder, damage):
    damage(folder / "3")
    with pytest.warns(UserWarning, match="3 is set aside as 3.damaged: .*goes on from step 2"):
        restored = Checkpoints(folder).restore(state(0))
    identical(restored, state(2))
    checkpoints = Checkpoints(folder)
    assert checkpoints.latest() == 2
    checkpoints.save(3, state(33))  # the run gets there again
    identical(Checkpoints(folder).restore(state(0)), state(33))
    assert (folder / "3.damaged").is_dir()


def test_a_changed_byte_anywhere_is_noticed(folder):
    """In every file of the checkpoint, at a few places."""
    rng = np.random.default_rng(0)
    files = sorted(path for path in (folder / "3").rglob("*") if path.is_file())
    assert len(files) > 8
    for file in files:
        whole = file.read_bytes()
        for byte in rng.integers(0, len(whole), 6):
            change_byte(file, byte)
            assert find_damage(folder / "3", "3") is not None, (file, byte)
            file.write_bytes(whole)
    identical(Checkpoints(folder).restore(state(0)), state(3))


def test_without_a_whole_checkpoint_a_run_starts_from_the_beginning(folder):
    for step in "23":
        truncate(folder / step)
    with pytest.warns(UserWarning, match="goes on from the beginning") as lines:
        checkpoints = Checkpoints(folder)
    assert len(lines) == 2
    assert checkpoints.latest() is None
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        checkpoints.restore(state(0))
    checkpoints.save(1, state(1))
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2.damaged", "3.damaged"]


def test_what_a_kill_leaves_behind_is_overwritten(folder):
    (folder / "4.orbax-checkpoint-tmp" / "default").mkdir(parents=True)
    checkpoints = Checkpoints(folder)
    assert checkpoints.latest() == 3
    checkpoints.save(4, state(4))
    identical(Checkpoints(folder).restore(state(0)), state(4))
    assert sorted(path.name for path in folder.iterdir()) == ["3", "4"]


OTHERS = {
    "shape": (state(0) | {"w": jnp.zeros((3, 4))}, r"w is float32\[3, 2\] .*, float32\[3, 4\] in"),
    "dtype": (state(0) | {"w": jnp.zeros((3, 2), jnp.int32)}, r"w is float32\[3, 2\] .*, int32"),
    "more": (state(0) | {"v": jnp.zeros(2)}, r"v is missing in the checkpoint, float32\[2\] in"),
    "less": ({"w": jnp.zeros((3, 2))}, r"rest/0/count is int32\[\] in the checkpoint, missing"),
    "structure": (state(0) | {"rest": (Inner(jnp.asarray(0)),)}, "does not fit"),
}


@pytest.mark.parametrize(("like", "message"), OTHERS.values(), ids=OTHERS)
def test_another_runs_checkpoint_is_refused_in_one_line(folder, like, message):
    checkpoints = Checkpoints(folder)
    with pytest.raises(InputError, match=message) as error:
        checkpoints.restore(like)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    identical(checkpoints.restore(state(0)), state(3))  # and left as it is


def test_a_step_is_never_saved_over_a_later_one(folder):
    for step in (2, 3):
        with pytest.raises(InputError, match=f"checkpoint of step 3, so step {step} is not saved"):
            Checkpoints(folder).save(step, state(step))


def test_nothing_to_restore(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is None
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        checkpoints.restore(state(0))
