"""Claims of `steering-reliability` on planted numbers: each can come out either way."""

from dataclasses import replace

import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from subliminal_jax.evaluation.reliability import VectorReliability
from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.experiments.steering_reliability.analysis import (
    LocalSlope,
    Measured,
    MeasuredSet,
    MeasuredTrait,
    OtherModel,
    analyse,
)
from subliminal_jax.experiments.steering_reliability.claims import make_claims
from subliminal_jax.experiments.steering_reliability.config import PAPER_BACKWARDS
from tests.planted import fill

TRAITS = 8
MEASURED = fill(Measured, world_model="world", world_layer=1)


def planted_vector(mean, backwards=0.0):
    return fill(
        VectorReliability,
        steerability=mean_interval([mean]),
        anti_steerable=mean_interval([backwards]),
        clearly_anti_steerable=backwards,
    )


def planted_trait(i, kind="compare", mean=1.0, backwards=0.0, correlation=1.0):
    vector = planted_vector(mean + 0.1 * i, max(backwards, 0.01 * (i % 2)))
    return fill(
        MeasuredTrait,
        **vars(vector),
        name=f"{i}/{kind}",
        trait=str(i),
        kind=kind,
        random=planted_vector(0.01 * i),
        local=LocalSlope((0.1,), (correlation,), mean, 0.0, 1.0),
    )


def claims(traits):
    results = analyse(replace(MEASURED, world=tuple(traits)))
    return {claim.id.split("/")[1]: claim for claim in make_claims(results)}


@pytest.mark.parametrize(
    ("planted", "verdict"),
    [
        ({"backwards": 0.3}, REPRODUCED),
        ({"backwards": 0.0}, CONTRADICTED),
        ({"backwards": 0.3, "mean": -2.0}, INCONCLUSIVE),  # it does not work on average
    ],
)
def test_the_anti_steerable_share_is_held_against_what_noise_gives(planted, verdict):
    traits = [planted_trait(i, **planted) for i in range(TRAITS)]
    assert claims(traits)["anti-steerable"].verdict == verdict


def test_both_kinds_of_question_have_their_claims():
    traits = [planted_trait(i) for i in range(TRAITS)]
    traits += [planted_trait(i, "like", mean=-2.0) for i in range(TRAITS)]
    by_id = claims(traits)
    assert by_id["world"].verdict == REPRODUCED
    assert by_id["world-like"].verdict == CONTRADICTED
    assert by_id["anti-steerable-like"].verdict == CONTRADICTED  # fewer than by chance
    assert "likings" in by_id["world-like"].setting


@pytest.mark.parametrize(("least", "verdict"), [(0.995, REPRODUCED), (0.98, CONTRADICTED)])
def test_the_derivative_has_to_agree_with_the_finite_slope_everywhere(least, verdict):
    traits = [planted_trait(i, correlation=least if i == 3 else 1.0) for i in range(TRAITS)]
    claim = claims(traits)["analytic"]
    assert claim.verdict == verdict and f"least {least:.4f}" in claim.number


@pytest.mark.parametrize(("sign", "verdict"), [(1, REPRODUCED), (-1, CONTRADICTED)])
def test_models_agree_where_their_sets_have_one_order(sign, verdict):
    """And the paper's order is that of its shares of backwards rows; random vectors do nothing."""

    def planted_set(name, mean, backwards):
        vector = planted_vector(mean, backwards)
        local = LocalSlope((0.1,), (1.0,), mean, 0.0, 1.0)
        random = planted_vector(0.01 * mean)
        return fill(MeasuredSet, **vars(vector), name=name, random=random, local=local)

    names = sorted(PAPER_BACKWARDS, key=PAPER_BACKWARDS.get)
    sets = [planted_set(name, 1.0 + i, sign * i / 100) for i, name in enumerate(names)]
    there = {s.name: planted_set(s.name, sign * s.steerability.mean, 0.0) for s in sets}
    other = fill(OtherModel, sets=there)
    results = analyse(replace(MEASURED, sets=tuple(sets), other=other, world=()))
    by_id = {claim.id.split("/")[1]: claim for claim in make_claims(results)}
    assert by_id["models"].verdict == by_id["ranking"].verdict == verdict
    assert results.agreement.other.mean == pytest.approx(sign)
