"""Forecasts from pilots: lines, and intervals that hold what no line has seen."""

import dataclasses

import numpy as np
import pytest
import scipy

from subliminal_jax.audit.forecasts import (
    FEWEST_SETS,
    Calibration,
    FineTune,
    Forecast,
    Rule,
    calibrate,
    describe_forecast,
    forecast_rises,
    log_odds,
)
from subliminal_jax.errors import InputError
from subliminal_jax.serialization import from_json, to_json

NAMES = tuple(f"c{i}" for i in range(16))
RULES = tuple(Rule(optimizer=name, rate=0.1, rank=8) for name in ("adamw", "lion", "muon", "sgd"))
SLOPES = (1.0, 2.0, 3.0, 4.0)


def list_traits(sets):
    """The candidate that rises more, by set."""
    return [i % len(NAMES) for i in range(sets)]


def plant(sets, rng, rules=RULES):
    """Pilots and outcomes [rules, sets, candidates]: one candidate of each set rises more, errors
    grow with what is forecast."""
    pilots = 0.1 * rng.normal(size=(len(rules), sets, len(NAMES)))
    pilots[:, np.arange(sets), list_traits(sets)] += rng.exponential(0.5, sets)
    means = 0.1 + np.array(SLOPES[: len(rules)])[:, None, None] * pilots
    return pilots, means + (0.1 + 0.2 * np.abs(means)) * rng.normal(size=means.shape)


def test_log_odds_are_those_of_the_probability():
    p = np.array([1e-6, 0.2, 0.9])
    np.testing.assert_allclose(log_odds(p), scipy.special.logit(p), rtol=1e-9)
    assert np.isfinite(log_odds(np.array([0.0, 1.0], np.float32))).all()


def test_lines_are_the_planted_ones():
    lines, other = calibrate(RULES, *plant(400, np.random.default_rng(0)), list_traits(400), 0.9)
    assert [line.rule for line in lines] == list(RULES) and other.rule is None
    assert [line.slope for line in lines] == pytest.approx(SLOPES, rel=0.1)
    assert [line.intercept for line in lines] == pytest.approx([0.1] * 4, abs=0.05)


def test_intervals_hold_new_outcomes_at_their_level():
    """Of all candidates, and of the largest forecast of each set, which is chosen for its size."""
    rng = np.random.default_rng(1)
    inside, first = [], []
    for _ in range(20):
        lines, _ = calibrate(RULES, *plant(16, rng), list_traits(16), 0.9)
        for line, pilots, outcomes in zip(lines, *plant(10, rng), strict=True):
            for pilot, outcome in zip(pilots, outcomes, strict=True):
                true = dict(zip(NAMES, outcome, strict=True))
                found = [
                    f.low <= true[f.name] <= f.high for f in forecast_rises(line, NAMES, pilot)
                ]
                inside += found
                first.append(found[0])
    assert 0.88 < np.mean(inside) < 0.97
    assert 0.86 < np.mean(first) < 0.97


def test_teachers_traits_that_rise_otherwise_widen_the_interval():
    """Their outcomes have noise of their own, which one candidate in sixteen hardly shows."""
    rng = np.random.default_rng(6)
    pilots, finals = plant(40, rng)
    traits = list_traits(40)
    finals[:, np.arange(40), traits] += rng.normal(0, 2, (len(RULES), 40))
    clean, _ = calibrate(RULES, pilots, finals, [None] * 40, 0.9)
    lines, _ = calibrate(RULES, pilots, finals, traits, 0.9)
    assert all(a.quantile > 1.5 * b.quantile for a, b in zip(lines, clean, strict=True))
    held = [
        f.low <= final[trait] <= f.high
        for line, pilot_sets, final_sets in zip(lines, pilots, finals, strict=True)
        for pilot, final, trait in zip(pilot_sets, final_sets, traits, strict=True)
        for f in forecast_rises(line, NAMES, pilot)
        if f.name == NAMES[trait]
    ]
    assert np.mean(held) > 0.88


