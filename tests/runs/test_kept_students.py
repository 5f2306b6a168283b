"""Kept students: those of the sweep, tensor by tensor; the best rate's alone; found by name."""

from dataclasses import replace
from pathlib import Path

import jax
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.places import SHIPPED_MODELS, find_source, is_same_name
from subliminal_jax.runs.kept_students import load_student
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_files import (
    Base,
    StudentRecord,
    find_student,
    list_names,
    read_students,
)
from subliminal_jax.runs.waves import StudentTask, WaveRunner
from subliminal_jax.training.adapters import LoRA, unpad_rank
from subliminal_jax.training.arms import Arm, TrainConfig
from tests import number_model
from tests.training.tiny import CFG, base, close, rows

MODEL = Model(base(), CFG, number_model.tokenizer(), "tiny", Path("/models/tiny"), (0,), 0)
PLAN = TrainConfig(steps=4, batch_size=4, adapter=LoRA(rank=2), log_every=2)
TASK = StudentTask(
    {"owl": rows(16, 1), "control": rows(16, 2)}, {"owl": rows(8, 3), "control": rows(8, 4)}
)


def train(folder: Path, stages: dict[str, list[Arm]], kept="best", plan=PLAN):
    """Every stage by one runner; what the last returned."""
    with RunFolder.open(folder, {"run": 1}, keep_students=kept) as run:
        runner = WaveRunner(run, MODEL, plan, TASK)
        return [runner.train(stage, arms) for stage, arms in stages.items()]


def test_every_file_is_a_student_of_the_sweep(tmp_path):
    """With ranks of their own, on several data sets, at the average that schedule-free learning
    evaluates."""
    arms = [
        Arm("adamw", 0.003, 0, "owl", rank=1),
        Arm("adamw", 0.003, 0, "owl", rank=3),
        Arm("schedule_free_adamw", 0.003, 1, "owl"),
        Arm("adamw", 0.003, 0, "control", rows=8),
    ]
    (trained,) = train(tmp_path, {"wave": arms}, "all")
    stacked = trained.sweep.students(trained.state)
    files = sorted(read_students(tmp_path))
    assert len(files) == len(arms)
    for i, (file, arm) in enumerate(zip(files, arms, strict=True)):
        record = read_students(tmp_path)[file]
        assert (record.optimizer, record.data) == (arm.optimizer.label, arm.data)
        assert (record.rank, record.rows, record.stage) == (arm.rank, arm.rows, "wave")
        assert record.heldout_loss == pytest.approx(trained.rows[i].heldout_loss)
        tree, adapter = load_student(file, record)
        assert adapter == LoRA(rank=arm.rank or 2)
        padded = jax.tree.map(lambda x, i=i: x[i], stacked)
        close(tree, unpad_rank(padded, tree), rtol=1e-6)  # of the average, by two programs
    names = list_names(list(read_students(tmp_path).values()), [*read_students(tmp_path).values()])
    assert names[:2] == ["adamw/0.003/0/owl/wave/rank=1", "adamw/0.003/0/owl/wave/rank=3"]
    assert find_student(tmp_path, "adamw/0.003/0/rank=3")[0] == files[1]
    assert find_student(tmp_path, "adamw/0.003/0/control")[1].rows == 8


def waves(*rates: float) -> dict[str, list[Arm]]:
    return {
        f"rate-{i}": [Arm("adamw", rate, seed, "owl") for seed in (0, 1)]
        for i, rate in enumerate(rates)
    }


@pytest.mark.parametrize("rates", [(1e-4, 3e-3), (3e-3, 1e-4), (1e30, 3e-3, 1e29)])
def test_of_the_rates_of_all_stages_the_best_is_kept(tmp_path, rates):
    """In whatever order they are tried; one at which students blow up is none."""
    trained = train(tmp_path, waves(*rates))
    losses = {
        rate: [row.heldout_loss for row in t.rows] for rate, t in zip(rates, trained, strict=True)
    }
    sound = {rate: sum(x) for rate, x in losses.items() if None not in x and rate < 1}
    kept = read_students(tmp_path)
    assert {(r.learning_rate, r.seed) for r in kept.values()} == {
        (min(sound, key=lambda rate: sound[rate]), seed) for seed in (0, 1)
    }
    assert {p.name for p in tmp_path.rglob("*.sha256")} == {f"{p.name}.sha256" for p in kept}


def test_diverged_students_are_never_kept(tmp_path):
    train(tmp_path, waves(1e30), "all")
    assert read_students(tmp_path) == {}
    with pytest.raises(InputError, match="keeps no students"):
        find_student(tmp_path, "adamw/1e30/0")


def test_an_interrupted_run_keeps_what_a_whole_one_does(tmp_path):
    """Ended in its second wave, before and after that wave's students were written."""
    stages = waves(1e-4, 3e-3)
    train(tmp_path / "whole", stages)
    train(tmp_path / "resumed", {"rate-0": stages["rate-0"]})
    assert len(read_students(tmp_path / "resumed")) == 2
    for _ in range(2):
        train(tmp_path / "resumed", stages)
        contents = [
            {p.relative_to(run): p.read_bytes() for p in (run / "students").rglob("*.*")}
            for run in (tmp_path / "whole", tmp_path / "resumed")
        ]
        assert contents[0] == contents[1] and len(contents[0]) == 4


def test_what_the_run_did_not_write_is_no_student(tmp_path):
    train(tmp_path, waves(3e-3))
    (file, *_) = read_students(tmp_path)
    (file.parent / "999.safetensors").write_bytes(file.read_bytes())
    assert len(read_students(tmp_path)) == 2
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"000\.safetensors"):
        find_student(tmp_path, "adamw/0.003/0")
    with pytest.raises(InputError, match="no folder of a run"):
        read_students(tmp_path / "students")


RECORD = StudentRecord(
    "adamw:b1=0.8", 0.00070710678, 3, "a/b", "full-rates-0-1", 4, None,
    Base("m", "m", "/m", "float32", 2, ""), "full", rows=64,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("adamw:b1=0.8/0.000707107/3", True),
        ("adamw:b1=0.8/7.071e-4/3/a/b", True),
        ("adamw:b1=0.8/0.000707107/3/a/b/full-rates-0-1/rows=64", True),
        ("adamw:b1=0.8/0.000707107/3/rows=64", True),
        ("adamw:b1=0.8/0.0007/3", False),
        ("adamw/0.000707107/3", False),
        ("adamw:b1=0.8/0.000707107/0", False),
        ("adamw:b1=0.8/0.000707107/3/a", False),
        ("adamw:b1=0.8/0.000707107/3/rows=64/a/b", False),
        ("adamw:b1=0.8/fast/3", False),
        ("adamw:b1=0.8", False),
    ],
)
def test_a_name_is_read_part_by_part(name, fits):
    assert RECORD.matches(name) is fits
    assert RECORD.matches(RECORD.name)


def test_a_control_yields_to_the_student_of_a_teacher():
    assert replace(RECORD, data="control").is_control
    assert replace(RECORD, data="control-12").is_control
    assert not replace(RECORD, data="controlled").is_control


def test_a_base_is_named_so_that_it_is_found_again(tmp_path):
    for name, folder in SHIPPED_MODELS.items():
        assert find_source(folder) == name
        assert is_same_name(str(folder), name)
    cached = tmp_path / "models--Qwen--Qwen2.5-7B" / "snapshots" / "0123abcd"
    assert find_source(cached) == "Qwen/Qwen2.5-7B"
    assert find_source(tmp_path) == str(tmp_path.resolve())
    assert not is_same_name("hub/base", "other")
