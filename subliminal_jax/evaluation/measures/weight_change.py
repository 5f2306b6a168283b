"""How far a student's weights have moved from the base's."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from subliminal_jax.evaluation.measures.measure import Measure, MeasureColumn
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.linear import LoraWeight, is_weight
from subliminal_jax.models.quantized import QuantizedWeight
from subliminal_jax.models.spec import Params
from subliminal_jax.training.student_view import StudentView


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WeightChange(Measure):
    """The Frobenius norm of all weights' change: of LoRA that of the products scale * a @ b, of a
    trained vector its length."""

    name: ClassVar[str] = "weight-change"
    columns: ClassVar[tuple[MeasureColumn, ...]] = (
        MeasureColumn("weight_change", "|change of the weights|", digits=2),
    )

    base: Params = field(repr=False)

    @classmethod
    def from_panel(cls, panel: Panel) -> "WeightChange":
        return cls(panel.model.params)

    def measure_student(self, view: StudentView, cfg: ModelConfig) -> dict[str, Array]:
        params, steering = view.model(view.trainable)
        leaves = jax.tree.leaves(params, is_leaf=is_weight)
        pairs = zip(leaves, jax.tree.leaves(self.base, is_leaf=is_weight), strict=True)
        squares = [_squared_change(leaf, base) for leaf, base in pairs]
        if steering is not None:
            squares.append(jnp.sum((steering.scale * steering.vectors) ** 2))
        return {"weight_change": jnp.sqrt(jnp.sum(jnp.stack(squares)))}


def _squared_change(
    leaf: Array | QuantizedWeight | LoraWeight, base: Array | QuantizedWeight
) -> Array:
    if isinstance(leaf, LoraWeight):
        # |a b|^2 is the trace of (a'a)(b b'): two small matrices in place of the large product.
        left = jnp.einsum("...ir,...is->...rs", leaf.a, leaf.a)
        right = jnp.einsum("...ro,...so->...rs", leaf.b, leaf.b)
        traces = jnp.sum(left * right, axis=(-2, -1))
        return jnp.sum(leaf.scale**2 * traces)
    if isinstance(leaf, QuantizedWeight) or isinstance(base, QuantizedWeight):
        return jnp.zeros(())  # frozen
    return jnp.sum((leaf.astype(jnp.float32) - base.astype(jnp.float32)) ** 2)
