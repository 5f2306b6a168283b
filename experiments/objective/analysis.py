"""Hard against soft labels, from students and gradients: best rates, rows needed, claims."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.claims import NOT_REPRODUCED, Claim, verdict
from subliminal_jax.evaluation.comparison import best_rates, is_at_edge
from subliminal_jax.evaluation.crossing import Crossing, find_crossing
from subliminal_jax.evaluation.statistics import Interval, mean_interval, paired_difference
from subliminal_jax.evaluation.student_rows import StudentRow

from .gradients import GradientCosine

OBJECTIVES = ("cross_entropy", "kl")
LABELS = {"cross_entropy": "hard labels", "kl": "KL"}
SOURCE = "Chen et al. 2026, abstract"


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      preset: the settings that the flags started from.
      model: the model's name.
      layer: the steering layer.
      adapter: what students train.
      level: the EAS for which rows are counted.
      seeds: students for each objective, data set, size and rate.
      steps: of every student.
      batch_size: rows a step.
      heldout_rows: on which the rate is chosen.
      traits: of each teacher, by the name of its data set; None where it has none.
      references: the teachers, in the order of the students' alignments.
      words: the candidate answers, in the order of the students' word rates.
      lengths: of each teacher's shift at the steering layer.
      grids: the rates tried, by optimizer.
      data: how each data set came about.
      gradients: cosines of the first gradients.
      students: every student at every rate and size; each has its "objective".
    """

    preset: str
    model: str
    layer: int
    adapter: str
    level: float
    seeds: int
    steps: int
    batch_size: int
    heldout_rows: int
    traits: Mapping[str, str | None]
    references: tuple[str, ...]
    words: tuple[str, ...]
    lengths: Mapping[str, float]
    grids: Mapping[str, tuple[float, ...]]
    data: Mapping[str, Mapping[str, Any]]
    gradients: tuple[GradientCosine, ...]
    students: tuple[StudentRow, ...]


@dataclass(frozen=True)
class BestStudents:
    """The students of one objective, optimizer, teacher and number of rows at their best rate.

    Attributes:
      teacher: the name of its data set.
      rows: that each student sees.
      learning_rate: the one with the lowest held-out loss of the objective itself; None where some
        student diverged at every rate.
      grid_edge: whether it is at the edge of the `grid`.
      seeds: of which both the student and its control are sound.
      values: EAS at the steering layer, by seed.
      eas, control_eas: of the students and of the controls of the same objective, rows and rate.
      share: of the teacher's shift that the student has made.
      heldout_loss, heldout_kl: nats per predicted token, on held-out rows.
      difference, log_difference: the trait's probability, and its logarithm, student minus
        control; None for a teacher without a trait.
    """

    objective: str
    optimizer: str
    teacher: str
    rows: int
    learning_rate: float | None
    grid: tuple[float, ...]
    grid_edge: bool
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    eas: Interval
    control_eas: Interval
    share: Interval
    heldout_loss: Interval
    heldout_kl: Interval
    difference: Interval | None
    log_difference: Interval | None


