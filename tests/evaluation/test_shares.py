"""Shares near their ends have intervals that say how few the units were."""

import numpy as np
import pytest

from subliminal_jax.evaluation.shares import share_interval
from subliminal_jax.evaluation.statistics import rate_interval


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_no_spread_among_few_is_no_certainty(value):
    interval = share_interval([value] * 8)
    assert interval == rate_interval(int(8 * value), 8)
    assert interval.high - interval.low > 0.3


def test_an_interval_stays_within_0_and_1():
    interval = share_interval([0.0] * 7 + [0.4])
    assert interval.low == 0 < interval.mean < interval.high <= 1


@pytest.mark.parametrize("mean", [0.02, 0.3, 0.9])
def test_it_holds_the_mean_of_shares_of_few_answers(mean):
    rng = np.random.default_rng(0)
    shares = rng.binomial(20, rng.beta(4 * mean, 4 * (1 - mean), (300, 8))) / 20
    held = [(i := share_interval(row)).low <= mean <= i.high for row in shares]
    assert np.mean(held) > 0.85
