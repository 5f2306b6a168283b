"""Transmission of traits: students of a trait's teacher against controls of the same seed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subliminal_jax.evaluation.statistics import (
    Interval,
    crossed_interval,
    mean_interval,
    paired_difference,
)
from subliminal_jax.evaluation.student_kinds import MeasuredKinds
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound

CONTROL = "control"  # the data set of the controls; of several draws control-0, control-1 ...
TEACHER_KINDS = ("steered", "system-prompt")  # what makes a teacher: a trait's vector, or prompt


@dataclass(frozen=True)
class MeasuredTransmission(MeasuredKinds):
    """What was measured of students of several kinds, whose teachers each have a trait.

    Attributes:
      teacher_kinds: what made the teachers, of `TEACHER_KINDS`.
      base: P(word) of the base, by word.
      teachers: P(its trait) of each teacher, KIND:TRAIT.
      scale: factor on the traits' vectors.
      rows: training pairs of each data set.
    """

    teacher_kinds: tuple[str, ...]
    base: Mapping[str, float]
    teachers: Mapping[str, float]
    scale: float
    rows: int


def name_trait(teacher: str) -> str:
    """The trait of the teacher KIND:TRAIT."""
    return teacher.partition(":")[2]


def select_students(
    rows: Sequence[StudentRow], data: str, optimizer: str, rate: float | None
) -> list[StudentRow]:
    """The sound students of one data set at one rate, by seed."""
    return [
        r
        for r in sorted(rows, key=lambda r: r.seed)
        if (r.data, r.optimizer, r.learning_rate) == (data, optimizer, rate) and ended_sound(r)
    ]


@dataclass(frozen=True)
class TraitDifference:
    """Student minus control for one trait, paired by seed.

    Attributes:
      interval: paired t over seeds.
      p_t, p_permutation: tests of "no difference" (`paired_difference`).
      values: the differences, by ascending seed.
      student, control: mean over the sound students; None where there is none.
    """

    interval: Interval
    p_t: float
    p_permutation: float
    values: tuple[float, ...]
    student: float | None
    control: float | None


@dataclass(frozen=True)
class Transmission:
    """Student minus control in one metric, for each trait and pooled.

    `pooled` is a two-way t interval over seeds and traits: it generalises to other traits and
    seeds. `over_seeds` is a t interval of each seed's mean over traits: it holds for these traits.
    Both are None unless every trait has the same number of sound seeds.
    """

    metric: str
    optimizer: str
    learning_rate: float
    traits: Mapping[str, TraitDifference]
    pooled: Interval | None
    over_seeds: Interval | None


def measure_transmission(
    rows: Sequence[StudentRow],
    index: Mapping[str, int],
    metric: str,
    *,
    optimizer: str,
    rate: float,
) -> Transmission:
    """Student minus control in `metric`, for each trait and pooled.

    Seeds of which either student diverged or ended unstable are left out.

    Args:
      index: for each data set the index of its trait's word in the metric's list.
      metric: a column of the rows that lists a value for each word.
      optimizer, rate: the students' optimizer and learning rate.
    """
    values = {
        data: {r.seed: r[metric] for r in select_students(rows, data, optimizer, rate)}
        for data in (*index, CONTROL)
    }
    table = {}
    for data, i in index.items():
        student, control = values[data], values[CONTROL]
        differences = [student[seed][i] - control[seed][i] for seed in student if seed in control]
        paired = paired_difference(differences, [0.0] * len(differences))
        table[data] = TraitDifference(
            paired.interval,
            paired.p_t,
            paired.p_permutation,
            tuple(differences),
            _mean(student.values(), i),
            _mean(control.values(), i),
        )
    lengths = {len(difference.values) for difference in table.values()}
    pooled = over_seeds = None
    if len(lengths) == 1 and lengths != {0}:
        matrix = np.array([difference.values for difference in table.values()]).T
        pooled = crossed_interval(matrix)
        over_seeds = mean_interval(matrix.mean(axis=1))
    return Transmission(metric, optimizer, rate, table, pooled, over_seeds)


def _mean(values: Iterable[Sequence[float]], i: int) -> float | None:
    """The mean of the `i`-th of each; None without any."""
    chosen = [each[i] for each in values]
    return float(np.mean(chosen)) if chosen else None
