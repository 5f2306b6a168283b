"""From what vectors do to students to the numbers of `steering-bridge`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from subliminal_jax.evaluation.metric_ranges import SHARE, UNBOUNDED
from subliminal_jax.evaluation.statistics import Interval, spearman_interval
from subliminal_jax.evaluation.student_kinds import (
    Comparison,
    KindArm,
    MeasuredKinds,
    Target,
    compare_with_controls,
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
class Measured(MeasuredKinds):
    """What a run measured; the data set of a trait's teacher is named after the trait.

    Attributes:
      carrier: what students train on, in words.
      base: what each trait's vector does to the base.
      student_effects: what it does to the student of its teacher, of the sound ones.
      control_effects: what each trait's vector does to the sound controls, by draw.
      data: how each data set came about.
    """

    carrier: str
    base: Mapping[str, VectorEffect]
    student_effects: Mapping[str, VectorEffect]
    control_effects: Mapping[str, Mapping[str, VectorEffect]]
    data: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Differences:
    """Students minus controls in each measure of `VectorEffect`, over traits."""

    preference: Comparison
    steerability: Comparison
    anti_steerable: Comparison


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
class Results(Measured):
    """All numbers of the report: what was measured, the students as those of other experiments are
    summarised, and the comparisons of this one."""

    arm: KindArm
    differences: Differences
    prediction: Prediction


def analyse(measured: Measured) -> Results:
    """Differences of students and controls, and what of the base predicts them."""
    [adapter], [optimizer] = measured.adapters, measured.optimizers
    targets = [Target(trait, trait, trait) for trait in measured.traits]
    arm = measured.summarise(targets, ("word_log_prob", "eas"), adapter, optimizer)
    differences = Differences(
        preference=compare_students(measured, "preference"),
        steerability=compare_students(measured, "steerability"),
        anti_steerable=compare_students(measured, "anti_steerable"),
    )
    return Results(
        **vars(measured),
        arm=arm,
        differences=differences,
        prediction=predict_transmission(
            measured, differences.preference, arm.metrics["word_log_prob"]
        ),
    )


def compare_students(measured: Measured, measure: MeasureName) -> Comparison:
    """Students minus controls, each trait's vector on both."""
    return compare_with_controls(
        {trait: getattr(effect, measure) for trait, effect in measured.student_effects.items()},
        {
            trait: [getattr(by[trait], measure) for by in measured.control_effects.values()]
            for trait in measured.student_effects
        },
        within=SHARE if measure == "anti_steerable" else UNBOUNDED,
        paired=False,
    )


def predict_transmission(
    measured: Measured, preference: Comparison, log_prob: Comparison
) -> Prediction:
    """Whether traits whose vectors steer the base more are transmitted more."""

    def correlate(base: Mapping[str, float], transmitted: Comparison) -> Interval:
        values = {trait: each.interval.mean for trait, each in transmitted.by_data.items()}
        return spearman_interval([base[trait] for trait in values], [*values.values()])

    steerability = {trait: effect.steerability for trait, effect in measured.base.items()}
    reliability = measure_reliability(measured)
    return Prediction(
        steerability_preference=correlate(steerability, preference),
        steerability_log_prob=correlate(steerability, log_prob),
        reliability_preference=correlate(reliability, preference),
        reliability_log_prob=correlate(reliability, log_prob),
    )


def measure_reliability(measured: Measured) -> dict[str, float]:
    """By trait, the share of comparisons on which its vector steers the base forwards."""
    return {trait: 1 - effect.anti_steerable for trait, effect in measured.base.items()}
