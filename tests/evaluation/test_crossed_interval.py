"""The interval of a mean over two drawn axes covers it as often as it says."""

import math

import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import (
    crossed_interval,
    hierarchical_bootstrap,
    mean_interval,
)


@pytest.mark.parametrize("shape", [(3, 3), (3, 8), (5, 4), (3, 16)])
@pytest.mark.parametrize("spreads", [(1.0, 0.0, 0.3), (1.0, 1.0, 1.0), (0.0, 1.0, 0.3), (0, 0, 1)])
def test_covers_the_mean(shape, spreads):
    rng = np.random.default_rng(7)
    rows, columns, rest = spreads
    covered, n = 0, 800
    for _ in range(n):
        x = rows * rng.normal(size=(shape[0], 1)) + columns * rng.normal(size=(1, shape[1]))
        found = crossed_interval(x + rest * rng.normal(size=shape))
        covered += found.low < 0 < found.high
    assert covered / n >= 0.92


def test_where_one_axis_does_all_the_varying_it_is_students_t_over_it():
    column = np.array([0.1, 0.4, -0.2, 0.7])
    whole, plain = crossed_interval(np.tile(column[:, None], (1, 6))), mean_interval(column)
    assert (whole.low, whole.high) == pytest.approx((plain.low, plain.high))
    across = crossed_interval(np.tile(column[None], (6, 1)))
    assert (across.low, across.high) == pytest.approx((plain.low, plain.high))


def test_rows_and_columns_are_alike():
    x = np.random.default_rng(3).normal(size=(3, 5))
    one, other = crossed_interval(x), crossed_interval(x.T)
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high))


def test_wider_than_the_bootstrap_with_three_seeds():
    x = np.array([[0.1], [0.2], [0.5]]) + np.array([[0.0, 0.3, -0.1]])
    t, bootstrap = crossed_interval(x), hierarchical_bootstrap(x)
    assert t.low < bootstrap.low < bootstrap.high < t.high


@pytest.mark.parametrize("shape", [(1, 4), (4, 1)])
def test_an_axis_of_one_is_held_fixed(shape):
    values = np.array([0.1, 0.4, -0.2, 0.7])
    found, plain = crossed_interval(values.reshape(shape)), mean_interval(values)
    assert (found.mean, found.low, found.high) == (plain.mean, plain.low, plain.high)


def test_one_value_has_no_interval():
    found = crossed_interval(np.array([[0.3]]))
    assert found.mean == 0.3
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_row_that_is_broken_is_refused_or_left_out():
    x = np.array([[1.0, 2.0], [math.nan, 3.0], [2.0, 4.0]])
    with pytest.raises(InputError, match=r"rows \[1\]"):
        crossed_interval(x)
    found = crossed_interval(x, nan_policy="omit")
    assert found.n == 2
    assert found.mean == pytest.approx(2.25)


def test_no_spread_has_no_width():
    found = crossed_interval(np.full((3, 4), 0.25))
    assert (found.low, found.mean, found.high) == (0.25, 0.25, 0.25)