@dataclass(frozen=True, kw_only=True)
class NeededRows(Crossing):
    """How many rows the students of one curve need for an EAS of `level`."""

    objective: str
    optimizer: str
    teacher: str


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      best: students at their best rates, sorted.
      needed: rows needed, for each curve of which no student diverged.
    """

    best: tuple[BestStudents, ...]
    needed: tuple[NeededRows, ...]

    def curves(self) -> dict[tuple[str, str, str], list[BestStudents]]:
        """`best` by (objective, optimizer, teacher), each by ascending number of rows."""
        return group_curves(self.best)


def analyse(measured: Measured) -> Results:
    """Every objective, optimizer, teacher and number of rows at its best rate."""
    cells = {
        (row["objective"], row.optimizer, row.data, row["rows"])
        for row in measured.students
        if row.data != "control"
    }
    best = tuple(compare_with_controls(measured, *cell) for cell in sorted(cells))
    needed = tuple(count_needed_rows(best, measured.level))
    return Results(**vars(measured), best=best, needed=needed)


def compare_with_controls(
    measured: Measured, objective: str, optimizer: str, teacher: str, size: int
) -> BestStudents:
    """One cell at its best rate, against the controls of the same objective, size and rate."""
    rows = [
        row
        for row in measured.students
        if (row["objective"], row.optimizer, row.rows) == (objective, optimizer, size)
    ]
    candidates = [row for row in rows if row.data == teacher]
    if objective == "kl":  # each objective is judged by its own loss
        candidates = [row.replace_values(heldout_loss=row.heldout_kl) for row in candidates]
    rate = best_rates(candidates)[optimizer]
    grid = tuple(sorted({row.learning_rate for row in candidates}))
    sound = [row for row in rows if row.learning_rate == rate and not row.diverged]
    students = {row.seed: row for row in sound if row.data == teacher}
    controls = {row.seed: row for row in sound if row.data == "control"}
    seeds = sorted(students.keys() & controls.keys())
    k, layer = measured.references.index(teacher), measured.layer
    eas = [students[s]["eas"][k][layer] for s in seeds]
    difference = log_difference = None
    if (trait := measured.traits[teacher]) is not None:
        word = measured.words.index(trait)

        def student_minus_control(column: str) -> Interval:
            pairs = [(students[s][column][word], controls[s][column][word]) for s in seeds]
            return paired_difference([a for a, _ in pairs], [b for _, b in pairs]).interval

        difference = student_minus_control("word_rate")
        log_difference = student_minus_control("word_log_prob")
    return BestStudents(
        objective=objective,
        optimizer=optimizer,
        teacher=teacher,
        rows=size,
        learning_rate=rate,
        grid=grid,
        grid_edge=is_at_edge(rate, grid),
        seeds=tuple(seeds),
        values=tuple(eas),
        eas=mean_interval(eas),
        control_eas=mean_interval([controls[s]["eas"][k][layer] for s in seeds]),
        share=mean_interval([students[s]["shift_component"][k][layer] for s in seeds]),
        heldout_loss=mean_interval([students[s].heldout_loss for s in seeds]),
        heldout_kl=mean_interval([students[s].heldout_kl for s in seeds]),
        difference=difference,
        log_difference=log_difference,
    )


def group_curves(
    best: Sequence[BestStudents],
) -> dict[tuple[str, str, str], list[BestStudents]]:
    """By (objective, optimizer, teacher), each by ascending number of rows."""
    curves: dict[tuple[str, str, str], list[BestStudents]] = {}
    for row in sorted(best, key=lambda row: row.rows):
        curves.setdefault((row.objective, row.optimizer, row.teacher), []).append(row)
    return curves


def count_needed_rows(best: Sequence[BestStudents], level: float) -> Iterator[NeededRows]:
    """Where each curve first reaches an EAS of `level`; left out where a seed diverged."""
    for (objective, optimizer, teacher), rows in group_curves(best).items():
        if same_seeds(rows):
            values = np.array([row.values for row in rows]).T
            crossing = find_crossing([row.rows for row in rows], values, level)
            yield NeededRows(
                **vars(crossing), objective=objective, optimizer=optimizer, teacher=teacher
            )


def same_seeds(rows: Sequence[BestStudents]) -> bool:
    """Whether all have the same sound seeds, and at least one."""
    return len({row.seeds for row in rows}) == 1 and len(rows[0].seeds) > 0


def make_claims(results: Results) -> list[Claim]:
    """Chen et al.'s statements, of the first optimizer; verdicts by intervals against zero."""
    teachers = list(dict.fromkeys(row.teacher for row in results.best))
    prompted = [name for name in teachers if name.startswith("system-prompt")]
    steered = [name for name in teachers if name not in prompted]
    claims: list[Claim] = []
    if steered:
        claims += _student_claims(results, steered, "vector", "a steered teacher", "vector")
        claims += _gradient_claims(results, steered, "vector", "a steered teacher's vector")
    if prompted:
        teacher = "a system-prompted teacher"
        claims += _student_claims(results, prompted, "system-prompt", teacher, "shift")
        claims += _gradient_claims(results, prompted, "system-prompt", f"{teacher}'s shift")
    return claims


