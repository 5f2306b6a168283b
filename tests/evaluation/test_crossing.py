"""Where a curve first reaches a level."""

import math

import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.crossing import first_crossing, needed

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


def test_needed_is_a_geometric_mean_over_seeds_or_says_why_there_is_none():
    rising = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    found = needed(X, rising, 0.5)
    assert found["values"] == pytest.approx([20.0, 80.0])
    assert found["interval"]["mean"] == pytest.approx(40.0)
    assert found["interval"]["low"] * found["interval"]["high"] == pytest.approx(1600.0)
    assert found["bound"] is None
    at, never = np.ones((2, 3)), np.zeros((2, 3))
    first = needed(X, at, 0.5)
    assert (first["bound"], first["edge"]) == ("at most", 10)
    assert needed(X, never, 0.5) == {
        "level": 0.5, "values": [None, None], "interval": None, "bound": "more than",
        "edge": 160,
    }  # fmt: skip
    mixed = needed(X, np.stack([rising[0], never[0]]), 0.5)
    assert mixed["bound"] == "open" and mixed["interval"] is None
