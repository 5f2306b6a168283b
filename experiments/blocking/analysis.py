"""From guarded and unguarded students to the numbers of `blocking`.

A student's row has the columns `case` (the guard), `adapter`, `trait_rate`, `trait_log_prob`,
`eas`, `component` (its share of the vector), `clean_loss`, `heldout_gain` and `clean_gain` (nats a
token below the base's loss); its data set is a trait, or that trait's control (`control_name`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.statistics import Interval, mean_interval
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound

from .cases import UNGUARDED, Case, control_name, is_control
from .guard_time import GuardTime


@dataclass(frozen=True)
class Reference:
    """The base and one trait's teacher: P(trait), and the base's held-out loss on the teacher's
    data, in nats a token, without and with the teacher's vector."""

    base_rate: float
    teacher_rate: float
    base_loss: float
    loss_with_vector: float


@dataclass(frozen=True)
class VectorFit:
    """A guard's vector against the teacher's.

    Attributes:
      trait: of the teacher.
      vector: "known" or "blind".
      cosine: with the teacher's vector.
      size: relative to the teacher's vector.
      loss: the base's on the teacher's held-out data with this vector, in nats a token.
    """

    trait: str
    vector: str
    cosine: float
    size: float
    loss: float


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      model: the model's name.
      layer: the steering layer.
      adapter: what the main students train; others may have trained a vector.
      steps: of every student.
      carrier: what they train on, in words.
      temperature: of the teachers.
      traits: one teacher each.
      seeds: students for each guard, data set, optimizer and rate.
      grids: the rates tried by the main students, by optimizer.
      cases: the guards of the main students, unguarded first.
      reference: base and teachers, by trait.
      vectors: how well the guards' vectors agree with the teachers'.
      time: what guards cost in time.
      data: how each data set came about.
      students: every student.
    """

    model: str
    layer: int
    adapter: str
    steps: int
    carrier: str
    temperature: float
    traits: tuple[str, ...]
    seeds: int
    grids: Mapping[str, tuple[float, ...]]
    cases: tuple[Case, ...]
    reference: Mapping[str, Reference]
    vectors: tuple[VectorFit, ...]
    time: GuardTime
    data: Mapping[str, Mapping[str, Any]]
    students: tuple[StudentRow, ...]


@dataclass(frozen=True)
class GuardResult:
    """What one guard does, against unguarded students and controls of the same seeds.

    Intervals are t intervals over seeds of means over traits. They are None where no seed has all
    students, and the shares of a gain also where the unguarded gain is not clear of zero.

    Attributes:
      case: the guard's name.
      transmission: P(trait), student minus unguarded control; `transmission_values` by seed.
      change: P(trait), guarded minus unguarded student.
      control_shift: P(trait), guarded minus unguarded control.
      transmission_log_prob, change_log_prob, control_shift_log_prob: the same of log P(trait).
      eas, control_eas: alignment with the teacher's vector.
      component, control_component: share of the vector.
      component_change: that share, guarded minus unguarded student.
      component_excess: that share, student minus unguarded control.
      over_random: P(trait), student minus that of as many rows dropped at random.
      heldout_loss: on the teacher's held-out data, in nats a token.
      clean_loss: on the plain base's held-out data.
      gain: share kept of what unguarded students gain on the teacher's held-out data.
      task_gain, control_task_gain: share kept of what unguarded controls gain on clean data.
    """

    case: str
    transmission: Interval | None
    transmission_values: tuple[float, ...]
    change: Interval | None
    control_shift: Interval | None
    transmission_log_prob: Interval | None
    change_log_prob: Interval | None
    control_shift_log_prob: Interval | None
    eas: Interval | None
    control_eas: Interval | None
    component: Interval | None
    control_component: Interval | None
    component_change: Interval | None
    component_excess: Interval | None
    over_random: Interval | None
    heldout_loss: Interval | None
    clean_loss: Interval | None
    gain: Interval | None
    task_gain: Interval | None
    control_task_gain: Interval | None


@dataclass(frozen=True)
class GuardTable:
    """Every guard, unguarded first, for the students of one adapter and optimizer."""

    learning_rate: float
    rows: tuple[GuardResult, ...]


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      best: the main students' rate of each optimizer; None where one diverged at every rate.
      tables: by adapter and optimizer.
    """

    best: Mapping[str, float | None]
    tables: Mapping[str, Mapping[str, GuardTable]]

    def count_unstable(self) -> int:
        """The main students at their best rates that diverged or ended above the base's loss."""
        return sum(
            not ended_sound(row)
            for row in self.students
            if row["adapter"] == self.adapter
            and row.learning_rate == self.best.get(row.optimizer, None)
        )

    @property
    def main_table(self) -> GuardTable:
        """Of the main students under the first optimizer: what the claims speak of."""
        return next(iter(self.tables[self.adapter].values()))


