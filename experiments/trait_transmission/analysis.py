"""From the rows of students to the numbers of `trait-transmission`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from subliminal_jax.evaluation.metric_ranges import SHARE
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import KindArm, Target
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.evaluation.transmission import MeasuredTransmission

METRICS = ("word_rate", "word_log_prob", "eas", "shift_component")


@dataclass(frozen=True)
class Measured(MeasuredTransmission):
    """What a run measured; `data` says how each data set came about."""

    data: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Arm(KindArm):
    """The students of one kind that learnt from one kind of teacher, by one optimizer.

    Attributes:
      teacher_kind: of `evaluation.transmission.TEACHER_KINDS`.
      specific: P(trait), the trait's own student minus those of the other traits.
    """

    teacher_kind: str
    specific: Interval | None


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report: what was measured, and every arm."""

    arms: tuple[Arm, ...]


def analyse(measured: Measured) -> Results:
    """Every kind of teacher, kind of student and optimizer."""
    arms = tuple(
        compare_arm(measured, kind, adapter, optimizer)
        for kind in measured.teacher_kinds
        for optimizer in measured.optimizers
        for adapter in measured.adapters
    )
    return Results(**vars(measured), arms=arms)


def compare_arm(measured: Measured, teacher_kind: str, adapter: str, optimizer: str) -> Arm:
    """Transmission, specificity and alignment of one arm."""
    names = {f"{teacher_kind}:{trait}": trait for trait in measured.traits}
    targets = [Target(name, trait, name) for name, trait in names.items()]
    return Arm(
        **vars(measured.summarise(targets, METRICS, adapter, optimizer)),
        teacher_kind=teacher_kind,
        specific=measure_specificity(
            measured, measured.select_sound(adapter=adapter, optimizer=optimizer), targets
        ),
    )


def measure_specificity(
    measured: Measured, sound: Mapping[str, StudentRow], targets: list[Target]
) -> Interval | None:
    """The trait's probability, its student's minus the mean of the other traits' students.

    Against what any steered or prompted teacher's data does; None for fewer than two sound ones.
    """
    students = {t: sound[t.data] for t in targets if t.data in sound}
    if len(students) < 2:
        return None
    differences = []
    for target, row in students.items():
        others = [measured.read(r, "word_rate", target) for t, r in students.items() if t != target]
        differences.append(measured.read(row, "word_rate", target) - float(np.mean(others)))
    return SHARE.difference().clip(vector_interval(differences))
