"""From the students of `optimizer-comparison` to its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from subliminal_jax.evaluation.comparison import (
    Anatomy,
    BestStudents,
    Curve,
    Histories,
    MatchedLoss,
    average_anatomies,
    average_curves,
    best_rates,
    match_training_loss,
    summarise_best,
)
from subliminal_jax.evaluation.student_rows import NARROW_METRICS, StudentRow

from .gradients import GradientCosine


@dataclass(frozen=True)
class ReferenceRates:
    """P(trait) of the base and of the teacher, and the mean of its logarithm over questions."""

    base_trait_rate: float
    base_trait_log_prob: float
    teacher_trait_rate: float
    teacher_trait_log_prob: float


@dataclass(frozen=True)
class Comparison:
    """What results.json holds of a run as it was measured.

    Attributes:
      model: the model's name.
      layer: the steering layer.
      trait: the animal whose rate is reported.
      teacher: what makes the teacher: "steered", "system-prompt", both, or "plain".
      teacher_model, teacher_adapter: whose weights it has; None where they are the base's.
      vector: "random", "trait" or a file.
      vector_norm: length of the teacher's shift at the steering layer.
      rows, steps, batch_size, seeds, guard, guard_vector: as set.
      clip: bound on the gradient norm; None without one.
      data: how each data set came about.
      padding_share: share of padding in what training computed, of the last wave.
      reference: rates of base and teacher.
      students: every student at every rate, and the controls at the best one; alignment is that
        with the teacher.
      alignment: of the base's gradients with the vector.
    """

    model: str
    layer: int
    trait: str
    teacher: tuple[str, ...]
    vector: str
    vector_norm: float
    rows: int
    steps: int
    batch_size: int
    seeds: int
    guard: str
    guard_vector: str
    clip: float | None
    data: Mapping[str, Mapping[str, Any]]
    padding_share: float | None
    reference: ReferenceRates
    students: tuple[StudentRow, ...]
    alignment: tuple[GradientCosine, ...]
    teacher_model: str | None = field(default=None, kw_only=True)
    teacher_adapter: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Measured(Comparison):
    """With the logged rows of the steered students at their best rates, which metrics.jsonl has."""

    histories: Histories


@dataclass(frozen=True)
class Results(Comparison):
    """All numbers of the report: every optimizer at its best rate, and all at one loss."""

    best: tuple[BestStudents, ...]
    matched_loss: MatchedLoss
    curves: tuple[Curve, ...]
    anatomy: tuple[Anatomy, ...]


def analyse(measured: Measured) -> Results:
    """Every optimizer at its best rate, at one training loss, over steps, and in its gradients."""
    numbers = dict(vars(measured))
    histories = numbers.pop("histories")
    rates = best_rates(measured.students)
    return Results(
        **numbers,
        best=summarise_best(measured.students, rates, NARROW_METRICS),
        matched_loss=match_training_loss(histories, ("eas", "shift_component", "trait_rate")),
        curves=average_curves(histories, list(rates)),
        anatomy=average_anatomies(histories),
    )
