"""From students of the optimizer dispute to its numbers: arms, matched losses and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from subliminal_jax.evaluation.comparison import (
    Anatomy,
    BestStudents,
    Curve,
    Histories,
    average_anatomies,
    average_curves,
    match_training_loss,
    summarise_best,
)
from subliminal_jax.evaluation.statistics import Interval, mean_interval, paired_difference
from subliminal_jax.evaluation.student_rows import NARROW_METRICS, StudentRow
from subliminal_jax.evaluation.verdicts import (
    JudgedExplanation,
    Values,
    difference,
    gap_between,
    judge,
)

from .arms import ArmPlan
from .explanations import (
    AT_ADAMW,
    AT_SGD,
    EQUAL_STEPS,
    JUDGED,
    MASS_OVER_SIGNAL,
    select_explanations,
)

SeedValues = dict[str, dict[str, dict[int, float]]]  # metric -> arm -> seed -> value


@dataclass(frozen=True)
class ReferenceRates:
    """P(trait) of the base and of the teacher."""

    base: float
    teacher: float


@dataclass(frozen=True)
class Mechanics:
    """What results.json holds of a run as it was measured.

    Attributes:
      model: the model's name.
      parameters: how many it has.
      layer: the steering layer.
      trait: the animal whose rate is reported.
      vector: "random" or "trait".
      vector_norm: its length.
      rows, steps, batch_size, seeds, grid_points, grid_seeds: as set.
      data: how each data set came about.
      reference: rates of base and teacher.
      plans: every arm, in the order of the report.
      rates: the best one of each arm, chosen over the first `grid_seeds` seeds; None where some
        student diverged at every rate.
      students: every student; its optimizer is the arm's name.
    """

    model: str
    parameters: int
    layer: int
    trait: str
    vector: str
    vector_norm: float
    rows: int
    steps: int
    batch_size: int
    seeds: int
    grid_points: int
    grid_seeds: int
    data: Mapping[str, Mapping[str, Any]]
    reference: ReferenceRates
    plans: tuple[ArmPlan, ...]
    rates: Mapping[str, float | None]
    students: tuple[StudentRow, ...]


@dataclass(frozen=True)
class Measured(Mechanics):
    """With the logged rows of the steered students at their best rates, which metrics.jsonl has."""

    histories: Histories


@dataclass(frozen=True)
class ArmResult(BestStudents):
    """An arm at its best rate; differences to SGD and to its AdamW are paired by seed.

    The trait rate in them is student minus control.
    """

    family: str
    rule: str
    setting: str
    minus_sgd: Mapping[str, Interval | None]
    minus_upper: Mapping[str, Interval | None]


@dataclass(frozen=True)
class PairedMetric:
    """A metric of an arm and of its AdamW; `difference` is AdamW minus arm."""

    arm: Interval
    upper: Interval
    difference: Interval


@dataclass(frozen=True)
class MatchedArm:
    """An arm and the AdamW that it is held against, where the training loss of the two of one seed
    first reaches the lowest level that both reach."""

    optimizer: str
    family: str
    upper: str
    loss: Interval
    metrics: Mapping[str, PairedMetric]


@dataclass(frozen=True)
class Results(Mechanics):
    """All numbers of the report.

    Attributes:
      best: every arm at its best rate.
      gaps: AdamW's lead over SGD in each metric; None where it is not clear of zero.
      values: of each metric, arm and seed, what the claims and verdicts rest on.
      matched_loss: every arm against its AdamW at one training loss.
      gradient_norms: of each arm before clipping, the mean over logged steps.
      verdicts: every explanation, held against the arms.
    """

    best: tuple[ArmResult, ...]
    gaps: Mapping[str, float | None]
    values: Mapping[str, Mapping[str, Mapping[int, float]]]
    matched_loss: tuple[MatchedArm, ...]
    anatomy: tuple[Anatomy, ...]
    curves: tuple[Curve, ...]
    gradient_norms: Mapping[str, float]
    verdicts: tuple[JudgedExplanation, ...]

    def result(self, name: str) -> ArmResult:
        """The arm of that name."""
        return next(arm for arm in self.best if arm.optimizer == name)


def analyse(measured: Measured) -> Results:
    """Arms at their best rates and at one loss, and the verdicts on the explanations."""
    numbers = dict(vars(measured))
    histories = numbers.pop("histories")
    values = group_values(measured.students, measured.rates)
    best = tuple(
        compare_arm(measured, students, values)
        for students in summarise_best(measured.students, measured.rates, NARROW_METRICS)
    )
    matched, values_at_loss = match_arms(histories, measured.plans)
    for metric in JUDGED:
        values[metric] |= values_at_loss[metric]
    names = {plan.name for plan in measured.plans}
    return Results(
        **numbers,
        best=best,
        gaps={metric: gap_between(values[metric], "adamw", "sgd") for metric in JUDGED},
        values=values,
        matched_loss=matched,
        anatomy=average_anatomies(histories),
        curves=average_curves(histories, list(measured.rates)),
        gradient_norms=average_gradient_norms(histories),
        verdicts=judge(
            select_explanations(names | {AT_ADAMW, AT_SGD}),
            values,
            measured=measure_differences(histories, values["eas"]),
        ),
    )


def group_values(rows: Sequence[StudentRow], rates: Mapping[str, float | None]) -> SeedValues:
    """The values at the best rates; the trait rate is student minus control."""
    values: SeedValues = {metric: {} for metric in JUDGED}
    sound = [r for r in rows if r.learning_rate == rates[r.optimizer] and not r.diverged]
    controls = {(r.optimizer, r.seed): r for r in sound if r.data == "control"}
    for row in sound:
        if row.data == "control":
            continue
        for metric in ("eas", "shift_component"):
            values[metric].setdefault(row.optimizer, {})[row.seed] = row[metric]
        if (control := controls.get((row.optimizer, row.seed))) is not None:
            gain = row["trait_rate"] - control["trait_rate"]
            values["trait_rate"].setdefault(row.optimizer, {})[row.seed] = gain
    return values


def compare_arm(measured: Measured, students: BestStudents, values: SeedValues) -> ArmResult:
    """An arm with its differences to SGD and to its AdamW."""
    plan = next(plan for plan in measured.plans if plan.name == students.optimizer)

    def differences(other: str) -> dict[str, Interval | None]:
        return {metric: difference(values[metric], plan.name, other) for metric in JUDGED}

    return ArmResult(
        **vars(students),
        family=plan.family,
        rule=plan.rule,
        setting=plan.setting,
        minus_sgd=differences("sgd"),
        minus_upper=differences(plan.upper),
    )


def match_arms(
    histories: Histories, plans: Sequence[ArmPlan]
) -> tuple[tuple[MatchedArm, ...], SeedValues]:
    """Every arm against its AdamW at one training loss; and of SGD the values by seed, under the
    names of the two at that loss."""
    arms: list[MatchedArm] = []
    values: SeedValues = {metric: {} for metric in JUDGED}
    for plan in plans:
        if plan.name == plan.upper:
            continue
        levels: list[float] = []
        pairs: dict[int, tuple[dict[str, float], dict[str, float]]] = {}  # AdamW's, the arm's
        for seed in sorted(seed for name, seed in histories if name == plan.name):
            both = {
                (name, seed): histories.get((name, seed), ()) for name in (plan.upper, plan.name)
            }
            if not all(both.values()):
                continue
            matched = match_training_loss(both, JUDGED)
            if matched.loss is None or not all(s.bracketed for s in matched.students):
                continue  # no logged rows close enough on both sides of the level
            levels.append(matched.loss)
            upper, lower = (students.by_seed[seed] for students in matched.students)
            pairs[seed] = dict(upper), dict(lower)
        if not pairs:
            continue
        metrics = {}
        for metric in JUDGED:
            upper_values = {seed: upper[metric] for seed, (upper, _) in pairs.items()}
            arm_values = {seed: lower[metric] for seed, (_, lower) in pairs.items()}
            both_values = list(upper_values.values()), list(arm_values.values())
            metrics[metric] = PairedMetric(
                arm=mean_interval(both_values[1]),
                upper=mean_interval(both_values[0]),
                difference=paired_difference(*both_values).interval,
            )
            if plan.name == "sgd":
                values[metric] |= {AT_ADAMW: upper_values, AT_SGD: arm_values}
        loss = mean_interval(levels)
        arms.append(MatchedArm(plan.name, plan.family, plan.upper, loss, metrics))
    return tuple(arms), values


def measure_differences(histories: Histories, eas: Values) -> dict[str, list[float]]:
    """What the verdicts need beside the arms' metrics, by seed.

    The share of the squared gradient that SGD's largest 1% of coordinates hold, less their share of
    the component along the steering score; and over arms the rank correlation of how equal a step's
    coordinates are (less the share of its square in the largest 10%) with the alignment.
    """
    mass_over_signal, correlations = [], []
    for seed in sorted({seed for _, seed in histories}):
        anatomies = {
            anatomy.optimizer: anatomy
            for anatomy in average_anatomies({k: v for k, v in histories.items() if k[1] == seed})
        }
        if (sgd := anatomies.get("sgd")) is not None:
            gradient = sgd.gradient
            mass_over_signal.append(gradient.top_mass.hundredth - gradient.top_component.hundredth)
        names = [name for name in anatomies if seed in eas.get(name, {}) and "full" not in name]
        if len(names) > 3:
            equality = [-anatomies[name].update.top_mass.tenth for name in names]
            aligned = [eas[name][seed] for name in names]
            correlations.append(float(stats.spearmanr(equality, aligned).statistic))
    return {MASS_OVER_SIGNAL: mass_over_signal, EQUAL_STEPS: correlations}


def average_gradient_norms(histories: Histories) -> dict[str, float]:
    """The mean over seeds and logged steps of each arm's gradient norm before clipping."""
    norms: dict[str, list[float]] = {}
    for (name, _), rows in histories.items():
        norms.setdefault(name, []).extend(row["gradient_norm"] for row in rows)
    return {name: float(np.mean(values)) for name, values in norms.items()}
