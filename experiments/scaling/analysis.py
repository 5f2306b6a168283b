"""The gap between two optimizers in every cell of a scaling study, and its trends."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from subliminal_jax.evaluation.comparison import match_training_loss
from subliminal_jax.evaluation.excess import Comparison, Excess, compare
from subliminal_jax.evaluation.metric_ranges import COSINE, UNBOUNDED, MetricRange, find_range
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound

from .cells import Cell, select_factor

GapKind = Literal["equal_steps", "matched_loss"]
GAPS: tuple[GapKind, ...] = ("equal_steps", "matched_loss")
STEERED = "steered"  # the data of students; those of controls are draws of the base's
NUMERIC = ("depth", "rank", "norm", "rows")


@dataclass(frozen=True)
class History:
    """The logged steps of one steered student, as long as its loss is finite.

    Attributes:
      train_loss: nats per predicted token, at each of `steps`.
      eas: at the steering layer, at each of them.
    """

    optimizer: str
    vector: str
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
      base_loss, teacher_loss: of the base and of the teachers themselves, on the held-out rows of
        each vector: means over vectors.
      choices: the rate of each optimizer, which the tuning vectors chose.
      students: the student of each reported vector, with `data` STEERED, and every control once for
        each vector, with its draw as `data`. In place of the panel's columns they have `vector`,
        `eas` and `share` (of the vector that the shift is) at the steering layer, and students a
        `gain`: the share of the loss between base and teacher that they have made good; None where
        the teacher's is no smaller.
      histories: of the students.
    """

    cell: Cell
    layer: int
    depth: int
    base_loss: float
    teacher_loss: float
    choices: tuple[RateChoice, ...]
    students: tuple[StudentRow, ...]
    histories: tuple[History, ...]


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      preset: the settings that the flags started from.
      traits: whose vectors they are; empty for random ones.
      vectors, tuning_vectors: those that are reported, and those that rates were chosen on.
      controls: draws of the base's data.
      optimizers: their labels.
      pair: the two optimizers between which the gap is taken, the first minus the second.
      carrier: what students train on, in words.
      level: an EAS that counts as having picked up the vector.
      rows: training rows of a cell that has all.
      steps: of every student.
      batch_size: rows a step.
      schedule, warmup: as set.
      clipped: whether gradients are.
      data: how each data set came about, by network.
      students: of every cell, the base's first.
    """

    preset: str
    traits: tuple[str, ...]
    vectors: tuple[str, ...]
    tuning_vectors: tuple[str, ...]
    controls: tuple[str, ...]
    optimizers: tuple[str, ...]
    pair: tuple[str, str]
    carrier: str
    level: float
    rows: int
    steps: int
    batch_size: int
    schedule: str
    warmup: float
    clipped: bool
    data: Mapping[str, Mapping[str, Mapping[str, Any]]]
    students: tuple[CellStudents, ...]

    def describe_vectors(self) -> str:
        """How many vectors and whose, in words."""
        count = len(self.vectors)
        return f"vectors of {count} traits" if self.traits else f"{count} random vectors"


@dataclass(frozen=True)
class BestStudents:
    """The students of one optimizer at its best rate; intervals are over vectors.

    Attributes:
      choice: the rate, and those that were tried.
      unstable: students and controls that diverged or ended above the base's loss, which have no
        number.
      eas, share: students, controls and their difference.
      gain, heldout_loss: of the students; None where none is sound.
      reaches: whether the mean EAS is above the level.
      values: EAS by vector.
    """

    optimizer: str
    choice: RateChoice
    unstable: int
    eas: Comparison
    share: Comparison
    gain: Interval | None
    heldout_loss: Interval | None
    reaches: bool
    values: Mapping[str, float]

    @property
    def at_edge(self) -> bool:
        """Whether a better rate may lie outside of those that were tried."""
        choice = self.choice
        return choice.rate is not None and len(choice.grid) > 1 and not choice.is_inside


@dataclass(frozen=True)
class Gap:
    """A difference in EAS, paired by vector."""

    interval: Interval
    values: Mapping[str, float]


@dataclass(frozen=True)
class Gaps:
    """EAS of the first optimizer of the pair minus that of the second, at equal steps and where the
    training losses of the two first reach one common level; None where no vector has both."""

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
    """How a gap changes for each doubling of a factor: the mean over vectors of each
    one's slope."""

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
    best = tuple(summarise_optimizer(measured, choice, level) for choice in measured.choices)
    values = {row.optimizer: row.values for row in best}
    gaps = Gaps(None, None)
    if all(name in values for name in pair):
        first, second = (values[name] for name in pair)
        gaps = Gaps(
            compare_vectors(first, second),
            compare_vectors(*match_losses(measured, values, pair)),
        )
    return CellResult(
        cell=measured.cell,
        layer=measured.layer,
        base_loss=measured.base_loss,
        teacher_loss=measured.teacher_loss,
        best=best,
        gap=gaps,
    )


