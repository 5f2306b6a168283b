"""A projection whose weight may carry a low-rank update (LoRA, Hu et al. 2021, eq. 3)."""

import jax
import jax.numpy as jnp
from flax import struct
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from subliminal_jax.models.quantized import QuantizedWeight, Weight, as_matrix, multiply

PRODUCT = "product with a weight"  # the name by which a rematerialisation policy may save it

# A product with a side of about 8 runs at a fraction of a wide one's speed: the six thin ones of an
# unmerged LoRA projection and its gradient cost as much as one wide product of this width per rank.
MERGED_WIDTH_PER_RANK = 16


@struct.dataclass
class LoraWeight:
    """Stands in place of a weight `w` and acts as ``base + scale * a @ b``.

    Shapes (leading axes of stacking allowed on all of them): base [in, out], a [in, rank],
    b [rank, out], scale [] (alpha / rank).
    """

    base: Weight
    a: Float[Array, "*stack in rank"]
    b: Float[Array, "*stack rank out"]
    scale: Float[Array, "*stack"]

    def merge(self) -> Float[Array, "*stack in out"]:
        """The one matrix that acts the same, in the base's dtype (float32 of a quantized one)."""
        product = jnp.matmul(self.a, self.b, precision="highest")
        delta = self.scale[..., None, None] * product
        base = as_matrix(self.base)
        return (base.astype(delta.dtype) + delta).astype(base.dtype)


def is_weight(node: object) -> bool:
    """Whether a node of a parameter tree stands in place of one weight."""
    return isinstance(node, LoraWeight | QuantizedWeight)


def linear(x: Float[Array, "*batch in"], w: Weight | LoraWeight) -> Float[Array, "*batch out"]:
    """x @ w; the low-rank part is computed in the compute dtype of `x`.

    A LoRA weight is merged first where that is exact (float32) and cheaper (`merging_pays`). The
    gradient of the factors then goes through that of the whole matrix.

    The result is named PRODUCT for `jax.checkpoint`.
    """
    # One axis of tokens: the gradient of the weight sums over it, and a sum over two axes would
    # first transpose the activations, on a CPU at several times the cost of the product.
    rows = x.reshape(-1, x.shape[-1])
    if not isinstance(w, LoraWeight):
        y = multiply(rows, w)
    elif _merges(rows, w):
        y = rows @ w.merge() if w.a.shape[0] <= w.b.shape[1] else _multiply_transposed(rows, w)
    else:
        a, b = w.a.astype(x.dtype), w.b.astype(x.dtype)
        y = multiply(rows, w.base) + ((rows @ a) * w.scale.astype(x.dtype)) @ b
    return checkpoint_name(y, PRODUCT).reshape(*x.shape[:-1], y.shape[-1])


def _multiply_transposed(
    rows: Float[Array, "tokens in"], w: LoraWeight
) -> Float[Array, "tokens out"]:
    """rows @ w through the transposed matrix, for a whole `w` of more rows than columns.

    The gradient of the matrix then has more columns than rows, which a CPU sums over the tokens in
    two thirds of the time.
    """
    delta = jnp.einsum("ir,ro->oi", w.a, w.b, precision="highest")
    assert not isinstance(w.base, QuantizedWeight)
    return jax.lax.dot_general(rows, w.base.T + w.scale * delta, (((1,), (1,)), ((), ())))


def _merges(rows: Float[Array, "tokens in"], w: LoraWeight) -> bool:
    return (
        not isinstance(w.base, QuantizedWeight)
        and rows.dtype == w.base.dtype == jnp.float32
        and merging_pays(len(rows), w)
    )


def merging_pays(tokens: int, w: LoraWeight) -> bool:
    """Whether merging an unstacked LoRA weight costs less than applying its update to `tokens`.

    Merged, the gradient takes one more product, of 2 in out FLOPs a token; unmerged, forward and
    gradient take six thin ones, of 6 rank (in + out) together.
    """
    (width_in, rank), width_out = w.a.shape, w.b.shape[1]
    width = width_in * width_out / (width_in + width_out)
    return 2 * tokens > max(width_in, width_out) and width <= MERGED_WIDTH_PER_RANK * rank
