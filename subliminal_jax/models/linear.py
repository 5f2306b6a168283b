"""A projection whose weight may carry a low-rank update (LoRA, Hu et al. 2021, eq. 3)."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@partial(jax.tree_util.register_dataclass, data_fields=["base", "a", "b", "scale"], meta_fields=[])
@dataclass(frozen=True)
class LoraWeight:
    """Stands in place of a weight `w` and acts as ``base + scale * a @ b``, unmerged.

    Shapes (leading axes of stacking allowed on all of them): base [in, out], a [in, rank],
    b [rank, out], scale [] (alpha / rank).
    """

    base: Float[Array, "*stack in out"]
    a: Float[Array, "*stack in rank"]
    b: Float[Array, "*stack rank out"]
    scale: Float[Array, "*stack"]

    def merged(self) -> Float[Array, "*stack in out"]:
        """The one matrix that acts the same, in the base's dtype."""
        product = jnp.matmul(self.a, self.b, precision="highest")
        delta = self.scale[..., None, None] * product
        return (self.base.astype(delta.dtype) + delta).astype(self.base.dtype)


def linear(
    x: Float[Array, "*batch in"], w: Float[Array, "in out"] | LoraWeight
) -> Float[Array, "*batch out"]:
    """x @ w; the low-rank part is computed in the compute dtype of `x`."""
    if isinstance(w, LoraWeight):
        a, b = w.a.astype(x.dtype), w.b.astype(x.dtype)
        return x @ w.base + ((x @ a) * w.scale.astype(x.dtype)) @ b
    return x @ w
