"""From what vectors do to students to the numbers and claims of `steering-bridge`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from subliminal_jax.evaluation.claim_settings import (
    TrainedStudents,
    describe_grids,
    describe_setting,
)
from subliminal_jax.evaluation.claims import OWN_QUESTION, Claim, Evidence, Presupposition
from subliminal_jax.evaluation.margins import PROPENSITY, RANK_CORRELATION, STEERABILITY
from subliminal_jax.evaluation.statistics import (
    Interval,
    crossed_interval,
    mean_interval,
    spearman_interval,
)

MeasureName = Literal["preference", "steerability", "anti_steerable"]


@dataclass(frozen=True)
class VectorEffect:
    """A trait's vector on one model, over comparisons of the trait with every other animal.

    Attributes:
      preference: mean propensity without the vector, in logits.
      steerability: mean slope of the propensity, in logits a multiplier.
      anti_steerable: share of comparisons on which the slope is not positive.
    """

    preference: float
    steerability: float
    anti_steerable: float


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      model: the model's name.
      layer: the steering layer.
      adapter: what students train.
      traits: one teacher and one vector each.
      seeds: students a data set.
      steps: of every student.
      carrier: what students train on, in words.
      optimizer: its label.
      grid: the rates tried.
      learning_rate: the one with the lowest held-out loss.
      base: what each trait's vector does to the base.
      students: what it does to the students of its teacher, by seed.
      controls: what it does to the controls, by seed.
      log_prob: log P(trait), student minus control, mean over seeds.
      data: how each data set came about.
    """

    model: str
    layer: int
    adapter: str
    traits: tuple[str, ...]
    seeds: int
    steps: int
    carrier: str
    optimizer: str
    grid: tuple[float, ...]
    learning_rate: float
    base: Mapping[str, VectorEffect]
    students: Mapping[str, tuple[VectorEffect, ...]]
    controls: Mapping[str, tuple[VectorEffect, ...]]
    log_prob: Mapping[str, float]
    data: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """Students minus controls of the same seed in one measure.

    Attributes:
      pooled: over traits and seeds (two-way t).
      traits: the differences by trait and seed.
    """

    pooled: Interval
    traits: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Differences:
    """Students minus controls in each measure of `VectorEffect`."""

    preference: Difference
    steerability: Difference
    anti_steerable: Difference


@dataclass(frozen=True)
class Prediction:
    """Rank correlations over traits, of the base's with what was transmitted.

    Of the base: its steerability, and its reliability (the share of comparisons on which the vector
    does not work backwards). Transmitted: the preference in comparisons, and log P(trait).
    """

    steerability_preference: Interval
    steerability_log_prob: Interval
    reliability_preference: Interval
    reliability_log_prob: Interval