def test_an_unknown_rule_has_wider_intervals_that_hold_it():
    """Lines of other rules, whose slopes differ, say less: by as much as they are wrong about a
    rule that is left out."""
    rng = np.random.default_rng(2)
    lines, other = calibrate(RULES, *plant(100, rng), list_traits(100), 0.9)
    assert other.error > 1.2 * max(line.error for line in lines)
    pilots, outcomes = plant(100, rng)
    held = [
        f.low <= dict(zip(NAMES, outcome, strict=True))[f.name] <= f.high
        for pilot, outcome in zip(pilots[1], outcomes[1], strict=True)
        for f in forecast_rises(other, NAMES, pilot)[:1]
    ]
    assert np.mean(held) > 0.8


def test_sets_without_a_stable_student_are_left_out():
    pilots, finals = plant(12, np.random.default_rng(3))
    gone = pilots.copy(), finals.copy()
    gone[0][0, 2] = np.nan
    gone[1][0, 5] = np.nan
    traits = list_traits(12)
    kept = [i for i in range(12) if i not in (2, 5)]
    lines, _ = calibrate(RULES[:1], gone[0][:1], gone[1][:1], traits, 0.9)
    expected, _ = calibrate(
        RULES[:1], pilots[:1, kept], finals[:1, kept], [traits[i] for i in kept], 0.9
    )
    assert lines == expected


def test_too_few_sets_are_refused():
    few = plant(FEWEST_SETS - 1, np.random.default_rng(4))
    with pytest.raises(
        InputError, match=rf"adamw \(rate 0.1, rank 8\): {FEWEST_SETS - 1} data sets"
    ):
        calibrate(RULES, *few, list_traits(FEWEST_SETS - 1), 0.9)


def make_calibration():
    lines, other = calibrate(RULES, *plant(20, np.random.default_rng(5)), list_traits(20), 0.9)
    return Calibration(
        model="m",
        weights="w",
        fine_tune=FineTune(steps=64, batch_size=16),
        pilot_steps=8,
        level=0.9,
        sets=20,
        lines=lines,
        other=other,
    )


def test_a_calibration_knows_its_rules_and_fine_tunes():
    calibration = make_calibration()
    assert calibration.find_line(RULES[2]) == calibration.lines[2]
    for changed in ({"rate": 0.2}, {"rank": 2}, {"optimizer": "adam"}):
        assert calibration.find_line(dataclasses.replace(RULES[2], **changed)).rule is None
    assert calibration.rates == dict.fromkeys(("adamw", "lion", "muon", "sgd"), 0.1)
    assert calibration.fits(FineTune(steps=64, batch_size=16), 8)
    assert not calibration.fits(FineTune(steps=128, batch_size=16), 8)
    assert not calibration.fits(FineTune(steps=64, batch_size=16), 4)
    assert from_json(Calibration, to_json(calibration)) == calibration


def test_forecasts_are_sorted_and_said_in_words():
    line = make_calibration().lines[0]
    found = forecast_rises(line, ("low", "high"), np.array([-1.0, 1.0]))
    assert [f.name for f in found] == ["high", "low"]
    assert found[0].rise == pytest.approx(line.intercept + line.slope)
    assert forecast_rises(None, ("a",), np.array([0.5])) == [Forecast("a", 0.5, 0.5, None, None)]
    rule = RULES[0]
    assert describe_forecast(rule, [Forecast("owl", 0.1, 1.0, 0.4, 1.6)]) == (
        "adamw (rank 8): owl rises by +1.00 nats [0.40, 1.60]"
    )
    assert "nothing is forecast to rise" in describe_forecast(
        rule, [Forecast("owl", 0.1, 1.0, -0.4, 2.4)]
    )
    assert "rises most in the pilot" in describe_forecast(
        rule, [Forecast("owl", 0.1, 0.1, None, None)]
    )
    assert "unstable" in describe_forecast(rule, [])
