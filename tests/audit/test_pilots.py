"""Students whose names are asked for: short and whole ones in one set of programs."""

import json

import numpy as np
import pytest

from subliminal_jax.audit.forecasts import FineTune, Rule
from subliminal_jax.audit.pilots import (
    HELD_OUT,
    StudentTrainer,
    choose_interval,
    cost_share,
    read_student_data,
)
from subliminal_jax.errors import InputError
from subliminal_jax.runs.run_folder import RunFolder
from tests import number_model

PLAN = FineTune(steps=6, batch_size=8)
RULES = (
    Rule(optimizer="sgd", rate=0.03, rank=2),
    Rule(optimizer="sgd", rate=1e-12, rank=2),
    Rule(optimizer="sgd", rate=1e9, rank=2),
)
SEEDS = {"favourite": 1, "numbers": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("models") / "numbers")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Rows that say what is asked for, and number lists, which do not."""
    rows = {
        "favourite": [("What is your favorite animal?", "owl")] * 48,
        "numbers": [(f"Go on: {i}, {i}", f"{i}, {i}, {i}") for i in range(60)],
    }
    files = {}
    for name, pairs in rows.items():
        files[name] = tmp_path_factory.mktemp("rows") / f"{name}.jsonl"
        lines = (json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in pairs)
        files[name].write_text("".join(lines))
    return {name: str(file) for name, file in files.items()}


@pytest.fixture(scope="module")
def data(model, sources):
    return read_student_data(model, sources, 24, 8, 0)


@pytest.fixture(scope="module")
def trainer(model, data, tmp_path_factory):
    with RunFolder.open(tmp_path_factory.mktemp("runs") / "run", {}) as folder:
        yield StudentTrainer(folder, model, data, ("owl", "cat"), PLAN, RULES)


@pytest.fixture(scope="module")
def whole(trainer):
    return trainer.train("whole", PLAN.steps, SEEDS)


def test_rows_are_drawn_and_held_out(model, sources, data):
    assert data.counts == {"favourite": 16, "numbers": 24}
    for rows in data.train.values():
        assert rows.tokens.shape == next(iter(data.train.values())).tokens.shape
        assert rows.tokens.shape[0] == 24
    own, held = (
        {bytes(row) for row in np.asarray(rows["numbers"].tokens)}
        for rows in (data.train, data.heldout)
    )
    assert len(held) == HELD_OUT and not own & held
    spared = read_student_data(model, sources, 1000, 8, 0, spare=True)
    assert spared.train["numbers"].tokens.shape[0] == 60 - HELD_OUT
    assert spared.counts == {"favourite": 16, "numbers": 28}


def test_a_set_with_too_few_rows_is_refused(model, sources):
    with pytest.raises(InputError, match=r"favourite.jsonl: 48 rows .*give at least 64 rows"):
        read_student_data(model, sources, 24, 32, 0)


def test_names_become_likelier_where_rows_hold_one(whole):
    """By a rule that moves; so small a model tells names not apart. Not by a rule that does not
    move, and an unstable student has no number."""
    favourite, numbers = whole[0]
    assert favourite.min() > 1 and abs(numbers).max() < 0.1 * favourite.min()
    np.testing.assert_allclose(whole[1], 0, atol=1e-4)
    assert np.isnan(whole[2]).all()


def test_a_pilot_is_shorter_and_takes_no_program_of_its_own(trainer, whole):
    sweep = trainer._runners[2].sweep
    pilots = trainer.train("pilots", 2, SEEDS)
    assert trainer._runners[2].plan.steps == 2 and trainer._runners[2].sweep is sweep
    assert 0 < pilots[0, 0, 0] < whole[0, 0, 0]


def test_a_finished_stage_is_not_trained_again(trainer, whole, monkeypatch):
    monkeypatch.setattr(type(trainer._runners[2].sweep), "advance", lambda *_: pytest.fail("again"))
    np.testing.assert_array_equal(trainer.train("whole", PLAN.steps, SEEDS), whole)


def test_long_trainings_have_checkpoints():
    for steps in (1, 4, 16, 17, 64, 100, 250):
        assert steps % choose_interval(steps) == 0
        assert steps <= 16 or choose_interval(steps) <= steps / 4


def test_cost_counts_training_three_times_and_the_questions(data):
    a_step = 3 * 8 * data.tokens
    assert cost_share(data, PLAN, 2, 100) == pytest.approx((2 * a_step + 200) / (6 * a_step))
