"""The choice of pilots, the calibration and the trial of planted forecasts."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.audit.forecasts import FineTune, Rule
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.claims import REPRODUCED
from subliminal_jax.experiments.forecast_benchmark.analysis import analyse
from subliminal_jax.experiments.forecast_benchmark.claims import make_claims
from subliminal_jax.experiments.forecast_benchmark.numbers import (
    KnownOutcome,
    Measured,
    PilotCost,
    RuleRises,
)
from subliminal_jax.experiments.forecast_benchmark.report import make_page
from tests.planted import fill

NAMES = tuple(f"t{i}" for i in range(12))
RULES = tuple(Rule(optimizer=name, rate=0.1, rank=8) for name in ("adamw", "muon", "sgd"))
SLOPES = (3.0, 2.0, 1.0)
NOISE = (1.0, 0.2)  # of a pilot of 4 steps, and of 8


def plant(informative=True, seed=0):
    """24 sets a part, the last four of them clean; the longer pilot knows more."""
    rng = np.random.default_rng(seed)
    outcomes = []
    for part in ("development", "reported"):
        for i in range(24):
            trait = NAMES[i % len(NAMES)] if i < 20 else None
            strength = rng.exponential(1.0) if trait else 0.0
            rises = []
            for slope in SLOPES:
                truth = 0.1 * rng.normal(size=len(NAMES))
                if trait:
                    truth[NAMES.index(trait)] += strength
                known = truth if informative else np.zeros_like(truth)
                pilots = [known + 0.3 * noise * rng.normal(size=len(NAMES)) for noise in NOISE]
                final = slope * truth + 0.1 * rng.normal(size=len(NAMES))
                rises.append(RuleRises(tuple(map(tuple, pilots)), tuple(final)))
            outcomes.append(
                fill(
                    KnownOutcome,
                    name=f"{part}-{i}",
                    part=part,
                    teacher="vector" if trait else "none",
                    trait=trait,
                    carrier="chat",
                    rises=tuple(rises),
                )
            )
    return Measured(
        model="m",
        weights="w",
        candidates=NAMES,
        fine_tune=FineTune(steps=64, batch_size=16),
        rules=RULES,
        pilot_steps=(4, 8),
        level=0.9,
        most_cost=0.2,
        costs=tuple(PilotCost("chat", steps, steps / 64 + 0.02) for steps in (4, 8)),
        outcomes=tuple(outcomes),
    )


@pytest.fixture(scope="module")
def results():
    return analyse(plant())


def test_the_better_pilot_is_chosen_by_development_and_cost(results):
    assert [row.chosen for row in results.pilots] == [False, True]
    assert results.pilots[1].error < results.pilots[0].error < results.pilots[0].error_of_none
    assert results.calibration.pilot_steps == 8
    assert results.cost == pytest.approx(8 / 64 + 0.02)
    cheap = analyse(replace(plant(), most_cost=0.1))
    assert cheap.calibration.pilot_steps == 4
    with pytest.raises(InputError, match="the cheapest pilot takes 8% of a fine-tune"):
        analyse(replace(plant(), most_cost=0.05))


def test_nothing_that_is_reported_changes_the_calibration(results):
    measured = plant()
    turned = [
        replace(o, rises=tuple(RuleRises(r.pilots, tuple(-x for x in r.final)) for r in o.rises))
        if o.part == "reported"
        else o
        for o in measured.outcomes
    ]
    other = analyse(replace(measured, outcomes=tuple(turned)))
    assert other.calibration == results.calibration
    assert other.overall.correlation.mean < 0 < results.overall.correlation.mean


def test_forecasts_of_a_pilot_that_knows_are_found_good(results):
    trial = results.overall
    assert (trial.pairs, trial.unstable) == (60, 0)
    assert min(trial.correlation.low, trial.within.low) > 0.6
    assert trial.error < trial.error_of_none / 2
    assert trial.named.mean > 0.7
    for share in (trial.covered, trial.covered_true, trial.covered_first):
        assert share.mean > 0.8
    assert trial.said_right > 0.9 * trial.said > 0
    assert [t.rule for t in results.by_rule] == list(RULES)
    assert [t.pairs for t in results.by_rule] == [20, 20, 20]
    assert results.unknown.correlation.mean > 0.5
    verdicts = {c.id: c.evidence.judge() for c in make_claims(results)}
    assert verdicts["forecast-benchmark/predicts"] == REPRODUCED
    assert verdicts["forecast-benchmark/names"] == REPRODUCED
    assert len(make_page(results).printed) == 2


def test_a_pilot_that_knows_nothing_forecasts_nothing():
    """Over all pairs the rules differ, which is known without a pilot; within a rule nothing is."""
    results = analyse(plant(informative=False))
    assert results.overall.within.low < 0 < results.overall.within.high
    assert results.overall.error == pytest.approx(results.overall.error_of_none, rel=0.15)
    assert results.overall.said == 0
    verdicts = {c.id: c.evidence.judge() for c in make_claims(results)}
    assert verdicts["forecast-benchmark/predicts"] != REPRODUCED


def test_unstable_students_are_counted_and_left_out(results):
    measured = plant()
    first = next(i for i, o in enumerate(measured.outcomes) if o.part == "reported")
    outcomes = list(measured.outcomes)
    rises = outcomes[first].rises
    outcomes[first] = replace(outcomes[first], rises=(replace(rises[0], final=None), *rises[1:]))
    found = analyse(replace(measured, outcomes=tuple(outcomes)))
    assert (found.overall.pairs, found.overall.unstable) == (59, 1)
    assert found.by_rule[0].unstable == 1 and found.by_rule[1].unstable == 0
