"""A zoo of traits, a row each: prompt against vector, what passes, does one tell the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subliminal_jax.evaluation.metric_ranges import SHARE
from subliminal_jax.evaluation.statistics import (
    Interval,
    auc_interval,
    paired_difference,
    spearman_interval,
)
from subliminal_jax.evaluation.student_kinds import KindArm, MeasuredKinds, Target

from .effects import ModelEffects, best_setting

METRICS = ("word_rate", "word_log_prob", "eas", "shift_component")


@dataclass(frozen=True)
class QuestionCounts:
    """How many questions each set has (`effects.QuestionSets`)."""

    questions: int
    selection: int
    negative: int
    off_topic: int


@dataclass(frozen=True)
class Measured(MeasuredKinds):
    """What a run measured.

    Attributes:
      scale: by how much the students' teachers steer, at `layer`.
      layers, scales: those of the sweep.
      sets: how many questions were asked.
      cells: the base, prompted and steered models of every trait.
      rows: training pairs of each data set.
      data: how each data set came about.
    """

    scale: float
    layers: tuple[int, ...]
    scales: tuple[float, ...]
    sets: QuestionCounts
    cells: tuple[ModelEffects, ...]
    rows: int
    data: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class TraitSummary:
    """One trait: rates of all kinds of model, and its best setting.

    Attributes:
      base, prompted, teacher, random_teacher: the trait's rate by kind of model; the last is
        steered by a random vector at the teacher's setting.
      prompted_off_topic: of the prompted model.
      best: the steered model at the best setting; None where every setting has side effects.
      best_rate: its rate.
      random: the rate with a random vector at that setting.
      best_gain: `best_rate` less the base's rate.
      share: `best_gain` in units of what the prompt gains; None where it gains nothing.
      teacher_gain: the teacher's rate less the base's.
    """

    trait: str
    base: float
    prompted: float
    teacher: float
    random_teacher: float
    prompted_off_topic: float
    best: ModelEffects | None
    best_rate: float | None
    random: float | None
    best_gain: float | None
    share: float | None
    teacher_gain: float


@dataclass(frozen=True)
class TraitStudent:
    """The student of one kind and trait, where it and some control are sound.

    Attributes:
      summary: of the trait.
      adapter: the kind of student.
      student, control: P(trait); the control's is the mean over draws.
      difference: the student less its controls, with an interval for their draws of data and seed.
      log_difference: the same of log P(trait).
      transmitted: whether the interval of the difference lies above zero.
      eas: alignment with the teacher's shift.
    """

    summary: TraitSummary
    adapter: str
    student: float
    control: float
    difference: Interval
    log_difference: Interval
    transmitted: bool
    eas: float


@dataclass(frozen=True)
class Elicitation:
    """Means over the traits that have a best setting.

    Attributes:
      traits: their number.
      base, prompted, steered, random: mean rates; `random` has a random vector of the same norm.
      gain: steered less random, paired by trait.
      share: the vectors' gain over the base in units of the prompts'; None where prompts gain
        nothing.
    """

    traits: int
    base: float
    prompted: float
    steered: float
    random: float
    gain: Interval
    share: float | None


@dataclass(frozen=True)
class Predictor:
    """Over traits: rank correlation of one number with the students' differences in P(trait) and in
    log P(trait), and the AUC with which it tells the traits that pass from those that do not."""

    rate: Interval
    log_prob: Interval
    auc: Interval


@dataclass(frozen=True)
class Prediction:
    """Does steerability predict transmission, over traits?

    Attributes:
      traits: those whose student is sound.
      transmitted: those that pass.
      teacher_gain, best_gain, base: what may predict it.
    """

    traits: int
    transmitted: int
    teacher_gain: Predictor
    best_gain: Predictor
    base: Predictor


@dataclass(frozen=True)
class Arm(KindArm):
    """The students of one kind: each trait's, and whether the teachers' vectors predict them."""

    students: tuple[TraitStudent, ...]
    prediction: Prediction


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report."""

    zoo: tuple[TraitSummary, ...]
    elicitation: Elicitation | None
    arms: tuple[Arm, ...]


