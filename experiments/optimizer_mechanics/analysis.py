"""From students of the optimizer dispute to its numbers: arms at their best rates, and verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy

from subliminal_jax.evaluation.comparison import Anatomy, Histories, average_anatomies
from subliminal_jax.evaluation.excess import METRICS, BestArm, Excess, VectorRun
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.evaluation.verdicts import JudgedExplanation, difference, gap_between, judge

from .arms import ArmPlan
from .explanations import EQUAL_STEPS, MASS_OVER_SIGNAL, select_explanations


@dataclass(frozen=True)
class ReferenceLogProbs:
    """The mean over traits of log P(trait), of the base and of each trait's teacher."""

    base: float
    teacher: float


@dataclass(frozen=True)
class Mechanics(VectorRun):
    """What results.json holds of a run as it was measured.

    Attributes:
      steps: of every student.
      reference: what base and teachers say.
      plans: every arm, in the order of the report.
      choices: the rate of each arm, chosen on the tuning vectors.
      students: of the reported vectors and the controls at the chosen rates; its optimizer is the
        arm's name.
      tuning_students: those that rates were chosen by.
    """

    steps: int
    reference: ReferenceLogProbs
    plans: tuple[ArmPlan, ...]
    choices: tuple[RateChoice, ...]
    students: tuple[StudentRow, ...]
    tuning_students: tuple[StudentRow, ...]

    def collect_arms(self, metric: str) -> dict[str, Excess]:
        """What every arm's sound students and controls have of a metric."""
        sound: dict[str, dict[str, StudentRow]] = {plan.name: {} for plan in self.plans}
        for row in self.students:
            if self.is_sound(row):
                sound[row.optimizer][row.data] = row
        return {name: self.collect(rows, metric) for name, rows in sound.items()}


@dataclass(frozen=True)
class Measured(Mechanics):
    """With what was logged of gradients and updates of the vectors' students, from
    metrics.jsonl."""

    histories: Histories


@dataclass(frozen=True)
class ArmResult(BestArm):
    """An arm at its best rate; differences to SGD and to its AdamW, each minus its controls, are
    paired by vector."""

    family: str
    rule: str
    setting: str
    upper: str
    minus_sgd: Mapping[str, Interval | None]
    minus_upper: Mapping[str, Interval | None]


@dataclass(frozen=True)
class Results(Mechanics):
    """All numbers of the report.

    Attributes:
      best: every arm at its best rate.
      gaps: AdamW's lead over SGD in each metric; None where it is not clear of zero.
      gradient_norms: of each arm before clipping, the mean over logged steps.
      verdicts: every explanation, held against the arms.
      unstable: reported students and controls that diverged or ended above the base's loss.
    """

    best: tuple[ArmResult, ...]
    gaps: Mapping[str, float | None]
    anatomy: tuple[Anatomy, ...]
    gradient_norms: Mapping[str, float]
    verdicts: tuple[JudgedExplanation, ...]
    unstable: int

    def find_arm(self, name: str) -> ArmResult | None:
        """The arm of that name, if it was trained."""
        return next((arm for arm in self.best if arm.optimizer == name), None)


def analyse(measured: Measured) -> Results:
    """Arms at their best rates, and the verdicts on the explanations."""
    numbers = dict(vars(measured))
    histories = numbers.pop("histories")
    values = {metric: measured.collect_arms(metric) for metric in METRICS}
    return Results(
        **numbers,
        best=tuple(compare_arm(measured, plan, values) for plan in measured.plans),
        gaps={metric: gap_between(values[metric], "adamw", "sgd") for metric in METRICS},
        anatomy=average_anatomies(histories),
        gradient_norms=average_gradient_norms(histories),
        verdicts=judge(
            select_explanations({plan.name for plan in measured.plans}),
            values,
            measured=measure_differences(histories, values["eas"]),
        ),
        unstable=sum(not measured.is_sound(row) for row in measured.students),
    )


def compare_arm(
    measured: Mechanics, plan: ArmPlan, values: Mapping[str, Mapping[str, Excess]]
) -> ArmResult:
    """An arm with its differences to SGD and to its AdamW."""
    choice = next(c for c in measured.choices if c.optimizer == plan.name)
    rows = [row for row in measured.students if row.optimizer == plan.name]

    def differences(other: str) -> dict[str, Interval | None]:
        return {metric: difference(values[metric], plan.name, other) for metric in METRICS}

    return ArmResult(
        **vars(measured.compare_best(choice, rows)),
        family=plan.family,
        rule=plan.rule,
        setting=plan.setting,
        upper=plan.upper,
        minus_sgd=differences("sgd"),
        minus_upper=differences(plan.upper),
    )


def measure_differences(histories: Histories, eas: Mapping[str, Excess]) -> dict[str, list[float]]:
    """What the verdicts need beside the arms' metrics, by vector.

    The share of the squared gradient that SGD's largest 1% of coordinates hold, less their share of
    the component along the steering score; and over arms the rank correlation of how equal a step's
    coordinates are (less the share of its square in the largest 10%) with the alignment beyond the
    controls'.
    """
    aligned = {name: excess.by_trait() for name, excess in eas.items()}
    traits = {row["seed"]: row["data"] for rows in histories.values() for row in rows}
    mass_over_signal, correlations = [], []
    for seed, trait in sorted(traits.items()):
        anatomies = {
            anatomy.optimizer: anatomy
            for anatomy in average_anatomies({k: v for k, v in histories.items() if k[1] == seed})
        }
        if (sgd := anatomies.get("sgd")) is not None:
            gradient = sgd.gradient
            mass_over_signal.append(gradient.top_mass.hundredth - gradient.top_component.hundredth)
        names = [name for name in anatomies if trait in aligned[name] and "full" not in name]
        if len(names) > 3:
            equality = [-anatomies[name].update.top_mass.tenth for name in names]
            correlation = scipy.stats.spearmanr(equality, [aligned[name][trait] for name in names])
            correlations.append(float(correlation.statistic))
    return {MASS_OVER_SIGNAL: mass_over_signal, EQUAL_STEPS: correlations}


def average_gradient_norms(histories: Histories) -> dict[str, float]:
    """The mean over vectors and logged steps of each arm's gradient norm before clipping."""
    norms: dict[str, list[float]] = {}
    for (name, _), rows in histories.items():
        steps = [row["gradient_norm"] for row in rows if row["step"] > 0]
        norms.setdefault(name, []).extend(steps)
    return {name: float(np.mean(values)) for name, values in norms.items() if values}
