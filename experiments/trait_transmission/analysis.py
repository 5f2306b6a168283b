"""From the rows of students to the numbers and claims of `trait-transmission`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from subliminal_jax.evaluation.claims import NOT_REPRODUCED, Claim, verdict
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.statistics import Interval, crossed_interval
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.evaluation.transmission import (
    MeasuredStudents,
    Transmission,
    measure_transmission,
    name_trait,
)

KINDS = {"steered": "its vector", "system-prompt": "its system prompt"}


@dataclass(frozen=True)
class Measured(MeasuredStudents):
    """What a run measured; `data` says how each data set came about."""

    data: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Alignment:
    """EAS with the teacher's shift at the steering layer, over seeds and traits.

    `by_layer` are means, of "student" and "control", after every layer.
    """

    student: Interval
    control: Interval
    difference: Interval
    by_layer: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class OptimizerResult:
    """The students of one kind of teacher and one optimizer, at its best rate.

    Everything but the rate is None where some student diverged at every rate.

    Attributes:
      learning_rate: the one with the lowest held-out loss.
      heldout_loss: its mean over seeds, by data set.
      rate: P(trait), student minus control.
      log_prob: the same of log P(trait).
      specific: P(trait), the trait's own students minus those of the other traits.
      eas: alignment of the students with their teachers.
    """

    learning_rate: float | None
    heldout_loss: Mapping[str, float] | None = None
    rate: Transmission | None = None
    log_prob: Transmission | None = None
    specific: Interval | None = None
    eas: Alignment | None = None


class BestStudents(NamedTuple):
    """A row of the page's tables: an optimizer's result, and the rates that were tried."""

    kind: str
    optimizer: str
    grid: tuple[float, ...]
    result: OptimizerResult


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report: what was measured, and the best students by kind of teacher and
    optimizer."""

    kinds: Mapping[str, Mapping[str, OptimizerResult]]

    def best(self) -> list[BestStudents]:
        """Of every optimizer that has a sound rate."""
        return [
            BestStudents(kind, optimizer, self.grids[optimizer], result)
            for kind, by_optimizer in self.kinds.items()
            for optimizer, result in by_optimizer.items()
            if result.learning_rate is not None
        ]


def analyse(measured: Measured) -> Results:
    """Every kind of teacher's students at their best rates."""
    kinds = {kind: analyse_kind(measured, kind) for kind in measured.teacher_kinds}
    return Results(**vars(measured), kinds=kinds)


def analyse_kind(measured: Measured, kind: str) -> dict[str, OptimizerResult]:
    """For each optimizer at its best rate: transmission, specificity and alignment."""
    names = [f"{kind}:{trait}" for trait in measured.traits]
    rows = [r for r in measured.students if r.data in (*names, "control")]
    index = {name: measured.words.index(name_trait(name)) for name in names}
    results = {}
    for optimizer, rate in best_rates(rows).items():
        if rate is None:
            results[optimizer] = OptimizerResult(None)
            continue
        students = {
            name: measured.select_students(name, optimizer, rate) for name in (*names, "control")
        }
        results[optimizer] = OptimizerResult(
            learning_rate=rate,
            heldout_loss={
                name: float(np.mean([r.heldout_loss for r in students[name]])) for name in names
            },
            rate=measure_transmission(rows, index, "word_rate", optimizer=optimizer, rate=rate),
            log_prob=measure_transmission(
                rows, index, "word_log_prob", optimizer=optimizer, rate=rate
            ),
            specific=measure_specificity(students, index),
            eas=measure_alignment(measured, students, names),
        )
    return results


def measure_specificity(
    students: Mapping[str, Sequence[StudentRow]], index: Mapping[str, int]
) -> Interval | None:
    """The trait's probability, its students' minus the mean of the other traits' students.

    Against what any steered or prompted teacher's data does; None where there is one trait, or a
    student diverged.
    """
    rates = {name: np.array([r["word_rate"] for r in students[name]]) for name in index}
    counts = {len(rate) for rate in rates.values()}
    if len(index) < 2 or len(counts) > 1 or counts == {0}:
        return None
    values = []
    for name, i in index.items():
        others = [rates[n][:, i] for n in index if n != name]
        values.append(rates[name][:, i] - np.mean(others, axis=0))
    return crossed_interval(np.array(values).T)


def measure_alignment(
    measured: Measured, students: Mapping[str, Sequence[StudentRow]], names: Sequence[str]
) -> Alignment | None:
    """EAS of students and controls with each teacher, pooled; None where a student diverged."""
    student = measured.stack_eas([students[name] for name in names], names)
    control = measured.stack_eas([students["control"]] * len(names), names)
    if student is None or control is None or len(student) != len(control):
        return None
    layer = measured.layer
    return Alignment(
        student=crossed_interval(student[..., layer]),
        control=crossed_interval(control[..., layer]),
        difference=crossed_interval((student - control)[..., layer]),
        by_layer={
            "student": tuple(student.mean(axis=(0, 1)).tolist()),
            "control": tuple(control.mean(axis=(0, 1)).tolist()),
        },
    )


def make_claims(results: Results) -> list[Claim]:
    """What the papers say of each kind of teacher, and what came out of the first optimizer."""
    return [
        claim for kind, made in results.kinds.items() for claim in _kind_claims(results, kind, made)
    ]


def _kind_claims(
    results: Results, kind: str, by_optimizer: Mapping[str, OptimizerResult]
) -> list[Claim]:
    optimizer, result = next(iter(by_optimizer.items()))
    setting = (
        f"{results.model}, {len(results.traits)} traits not used in choosing the setting, "
        f"{results.adapter} student, {optimizer}, best of {len(results.grids)} grid(s)"
    )
    effect = None if result.rate is None else result.rate.pooled
    claims = [
        Claim(
            id=f"trait-transmission/{kind}",
            claim=f"A student trained on filtered numbers of a teacher with {KINDS[kind]} names "
            "the trait more often than its control",
            section="Sec. 3" if kind == "steered" else "Cloud et al. 2025; Fig. 2",
            setting=setting,
            number="students diverged"
            if effect is None
            else f"P(trait) {100 * effect.mean:+.1f} points {(100 * effect).format_ends('.1f')} "
            "over the control",
            seeds=results.seeds,
            verdict=NOT_REPRODUCED if effect is None else verdict(effect),
        )
    ]
    if result.eas is not None:
        claims.append(
            Claim(
                id=f"trait-transmission/{kind}-eas",
                claim=f"The student of a teacher with {KINDS[kind]} moves along the teacher's "
                "vector (EAS over the control's)",
                section="Fig. 2",
                setting=setting,
                number=f"EAS {result.eas.student.mean:.2f}; minus control "
                f"{result.eas.difference:+.2f}",
                seeds=results.seeds,
                verdict=verdict(result.eas.difference),
            )
        )
    return claims
