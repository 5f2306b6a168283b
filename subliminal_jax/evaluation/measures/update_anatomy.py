"""Where in the last step's gradient and update the component along the vector sits."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.alignment import Probe
from subliminal_jax.diagnostics.parameter_space import anatomy, score_gradient
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.measures.measure import Measure, MeasureColumn
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.training.student_view import StudentView

LOGGED = ("norm", "component", "cosine", "a_mass", "a_component", "b_mass", "b_component")
TOP, DECILES = ("largest coordinates",), ("deciles",)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UpdateAnatomy(Measure):
    """What `anatomy` says of the student's last step, but gradient_norm, which a sweep logs itself.

    The direction is the vector after `layer` that the teacher of the student's data set adds; for
    data without one (the control's) the mean of the others.
    """

    name: ClassVar[str] = "update-anatomy"
    columns: ClassVar[tuple[MeasureColumn, ...]] = (
        MeasureColumn("gradient_cosine", "cos(gradient, score)"),
        MeasureColumn("update_cosine", "cos(update, score)"),
        MeasureColumn("update_component", "update along the score"),
        MeasureColumn("update_top_component", "component in the largest", TOP),
        MeasureColumn("score_norm", "|score|", final=False),
        *(
            MeasureColumn(f"{step}_{key}", f"{step} {key}", final=False)
            for step in ("gradient", "update")
            for key in LOGGED
            if f"{step}_{key}"
            not in ("gradient_norm", "gradient_cosine", "update_cosine", "update_component")
        ),
        *(
            MeasureColumn(f"{step}_{part}_{key}", f"{step} {part} {key}", axes, final=False)
            for step in ("gradient", "update")
            for part, axes in (("top", TOP), ("decile", DECILES))
            for key in ("mass", "component")
            if f"{step}_{part}_{key}" != "update_top_component"
        ),
    )

    probe: Probe
    vectors: Float[Array, "datasets dim"]
    layer: int = field(metadata={"static": True})

    @classmethod
    def from_panel(cls, panel: Panel) -> "UpdateAnatomy":
        vectors = panel.vectors()
        if not vectors:
            raise InputError(f"the measure {cls.name} needs a vector to hold updates against")
        mean = jnp.mean(jnp.stack(list(vectors.values())), axis=0)
        each = [vectors.get(name, mean) for name in panel.data_names]
        return cls(panel.probe, jnp.stack(each), panel.layer)

    def measure_student(self, view: StudentView, cfg: ModelConfig) -> dict[str, Array]:
        direction = score_gradient(
            view.model, view.before, self.probe, cfg, self.vectors[view.data_set], self.layer
        )
        values = anatomy(view.gradient, view.update, direction)
        return {key: value for key, value in values.items() if key != "gradient_norm"}