def summarise_optimizer(measured: CellStudents, choice: RateChoice, level: float) -> BestStudents:
    """One optimizer's students and controls."""
    rows = [row for row in measured.students if row.optimizer == choice.optimizer]
    sound = [row for row in rows if ended_sound(row)]

    def collect(metric: str, within: MetricRange) -> Excess:
        students = select_metric(sound, metric)
        controls: dict[str, dict[str, float]] = {}
        for row in sound:
            if row.data != STEERED and row["vector"] in students:
                controls.setdefault(row.data, {})[row["vector"]] = row[metric]
        return Excess(students, controls, within)

    def average(metric: str) -> Interval | None:
        values = select_metric(sound, metric)
        return find_range(metric).clip(vector_interval([*values.values()])) if values else None

    eas = compare(collect("eas", COSINE), None)
    lost = {
        (row.data, row["vector"] if row.data == STEERED else "")
        for row in rows
        if not ended_sound(row)
    }
    return BestStudents(
        optimizer=choice.optimizer,
        choice=choice,
        unstable=len(lost),
        eas=eas,
        share=compare(collect("share", UNBOUNDED), None),
        gain=average("gain"),
        heldout_loss=average("heldout_loss"),
        reaches=eas.student is not None and eas.student.mean > level,
        values=select_metric(sound, "eas"),
    )


def select_metric(students: Sequence[StudentRow], metric: str) -> dict[str, float]:
    """A column of the steered students by vector, where it has a value."""
    return {
        row["vector"]: row[metric]
        for row in students
        if row.data == STEERED and row[metric] is not None
    }


def match_losses(
    measured: CellStudents, sound: Mapping[str, Mapping[str, float]], pair: tuple[str, str]
) -> tuple[dict[str, float], dict[str, float]]:
    """EAS by vector of both optimizers, where both have first come to that vector's common loss;
    only of `sound` students whose logged rows bracket it (`match_training_loss`)."""
    values: tuple[dict[str, float], dict[str, float]] = {}, {}
    by_student = {(h.optimizer, h.vector): h for h in measured.histories}
    for vector in sorted(sound[pair[0]].keys() & sound[pair[1]].keys()):
        rows = {
            (name, 0): by_student[name, vector].rows()
            for name in pair
            if (name, vector) in by_student
        }
        if len(rows) == len(pair):
            matched = {
                each.optimizer: each for each in match_training_loss(rows, ("eas",)).students
            }
            for name, eas in zip(pair, values, strict=True):
                if name in matched and (reading := matched[name].by_seed.get(0)):
                    eas[vector] = reading["eas"]
    return values


def compare_vectors(
    first: Mapping[str, float], second: Mapping[str, float], within: MetricRange = COSINE
) -> Gap | None:
    """`first` minus `second`, each within a range (EAS, say), over the vectors that both have; None
    where there is none."""
    values = {vector: x - second[vector] for vector, x in first.items() if vector in second}
    gap = within.difference()
    return Gap(gap.clip(vector_interval([*values.values()])), values) if values else None


def fit_trends(
    results: Sequence[CellResult], sizes: Mapping[tuple[str, Cell], float]
) -> Iterator[Trend]:
    """How the gap changes for each doubling of a numeric factor: each vector's slope of least
    squares, and their interval. `sizes[factor, cell]` is the level as a number."""
    for factor in NUMERIC:
        selected = select_results(results, factor)
        if len(selected) < 2:
            continue
        x = [math.log2(sizes[factor, result.cell]) for result in selected]
        for kind in GAPS:
            gaps = [gap for result in selected if (gap := result.gap.select(kind)) is not None]
            vectors = set.intersection(*(set(gap.values) for gap in gaps)) if gaps else set()
            if len(gaps) < len(selected) or not vectors:
                continue
            slopes = [
                float(np.polyfit(x, [gap.values[vector] for gap in gaps], 1)[0])
                for vector in sorted(vectors)
            ]
            yield Trend(factor, kind, vector_interval(slopes))
