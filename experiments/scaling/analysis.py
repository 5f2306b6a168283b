"""The gap between two optimizers in every cell of a scaling study, and its trends."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from subliminal_jax.evaluation.comparison import best_rates, is_at_edge, match_training_loss
from subliminal_jax.evaluation.statistics import Interval, mean_interval, paired_difference
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound

from .cells import Cell, select_factor

GapKind = Literal["equal_steps", "matched_loss"]
GAPS: tuple[GapKind, ...] = ("equal_steps", "matched_loss")
NUMERIC = ("depth", "rank", "norm", "rows")


@dataclass(frozen=True)
class History:
    """The logged steps of one steered student, as long as its loss is finite.

    Attributes:
      train_loss: nats per predicted token, at each of `steps`.
      eas: at the steering layer, at each of them.
    """

    optimizer: str
    learning_rate: float
    seed: int
    steps: tuple[int, ...]
    train_loss: tuple[float, ...]
    eas: tuple[float, ...]

    def rows(self) -> list[dict[str, float]]:
        """A row a step."""
        columns = zip(self.steps, self.train_loss, self.eas, strict=True)
        return [{"step": s, "train_loss": loss, "eas": eas} for s, loss, eas in columns]


@dataclass(frozen=True)
class CellStudents:
    """What was measured in one cell.

    Attributes:
      layer: the steering layer.
      depth: blocks of the network.
      base_loss, teacher_loss: of the base and of the teacher itself, on the held-out rows.
      students: with `data` "steered" or "control", and in place of the panel's columns `eas` and
        `share` (of the vector that the student's shift is) at the steering layer and `gain`: the
        share of the loss between base and teacher that the student has made good; None where the
        teacher's is no smaller.
      histories: of the steered students.
    """

    cell: Cell
    layer: int
    depth: int
    base_loss: float
    teacher_loss: float
    students: tuple[StudentRow, ...]
    histories: tuple[History, ...]


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      preset: the settings that the flags started from.
      vector: "random", or the trait whose vector it is.
      pair: the two optimizers between which the gap is taken, the first minus the second.
      carrier: what students train on, in words.
      level: an EAS that counts as having picked up the vector.
      rows: training rows of a cell that has all.
      seeds: students for each cell, optimizer and rate.
      steps: of every student.
      batch_size: rows a step.
      clipped: whether gradients are.
      grids: the rates tried, by optimizer.
      data: how each data set came about, by network.
      students: of every cell, the base's first.
    """

    preset: str
    vector: str
    pair: tuple[str, str]
    carrier: str
    level: float
    rows: int
    seeds: int
    steps: int
    batch_size: int
    clipped: bool
    grids: Mapping[str, tuple[float, ...]]
    data: Mapping[str, Mapping[str, Mapping[str, Any]]]
    students: tuple[CellStudents, ...]


@dataclass(frozen=True)
class MetricComparison:
    """Steered students, their controls, and the difference of the two paired by seed (None where
    no seed has both)."""

    steered: Interval
    control: Interval
    difference: Interval | None


@dataclass(frozen=True)
class BestStudents:
    """The students of one optimizer at its best rate.

    Attributes:
      learning_rate: the one with the lowest held-out loss; None where some student diverged at
        every rate.
      grid_edge: whether it is at the edge of the `grid`.
      diverged_rates: rates at which some student diverged.
      reaches: whether the mean EAS is above the level.
      values, control_values: EAS by seed.
    """

    optimizer: str
    learning_rate: float | None
    grid: tuple[float, ...]
    grid_edge: bool
    diverged_rates: tuple[float, ...]
    eas: MetricComparison
    share: MetricComparison
    gain: MetricComparison
    heldout_loss: MetricComparison
    reaches: bool
    values: Mapping[int, float]
    control_values: Mapping[int, float]


@dataclass(frozen=True)
class Gap:
    """A difference in EAS: paired by seed."""

    interval: Interval
    seeds: tuple[int, ...]
    values: tuple[float, ...]

    def values_by_seed(self) -> dict[int, float]:
        return dict(zip(self.seeds, self.values, strict=True))


@dataclass(frozen=True)
class Gaps:
    """EAS of the first optimizer of the pair minus that of the second, at equal steps and where the
    training losses of the two first reach one common level; None where no seed has both."""

    equal_steps: Gap | None
    matched_loss: Gap | None

    def select(self, kind: GapKind) -> Gap | None:
        return self.equal_steps if kind == "equal_steps" else self.matched_loss


@dataclass(frozen=True)
class CellResult:
    """One cell: every optimizer at its best rate, and the gap between the two of the pair."""

    cell: Cell
    layer: int
    base_loss: float
    teacher_loss: float
    best: tuple[BestStudents, ...]
    gap: Gaps

    def select_optimizer(self, optimizer: str) -> BestStudents:
        return next(row for row in self.best if row.optimizer == optimizer)


@dataclass(frozen=True)
class Trend:
    """How a gap changes for each doubling of a factor: the mean over seeds of each one's slope."""

    factor: str
    gap: GapKind
    slope: Interval


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report: cells in the order of `students`, the base's first."""

    cells: tuple[CellResult, ...]
    trends: tuple[Trend, ...]

    @property
    def base(self) -> CellResult:
        return self.cells[0]

    def select_factor(self, factor: str) -> list[CellResult]:
        """The cells of one factor, in the order of its levels."""
        return select_results(self.cells, factor)


def select_results(results: Sequence[CellResult], factor: str) -> list[CellResult]:
    """The cells that differ from the first in `factor` at most, in the order of its levels."""
    by_cell = {result.cell: result for result in results}
    return [by_cell[cell] for cell in select_factor(list(by_cell), results[0].cell, factor)]


def analyse(measured: Measured) -> Results:
    """Every cell's best rates and gaps, and the gaps' trends."""
    cells = tuple(
        analyse_cell(students, measured.pair, measured.level) for students in measured.students
    )
    sizes: dict[tuple[str, Cell], float] = {}
    for students in measured.students:
        cell = students.cell
        sizes["depth", cell] = students.depth
        sizes["rank", cell] = cell.rank
        sizes["norm", cell] = cell.norm
        sizes["rows", cell] = cell.rows or measured.rows
    return Results(**vars(measured), cells=cells, trends=tuple(fit_trends(cells, sizes)))


def analyse_cell(measured: CellStudents, pair: tuple[str, str], level: float) -> CellResult:
    """Every optimizer at its best rate, and the gap in EAS between the two of `pair`."""
    rates = best_rates(measured.students)
    best = tuple(
        summarise_optimizer(measured.students, name, rate, level) for name, rate in rates.items()
    )
    values = {row.optimizer: row.values for row in best}
    gaps = Gaps(None, None)
    if all(name in values for name in pair):
        first, second = (values[name] for name in pair)
        gaps = Gaps(
            compare_seeds(first, second),
            compare_seeds(*match_losses(measured.histories, rates, pair)),
        )
    return CellResult(
        cell=measured.cell,
        layer=measured.layer,
        base_loss=measured.base_loss,
        teacher_loss=measured.teacher_loss,
        best=best,
        gap=gaps,
    )


def summarise_optimizer(
    students: Sequence[StudentRow], optimizer: str, rate: float | None, level: float
) -> BestStudents:
    """One optimizer's students and controls at `rate`."""
    rows = [row for row in students if row.optimizer == optimizer]
    grid = tuple(sorted({row.learning_rate for row in rows if row.data == "steered"}))
    sound = [row for row in rows if row.learning_rate == rate and ended_sound(row)]
    steered = [row for row in sound if row.data == "steered"]
    controls = [row for row in sound if row.data == "control"]

    def compare(metric: str) -> MetricComparison:
        values, control_values = select_metric(steered, metric), select_metric(controls, metric)
        paired = compare_seeds(values, control_values)
        return MetricComparison(
            mean_interval(list(values.values())),
            mean_interval(list(control_values.values())),
            None if paired is None else paired.interval,
        )

    eas = compare("eas")
    return BestStudents(
        optimizer=optimizer,
        learning_rate=rate,
        grid=grid,
        grid_edge=is_at_edge(rate, grid),
        diverged_rates=tuple(sorted({row.learning_rate for row in rows if row.diverged})),
        eas=eas,
        share=compare("share"),
        gain=compare("gain"),
        heldout_loss=compare("heldout_loss"),
        reaches=eas.steered.mean > level,
        values=select_metric(steered, "eas"),
        control_values=select_metric(controls, "eas"),
    )


def select_metric(students: Sequence[StudentRow], metric: str) -> dict[int, float]:
    """A column by seed, where it has a value."""
    return {row.seed: row[metric] for row in students if row[metric] is not None}


def match_losses(
    histories: Sequence[History], rates: Mapping[str, float | None], pair: tuple[str, str]
) -> tuple[dict[int, float], dict[int, float]]:
    """EAS by seed of both optimizers, where both have first come to that seed's common loss; only
    of students whose logged rows bracket it (`match_training_loss`)."""
    values: tuple[dict[int, float], dict[int, float]] = {}, {}
    by_student: dict[tuple[str, float | None, int], History] = {
        (h.optimizer, h.learning_rate, h.seed): h for h in histories
    }
    for seed in sorted({h.seed for h in histories}):
        students = [by_student.get((name, rates[name], seed)) for name in pair]
        rows = {
            (history.optimizer, seed): history.rows() for history in students if history is not None
        }
        if len(rows) == len(pair):
            matched = match_training_loss(rows, ("eas",)).students
            for eas, summary in zip(values, matched, strict=False):
                if seed in summary.by_seed:
                    eas[seed] = summary.by_seed[seed]["eas"]
    return values


def compare_seeds(first: Mapping[int, float], second: Mapping[int, float]) -> Gap | None:
    """`first` minus `second` over the seeds that both have; None where there is none."""
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    values = [first[seed] - second[seed] for seed in seeds]
    interval = paired_difference(values, [0.0] * len(values)).interval
    return Gap(interval, tuple(seeds), tuple(values))


def fit_trends(
    results: Sequence[CellResult], sizes: Mapping[tuple[str, Cell], float]
) -> Iterator[Trend]:
    """How the gap changes for each doubling of a numeric factor: each seed's slope of least
    squares, and their interval. `sizes[factor, cell]` is the level as a number."""
    for factor in NUMERIC:
        selected = select_results(results, factor)
        if len(selected) < 2:
            continue
        x = [math.log2(sizes[factor, result.cell]) for result in selected]
        for kind in GAPS:
            gaps = [gap for result in selected if (gap := result.gap.select(kind)) is not None]
            seeds = set.intersection(*(set(gap.seeds) for gap in gaps)) if gaps else set()
            if len(gaps) < len(selected) or not seeds:
                continue
            slopes = [
                float(np.polyfit(x, [gap.values_by_seed()[seed] for gap in gaps], 1)[0])
                for seed in sorted(seeds)
            ]
            yield Trend(factor, kind, mean_interval(slopes))
