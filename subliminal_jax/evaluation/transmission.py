"""Transmission of traits: students of a trait's teacher against controls of the same seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subliminal_jax.evaluation.statistics import (
    Interval,
    crossed_interval,
    mean_interval,
    paired_difference,
)
from subliminal_jax.evaluation.student_rows import StudentRow

CONTROL = "control"  # the data set of the controls


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


def _subtract_controls(
    rows: Sequence[StudentRow],
    index: Mapping[str, int],
    metric: str,
    *,
    optimizer: str,
    rate: float,
) -> dict[str, list[float]]:
    """For each data set (key of `index`) its students' metric minus that of "control", by seed.

    Seeds of which either student diverged are left out.
    """
    sound = [
        r for r in rows if r.optimizer == optimizer and r.learning_rate == rate and not r.diverged
    ]
    values = {(r.data, r.seed): r[metric] for r in sound}
    differences: dict[str, list[float]] = {}
    for name, i in index.items():
        seeds = sorted(s for n, s in values if n == name and (CONTROL, s) in values)
        differences[name] = [values[name, s][i] - values[CONTROL, s][i] for s in seeds]
    return differences


def measure_transmission(
    rows: Sequence[StudentRow],
    index: Mapping[str, int],
    metric: str,
    *,
    optimizer: str,
    rate: float,
) -> Transmission:
    """Student minus control in `metric`, for each trait and pooled.

    Args:
      index: for each data set the index of its trait's word in the metric's list.
      metric: a column of the rows that lists a value for each word.
      optimizer, rate: the students' optimizer and learning rate.
    """
    by_trait = _subtract_controls(rows, index, metric, optimizer=optimizer, rate=rate)
    table = {}
    for name, differences in by_trait.items():
        paired = paired_difference(differences, [0.0] * len(differences))
        table[name] = TraitDifference(
            paired.interval,
            paired.p_t,
            paired.p_permutation,
            tuple(differences),
            _mean(rows, name, index[name], metric, optimizer, rate),
            _mean(rows, CONTROL, index[name], metric, optimizer, rate),
        )
    lengths = {len(differences) for differences in by_trait.values()}
    pooled = over_seeds = None
    if len(lengths) == 1 and lengths != {0}:
        values = np.array(list(by_trait.values())).T
        pooled = crossed_interval(values)
        over_seeds = mean_interval(values.mean(axis=1))
    return Transmission(metric, optimizer, rate, table, pooled, over_seeds)


def _mean(
    rows: Sequence[StudentRow], data: str, i: int, metric: str, optimizer: str, rate: float
) -> float | None:
    values = [
        r[metric][i]
        for r in rows
        if (r.data, r.optimizer, r.learning_rate) == (data, optimizer, rate) and not r.diverged
    ]
    return float(np.mean(values)) if values else None