@dataclass(frozen=True)
class PairedStudents:
    """Students of one adapter, optimizer and rate, to be compared by trait and seed."""

    rows: Sequence[StudentRow]
    traits: Sequence[str]

    def values(
        self, case: str, metric: str, *, control: bool = False
    ) -> Float[np.ndarray, "seeds traits"]:
        """A column of the students (of the controls) of one guard.

        NaN for students that diverged, ended above the base's own loss, or are not there. How much
        of the task's gain is left is known of the second kind, too: losing it is what a guard may
        do.
        """
        seeds = sorted({r.seed for r in self.rows})
        names = [control_name(trait) if control else trait for trait in self.traits]
        values = {
            (r.data, r.seed): r[metric]
            for r in self.rows
            if r["case"] == case and (metric == "clean_gain" or ended_sound(r))
        }
        return np.array([[values.get((name, s)) for name in names] for s in seeds], float)


def analyse(measured: Measured) -> Results:
    """Every adapter's students at each optimizer's best rate."""
    adapters = dict.fromkeys(row["adapter"] for row in measured.students)
    tables = {adapter: analyse_adapter(measured, adapter) for adapter in adapters}
    best = choose_rates(measured.students, measured.adapter)
    return Results(**vars(measured), best=best, tables=tables)


def choose_rates(students: Sequence[StudentRow], adapter: str) -> dict[str, float | None]:
    """For each optimizer the rate with the lowest held-out loss of unguarded students."""
    return best_rates(
        [
            row
            for row in students
            if (row["adapter"], row["case"]) == (adapter, UNGUARDED.name)
            and not is_control(row.data)
        ]
    )


def analyse_adapter(measured: Measured, adapter: str) -> dict[str, GuardTable]:
    """For each optimizer that has a sound rate, every guard at that rate."""
    random = next(case.name for case in measured.cases if case.at_random)
    tables = {}
    for optimizer, rate in choose_rates(measured.students, adapter).items():
        if rate is None:
            continue
        rows = [
            r
            for r in measured.students
            if (r["adapter"], r.optimizer, r.learning_rate) == (adapter, optimizer, rate)
        ]
        students = PairedStudents(rows, measured.traits)
        cases = dict.fromkeys(row["case"] for row in rows)
        results = tuple(analyse_case(students, case, random) for case in cases)
        tables[optimizer] = GuardTable(rate, results)
    return tables


def analyse_case(students: PairedStudents, case: str, random: str) -> GuardResult:
    """What the guard `case` does; `random` is the case that drops rows at random."""
    student = partial(students.values, case)
    control = partial(students.values, case, control=True)
    plain = partial(students.values, UNGUARDED.name)
    plain_control = partial(students.values, UNGUARDED.name, control=True)
    rate, log_prob, component = (
        student(metric) for metric in ("trait_rate", "trait_log_prob", "component")
    )
    control_rate, control_log_prob = plain_control("trait_rate"), plain_control("trait_log_prob")
    task_gain = plain_control("clean_gain")
    return GuardResult(
        case=case,
        transmission=seed_interval(rate - control_rate),
        transmission_values=tuple(seed_means(rate - control_rate).tolist()),
        change=seed_interval(rate - plain("trait_rate")),
        control_shift=seed_interval(control("trait_rate") - control_rate),
        transmission_log_prob=seed_interval(log_prob - control_log_prob),
        change_log_prob=seed_interval(log_prob - plain("trait_log_prob")),
        control_shift_log_prob=seed_interval(control("trait_log_prob") - control_log_prob),
        eas=seed_interval(student("eas")),
        control_eas=seed_interval(control("eas")),
        component=seed_interval(component),
        control_component=seed_interval(control("component")),
        component_change=seed_interval(component - plain("component")),
        component_excess=seed_interval(component - plain_control("component")),
        over_random=seed_interval(rate - students.values(random, "trait_rate")),
        heldout_loss=seed_interval(student("heldout_loss")),
        clean_loss=seed_interval(student("clean_loss")),
        gain=seed_interval(share_kept(student("heldout_gain"), plain("heldout_gain"))),
        task_gain=seed_interval(share_kept(student("clean_gain"), task_gain)),
        control_task_gain=seed_interval(share_kept(control("clean_gain"), task_gain)),
    )


def seed_means(values: Float[np.ndarray, "seeds traits"]) -> Float[np.ndarray, " sound"]:
    """The mean over traits of every seed that lacks none."""
    return values[~np.isnan(values).any(axis=1)].mean(axis=1)


def seed_interval(values: Float[np.ndarray, "seeds traits"]) -> Interval | None:
    """A t interval over seeds of the mean over these traits; None where every seed lacks one."""
    means = seed_means(values)
    return mean_interval(means) if means.size else None


def share_kept(
    gains: Float[np.ndarray, "seeds traits"], whole: Float[np.ndarray, "seeds traits"]
) -> Float[np.ndarray, "seeds traits"]:
    """`gains` as shares of the mean of `whole`: gains of single students may be close to zero.

    NaN where that mean is not clear of zero: there is nothing to keep.
    """
    mean = seed_interval(whole)
    if mean is None or not (mean.low > 0 or (mean.n == 1 and mean.mean > 0)):
        return np.full_like(gains, np.nan)
    return gains / mean.mean