def analyse(measured: Measured) -> Results:
    """Elicitation and transmission of every trait, and whether one predicts the other."""
    zoo = tuple(
        summarise_models([row for row in measured.cells if row.trait == trait])
        for trait in measured.traits
    )
    return Results(
        **vars(measured),
        zoo=zoo,
        elicitation=summarise_elicitation([t for t in zoo if t.best is not None]),
        arms=tuple(compare_kind(measured, zoo, adapter) for adapter in measured.adapters),
    )


def compare_kind(measured: Measured, zoo: Sequence[TraitSummary], adapter: str) -> Arm:
    """The students of one kind."""
    targets = [Target(trait, trait, trait) for trait in measured.traits]
    arm = measured.summarise(targets, METRICS, adapter, measured.optimizers[0])
    rates, logs, eas = (
        arm.metrics[metric].by_data for metric in ("word_rate", "word_log_prob", "eas")
    )
    students = tuple(
        TraitStudent(
            summary=summary,
            adapter=adapter,
            student=rates[summary.trait].student,
            control=rates[summary.trait].control,
            difference=rates[summary.trait].interval,
            log_difference=logs[summary.trait].interval,
            transmitted=rates[summary.trait].interval.low > 0,
            eas=eas[summary.trait].student,
        )
        for summary in zoo
        if summary.trait in rates
    )
    return Arm(**vars(arm), students=students, prediction=predict_transmission(students))


def summarise_models(models: Sequence[ModelEffects]) -> TraitSummary:
    """One trait, from its models."""
    by_kind = {model.kind: model for model in models if model.kind != "steered"}
    base, prompted = by_kind["base"].rate, by_kind["system-prompt"].rate
    best = best_setting([model for model in models if model.kind == "steered"])
    gain = None if best is None else best.rate - base
    return TraitSummary(
        trait=models[0].trait,
        base=base,
        prompted=prompted,
        teacher=by_kind["teacher"].rate,
        random_teacher=by_kind["random-teacher"].rate,
        prompted_off_topic=by_kind["system-prompt"].off_topic,
        best=best,
        best_rate=None if best is None else best.rate,
        random=None if best is None else by_kind["random"].rate,
        best_gain=gain,
        share=None if gain is None or prompted <= base else gain / (prompted - base),
        teacher_gain=by_kind["teacher"].rate - base,
    )


def summarise_elicitation(zoo: Sequence[TraitSummary]) -> Elicitation | None:
    """Means over traits, each of which has a best setting; None without any."""
    if not zoo:
        return None
    base, prompted, steered, random = (
        float(np.mean([vars(trait)[key] for trait in zoo]))
        for key in ("base", "prompted", "best_rate", "random")
    )
    return Elicitation(
        traits=len(zoo),
        base=base,
        prompted=prompted,
        steered=steered,
        random=random,
        gain=SHARE.difference().clip(
            paired_difference([t.best_rate for t in zoo], [t.random for t in zoo]).interval
        ),
        share=(steered - base) / (prompted - base) if prompted > base else None,
    )


def predict_transmission(students: Sequence[TraitStudent]) -> Prediction:
    """Rank correlations and AUC, over the traits whose student is sound.

    Steerability is the steered rate minus the base's, at the students' teacher's setting and at the
    trait's best one. The AUC needs traits that pass and traits that do not.
    """
    best = [(s.summary.best_gain, s) for s in students if s.summary.best_gain is not None]
    return Prediction(
        traits=len(students),
        transmitted=sum(student.transmitted for student in students),
        teacher_gain=predict_by([(s.summary.teacher_gain, s) for s in students]),
        best_gain=predict_by(best),
        base=predict_by([(s.summary.base, s) for s in students]),
    )


def predict_by(students: Sequence[tuple[float, TraitStudent]]) -> Predictor:
    """How well a number for each trait says what passes."""
    x = [value for value, _ in students]
    return Predictor(
        rate=spearman_interval(x, [s.difference.mean for _, s in students]),
        log_prob=spearman_interval(x, [s.log_difference.mean for _, s in students]),
        auc=auc_interval(
            [value for value, s in students if s.transmitted],
            [value for value, s in students if not s.transmitted],
        ),
    )
