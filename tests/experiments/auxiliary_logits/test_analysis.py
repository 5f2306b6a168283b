"""What the analysis of `auxiliary-logits` says of planted effects."""

import pytest

from subliminal_jax.evaluation.claims import INCONCLUSIVE, REPRODUCED
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.experiments.auxiliary_logits.analysis import (
    STARTS,
    Measured,
    Results,
    StepRow,
    Student,
    analyse,
)
from subliminal_jax.experiments.auxiliary_logits.claims import make_claims
from subliminal_jax.experiments.auxiliary_logits.report import make_page
from tests.planted import fill

SEEDS = range(6)
ACCURACY = {"same": 0.6, "other": 0.1, "untrained-teacher": 0.2, "auxiliary-head": 0.35}


def make_results(lead: float = 0.3, unstable: tuple[str, ...] = (), **step: float) -> Results:
    """Students of AdamW as in `ACCURACY`, a hundredth better with each seed; SGD's same-start
    students lie `lead` lower. `unstable` names starts whose AdamW students all blew up."""
    students = [
        Student(
            *(name, 0.1, seed, start),
            loss_before=0.03,
            loss=9.0 if name == "adamw" and start in unstable else 0.015,
            accuracy_before=0.1,
            accuracy=ACCURACY[start]
            + (0.01 * seed if start == "same" else 0.0)
            - (lead if (name, start) == ("sgd", "same") else 0.0),
        )
        for name in ("adamw", "sgd")
        for start in (STARTS if name == "sgd" else ACCURACY)
        for seed in SEEDS
    ]
    steps = [
        StepRow(
            *(seed, start, "softmax", eps),
            inner_product=sign,
            cosine=sign * (0.5 + 0.01 * seed),
            changes=(-sign * 0.2 * (1 + 0.1 * seed) * eps,),
            teacher_change=-eps,
        )
        for start, sign in (("same", 1.0), ("other", step.get("other", -1.0)))
        for eps in (0.1, 1.0)
        for seed in SEEDS
    ]
    choices = [
        RateChoice(n, 4, (0.05, 0.1, 0.2), (0.2, 0.1, 0.2), 0.1, True) for n in ("adamw", "sgd")
    ]
    return analyse(
        fill(
            Measured,
            network="4-2-2-(10+3)",
            steps=4,
            batch_size=2,
            tuning_seeds=(6, 7),
            teachers=tuple(0.9 + 0.01 * seed for seed in SEEDS),
            choices=tuple(choices),
            students=tuple(students),
            alphas=(0.1,),
            one_step=tuple(steps),
        )
    )


def test_students_are_held_against_both_controls():
    results = make_results()
    adamw = results.find_rule("adamw")
    assert adamw.accuracy.mean == pytest.approx(0.625)
    assert adamw.minus_other.mean == pytest.approx(0.525)
    assert adamw.minus_untrained.mean == pytest.approx(0.425)
    assert adamw.explained.mean == pytest.approx(0.5)
    assert adamw.other_gain.mean == pytest.approx(0.0)
    assert results.adaptive_minus_sgd.mean == pytest.approx(0.3)
    head = results.find_start("adamw", "auxiliary-head")
    assert head.gain.mean == pytest.approx(0.25) and head.minus_other.mean == pytest.approx(0.25)
    assert {row.optimizer for row in results.starts} == {"adamw"}


def test_the_smallest_step_decides_the_theorem():
    results = make_results()
    same, other = results.find_step("same"), results.find_step("other")
    assert same.eps == 0.1 and same.negative == 0 and other.negative == len(SEEDS)
    assert same.decrease[0].mean == pytest.approx(0.25)
    assert other.decrease[0].mean == pytest.approx(-0.25)


def test_claims_follow_the_planted_effects():
    verdicts = {claim.id.partition("/")[2]: claim.verdict for claim in make_claims(make_results())}
    assert verdicts == dict.fromkeys(
        (
            *("inner-product", "loss", "digits", "other-initialisation", "shared-head"),
            *("sgd", "adaptive-lead"),
        ),
        REPRODUCED,
    )
    level = {claim.id: claim for claim in make_claims(make_results(lead=0.0))}
    assert level["auxiliary-logits/adaptive-lead"].verdict != REPRODUCED


def test_students_that_blew_up_are_counted_and_have_no_part():
    results = make_results(unstable=("same",))
    adamw = results.find_rule("adamw")
    assert adamw.minus_other is None and adamw.values == () and adamw.unstable == len(SEEDS)
    claim = next(c for c in make_claims(results) if c.id == "auxiliary-logits/digits")
    assert claim.verdict == INCONCLUSIVE and claim.unstable == len(SEEDS)
    assert "no sound students" in claim.number
    assert "12 students or controls" not in make_page(results).summary
    assert "6 students or controls" in make_page(results).summary
