"""How far a student has moved, and how much of it is along each teacher's shift."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import jax
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.alignment import (
    At,
    Probe,
    activation_shift,
    eas,
    relative_component,
    relative_size,
)
from subliminal_jax.evaluation.measures.measure import Measure, MeasureColumn
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.student_view import StudentView

AXES = ("references", "layers")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Alignment(Measure):
    """The student's mean activation shift on the probe, held against each reference.

    Every student is held against every reference, so that the students of one trait, those of
    another and the controls can be compared along the same direction. All are [references, layers]:
    eas, the cosine; shift_size and shift_component, in units of the reference.
    """

    name: ClassVar[str] = "alignment"
    columns: ClassVar[tuple[MeasureColumn, ...]] = (
        MeasureColumn("eas", "EAS", AXES),
        MeasureColumn("shift_size", "size of the shift", AXES),
        MeasureColumn("shift_component", "share of the vector", AXES),
    )

    probe: Probe
    base_mean: Float[Array, "layers dim"]
    references: Float[Array, "references layers dim"]
    at: At = field(default="last", metadata={"static": True})

    @classmethod
    def from_panel(cls, panel: Panel) -> "Alignment":
        return cls(panel.probe, panel.base_mean, panel.shifts, panel.at)

    def measure_student(self, view: StudentView, cfg: ModelConfig) -> dict[str, Array]:
        params, steering = view.model(view.trainable)
        return self.of_model(params, cfg, steering)

    def of_model(
        self, params: Params, cfg: ModelConfig, steering: Steering | None
    ) -> dict[str, Array]:
        layers = tuple(range(cfg.layers))
        shift = activation_shift(params, self.probe, self.base_mean, cfg, layers, steering, self.at)

        def compare(f: Callable[..., Array]) -> Float[Array, "references layers"]:
            return jax.vmap(lambda reference: f(shift, reference))(self.references)

        return {
            "eas": compare(eas),
            "shift_size": compare(relative_size),
            "shift_component": compare(relative_component),
        }