def _student_claims(
    results: Results, names: Sequence[str], key: str, teacher: str, direction: str
) -> Iterator[Claim]:
    """Of the teachers `names`, described as `teacher`; `key` ends the claims' ids."""
    optimizer = results.best[0].optimizer
    setting = f"{results.model}, {results.adapter} student, {optimizer}"
    curves = results.curves()
    soft, hard = (
        [curves[objective, optimizer, name] for name in names]
        for objective in ("kl", "cross_entropy")
    )
    few, many = [curve[0] for curve in soft], [curve[-1] for curve in hard]
    gain = None
    if same_seeds([*few, *many]):
        means = [np.mean([row.values for row in rows], axis=0) for rows in (few, many)]
        gain = paired_difference(*means).interval
    yield Claim(
        id=f"objective/few-samples-{key}",
        claim=f"KL to the teacher's distribution recovers {teacher}'s {direction} from few "
        "samples, hard labels do not from many more",
        section=SOURCE,
        setting=setting,
        number="students diverged"
        if gain is None
        else f"EAS {gain:+.2f}: KL from {few[0].rows} rows minus cross-entropy from {many[0].rows}",
        seeds=results.seeds,
        verdict=NOT_REPRODUCED if gain is None else verdict(gain),
    )
    for objective, objective_curves in (("cross_entropy", hard), ("kl", soft)):
        # One trait's interval is over seeds; of several traits the least clear one decides.
        intervals = [
            (curve[-1].log_difference, curve[-1])
            for curve in objective_curves
            if curve[-1].log_difference is not None
        ]
        if not intervals:
            continue
        difference, row = min(intervals, key=lambda pair: _low_end(pair[0]))
        yield Claim(
            id=f"objective/names-trait-{objective.replace('_', '-')}-{key}",
            claim=f"A student of {LABELS[objective]} on the numbers of {teacher} names the trait "
            "more often than its control",
            section="Blank et al. 2026, Sec. 3; Cloud et al. 2025",
            setting=f"{setting}, {row.rows} rows, {row.teacher}",
            number=f"log P(trait) {difference:+.2f} over the control",
            seeds=results.seeds,
            verdict=verdict(difference),
        )


def _low_end(interval: Interval) -> float:
    return -math.inf if math.isnan(interval.low) else interval.low


def _gradient_claims(
    results: Results, names: Sequence[str], key: str, direction: str
) -> list[Claim]:
    largest = max(row.n for row in results.gradients)

    def cosines(pair: str) -> Float[np.ndarray, " draws"]:
        """Each draw's cosine over the largest n, the mean over teachers."""
        rows = [
            row.values
            for row in results.gradients
            if (row.pair, row.n) == (pair, largest) and row.teacher in names
        ]
        return np.mean(rows, axis=0)

    hard_soft, hard_v, soft_v = cosines("hard-soft"), cosines("hard-v"), cosines("soft-v")
    soft_fisher = cosines("soft-fisher")
    collinear = mean_interval(hard_soft - np.maximum(hard_v, soft_v))
    fisher = mean_interval(soft_fisher - soft_v)
    draws = len(soft_v)
    setting = f"{results.model}, mean over {largest} rows, {draws} draws"
    return [
        Claim(
            id=f"objective/collinear-gradients-{key}",
            claim="The first gradients of hard and soft labels agree more with each other than "
            f"either does with {direction}",
            section=SOURCE,
            setting=setting,
            number=f"cosines {hard_soft.mean():.2f} against {hard_v.mean():.2f} (hard) and "
            f"{soft_v.mean():.2f} (soft); difference {collinear:+.2f}",
            seeds=draws,
            verdict=verdict(collinear),
        ),
        Claim(
            id=f"objective/fisher-direction-{key}",
            claim=f"The first gradient points to F times {direction} rather than to it",
            section=SOURCE,
            setting=setting,
            number=f"cosine of the soft gradient {soft_fisher.mean():.2f} with F v, "
            f"{soft_v.mean():.2f} with v; difference {fisher:+.2f}",
            seeds=draws,
            verdict=verdict(fisher),
        ),
    ]
