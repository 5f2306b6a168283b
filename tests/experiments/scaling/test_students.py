"""Which rows are a cell's, and what is taken from them."""

import pytest

from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.scaling.students import narrow_students, read_histories
from tests.experiments.scaling.test_cells import BASE


def student(rank, eas, data="norm-1.4"):
    columns = {"eas": [[0.0, eas]], "shift_component": [[0.0, eas / 2]], "train_loss": 1.0}
    return StudentRow("adamw", 0.1, 0, data, False, heldout_loss=3.0, rank=rank, measured=columns)


def test_students_of_other_ranks_are_not_the_cells_and_gain_is_a_share_of_the_span():
    rows = [student(2, 0.5), student(8, 0.6), student(8, 0.1, "control")]
    narrowed = narrow_students(BASE, rows, 0, 1, 4.0, 2.0)
    assert [(row.data, row["eas"]) for row in narrowed] == [("steered", 0.6), ("control", 0.1)]
    assert narrowed[0]["share"] == pytest.approx(0.3) and narrowed[0]["gain"] == 0.5
    assert narrow_students(BASE, rows, 0, 1, 2.0, 4.0)[0]["gain"] is None  # a worse teacher


def test_a_history_has_the_sound_steps_of_one_steered_student():
    logged = [
        {**student(8, 0.1 * step), "step": step, "train_loss": loss}
        for step, loss in ((2, 3.0), (4, 2.0), (6, None))
    ]
    logged.append({**student(2, 0.9), "step": 2})
    (history,) = read_histories(BASE, logged, 0, 1)
    assert (history.optimizer, history.learning_rate, history.seed) == ("adamw", 0.1, 0)
    assert (history.steps, history.train_loss) == ((2, 4), (3.0, 2.0))
    assert history.eas == pytest.approx((0.2, 0.4))
