"""Verdicts follow from intervals alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.evaluation.claims import (
    CONTRADICTED,
    NOT_REPRODUCED,
    REPRODUCED,
    joint_verdict,
    verdict,
)
from subliminal_jax.evaluation.statistics import Interval


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 3, 0.95, "t")


@pytest.mark.parametrize(
    ("low", "high", "claimed", "expected"),
    [
        (0.1, 0.2, 1, REPRODUCED),
        (-0.2, -0.1, 1, CONTRADICTED),
        (-0.2, -0.1, -1, REPRODUCED),
        (0.1, 0.2, -1, CONTRADICTED),
        (-0.1, 0.1, 1, NOT_REPRODUCED),
        (0.0, 0.1, 1, NOT_REPRODUCED),
        (math.nan, math.nan, 1, NOT_REPRODUCED),
    ],
)
def test_a_verdict_needs_an_interval_clear_of_zero(low, high, claimed, expected):
    assert verdict(interval(low, high), claimed) == expected


def test_no_interval_reproduces_nothing():
    assert verdict(None) == NOT_REPRODUCED


def test_a_joint_verdict_is_the_one_that_all_share():
    up, down, open_ = interval(0.1, 0.2), interval(-0.2, -0.1), interval(-0.1, 0.1)
    assert joint_verdict(up, up) == REPRODUCED
    assert joint_verdict(down, down) == CONTRADICTED
    assert joint_verdict(up, down) == joint_verdict(up, open_) == NOT_REPRODUCED


FINITE = st.floats(-1e3, 1e3)


@given(FINITE, FINITE, st.floats(-10, 10))
def test_an_interval_scales_with_its_quantity(a, b, factor):
    scaled = factor * interval(min(a, b), max(a, b))
    assert scaled.low <= scaled.mean + 1e-9 and scaled.mean <= scaled.high + 1e-9
    assert scaled.high - scaled.low == pytest.approx(abs(factor) * abs(a - b), abs=1e-6)


def test_an_interval_is_written_by_its_format():
    assert f"{interval(0.4, 0.6):+.2f}" == "+0.50 [0.40, 0.60]"
    assert f"{-100 * interval(0.4, 0.6):.0f}" == "-50 [-60, -40]"
    assert f"{interval(-0.001, 0.0006):+.2f}" == "+0.00 [0.00, 0.00]"
    assert f"{interval(math.nan, math.nan):.1f}" == "undefined"