@dataclass(frozen=True)
class TraitSummary:
    """One trait over seeds.

    Attributes:
      student_steerability, control_steerability: means.
      preference, steerability: student minus control, t intervals.
    """

    student_steerability: float
    control_steerability: float
    preference: Interval
    steerability: Interval


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report: what was measured, and its comparisons over traits and seeds."""

    differences: Differences
    prediction: Prediction
    by_trait: Mapping[str, TraitSummary]


def analyse(measured: Measured) -> Results:
    """Differences of students and controls, and what of the base predicts them."""
    differences = Differences(
        preference=compare_students(measured, "preference"),
        steerability=compare_students(measured, "steerability"),
        anti_steerable=compare_students(measured, "anti_steerable"),
    )
    return Results(
        **vars(measured),
        differences=differences,
        prediction=predict_transmission(measured, differences.preference),
        by_trait={
            trait: TraitSummary(
                mean_steerability(measured.students[trait]),
                mean_steerability(measured.controls[trait]),
                mean_interval(differences.preference.traits[trait]),
                mean_interval(differences.steerability.traits[trait]),
            )
            for trait in measured.traits
        },
    )


def compare_students(measured: Measured, measure: MeasureName) -> Difference:
    """Students minus controls of the same seed."""
    differences = {
        trait: tuple(
            getattr(student, measure) - getattr(control, measure)
            for student, control in zip(
                measured.students[trait], measured.controls[trait], strict=True
            )
        )
        for trait in measured.traits
    }
    return Difference(crossed_interval(np.array(list(differences.values())).T), differences)


def predict_transmission(measured: Measured, preference: Difference) -> Prediction:
    """Whether traits whose vectors steer the base more are transmitted more."""
    steerability = [measured.base[trait].steerability for trait in measured.traits]
    reliability = reliabilities(measured)
    preferences = [float(np.mean(preference.traits[trait])) for trait in measured.traits]
    log_probs = [measured.log_prob[trait] for trait in measured.traits]
    return Prediction(
        steerability_preference=spearman_interval(steerability, preferences),
        steerability_log_prob=spearman_interval(steerability, log_probs),
        reliability_preference=spearman_interval(reliability, preferences),
        reliability_log_prob=spearman_interval(reliability, log_probs),
    )


def reliabilities(measured: Measured) -> list[float]:
    """For each trait the share of comparisons on which its vector steers the base forwards."""
    return [1 - measured.base[trait].anti_steerable for trait in measured.traits]


def mean_steerability(effects: Sequence[VectorEffect]) -> float:
    return float(np.mean([effect.steerability for effect in effects]))


def make_claims(results: Results) -> list[Claim]:
    """Verdicts by 95% intervals: over traits and seeds for differences, over traits for ranks."""
    preference = results.differences.preference.pooled
    steerability = results.differences.steerability.pooled
    steerability_rank = results.prediction.steerability_preference
    reliability_rank = results.prediction.reliability_preference
    decided, ties = describe_ties(reliabilities(results))
    passes = Presupposition("students take up the preference", preference)
    return [
        _make_claim(
            results,
            "preference",
            "A student of a vector's teacher prefers the trait in comparisons that it never saw "
            "(propensity, student minus control)",
            f"{preference:+.3f} logits",
            Evidence(preference, margin=PROPENSITY),
        ),
        _make_claim(
            results,
            "steerability",
            "Learning from a vector's teacher changes how steerable the model is by that vector "
            "(steerability, student minus control)",
            f"{steerability:+.3f} logits a multiplier",
            Evidence(steerability, "different", margin=STEERABILITY),
        ),
        _make_claim(
            results,
            "steerability-predicts",
            "Vectors that steer the base more are transmitted more (rank correlation over traits "
            "with the students' preference)",
            format_rank(steerability_rank),
            Evidence(steerability_rank, margin=RANK_CORRELATION, presupposes=(passes,)),
        ),
        _make_claim(
            results,
            "reliability-predicts",
            "Vectors that work on more inputs are transmitted more (rank correlation over traits; "
            "share of inputs on which the vector does not work backwards)",
            format_rank(reliability_rank) + ties,
            Evidence(
                reliability_rank if decided else None,
                margin=RANK_CORRELATION,
                presupposes=(passes,),
            ),
        ),
    ]


def _make_claim(results: Results, name: str, text: str, number: str, evidence: Evidence) -> Claim:
    return Claim(
        id=f"steering-bridge/{name}",
        claim=text,
        section=OWN_QUESTION,
        setting=describe_setting(
            model=results.model,
            layer=results.layer,
            vectors=f"vectors of {len(results.traits)} traits",
            carrier=results.carrier,
            students=TrainedStudents(
                results.adapter,
                results.steps,
                f"{results.optimizer} {results.learning_rate:g}",
                describe_grids({results.optimizer: results.grid}),
            ),
        ),
        number=number,
        seeds=results.seeds,
        evidence=evidence,
        model=results.model,
    )


def describe_ties(values: Sequence[float]) -> tuple[bool, str]:
    """Whether at most half of the values are the same, and a note on those that are.

    Tied values have no ranks, and the interval of a rank correlation does not know of them.
    """
    value, tied = Counter(values).most_common(1)[0]
    if tied == 1:
        return True, ""
    note = f"; {tied} of {len(values)} traits tie at {value:.2f}"
    decided = 2 * tied <= len(values)
    return decided, note if decided else f"{note}, so this is undecided"


def format_rank(rank: Interval) -> str:
    if np.isfinite([rank.mean, rank.low, rank.high]).all():
        return f"{rank:+.3f} Spearman"
    return "Spearman: none (too few traits, or a side does not vary)"
