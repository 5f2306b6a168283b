"""Intervals cover what they claim, agree with closed forms, and never hide a NaN."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import (
    auc_interval,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    rate_interval,
    spearman_interval,
)
from subliminal_jax.serialization import to_json

numbers = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))


def coverage(intervals, truth: float) -> float:
    return float(np.mean([i.low <= truth <= i.high for i in intervals]))


def within_binomial_noise(share: float, level: float, n: int, sigmas: float = 4) -> bool:
    return abs(share - level) <= sigmas * math.sqrt(level * (1 - level) / n)


@pytest.mark.parametrize(("n", "level"), [(3, 0.95), (5, 0.8)])
def test_t_interval_covers_the_true_mean_as_often_as_it_says(n, level):
    draws = np.random.default_rng(0).normal(2.0, 3.0, size=(4000, n))
    share = coverage([mean_interval(x, level) for x in draws], 2.0)
    assert within_binomial_noise(share, level, len(draws))


def test_t_interval_of_three_values_in_closed_form():
    interval = mean_interval([1, 2, 3])
    half = 4.302652729911275 / math.sqrt(3)  # t quantile 0.975, 2 degrees; standard deviation 1
    assert (interval.mean, interval.n, interval.method) == (2.0, 3, "t")
    assert interval.low == pytest.approx(2 - half)
    assert interval.high == pytest.approx(2 + half)


@given(st.lists(numbers, min_size=2, max_size=8), numbers, st.floats(0.1, 10))
def test_t_interval_moves_and_scales_with_the_data(values, shift, scale):
    base = mean_interval(values)
    moved = mean_interval(scale * np.asarray(values) + shift)
    assert moved.low == pytest.approx(scale * base.low + shift, rel=1e-6, abs=1e-6)
    assert moved.high == pytest.approx(scale * base.high + shift, rel=1e-6, abs=1e-6)
    back = scale * base - (-shift)
    assert (back.mean, back.low) == pytest.approx((moved.mean, moved.low), rel=1e-6, abs=1e-6)


def test_one_value_has_a_mean_and_no_interval_and_both_are_plain_json():
    single, empty = mean_interval([0.5]), mean_interval([])
    assert single.mean == 0.5
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    assert empty.n == 0
    assert math.isnan(empty.mean)
    written = json.dumps(to_json(single), allow_nan=False)
    assert json.loads(written)["low"] is None


def test_nan_is_refused_unless_left_out_by_choice():
    values = [1.0, None, 3.0, math.nan]
    with pytest.raises(InputError, match=r"2 of 4 values are NaN .*index 1"):
        mean_interval(values)
    assert mean_interval(values, nan_policy="omit") == mean_interval([1.0, 3.0])
    with pytest.raises(InputError, match="NaN"):
        bootstrap_interval(values)
    with pytest.raises(InputError, match="NaN"):
        auc_interval(values, [0.0])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_outside_0_and_1_is_refused(level):
    with pytest.raises(InputError, match="level"):
        mean_interval([1.0, 2.0], level)


def test_bootstrap_of_a_mean_is_close_to_t_for_many_values_and_repeats_exactly():
    x = np.random.default_rng(1).normal(size=200)
    bootstrap, t = bootstrap_interval(x), mean_interval(x)
    assert bootstrap.low == pytest.approx(t.low, abs=0.02)
    assert bootstrap.high == pytest.approx(t.high, abs=0.02)
    assert bootstrap == bootstrap_interval(x)


def test_bootstrap_of_a_skewed_sample_reaches_further_on_the_long_side():
    x = np.random.default_rng(2).exponential(size=60)
    interval = bootstrap_interval(x, resamples=4000)
    assert interval.high - interval.mean > 1.1 * (interval.mean - interval.low)


def test_bootstrap_of_equal_values_has_no_width_and_of_one_value_no_interval():
    interval = bootstrap_interval([0.25] * 5)
    assert (interval.low, interval.mean, interval.high) == (0.25, 0.25, 0.25)
    assert math.isnan(bootstrap_interval([0.25]).low)


@given(st.integers(1, 200), st.data())
def test_wilson_solves_the_score_equation(n, data):
    successes = data.draw(st.integers(0, n))
    interval = rate_interval(successes, n)
    z = stats.norm.ppf(0.975)
    for end in {interval.low, interval.high} - {0.0, 1.0}:
        assert (interval.mean - end) ** 2 == pytest.approx(
            z * z * end * (1 - end) / n, rel=1e-6, abs=1e-12
        )
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1


def test_wilson_has_width_at_the_edges_and_refuses_nonsense():
    assert rate_interval(0, 20).high > 0.1
    assert rate_interval(20, 20).low < 0.9
    assert math.isnan(rate_interval(0, 0).mean)
    with pytest.raises(InputError, match="3 successes in 2 trials"):
        rate_interval(3, 2)


def test_paired_difference_ignores_what_the_pairs_share():
    rng = np.random.default_rng(3)
    seeds, effect = 100 * rng.normal(size=6), rng.normal(0.5, 0.1, size=6)
    result = paired_difference(seeds + effect, seeds)
    assert result.interval.low == pytest.approx(mean_interval(effect).low)
    assert result.interval.low > 0
    assert result.p_t == pytest.approx(stats.ttest_rel(seeds + effect, seeds).pvalue, rel=1e-6)
    assert result.p_permutation == 2 / 2**6  # the observed signs and their mirror image


def test_swapping_treated_and_control_mirrors_the_result():
    a, b = [0.3, 0.5, 0.9, 0.4], [0.2, 0.6, 0.1, 0.2]
    forward, backward = paired_difference(a, b), paired_difference(b, a)
    assert forward.interval.low == pytest.approx(-backward.interval.high)
    assert forward.p_t == pytest.approx(backward.p_t)
    assert forward.p_permutation == backward.p_permutation


def test_sign_flips_reject_the_truth_as_rarely_as_they_say():
    rng = np.random.default_rng(4)
    p = [paired_difference(d, np.zeros(6)).p_permutation for d in rng.standard_t(2, size=(600, 6))]
    assert np.mean(np.asarray(p) <= 0.05) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 600)
    assert np.mean(np.asarray(p) <= 0.5) == pytest.approx(0.5, abs=0.1)


def test_pairs_are_left_out_whole_and_must_match():
    result = paired_difference([1.0, None, 3.0], [0.5, 0.5, math.nan], nan_policy="omit")
    assert (result.interval.n, result.interval.mean) == (1, 0.5)
    assert math.isnan(result.p_t)
    with pytest.raises(InputError, match="2 treated and 3 control"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])
    equal = paired_difference([1.0, 2.0], [1.0, 2.0])
    assert (equal.p_t, equal.p_permutation) == (1.0, 1.0)


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=12),
    st.lists(st.integers(0, 6), min_size=2, max_size=12),
)
def test_auc_counts_pairs_and_lies_inside_its_interval(positive, negative):
    interval = auc_interval(positive, negative)
    pairs = [(p > q) + 0.5 * (p == q) for p in positive for q in negative]
    assert interval.mean == pytest.approx(np.mean(pairs))
    assert 0 <= interval.low <= interval.mean + 1e-12
    assert interval.mean - 1e-12 <= interval.high <= 1
    mirrored = auc_interval(negative, positive)
    assert mirrored.mean == pytest.approx(1 - interval.mean)
    assert mirrored.low == pytest.approx(1 - interval.high, abs=1e-9)


def test_auc_interval_covers_the_true_area():
    rng = np.random.default_rng(7)
    truth = float(stats.norm.cdf(1 / math.sqrt(2)))  # two unit normals, one apart
    intervals = [
        auc_interval(rng.normal(1, 1, size=40), rng.normal(0, 1, size=60)) for _ in range(500)
    ]
    assert {i.method for i in intervals} == {"DeLong"}
    assert 0.91 <= coverage(intervals, truth) <= 0.98


def test_auc_without_overlap_still_admits_doubt():
    interval = auc_interval([2.0, 3.0, 4.0], [0.0, 1.0])
    assert (interval.mean, interval.high, interval.method) == (1.0, 1.0, "Newcombe")
    assert 0.2 < interval.low < 0.9
    many = auc_interval(np.arange(100, 200.0), np.arange(100.0))
    assert 0.95 < many.low < 1


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_spearman_interval_covers_the_true_correlation(rho):
    """Of two normals with correlation rho it is 6/pi asin(rho / 2) for many pairs."""
    rng = np.random.default_rng(8)
    truth = 6 / math.pi * math.asin(rho / 2)
    intervals = []
    for _ in range(1500):
        x, z = rng.normal(size=(2, 16))
        intervals.append(spearman_interval(x, rho * x + math.sqrt(1 - rho * rho) * z))
    assert 0.92 <= coverage(intervals, truth) <= 0.98


@given(st.lists(st.tuples(numbers, numbers), min_size=5, max_size=20))
def test_spearman_sees_only_ranks_and_flips_with_a_side(pairs):
    x, y = np.array(pairs).T
    interval = spearman_interval(x, y)
    assert interval.n == len(pairs)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert math.isnan(interval.mean)
        return
    assert interval.low <= interval.mean <= interval.high
    cubed = spearman_interval(x**3, y)
    flipped = spearman_interval(-x, y)
    assert (cubed.mean, cubed.low) == pytest.approx((interval.mean, interval.low))
    assert (flipped.mean, flipped.low) == pytest.approx((-interval.mean, -interval.high))


def test_spearman_of_few_perfect_and_missing_pairs():
    perfect = spearman_interval(range(16), range(16))
    assert perfect.mean == pytest.approx(1) and 0.9 < perfect.low < 1
    assert math.isnan(spearman_interval([1, 2, 3, 4], [1, 2, 4, 3]).low)
    with pytest.raises(InputError, match="NaN"):
        spearman_interval([1, 2, None], [1, 2, 3])
    assert spearman_interval([1, 2, None], [1, 2, 3], nan_policy="omit").n == 2
    with pytest.raises(InputError, match="cannot be paired"):
        spearman_interval([1], [1, 2])
