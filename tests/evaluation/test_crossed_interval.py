"""The interval of a mean over two drawn axes covers it as often as it says."""

import math

import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import (
    crossed_interval,
    mean_interval,
)
from tests.evaluation.coverage import simulate_crossed


@pytest.mark.parametrize("shape", [(3, 3), (3, 8), (5, 4), (3, 16)])
@pytest.mark.parametrize("spreads", [(1.0, 0.0, 0.3), (1.0, 1.0, 1.0), (0.0, 1.0, 0.3), (0, 0, 1)])
def test_covers_the_mean(shape, spreads):
    rng = np.random.default_rng(7)
    rows, columns, residual = spreads
    covered, n = 0, 800
    for _ in range(n):
        x = rows * rng.normal(size=(shape[0], 1)) + columns * rng.normal(size=(1, shape[1]))
        interval = crossed_interval(x + residual * rng.normal(size=shape))
        covered += interval.low < 0 < interval.high
    assert covered / n >= 0.92


def test_where_one_axis_does_all_the_varying_it_is_students_t_over_it():
    column = np.array([0.1, 0.4, -0.2, 0.7])
    crossed, plain = crossed_interval(np.tile(column[:, None], (1, 6))), mean_interval(column)
    assert (crossed.low, crossed.high) == pytest.approx((plain.low, plain.high))
    across = crossed_interval(np.tile(column[None], (6, 1)))
    assert (across.low, across.high) == pytest.approx((plain.low, plain.high))


def test_rows_and_columns_are_alike_where_neither_has_values_enough_for_skewness():
    x = np.random.default_rng(3).normal(size=(3, 4))
    interval, transposed = crossed_interval(x), crossed_interval(x.T)
    assert (interval.mean, interval.low, interval.high) == pytest.approx(
        (transposed.mean, transposed.low, transposed.high)
    )


def test_without_differences_between_seeds_it_is_the_interval_over_vectors():
    values = np.random.default_rng(1).exponential(size=8)
    crossed, plain = crossed_interval(np.tile(values[None], (3, 1))), vector_interval(values)
    assert (crossed.mean, crossed.low, crossed.high) == pytest.approx(
        (plain.mean, plain.low, plain.high)
    )
    assert crossed.n == 8


def test_where_one_vector_in_four_has_the_effect_the_upper_end_is_rarely_below_the_mean():
    held, below = simulate_crossed("one vector in four", 3, 8, 0.1, samples=400)
    assert held > 0.9 and below < 0.08
    _, without_correction = simulate_crossed("one vector in four", 3, 8, 0.1, True, samples=400)
    assert without_correction > below


@pytest.mark.parametrize("shape", [(1, 4), (4, 1)])
def test_an_axis_of_one_is_held_fixed(shape):
    values = np.array([0.1, 0.4, -0.2, 0.7])
    interval, plain = crossed_interval(values.reshape(shape)), mean_interval(values)
    assert (interval.mean, interval.low, interval.high) == (plain.mean, plain.low, plain.high)


def test_one_value_has_no_interval():
    interval = crossed_interval(np.array([[0.3]]))
    assert interval.mean == 0.3
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_a_row_that_is_broken_is_refused_or_left_out():
    x = np.array([[1.0, 2.0], [math.nan, 3.0], [2.0, 4.0]])
    with pytest.raises(InputError, match=r"rows \[1\]"):
        crossed_interval(x)
    interval = crossed_interval(x, nan_policy="omit")
    assert interval.n == 2
    assert interval.mean == pytest.approx(2.25)


def test_no_spread_has_no_width():
    interval = crossed_interval(np.full((3, 4), 0.25))
    assert (interval.low, interval.mean, interval.high) == (0.25, 0.25, 0.25)
