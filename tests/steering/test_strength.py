"""The strength of a damage is found where it exists, and the best candidate keeps to the bound."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.steering.strength import (
    LARGEST_STRENGTH,
    TOLERANCE,
    Candidate,
    choose_candidate,
    find_strength,
)


@given(
    strength=st.floats(1e-3, 0.99 * LARGEST_STRENGTH),
    power=st.floats(0.3, 4),
    target=st.floats(1e-3, 10),
)
def test_the_strength_of_a_damage_is_found(strength, power, target):
    found = find_strength(lambda s: target * (s / strength) ** power, target)
    assert found is not None
    assert target * (found / strength) ** power == pytest.approx(target, rel=2 * TOLERANCE)


@given(limit=st.floats(0.1, 0.9))
def test_a_damage_that_is_not_reached_has_no_strength(limit):
    assert find_strength(lambda s: limit * s / (1 + s), 1.0) is None


def test_what_is_not_finite_damages_more_than_anything():
    """A model that overflows from strength 1 on is searched below it."""
    found = find_strength(lambda s: s if s < 1 else math.nan, 0.4)
    assert found == pytest.approx(0.4, rel=TOLERANCE)


def test_damage_is_measured_a_few_times():
    calls = []
    find_strength(lambda s: calls.append(s) or s**2, 1e-3)
    assert len(calls) <= 10


def test_the_choice_has_the_largest_effect_within_the_bound():
    weak, best, costly = (
        Candidate(1, s, d, e) for s, d, e in ((1, 0.1, 1), (2, 1.0, 2), (4, 3, 9))
    )
    assert choose_candidate([weak, best, costly], 1.0) == best
    assert choose_candidate([weak, best, costly], 0.5) == weak
    assert choose_candidate([best, Candidate(2, 1.0, 0.3, 2.0)], 1.0).layer == 2
    with pytest.raises(ValueError, match="damages"):
        choose_candidate([costly], 1.0)
