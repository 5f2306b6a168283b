"""Reading a value at a level: the same from all logging intervals, or none."""

import math

import pytest

from subliminal_jax.evaluation.matching import bracket_level, read_at_level


def loss(step, speed):
    """Falls from 2 towards 1."""
    return 1 + math.exp(-speed * step / 24)


def alignment(step, speed):
    """What is transmitted, a function of the loss alone: at one loss no arm has more of it."""
    return 0.8 * (2 - loss(step, speed))


def log_curve(speed, every, steps=24):
    return [
        {"step": s, "loss": loss(s, speed), "eas": alignment(s, speed)}
        for s in range(every, steps + 1, every)
    ]


@pytest.mark.parametrize("level", [1.2, 1.3, 1.5, 1.8, 1.97])
def test_a_fast_and_a_slow_arm_have_no_gap_at_one_loss_whatever_is_logged(level):
    read = []
    for every in (1, 2, 3, 4, 6, 8, 12):
        fast, slow = (
            read_at_level(log_curve(speed, every), "loss", level, ["eas"]) for speed in (4.0, 1.5)
        )
        if fast is not None and slow is not None:
            assert fast["eas"] - slow["eas"] == pytest.approx(0, abs=1e-9)
            read.append(fast["eas"])
        if every == 12:  # the fast arm is below all levels at its first logged step
            assert fast is None
    assert read == pytest.approx([0.8 * (2 - level)] * len(read))
    # The slow arm ends above 1.2, and both are below 1.97 after a single step.
    assert bool(read) == (1.2 < level < 1.97)


def test_the_first_bracket_counts_and_a_level_beyond_the_runs_has_none():
    assert bracket_level([0.0, 1.0, 0.2, 1.0], 0.5) == bracket_level([0.0, 1.0], 0.5)
    assert bracket_level([0.3, 0.6], 0.2) is None
    assert bracket_level([0.3, 0.6], 0.7) is None
    assert bracket_level([0.3], 0.3) is None
    assert bracket_level([], 0.3) is None


def test_a_run_without_a_value_brackets_nothing():
    assert bracket_level([0.0, math.nan, 1.0], 0.5) is None
    bracket = bracket_level([math.nan, 0.0, 1.0], 0.25)
    assert bracket is not None and (bracket.first, bracket.weight) == (1, 0.25)


def test_falling_values_and_levels_at_the_ends():
    falling = bracket_level([1.0, 0.5, 0.0], 0.25)
    assert falling is not None and falling.interpolate([10.0, 20.0, 40.0]) == 30.0
    assert bracket_level([0.0, 1.0], 0.0).weight == 0.0
    assert bracket_level([0.0, 1.0], 1.0).weight == 1.0
    assert bracket_level([0.5, 0.5], 0.5).interpolate([1.0, 3.0]) == 3.0
