"""From guarded and unguarded students to the numbers of `blocking`.

A student's row has the columns `case` (the guard), `adapter` and `clean_loss` (on the plain base's
held-out rows) beside those of the panel; its data set is a trait, a draw of the plain base's rows,
or a trait's guarded control (`control_name`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subliminal_jax.evaluation.excess import Excess
from subliminal_jax.evaluation.metric_ranges import RANGES, MetricRange
from subliminal_jax.evaluation.over_vectors import control_difference, vector_interval
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.statistics import Interval, mean_interval
from subliminal_jax.evaluation.student_kinds import MeasuredKinds, Target
from subliminal_jax.evaluation.student_rows import StudentRow

from .cases import UNGUARDED, Case, choose_draws, control_name
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
class Measured(MeasuredKinds):
    """What a run measured; the claims speak of the first of `adapters`.

    Attributes:
      carrier: what students train on, in words.
      temperature: of the teachers.
      cases: the guards of the main students, unguarded first.
      reference: base and teachers, by trait.
      vectors: how well the guards' vectors agree with the teachers'.
      time: what guards cost in time.
      data: how each data set came about.
    """

    carrier: str
    temperature: float
    cases: tuple[Case, ...]
    reference: Mapping[str, Reference]
    vectors: tuple[VectorFit, ...]
    time: GuardTime
    data: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class GuardResult:
    """What one guard does, against unguarded students and controls of the same seeds.

    Intervals are over traits. They are None where no trait has a sound student, and the shares of a
    gain also where the unguarded gain is not clear of zero. Unguarded controls are several draws,
    each scored against every trait; a guarded control is paired with the unguarded one of its draw.

    Attributes:
      case: the guard's name.
      transmission: P(trait), student minus unguarded controls; `transmission_values` by trait.
      change: P(trait), guarded minus unguarded student.
      control_shift: P(trait), guarded minus unguarded control.
      transmission_log_prob, change_log_prob, control_shift_log_prob: the same of log P(trait).
      eas, control_eas: alignment with the teacher's vector.
      component, control_component: share of the vector.
      component_change: that share, guarded minus unguarded student.
      component_excess: that share, student minus unguarded controls.
      over_random: P(trait), student minus that of as many rows dropped at random.
      heldout_loss: on the teacher's held-out data, in nats a token.
      clean_loss: on the plain base's held-out data.
      gain: share kept of what unguarded students gain on the teacher's held-out data.
      task_gain, control_task_gain: share kept of what unguarded controls gain on clean data; of
        unstable students, too, for losing it is what a guard may do.
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
    """Every guard, unguarded first, for the students of one kind and optimizer.

    Attributes:
      choice: their learning rate, which unguarded students of the tuning traits chose.
      unstable: how many students and controls diverged or ended above the base's loss.
    """

    adapter: str
    optimizer: str
    choice: RateChoice
    unstable: int
    rows: tuple[GuardResult, ...]


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report: a table for each kind of student and optimizer."""

    tables: tuple[GuardTable, ...]

    @property
    def main_table(self) -> GuardTable:
        """Of the first kind and optimizer: what the claims speak of."""
        return self.tables[0]


@dataclass(frozen=True)
class GuardedStudents:
    """The students of one kind and optimizer, to be compared by trait."""

    measured: Measured
    adapter: str
    optimizer: str

    @property
    def rows(self) -> list[StudentRow]:
        """All of them."""
        return self.measured.select(adapter=self.adapter, optimizer=self.optimizer)

    def values(self, case: str, metric: str, *, control: bool = False) -> dict[str, float]:
        """A metric of the sound students (of the controls) of one guard, by trait. An unguarded
        control is the one of the draw that the trait's guarded control trains on."""
        traits = self.measured.traits
        names = {trait: trait for trait in traits}
        if control:
            draws = choose_draws(traits, self.measured.controls)
            names = {t: draws[t] if case == UNGUARDED.name else control_name(t) for t in traits}
        found = self._select(case, metric)
        return {t: self.read(found[name], metric, t) for t, name in names.items() if name in found}

    def against_controls(self, case: str, metric: str) -> Excess:
        """A metric of the students of one guard, and of the unguarded controls."""
        found = self._select(UNGUARDED.name, metric)
        controls = {
            draw: {trait: self.read(found[draw], metric, trait) for trait in self.measured.traits}
            for draw in self.measured.controls
            if draw in found
        }
        students = self.values(case, metric)
        return Excess(
            students, {d: {t: x[t] for t in students} for d, x in controls.items()}, RANGES[metric]
        )

    def read(self, row: StudentRow, metric: str, trait: str) -> float:
        """A metric of one student, held against a trait."""
        if metric == "heldout_loss":
            assert row.heldout_loss is not None
            return row.heldout_loss
        if metric == "clean_loss":
            return float(row["clean_loss"])
        if metric == "clean_gain":
            clean = self.measured.base_losses[self.measured.controls[0]]
            return clean - float(row["clean_loss"])
        return self.measured.read(row, metric, Target(row.data, trait, trait))

    def _select(self, case: str, metric: str) -> dict[str, StudentRow]:
        return {
            row.data: row
            for row in self.rows
            if row["case"] == case
            and (not row.diverged if metric == "clean_gain" else self.measured.is_sound(row))
        }


