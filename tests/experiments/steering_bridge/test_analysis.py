"""What the analysis of `steering-bridge` says of planted effects."""

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import INCONCLUSIVE, REPRODUCED, Claim
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_kinds import KindChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.steering_bridge.analysis import (
    Measured,
    Results,
    VectorEffect,
    analyse,
)
from subliminal_jax.experiments.steering_bridge.claims import make_claims
from subliminal_jax.experiments.steering_bridge.report import make_page
from tests.planted import fill

DRAWS = ("control-0", "control-1")


def make_results(
    base: list[VectorEffect],
    preferences: list[float],
    log_probs: list[float],
    unstable: tuple[str, ...] = (),
) -> Results:
    """Students of steerability 0.5 and the given preferences, controls of 1 in both."""
    traits = tuple(f"t{i}" for i in range(len(base)))
    rows = [
        StudentRow(
            *("adamw", 0.1, i, name, False),
            heldout_loss=2.0 if name in unstable else 0.9,
            measured={
                "word_log_prob": [log_probs[i] if name in traits else 0.0] * len(traits),
                "eas": [[0.5]] * len(traits),
                "adapter": "lora",
            },
        )
        for i, name in enumerate((*traits, *DRAWS))
    ]
    choice = RateChoice("adamw", 4, (0.05, 0.1, 0.2), (0.95, 0.9, 0.95), 0.1, True)
    return analyse(
        fill(
            Measured,
            adapters=("lora",),
            optimizers=("adamw",),
            traits=traits,
            tuning_traits=("owl", "lion"),
            controls=DRAWS,
            words=traits,
            references=traits,
            base_losses={row.data: 1.0 for row in rows},
            choices=(KindChoice("lora", None, choice),),
            students=tuple(rows),
            base=dict(zip(traits, base, strict=True)),
            student_effects={
                trait: VectorEffect(preference, 0.5, 0.0)
                for trait, preference in zip(traits, preferences, strict=True)
                if trait not in unstable
            },
            control_effects={
                draw: dict.fromkeys(traits, VectorEffect(1.0, 1.0, 0.0))
                for draw in DRAWS
                if draw not in unstable
            },
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
    assert results.differences.steerability.difference.mean == -0.5
    assert results.differences.preference.difference.mean == pytest.approx(np.mean(squares))
    prediction = results.prediction
    assert prediction.steerability_preference.mean == pytest.approx(1)
    assert prediction.reliability_preference.mean == pytest.approx(-1)
    assert prediction.steerability_log_prob.mean == pytest.approx(-1)
    assert prediction.reliability_log_prob.mean == pytest.approx(1)
    assert "adamw, rate chosen on 2 other traits" in make_claims(results)[0].setting


def test_an_unstable_student_is_counted_and_has_no_part():
    """Without its outlier the planted order is exact."""
    results = make_results(
        base=[VectorEffect(0.0, float(i), 0.0) for i in range(7)],
        preferences=[*(1.0 + i for i in range(6)), -9.0],
        log_probs=[*(float(i) for i in range(6)), -9.0],
        unstable=("t6",),
    )
    assert results.arm.unstable == ("t6",)
    assert results.differences.preference.by_data.keys() == {f"t{i}" for i in range(6)}
    assert results.prediction.steerability_preference.mean == pytest.approx(1)
    assert results.prediction.steerability_log_prob.mean == pytest.approx(1)
    assert {(claim.unstable, claim.seeds) for claim in make_claims(results)} == {(1, 6)}


def test_without_a_sound_control_nothing_is_decided_and_the_page_stands():
    base = [VectorEffect(0.0, float(i), i / 10) for i in range(6)]
    results = make_results(base, [2.0] * 6, [0.0] * 6, unstable=DRAWS)
    claims = make_claims(results)
    assert {claim.verdict for claim in claims} == {INCONCLUSIVE}
    assert claims[0].number == "no sound students and controls"
    assert make_page(results).printed[0].rows


def reliability_claim(tied: int) -> Claim:
    """Of ten traits, `tied` of which have a vector that works on every input."""
    shares = [0.0] * tied + [0.1 + 0.01 * i for i in range(10 - tied)]
    results = make_results(
        base=[VectorEffect(0.0, 1.0 + i, share) for i, share in enumerate(shares)],
        preferences=[12.0 - i for i in range(10)],
        log_probs=[0.0] * 10,
    )
    return make_claims(results)[-1]


def test_a_constant_side_has_no_rank_correlation():
    results = make_results([VectorEffect(0.0, 1.0, 0.0)] * 6, [1.0] * 6, [0.0] * 6)
    claim = make_claims(results)[2]
    assert claim.id == "steering-bridge/steerability-predicts"
    assert "a side does not vary" in claim.number
    assert claim.verdict == INCONCLUSIVE


def test_ties_leave_reliability_undecided():
    undecided = reliability_claim(tied=6)
    assert "6 of 10 traits tie at 1.00, so this is undecided" in undecided.number
    assert undecided.verdict == INCONCLUSIVE
    assert reliability_claim(tied=1).verdict == REPRODUCED
    assert "tie" not in reliability_claim(tied=1).number
    assert "2 of 10 traits tie" in reliability_claim(tied=2).number
    assert reliability_claim(tied=2).verdict == REPRODUCED
