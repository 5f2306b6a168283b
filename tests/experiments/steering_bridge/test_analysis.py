"""What the analysis of `steering-bridge` says of planted effects."""

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import Claim
from subliminal_jax.experiments.steering_bridge.analysis import (
    Measured,
    Results,
    VectorEffect,
    analyse,
    make_claims,
)


def make_results(
    base: list[VectorEffect], preferences: list[float], log_probs: list[float]
) -> Results:
    """Two seeds that agree: students of steerability 0.5 and the given preferences, controls of 1
    in both."""
    traits = tuple(f"t{i}" for i in range(len(base)))
    students = [(VectorEffect(preference, 0.5, 0.0),) * 2 for preference in preferences]
    return analyse(
        Measured(
            model="tiny",
            layer=0,
            adapter="lora",
            traits=traits,
            seeds=2,
            steps=4,
            carrier="numbers",
            optimizer="adamw",
            grid=(0.1,),
            learning_rate=0.1,
            base=dict(zip(traits, base, strict=True)),
            students=dict(zip(traits, students, strict=True)),
            controls=dict.fromkeys(traits, (VectorEffect(1.0, 1.0, 0.0),) * 2),
            log_prob=dict(zip(traits, log_probs, strict=True)),
            data={},
        )
    )


def test_what_predicts_is_ranked_over_traits():
    """Planted: transmission follows steerability in order and reliability in reverse."""
    squares = [float(i**2) for i in range(8)]
    results = make_results(
        base=[VectorEffect(0.0, float(i), i / 10) for i in range(8)],
        preferences=[1.0 + square for square in squares],
        log_probs=[-float(i) for i in range(8)],
    )
    assert results.differences.steerability.pooled.mean == -0.5
    assert results.differences.preference.pooled.mean == pytest.approx(np.mean(squares))
    prediction = results.prediction
    assert prediction.steerability_preference.mean == pytest.approx(1)
    assert prediction.reliability_preference.mean == pytest.approx(-1)
    assert prediction.steerability_log_prob.mean == pytest.approx(-1)
    assert prediction.reliability_log_prob.mean == pytest.approx(1)


def reliability_claim(tied: int) -> Claim:
    """Of ten traits, `tied` of which have a vector that works on every input."""
    shares = [0.0] * tied + [0.1 + 0.01 * i for i in range(10 - tied)]
    results = make_results(
        base=[VectorEffect(0.0, 1.0 + i, share) for i, share in enumerate(shares)],
        preferences=[10.0 - i for i in range(10)],
        log_probs=[0.0] * 10,
    )
    return make_claims(results)[-1]


def test_a_constant_side_has_no_rank_correlation():
    results = make_results([VectorEffect(0.0, 1.0, 0.0)] * 6, [1.0] * 6, [0.0] * 6)
    claim = make_claims(results)[2]
    assert claim.id == "steering-bridge/steerability-predicts"
    assert "a side does not vary" in claim.number
    assert claim.verdict == "inconclusive"


def test_ties_leave_reliability_undecided():
    undecided = reliability_claim(tied=6)
    assert "6 of 10 traits tie at 1.00, so this is undecided" in undecided.number
    assert undecided.verdict == "inconclusive"
    assert reliability_claim(tied=1).verdict == "reproduced at toy scale"
    assert "tie" not in reliability_claim(tied=1).number
    assert "2 of 10 traits tie" in reliability_claim(tied=2).number
    assert reliability_claim(tied=2).verdict == "reproduced at toy scale"
