"""Hard against soft labels, from students and gradients: best rates, and rows needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subliminal_jax.evaluation.crossing import Crossing, find_crossing
from subliminal_jax.evaluation.metric_ranges import COSINE, NOT_NEGATIVE
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.rate_search import is_sound
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import KindArm, MeasuredKinds, Target
from subliminal_jax.evaluation.student_rows import StudentRow

from .gradients import GradientCosine

OBJECTIVES = ("cross_entropy", "kl")
LABELS = {"cross_entropy": "hard labels", "kl": "KL"}


@dataclass(frozen=True)
class Measured(MeasuredKinds):
    """What a run measured; each student has its "objective", by whose loss it is sound or not.

    Attributes:
      teacher_kinds: of "steered", "random" and "system-prompt".
      level: the EAS for which rows are counted.
      sizes: numbers of rows that students see.
      heldout_rows: of each data set.
      base_kl: the base's KL from each data set's teacher, on held-out rows.
      lengths: of each teacher's shift at the steering layer.
      data: how each data set came about.
      gradients: cosines of the first gradients.
    """

    teacher_kinds: tuple[str, ...]
    level: float
    sizes: tuple[int, ...]
    heldout_rows: int
    base_kl: Mapping[str, float]
    lengths: Mapping[str, float]
    data: Mapping[str, Mapping[str, Any]]
    gradients: tuple[GradientCosine, ...]

    def is_sound(self, row: StudentRow) -> bool:
        """Whether a student ended no worse than the base by the loss that it minimised."""
        if row["objective"] == "kl":
            return is_sound(row.replace_values(heldout_loss=row.heldout_kl), self.base_kl)
        return is_sound(row, self.base_losses)

    def read(self, row: StudentRow, metric: str, target: Target) -> float:
        if metric == "gain" and row["objective"] == "kl":
            assert row.heldout_kl is not None
            return self.base_kl[row.data] - row.heldout_kl
        return super().read(row, metric, target)


@dataclass(frozen=True)
class Arm(KindArm):
    """The students of one kind, objective, kind of teacher and number of rows.

    `metrics` are student minus controls of the same kind, objective, rows and rate; those of a
    trait only where the teacher has one. `gain` is in the loss that they minimise.

    Attributes:
      teacher: "steered", "random" or "system-prompt".
      rows: that each student sees.
      heldout_loss, heldout_kl: nats per predicted token, on held-out rows.
    """

    objective: str
    teacher: str
    rows: int
    heldout_loss: Interval | None
    heldout_kl: Interval | None

    @property
    def curve(self) -> tuple[str, str, str, str]:
        """What the arms of one curve over rows have in common."""
        return self.objective, self.adapter, self.optimizer, self.teacher

    def list_eas(self) -> dict[str, float]:
        """EAS of the students, by data set."""
        return {name: each.student for name, each in self.metrics["eas"].by_data.items()}


@dataclass(frozen=True, kw_only=True)
class NeededRows(Crossing):
    """How many rows the students of one curve need for an EAS of `level`; `traits` of them have a
    sound student of every number of rows."""

    objective: str
    adapter: str
    optimizer: str
    teacher: str
    traits: int


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      arms: all students.
      needed: rows needed, for each curve.
    """

    arms: tuple[Arm, ...]
    needed: tuple[NeededRows, ...]


def analyse(measured: Measured) -> Results:
    """Every kind of student, objective, kind of teacher and number of rows."""
    arms = tuple(
        compare_arm(measured, teacher, adapter, optimizer, objective, size)
        for teacher in measured.teacher_kinds
        for adapter in measured.adapters
        for optimizer in measured.optimizers
        for objective in OBJECTIVES
        for size in measured.sizes
    )
    needed = tuple(count_needed_rows(arms, measured.level))
    return Results(**vars(measured), arms=arms, needed=needed)


def list_targets(measured: Measured, teacher: str) -> list[Target]:
    """The data sets of a kind of teacher; a random vector has no trait."""
    names = {f"{teacher}-{trait}": trait for trait in measured.traits}
    return [
        Target(name, None if teacher == "random" else trait, name) for name, trait in names.items()
    ]


def compare_arm(
    measured: Measured, teacher: str, adapter: str, optimizer: str, objective: str, size: int
) -> Arm:
    """One cell at its best rate, against the controls of the same kind, objective and rows."""
    targets = list_targets(measured, teacher)
    metrics = ["eas", "shift_component"]
    if teacher != "random":
        metrics += ["word_rate", "word_log_prob"]
    which = {"objective": objective, "rows": size}
    sound = measured.select_sound(adapter=adapter, optimizer=optimizer, **which)
    rows = [sound[target.data] for target in targets if target.data in sound]

    def average(values: Sequence[float | None]) -> Interval | None:
        known = [value for value in values if value is not None]
        return NOT_NEGATIVE.clip(vector_interval(known)) if known else None

    return Arm(
        **vars(measured.summarise(targets, metrics, adapter, optimizer, **which)),
        objective=objective,
        teacher=teacher,
        rows=size,
        heldout_loss=average([row.heldout_loss for row in rows]),
        heldout_kl=average([row.heldout_kl for row in rows]),
    )


def group_curves(arms: Sequence[Arm]) -> dict[tuple[str, str, str, str], list[Arm]]:
    """By (objective, adapter, optimizer, teacher), each by ascending number of rows."""
    curves: dict[tuple[str, str, str, str], list[Arm]] = {}
    for arm in sorted(arms, key=lambda arm: arm.rows):
        curves.setdefault(arm.curve, []).append(arm)
    return curves


def count_needed_rows(arms: Sequence[Arm], level: float) -> Iterator[NeededRows]:
    """Where each curve first reaches an EAS of `level`, by trait; left out without a trait that has
    a sound student of every number of rows."""
    for (objective, adapter, optimizer, teacher), curve in group_curves(arms).items():
        values = [arm.list_eas() for arm in curve]
        shared = [name for name in values[0] if all(name in each for each in values)]
        if shared:
            eas = np.array([[each[name] for each in values] for name in shared])
            crossing = find_crossing([arm.rows for arm in curve], eas, level)
            yield NeededRows(
                **vars(crossing),
                objective=objective,
                adapter=adapter,
                optimizer=optimizer,
                teacher=teacher,
                traits=len(shared),
            )


def subtract_eas(first: Arm, second: Arm) -> Interval | None:
    """EAS of the first arm's students less that of the second's, paired by trait."""
    ours, theirs = first.list_eas(), second.list_eas()
    differences = [ours[name] - theirs[name] for name in ours if name in theirs]
    return COSINE.difference().clip(vector_interval(differences)) if differences else None
