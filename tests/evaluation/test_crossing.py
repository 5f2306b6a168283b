"""Where a curve first reaches a level."""

import math

import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.crossing import Crossing, find_crossing, first_crossing

X = (10, 40, 160)


def test_a_curve_that_is_linear_in_log_x_is_inverted_exactly():
    y = [0.1 + 0.2 * math.log(x / 10) for x in X]
    for at in (11.0, 40.0, 77.0, 160.0):
        level = 0.1 + 0.2 * math.log(at / 10)
        assert first_crossing(X, y, level) == pytest.approx(at)


def test_the_first_of_several_crossings_counts_and_the_ends_are_bounds():
    assert first_crossing(X, [0.0, 1.0, 0.0], 0.5) == pytest.approx(20.0)
    assert first_crossing(X, [0.6, 0.1, 0.9], 0.5) == 10
    assert first_crossing(X, [0.0, 0.1, 0.4], 0.5) == math.inf
    for bad in ((), (0, 1, 2), (3, 2, 1)):
        with pytest.raises(InputError, match="ascending"):
            first_crossing(bad, [0.0] * len(bad), 0.5)


def test_the_crossing_of_seeds_is_a_geometric_mean_or_says_why_there_is_none():
    rising = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    crossing = find_crossing(X, rising, 0.5)
    assert crossing.values == pytest.approx((20.0, 80.0))
    assert crossing.interval is not None and crossing.bound is None
    assert crossing.interval.mean == pytest.approx(40.0)
    assert crossing.interval.low * crossing.interval.high == pytest.approx(1600.0)
    always, never = np.ones((2, 3)), np.zeros((2, 3))
    first = find_crossing(X, always, 0.5)
    assert (first.bound, first.edge) == ("at most", 10)
    expected = Crossing(0.5, (None, None), bound="more than", edge=160.0)
    assert find_crossing(X, never, 0.5) == expected
    mixed = find_crossing(X, np.stack([rising[0], never[0]]), 0.5)
    assert mixed.bound == "open" and mixed.interval is None
