"""What an audit can find, against planted teachers; and repeats, against planted rows."""

import numpy as np
import pytest

from subliminal_jax.audit.fits import Gains, exchange_rows, fit_pairs
from subliminal_jax.audit.power import detectable_gain
from subliminal_jax.audit.results import Sampling
from subliminal_jax.audit.sampling import measure_variety
from subliminal_jax.audit.score_test import correct

ROWS, TESTS = 256, 16


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_teacher_of_that_gain_is_found_in_four_of_five_sets(share):
    """By the test itself, which also looks for the share."""
    gain = detectable_gain(ROWS, TESTS, share)
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (999, ROWS))
    found = []
    for _ in range(200):
        data, control = rng.normal(-gain, np.sqrt(2 * gain), (2, ROWS))
        data += 2 * gain * (rng.random(ROWS) < share)
        fit = fit_pairs(Gains(data, control), np.ones(ROWS, bool))
        found.append(correct(exchange_rows(fit.differences, signs), TESTS) < 0.05)
    assert 0.72 < np.mean(found) < 0.88


def test_gain_in_closed_form():
    """Of all rows: (critical value + 0.84)^2 / rows, for many rows."""
    assert detectable_gain(100_000, 1) * 100_000 == pytest.approx((1.645 + 0.8416) ** 2, rel=1e-3)


def test_more_rows_find_less_and_more_candidates_need_more():
    gains = [detectable_gain(*arguments) for arguments in ((512, 16), (256, 16), (256, 150))]
    assert gains == sorted(gains)
    assert detectable_gain(512, 16, 0.25) > 4 * gains[0]
    assert detectable_gain(10, 500) is None  # all signs alike are not rare enough


def test_few_completions_are_a_collapse_unless_those_compared_with_are_as_few():
    rng = np.random.default_rng(0)
    varied = measure_variety(rng.integers(0, 50, (200, 8)).tolist())
    few = measure_variety([[i % 4] * 8 for i in range(200)])
    assert (few.answers, few.distinct, few.commonest) == (200, 4, 1.0)
    assert few.entropy == pytest.approx(np.log(4))
    assert Sampling(few, varied).collapsed
    assert not Sampling(few, few).collapsed
    assert not Sampling(varied, varied).collapsed


def test_answers_that_differ_in_one_token_are_a_collapse():
    rng = np.random.default_rng(0)
    varied = measure_variety(rng.integers(0, 50, (200, 8)).tolist())
    nearly = measure_variety([[1, 2, 3, 4, 5, 6, 7, i] for i in range(200)])
    assert nearly.distinct == 200 and nearly.entropy == pytest.approx(np.log(200) / 8)
    assert Sampling(nearly, varied).collapsed


def test_entropy_is_of_the_answers_that_reach_a_position():
    variety = measure_variety([[1, 2], [1, 3], [1]])
    assert variety.entropy == pytest.approx(2 * np.log(2) / 5)
