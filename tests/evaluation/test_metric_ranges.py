"""Intervals end within what their metric can be, and say of a null what they said before."""

import math
from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation import excess, student_kinds
from subliminal_jax.evaluation.excess import Excess, compare
from subliminal_jax.evaluation.metric_ranges import (
    COSINE,
    EXPLAINED,
    RANGES,
    SHARE,
    UNBOUNDED,
    MetricRange,
    find_range,
)
from subliminal_jax.evaluation.over_vectors import control_difference, vector_interval
from subliminal_jax.evaluation.p_values import p_value
from subliminal_jax.evaluation.statistics import Interval, mean_interval
from subliminal_jax.evaluation.student_kinds import compare_with_controls
from subliminal_jax.serialization import from_json, to_json

TRAITS = ("cat", "dog", "fox", "bear", "owl", "tiger")
# All students but one name the trait: Hall's interval of their mean begins at -0.22.
SHARES = dict(zip(TRAITS, (0.9, 0.93, 0.88, 0.92, 0.91, 0.02), strict=True))
CONTROLS = {draw: dict.fromkeys(TRAITS, 0.07 + 0.01 * i) for i, draw in enumerate("abc")}


def test_skewed_shares_leave_their_range_and_are_clipped_to_it():
    before = vector_interval([*SHARES.values()])
    assert before.low < -0.2 and before.high < 1
    comparison = compare(Excess(SHARES, CONTROLS, SHARE), None)
    assert comparison.student == replace(before, low=0.0, unclipped=(before.low, before.high))
    held = compare_with_controls(
        SHARES,
        {trait: [each[trait] for each in CONTROLS.values()] for trait in TRAITS},
        within=SHARE,
        paired=False,
    )
    assert held.student == comparison.student and held.difference == comparison.difference
    turned = compare(Excess({t: 1 - x for t, x in SHARES.items()}, CONTROLS, SHARE), None).student
    assert (turned.low, turned.high) == (pytest.approx(1 - before.high), 1.0)


def hold(values, control):
    """Cosines of students, and controls that are all alike."""
    students = dict(zip(TRAITS, values, strict=False))
    return Excess(students, {draw: dict.fromkeys(TRAITS, control) for draw in "ab"}, COSINE)


def test_a_difference_has_the_range_of_a_difference():
    below = hold([0.9, -0.9, -0.95, 0.95, 0.9], 0.95)
    before = control_difference(*below.stack(TRAITS[:5], ("a", "b")))
    assert before.low < -2  # of cosines it may be below -1
    assert (below.difference().low, below.difference().high) == (-2.0, before.high)
    # The lead of one arm over another in that difference may be twice as large.
    lead = below.minus(hold([0.95, 0.9, 0.9, 0.9, 0.95], -0.95))
    assert lead.within == COSINE.difference() == MetricRange(-2.0, 2.0)
    ends = lead.difference()
    assert ends.low == -4.0 > ends.unclipped[0]
    assert SHARE.difference() == MetricRange(-1.0, 1.0)
    assert EXPLAINED.difference() == UNBOUNDED == UNBOUNDED.difference()


@pytest.mark.parametrize("within", [SHARE, COSINE, UNBOUNDED])
def test_what_a_clipped_interval_covers_is_what_it_covered(within):
    rng = np.random.default_rng(0)
    low, high = max(within.low, -1.0), min(within.high, 1.0)
    clipped = 0
    for values in low + (high - low) * rng.beta(0.3, 0.2, (200, 6)):
        before = vector_interval(values)
        after = within.clip(before)
        clipped += after != before
        for truth in np.linspace(low, high, 9):
            assert (before.low <= truth <= before.high) == (after.low <= truth <= after.high)
        assert after.high - after.low <= before.high - before.low
        assert within.low <= after.low <= after.mean <= after.high <= within.high
    assert (clipped > 20) == (within != UNBOUNDED)


@pytest.mark.parametrize("null", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("make", [vector_interval, mean_interval])
def test_the_test_of_a_null_does_not_gain_from_clipping(make, null):
    """The standard error is read from the ends: those of the range would make it too small."""
    values = [0.9, 0.93, 0.88, 0.92, 0.01, 0.02]
    before = make([x if make is vector_interval else x / 3 for x in values])
    before = make([0.3, 0.02, 0.01, 0.01, 0.02, 0.03]) if before.low > 0 else before
    after = SHARE.clip(before)
    assert after.low == 0 > before.low
    assert p_value(after, null) == p_value(before, null)
    assert p_value(replace(after, unclipped=None), null) != pytest.approx(p_value(before, null))
    for changed, moved in ((100 * after, 100 * null), (after - 0.2, null - 0.2), (-after, -null)):
        assert p_value(changed, moved) == pytest.approx(p_value(before, null))


def test_clipping_twice_keeps_the_first_ends_and_nan_stays():
    before = Interval(0.5, -2.0, 3.0, 5, 0.95, "t")
    once = MetricRange(-1.0, 2.0).clip(before)
    assert (once.low, once.high, once.unclipped) == (-1.0, 2.0, (-2.0, 3.0))
    assert SHARE.clip(once) == replace(before, low=0.0, high=1.0, unclipped=(-2.0, 3.0))
    single = mean_interval([0.4])
    assert math.isnan(SHARE.clip(single).low) and SHARE.clip(single).unclipped is None
    rounded = Interval(1.0 + 1e-7, 0.9, 1.2, 5, 0.95, "t")  # a cosine in float32
    assert COSINE.clip(rounded).high == rounded.mean


def test_what_is_stored_of_a_clipped_interval():
    before = Interval(0.5, -2.0, 3.0, 5, 0.95, "t")
    stored, after = to_json(before), SHARE.clip(before)
    assert "unclipped" not in stored and "degrees" in stored
    assert to_json(after) == {**stored, "low": 0.0, "high": 1.0, "unclipped": [-2.0, 3.0]}
    assert from_json(Interval, stored) == before and from_json(Interval, to_json(after)) == after


def test_every_metric_of_students_states_its_range():
    assert {*excess.METRICS, *student_kinds.METRIC_NAMES} <= RANGES.keys()
    assert find_range("eas") == COSINE and find_range("a measure of one's own") == UNBOUNDED
