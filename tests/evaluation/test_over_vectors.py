"""Intervals over vectors: coverage by shape (the whole table: `coverage.py`), and closed cases."""

import math

import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.over_vectors import control_difference, vector_interval
from subliminal_jax.evaluation.statistics import mean_interval
from tests.evaluation.coverage import simulate


@pytest.mark.parametrize(
    ("shape", "least", "most_below"),
    [
        ("normal", 0.93, 0.04),
        ("skewed (exponential)", 0.93, 0.07),
        ("one vector in four", 0.86, 0.13),  # 10% of samples have no such vector
    ],
)
def test_coverage_of_eight_vectors(shape, least, most_below):
    held, below = simulate(shape, 8, "vector_interval", 600)
    held_t, below_t = simulate(shape, 8, "t", 600)
    assert held > least and below < most_below
    assert shape == "normal" or (held > held_t + 0.01 and below < below_t - 0.01)
    assert simulate(shape, 8, "control_difference", 600)[0] > least


def test_symmetric_values_have_students_interval():
    values = [-1.0, -0.5, 0.0, 0.5, 1.0]
    ours, t = vector_interval(values), mean_interval(values)
    assert (ours.low, ours.high) == pytest.approx((t.low, t.high), abs=1e-9)


def test_a_long_upper_tail_moves_both_ends_up():
    values = [0.0, 0.1, 0.0, 0.1, 0.05, 0.0, 0.1, 2.0]
    ours, t = vector_interval(values), mean_interval(values)
    assert t.low < ours.low < ours.mean < t.high < ours.high
    mirrored = vector_interval([-x for x in values])
    assert (mirrored.low, mirrored.high) == pytest.approx((-ours.high, -ours.low))


@pytest.mark.parametrize("values", [[], [0.3], [0.3] * 8, [0.1, 0.2, 0.9]])
def test_too_few_or_equal_values_have_students_interval(values):
    ours, t = vector_interval(values), mean_interval(values)
    np.testing.assert_equal([ours.mean, ours.low, ours.high], [t.mean, t.low, t.high])


def test_what_all_controls_of_a_draw_share_widens_the_interval():
    students = np.linspace(0.2, 0.6, 8)
    noise = 0.01 * np.sin(np.arange(32)).reshape(4, 8)
    alike = control_difference(students, noise)
    apart = control_difference(students, noise + np.array([[-0.3], [-0.1], [0.1], [0.3]]))
    assert apart.mean == pytest.approx(alike.mean)
    assert apart.high - apart.low > 1.5 * (alike.high - alike.low)
    single = control_difference(students, noise[:1])
    plain = vector_interval(students - noise[0])
    assert (single.low, single.high) == (plain.low, plain.high)


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="NaN"):
        vector_interval([0.1, math.nan, 0.3])
    with pytest.raises(InputError, match=r"students of the shape \(8,\)"):
        control_difference([0.0] * 8, [[0.0] * 7] * 4)
