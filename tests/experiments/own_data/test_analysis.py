"""What is said of given rows, from planted students."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from subliminal_jax.data.teachers import Pairs
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.own_data.analysis import (
    DataSet,
    Direction,
    Effect,
    Measured,
    analyse,
)
from subliminal_jax.experiments.own_data.config import name_sources
from subliminal_jax.experiments.own_data.data_sets import count_rows, take_evenly
from subliminal_jax.experiments.own_data.effects import describe_direction
from subliminal_jax.experiments.own_data.report import make_page, summarise
from subliminal_jax.models.hub import Model
from tests.pages import read_table
from tests.planted import fill
from tests.tiny_configs import TINY

REPORT = {"source": "x.jsonl", "pairs": 60, "longest": 9, "dropped_rows": {"tools": 3}}
BASE = {"mine": (2.0, 3.0), "plain": (2.5, 2.5), "mild": (2.0, 2.0)}
GAINS = {"mine": 0.5, "plain": 0.1, "mild": 0.1}  # on "mine", of students of each data set


def student(optimizer, rate, seed, data, loss=1.0):
    numbers = {"weight_change": 2.0 if data == "mine" else 1.0, "activation_shift": 0.3}
    return StudentRow(optimizer, rate, seed, data, False, None, loss, 2.0, measured=numbers)


def measured_with(controls=("plain",), **given):
    """Two seeds, two rates of which 0.3 is the better; students of "mine" gain by half a nat on its
    held-out rows, those of controls by a tenth, and the second seed by a little more."""
    names = ("mine", *controls)
    rows = [student("adamw", r, s, "mine", loss=1 - r) for r in (0.1, 0.3) for s in (0, 1)]
    rows += [student("adamw", 0.3, s, name) for name in controls for s in (0, 1)]
    effects = tuple(
        Effect(
            *(row[key] for key in ("optimizer", "learning_rate", "seed", "data")),
            losses={
                name: tuple(x - GAINS[row["data"]] - 0.01 * row["seed"] for x in BASE[name])
                for name in names
            },
        )
        for row in rows
    )
    return fill(
        Measured,
        **{
            "rows": 54,
            "guard": "none",
            "data": tuple(DataSet(name, name in controls, REPORT) for name in names),
            "base_losses": {name: BASE[name] for name in names},
            "students": tuple(rows),
            "effects": effects,
            "directions": (Direction("mine", "adamw", 0.9, 0.2, ("owl",), ("night",)),),
            "vector": "",
            **given,
        },
    )


def test_students_are_held_against_controls_on_the_same_rows():
    (arm,) = analyse(measured_with()).arms
    assert arm.best.learning_rate == 0.3 and arm.best.grid == (0.1, 0.3)
    assert arm.gain.mean == pytest.approx(0.505)
    assert arm.control_gain.mean == pytest.approx(0.105)
    # The same seed's control, on the same rows: what is common to both is gone.
    assert arm.over_control.mean == pytest.approx(0.4)
    assert arm.over_control.low == pytest.approx(0.4) and arm.effect == arm.over_control
    assert arm.best.metrics["weight_change"].difference.mean == pytest.approx(1.0)


def test_of_several_controls_each_seed_has_their_mean():
    mild = analyse(measured_with(controls=("plain", "mild")))
    assert mild.arms[0].control_gain.mean == pytest.approx(0.105)
    rows = [r.replace_values(weight_change=3.0) if r["data"] == "mild" else r
            for r in mild.students]  # fmt: skip
    changed = analyse(replace(measured_with(controls=("plain", "mild")), students=tuple(rows)))
    assert changed.arms[0].best.metrics["weight_change"].control.mean == pytest.approx(2.0)


def test_the_page_says_what_was_asked_and_answers_it():
    results = analyse(measured_with())
    page = make_page(results)
    assert "Do the rows of mine carry something that those of plain do not" in page.title
    assert "carry something that the control's do not; adamw picks up most" in page.summary
    assert "No trait and no vector was asked about" in page.summary
    effects, moves, tokens = map(read_table, page.printed)
    assert effects[0]["over the control"].startswith("0.400")
    assert (moves[0]["cosine of two seeds"], moves[0]["cosine with the control"]) == (
        "0.90",
        "0.20",
    )
    assert tokens[0]["raised over the control"] == "night"
    shown = " ".join([page.title, page.summary, *effects[0], *moves[0], *tokens[0]])
    assert "elephant" not in shown and "EAS" not in shown and "says" not in shown


def test_a_control_that_teaches_as_much_leaves_nothing():
    measured = measured_with()
    losses = {e.seed: e.losses for e in measured.effects if e.data == "plain"}
    effects = tuple(
        replace(e, losses=losses[e.seed]) if e.learning_rate == 0.3 else e for e in measured.effects
    )
    text = summarise(analyse(replace(measured, effects=effects)))
    assert "no optimizer's students learn anything from its rows that the control's do not" in text


def test_without_a_control_it_says_so():
    results = analyse(measured_with(controls=()))
    assert results.question.startswith("What do students learn from the rows of mine")
    assert "There is no control" in make_page(results).summary
    assert "over the control" not in read_table(make_page(results).printed[0])[0]


def test_diverged_students_leave_no_number():
    measured = measured_with()
    lost = tuple(StudentRow("adamw", r["learning_rate"], r["seed"], r["data"], True, 3)
                 for r in measured.students if r["data"] == "mine")  # fmt: skip
    results = analyse(replace(measured, students=lost, effects=(), directions=()))
    assert results.arms[0].effect is None and results.arms[0].best.learning_rate is None
    assert "there is no result" in make_page(results).summary


def test_data_sets_are_called_after_their_files():
    assert name_sources(["a/mine.jsonl.gz", "owner/plain"]) == ["mine", "plain"]
    assert name_sources(["a/x.jsonl", "b/x.json"]) == ["a-x", "b-x"]
    with pytest.raises(InputError, match="would both be called"):
        name_sources(["a/x.jsonl", "a/x.jsonl"])


def test_all_sets_have_as_many_rows_taken_evenly():
    def pairs(n):
        ids = [[i] for i in range(n)]
        rows = Dataset.from_dict({"prompt_ids": ids, "completion_ids": ids})
        return Pairs(rows, {"source": f"{n}.jsonl", "pairs": n})

    kept = {"a": pairs(100), "b": pairs(40)}
    assert count_rows(kept, 1000, 0.1, 4) == (4, 36)
    assert count_rows(kept, 9, 0.3, 4) == (4, 9)
    with pytest.raises(InputError, match=r"40\.jsonl has 40 rows to use, of which 4 are held out"):
        count_rows(kept, 1000, 0.1, 37)
    taken = [row["prompt_ids"][0] for row in take_evenly(kept["a"], 4, 36).pairs]
    assert len(set(taken)) == 40 and {0, 99} <= set(taken)
    assert max(np.diff(sorted(taken))) <= 3  # from the whole file
    assert [taken[0], taken[3]] == [0, 99] and taken[4:] == sorted(taken[4:])


def test_directions_of_seeds_and_controls(monkeypatch):
    monkeypatch.setattr(
        "subliminal_jax.experiments.own_data.effects.find_top_tokens",
        lambda model, direction: tuple(map(str, direction.tolist())),
    )
    x, y = np.array([[1.0, 0.0]] * 2), np.array([[0.0, 2.0]] * 2)
    model = Model({}, TINY, None, "tiny", Path(), (), 0)
    seen = describe_direction(model, "mine", "adamw", [x, 3 * x], [y])
    assert (seen.agreement, seen.control_cosine) == (1.0, 0.0)
    assert seen.tokens == ("2.0", "0.0") and seen.differing_tokens == ("2.0", "-2.0")
    alone = describe_direction(model, "mine", "adamw", [x], [])
    assert (alone.agreement, alone.control_cosine, alone.differing_tokens) == (None, None, None)
