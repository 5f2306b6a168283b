"""How a student's change of each projection is spread over directions, and where the largest is."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.alignment import Probe
from subliminal_jax.diagnostics.parameter_space import score_gradient
from subliminal_jax.diagnostics.spectrum import (
    Spectrum,
    effective_rank,
    spectra_of_change,
    stable_rank,
)
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.measures.measure import Measure, MeasureColumn
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.quantized import as_matrix
from subliminal_jax.models.spec import Params
from subliminal_jax.training.adapters import PROJECTIONS
from subliminal_jax.training.student_view import StudentView

AXES = ("projections", "layers")
# Those that read the residual stream, and those that write to it.
READING, WRITING = ("q", "k", "v", "gate", "up"), ("o", "down")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SpectrumOfChange(Measure):
    """The singular values of every projection's change, by layer, in the order of `PROJECTIONS`.

    effective_rank and stable_rank say over how many directions the change is spread; top_share is
    the largest direction's share of its square. Of that direction: reading_cosine and
    writing_cosine with the teacher's vector, on the side of a projection that reads or writes the
    residual stream (0 on the other); twin_cosine, the product of both sides' cosines with the
    largest direction of the steering score's gradient, which is the rank-one change of this matrix
    that moves the base along the vector fastest. Cosines are without their sign. The vector is that
    of the student's data set, and for data without one (the control's) the mean of the others.
    """

    name: ClassVar[str] = "spectrum"
    columns: ClassVar[tuple[MeasureColumn, ...]] = (
        MeasureColumn("singular_values", "singular values", (*AXES, "directions"), final=False),
        MeasureColumn("effective_rank", "effective rank of the change", AXES, digits=2),
        MeasureColumn("stable_rank", "stable rank of the change", AXES, digits=2),
        MeasureColumn("top_share", "share of the largest direction", AXES),
        MeasureColumn("reading_cosine", "largest input direction and the vector", AXES),
        MeasureColumn("writing_cosine", "largest output direction and the vector", AXES),
        MeasureColumn("twin_cosine", "largest direction and the score's", AXES),
    )

    base: Params = field(repr=False)
    vectors: Float[Array, "datasets dim"]
    twin_inputs: tuple[Float[Array, "datasets layers _"], ...]
    twin_outputs: tuple[Float[Array, "datasets layers _"], ...]

    @classmethod
    def from_panel(cls, panel: Panel) -> "SpectrumOfChange":
        vectors = panel.vectors()
        if not vectors:
            raise InputError(f"the measure {cls.name} needs a vector to hold directions against")
        mean = jnp.mean(jnp.stack(list(vectors.values())), axis=0)
        each = jnp.stack([vectors.get(name, mean) for name in panel.data_names])
        base = panel.model.params
        twins = [
            _find_twin(base, panel.probe, panel.model.cfg, vector, panel.layer) for vector in each
        ]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *twins)
        inputs = tuple(spectrum.inputs for spectrum in stacked)
        return cls(base, each, inputs, tuple(spectrum.outputs for spectrum in stacked))

    def measure_student(self, view: StudentView, cfg: ModelConfig) -> dict[str, Array]:
        params, _ = view.model(view.trainable)
        vector = self.vectors[view.data_set]
        vector = vector / jnp.maximum(jnp.linalg.norm(vector), 1e-30)
        rows: list[dict[str, Array]] = []
        for i, name in enumerate(list_projections(self.base)):
            found = spectra_of_change(params["layers"][name], self.base["layers"][name])
            twin = self.twin_inputs[i][view.data_set], self.twin_outputs[i][view.data_set]
            along = [
                jnp.abs(jnp.sum(x * y, axis=-1))
                for x, y in zip((found.inputs, found.outputs), twin, strict=True)
            ]
            rows.append(
                {
                    "singular_values": found.values,
                    "effective_rank": effective_rank(found.values),
                    "stable_rank": stable_rank(found.values),
                    "top_share": 1 / jnp.maximum(stable_rank(found.values), 1),
                    "reading_cosine": _align(found.inputs, vector, name in READING),
                    "writing_cosine": _align(found.outputs, vector, name in WRITING),
                    "twin_cosine": along[0] * along[1],
                }
            )
        ranks = max(row["singular_values"].shape[-1] for row in rows)
        for row in rows:
            missing = ranks - row["singular_values"].shape[-1]
            row["singular_values"] = jnp.pad(row["singular_values"], ((0, 0), (0, missing)))
            moved = row["singular_values"][:, 0] > 0
            row["top_share"] = jnp.where(moved, row["top_share"], 0)
        return {key: jnp.stack([row[key] for row in rows]) for key in rows[0]}


def list_projections(params: Params) -> list[str]:
    """The names of the projections that a model's blocks have."""
    return [name for name in PROJECTIONS if name in params["layers"]]


def _align(
    directions: Float[Array, "layers _"], vector: Float[Array, " dim"], is_residual: bool
) -> Float[Array, " layers"]:
    if not is_residual:
        return jnp.zeros(directions.shape[0])
    return jnp.abs(directions @ vector)


@jax.jit(static_argnames=("cfg", "layer"))
def _find_twin(
    base: Params, probe: Probe, cfg: ModelConfig, vector: Float[Array, " dim"], layer: int
) -> tuple[Spectrum, ...]:
    """The largest direction of the steering score's gradient, of each projection and layer."""
    names = list_projections(base)

    def student(changed: Params) -> tuple[Params, None]:
        return {**base, "layers": {**base["layers"], **changed}}, None

    weights = {name: as_matrix(base["layers"][name]) for name in names}
    gradient = score_gradient(student, weights, probe, cfg, vector, layer)
    zeros = {name: jnp.zeros_like(g) for name, g in gradient.items()}
    return tuple(spectra_of_change(gradient[name], zeros[name]) for name in names)
