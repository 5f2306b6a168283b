"""Values by seed and claims, of students that are planted."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, NOT_REPRODUCED, REPRODUCED
from subliminal_jax.evaluation.comparison import MetricSummary
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.evaluation.verdicts import gap_between
from subliminal_jax.experiments.optimizer_mechanics.analysis import (
    ArmResult,
    MatchedArm,
    PairedMetric,
    Results,
    group_values,
)
from subliminal_jax.experiments.optimizer_mechanics.claims import make_claims
from subliminal_jax.experiments.optimizer_mechanics.explanations import AT_ADAMW, JUDGED
from tests.planted import fill

INTERVAL = Interval(0.2, 0.1, 0.3, 3, 0.95, "paired t")
SUMMARY = MetricSummary(INTERVAL, INTERVAL, INTERVAL)
ARM = fill(ArmResult, optimizer="adamw", metrics={"eas": SUMMARY})
NOTHING = fill(Results, model="a-model", seeds=3, best=(ARM,))


def test_traits_are_held_against_the_control_of_the_same_seed():
    def row(data, seed, trait, rate=0.1, diverged=False):
        numbers = {"eas": 0.5 + seed, "shift_component": 0.1, "trait_rate": trait}
        return StudentRow("sgd", rate, seed, data, diverged, measured=numbers)

    rows = [row("steered", 0, 0.3), row("control", 0, 0.1), row("steered", 1, 0.9),
            row("control", 1, 0.0, diverged=True), row("steered", 0, 0.8, rate=0.2)]  # fmt: skip
    values = group_values(rows, {"sgd": 0.1})
    assert values["trait_rate"] == {"sgd": {0: pytest.approx(0.2)}}
    assert values["eas"] == {"sgd": {0: 0.5, 1: 1.5}}


def planted(matched=(), **means):
    """Claims, by name, on three seeds of each arm in each metric, 0.01 apart and 0.001 off, so that
    means decide."""
    off = np.array([[0.0, 0.001, -0.001], [0.001, 0.0, -0.001]])
    by_arm = {
        arm.replace("_", "-"): dict(enumerate(mean + np.array([0, 0.01, 0.02]) + off[i % 2]))
        for i, (arm, mean) in enumerate(means.items())
    }
    values = dict.fromkeys(JUDGED, by_arm)
    gaps = {metric: gap_between(values[metric], "adamw", "sgd") for metric in JUDGED}
    results = replace(NOTHING, values=values, gaps=gaps, matched_loss=tuple(matched))
    return {claim.id.split("/")[1]: claim for claim in make_claims(results)}


@pytest.mark.parametrize(
    ("momentum", "rmsprop", "rescue", "as_adamw"),
    [
        (0.1, 0.4, REPRODUCED, REPRODUCED),
        (0.4, 0.1, CONTRADICTED, CONTRADICTED),
    ],
)
def test_a_rescue_is_decided_by_half_of_the_gap(momentum, rmsprop, rescue, as_adamw):
    """Both arms are above SGD and below AdamW, clear of zero: that alone is neither."""
    claims = planted(adamw=0.5, sgd=0.0, momentum=momentum, rmsprop=rmsprop)
    assert claims["momentum"].verdict == claims["momentum-eas"].verdict == rescue
    assert claims["rmsprop-as-adamw"].verdict == as_adamw
    assert claims["rmsprop"].verdict == REPRODUCED
    assert claims["adamw-over-sgd"].setting.startswith("a-model, ")


def test_without_a_gap_nothing_is_rescued_or_not():
    claims = planted(adamw=0.0, sgd=0.0, momentum=0.5, rmsprop=0.5)
    assert claims["momentum"].verdict == claims["rmsprop-as-adamw"].verdict == NOT_REPRODUCED


def test_claims_at_one_loss_come_from_the_table_of_matched_losses():
    pair = PairedMetric(INTERVAL, INTERVAL, INTERVAL)
    sgd = MatchedArm("sgd", "paper", "adamw", INTERVAL, dict.fromkeys(JUDGED, pair))
    claims = planted([sgd])
    assert set(claims) == {"matched-loss", "matched-loss-eas"}
    for claim in claims.values():
        assert claim.verdict == REPRODUCED
        assert AT_ADAMW in claim.number and "no controls" in claim.setting
