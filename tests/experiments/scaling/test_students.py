"""Which rows are a cell's, and what is taken from them."""

import pytest

from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.scaling.students import (
    VectorLosses,
    narrow_students,
    read_histories,
)
from tests.experiments.scaling.test_cells import BASE

REFERENCES = {"cat": 0, "dog": 1}
LOSSES = {"cat": VectorLosses(4.0, 2.0), "dog": VectorLosses(2.0, 4.0)}


def student(rank, data, *eas):
    columns = {
        "eas": [[0.0, x] for x in eas],
        "shift_component": [[0.0, x / 2] for x in eas],
        "train_loss": 1.0,
    }
    return StudentRow("adamw", 0.1, 0, data, False, heldout_loss=3.0, rank=rank, measured=columns)


def test_a_control_is_held_against_every_vector_and_a_student_against_its_own():
    rows = [
        student(8, "cat-norm-1.4", 0.6, 0.0),
        student(8, "dog-norm-1.4", 0.0, 0.7),
        student(8, "control-0", 0.1, 0.2),
    ]
    narrowed = narrow_students(BASE, rows, REFERENCES, 1, LOSSES, ["control-0"])
    assert [(row.data, row["vector"], row["eas"]) for row in narrowed] == [
        ("steered", "cat", 0.6),
        ("control-0", "cat", 0.1),
        ("steered", "dog", 0.7),
        ("control-0", "dog", 0.2),
    ]
    assert narrowed[0]["share"] == pytest.approx(0.3)
    # Of the span between base and teacher; none where the teacher is worse, or of a control.
    assert [row["gain"] for row in narrowed] == [0.5, None, None, None]


def test_a_history_has_the_sound_steps_of_one_steered_student():
    logged = [
        {**student(8, "dog-norm-1.4", 0.9, 0.1 * step), "step": step, "train_loss": loss}
        for step, loss in ((2, 3.0), (4, 2.0), (6, None))
    ]
    logged.append({**student(2, "dog-norm-1.4", 0.9, 0.9), "step": 2})
    logged.append({**student(8, "control-0", 0.9, 0.9), "step": 2})
    (history,) = read_histories(BASE, logged, REFERENCES, 1)
    assert (history.optimizer, history.vector) == ("adamw", "dog")
    assert (history.steps, history.train_loss) == ((2, 4), (3.0, 2.0))
    assert history.eas == pytest.approx((0.2, 0.4))