def analyse(measured: Measured) -> Results:
    """Every guard, for every kind of student and optimizer."""
    random = next(case.name for case in measured.cases if case.at_random)
    tables = []
    for adapter in measured.adapters:
        for optimizer in measured.optimizers:
            students = GuardedStudents(measured, adapter, optimizer)
            names = dict.fromkeys([UNGUARDED.name, *(row["case"] for row in students.rows)])
            if adapter == measured.adapters[0]:
                names = dict.fromkeys(case.name for case in measured.cases)
            tables.append(
                GuardTable(
                    adapter=adapter,
                    optimizer=optimizer,
                    choice=measured.find_choice(adapter, optimizer),
                    unstable=sum(not measured.is_sound(row) for row in students.rows),
                    rows=tuple(analyse_case(students, case, random) for case in names),
                )
            )
    return Results(**vars(measured), tables=tuple(tables))


def analyse_case(students: GuardedStudents, case: str, random: str) -> GuardResult:
    """What the guard `case` does; `random` is the case that drops rows at random."""

    def change(
        metric: str, other: str = UNGUARDED.name, *, control: bool = False
    ) -> Interval | None:
        one, two = (students.values(name, metric, control=control) for name in (case, other))
        return paired_interval(one, two, RANGES[metric])

    def mean(metric: str, *, control: bool = False) -> Interval | None:
        values = students.values(case, metric, control=control)
        return RANGES[metric].clip(vector_interval([*values.values()])) if values else None

    rate = students.against_controls(case, "word_rate")
    task = students.against_controls(case, "clean_gain")
    plain = UNGUARDED.name
    return GuardResult(
        case=case,
        transmission=rate.difference(),
        transmission_values=tuple(rate.by_trait().values()),
        change=change("word_rate"),
        control_shift=change("word_rate", control=True),
        transmission_log_prob=students.against_controls(case, "word_log_prob").difference(),
        change_log_prob=change("word_log_prob"),
        control_shift_log_prob=change("word_log_prob", control=True),
        eas=mean("eas"),
        control_eas=mean("eas", control=True),
        component=mean("shift_component"),
        control_component=mean("shift_component", control=True),
        component_change=change("shift_component"),
        component_excess=students.against_controls(case, "shift_component").difference(),
        over_random=change("word_rate", random),
        heldout_loss=mean("heldout_loss"),
        clean_loss=mean("clean_loss"),
        gain=share_of_pairs(students.values(case, "gain"), students.values(plain, "gain")),
        task_gain=share_of_controls(task),
        control_task_gain=share_of_pairs(
            students.values(case, "clean_gain", control=True),
            students.values(plain, "clean_gain", control=True),
        ),
    )


def paired_interval(
    first: Mapping[str, float], second: Mapping[str, float], within: MetricRange
) -> Interval | None:
    """`first` minus `second`, each within a range, over the traits that both have; None where there
    is none."""
    values = [x - second[trait] for trait, x in first.items() if trait in second]
    return within.difference().clip(vector_interval(values)) if values else None


def share_of_pairs(gains: Mapping[str, float], whole: Mapping[str, float]) -> Interval | None:
    """The mean of `gains` as a share of that of `whole`, over the traits that both have.

    None where that of `whole` is not clear of zero: there is nothing to keep. The interval is that
    of what the gains differ by from this share of the whole (the ratio, linearised).
    """
    traits = [trait for trait in gains if trait in whole]
    mean = clear_mean([whole[trait] for trait in traits])
    if mean is None:
        return None
    share = float(np.mean([gains[trait] for trait in traits])) / mean
    rest = vector_interval([gains[trait] - share * whole[trait] for trait in traits])
    return rest * (1 / mean) - (-share)


def share_of_controls(excess: Excess) -> Interval | None:
    """The students' mean as a share of the controls', as in `share_of_pairs`: widened for the few
    draws of controls."""
    if not excess.students:
        return None
    students, values = excess.stack([*excess.students], [*excess.controls])
    mean = clear_mean(values.mean(axis=1).tolist())
    if mean is None:
        return None
    share = float(students.mean()) / mean
    return control_difference(students, share * values) * (1 / mean) - (-share)


def clear_mean(values: Sequence[float]) -> float | None:
    """The mean of these values; None where it is not clear of zero, above it."""
    interval = mean_interval(values) if values else None
    if interval is None or not (interval.low > 0 or (interval.n == 1 and interval.mean > 0)):
        return None
    return interval.mean
