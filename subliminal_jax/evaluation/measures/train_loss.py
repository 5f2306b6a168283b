"""The loss on fixed training rows, the same at every step."""

from dataclasses import dataclass
from typing import ClassVar

import jax
from jaxtyping import Array

from subliminal_jax.evaluation.measures.measure import Measure, MeasureColumn
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.training.fixed_rows import FixedRows
from subliminal_jax.training.student_view import StudentView


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainLoss(Measure):
    """The cross-entropy on fixed rows of the student's own data set, in nats a predicted token."""

    name: ClassVar[str] = "train-loss"
    columns: ClassVar[tuple[MeasureColumn, ...]] = (MeasureColumn("train_loss", "training loss"),)

    rows: FixedRows

    @classmethod
    def from_panel(cls, panel: Panel) -> "TrainLoss":
        return cls(panel.fixed_rows)

    def measure_student(self, view: StudentView, cfg: ModelConfig) -> dict[str, Array]:
        params, steering = view.model(view.trainable)
        return {"train_loss": self.rows.loss(params, cfg, view.data_set, steering)}
