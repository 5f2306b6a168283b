"""How far a student's activations have moved from the base's, whatever the direction."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.alignment import At, Probe, activation_shift
from subliminal_jax.evaluation.measures.measure import Measure, MeasureColumn
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.vectors import safe_norm
from subliminal_jax.training.student_view import StudentView


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ActivationShift(Measure):
    """The norm of the student's mean activation shift on the probe after each block, in units of
    the norm of the base's mean activation there. Needs no teacher."""

    name: ClassVar[str] = "activation-shift"
    columns: ClassVar[tuple[MeasureColumn, ...]] = (
        MeasureColumn("activation_shift", "activation shift", ("layers",)),
    )

    probe: Probe
    base_mean: Float[Array, "layers dim"]
    at: At = field(default="last", metadata={"static": True})

    @classmethod
    def from_panel(cls, panel: Panel) -> "ActivationShift":
        return cls(panel.probe, panel.base_mean, panel.at)

    def measure_student(self, view: StudentView, cfg: ModelConfig) -> dict[str, Array]:
        params, steering = view.model(view.trainable)
        return self.of_model(params, cfg, steering)

    def of_model(
        self, params: Params, cfg: ModelConfig, steering: Steering | None
    ) -> dict[str, Array]:
        layers = tuple(range(cfg.layers))
        shift = activation_shift(params, self.probe, self.base_mean, cfg, layers, steering, self.at)
        size = jnp.linalg.norm(shift, axis=-1) / safe_norm(self.base_mean)
        return {"activation_shift": size}
