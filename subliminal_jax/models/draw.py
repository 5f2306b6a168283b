"""Drawing one token a row from logits: greedy, at a temperature, within top-k and top-p.

Two uniform numbers a row replace one Gumbel variable a token (for a vocabulary of 2,300 drawing
those takes longer than a small model), and no step sorts the vocabulary.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32


def two_uniforms(keys: Key[Array, " batch"], step: Int[Array, ""]) -> Float[Array, "batch 2"]:
    """The random numbers of token `step`; a row's depend on its own key alone."""
    return jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, step), (2,)))(keys)


def draw(
    logits: Float[Array, "batch vocab"],
    uniforms: Float[Array, "batch 2"],
    temperature: Float[Array, ""] | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
) -> Int[Array, " batch"]:
    """One token id a row; temperature before top-k before top-p, the order of transformers.

    `logits` in float32, `temperature` positive (None: 1), `uniforms` in [0, 1).
    """
    if greedy:
        return likeliest(logits)
    # The largest logit becomes 0, so that no temperature, however small, makes it infinite.
    x = logits - jnp.max(logits, axis=1, keepdims=True)
    if temperature is not None:
        x = x / temperature
    ids = None
    if top_k is not None and top_k < x.shape[1]:
        x, ids = jax.lax.top_k(x, top_k)  # of equal logits the lower id comes first
    weights = jnp.exp(x)
    if top_p is not None and top_p < 1:
        weights = jnp.where(nucleus(weights, top_p), weights, 0.0)
    choice = categorical(weights, uniforms)
    if ids is None:
        return choice
    return jnp.take_along_axis(ids, choice[:, None], axis=1)[:, 0]


def likeliest(logits: Float[Array, "batch vocab"]) -> Int[Array, " batch"]:
    """The id of the largest logit, the lowest of several: argmax as two plain reductions.

    Several times faster on a CPU than the reduction over pairs that argmax is.
    """
    V = logits.shape[1]
    ids = jnp.arange(V, dtype=jnp.float32)[None]  # exact up to 2^24
    top = logits == jnp.max(logits, axis=1, keepdims=True)
    return jnp.min(jnp.where(top, ids, V - 1.0), axis=1).astype(jnp.int32)


def categorical(
    weights: Float[Array, "batch options"], uniforms: Float[Array, "batch 2"]
) -> Int[Array, " batch"]:
    """An index drawn in proportion to `weights` >= 0; one of weight 0 is never drawn.

    By inversion in two stages: a block of about sqrt(options), then an index within it, each with
    its own uniform number. No cumulative sum is longer than a block, and the resolution of a
    float32 uniform (2^-23) is relative to the block, not to the whole.
    """
    B, V = weights.shape
    size = math.isqrt(V - 1) + 1
    blocks = -(-V // size)
    tiled = jnp.pad(weights, ((0, 0), (0, blocks * size - V))).reshape(B, blocks, size)
    block = _invert(tiled.sum(axis=2), uniforms[:, 0])
    within = jnp.take_along_axis(tiled, block[:, None, None], axis=1)[:, 0]
    return block * size + _invert(within, uniforms[:, 1])


def _invert(
    weights: Float[Array, "batch options"], uniform: Float[Array, " batch"]
) -> Int[Array, " batch"]:
    """The first index at which the cumulative sum exceeds the share `uniform` of the total."""
    sums = jnp.cumsum(weights, axis=1)
    ids = jnp.arange(weights.shape[1], dtype=jnp.int32)[None]
    # Rounding of a parallel cumulative sum: it need not rise at a positive weight nor stay at a
    # zero one. Hence the test of the weight itself, and the last index with a weight.
    passed = (weights > 0) & (sums > uniform[:, None] * sums[:, -1:])
    first = jnp.min(jnp.where(passed, ids, weights.shape[1]), axis=1)
    return jnp.minimum(first, jnp.max(jnp.where(weights > 0, ids, 0), axis=1))


def nucleus(weights: Float[Array, "batch options"], p: float) -> Bool[Array, "batch options"]:
    """The fewest options whose weight is at least the share `p` of the total.

    Options are taken by descending weight, ties by ascending index. The smallest kept weight is
    found bit by bit: non-negative floats are ordered as their bit patterns are.
    """
    bits = jax.lax.bitcast_convert_type(weights, jnp.uint32)
    # In float32 a tiny share is 0, which no option at all would hold, too.
    need = max(p, float(jnp.finfo(jnp.float32).tiny)) * jnp.sum(weights, axis=1)

    def mass(kept: Bool[Array, "batch options"]) -> Float[Array, " batch"]:
        return jnp.sum(jnp.where(kept, weights, 0.0), axis=1)

    def set_bit(i: Int[Array, ""], low: UInt32[Array, " batch"]) -> UInt32[Array, " batch"]:
        higher = low | (jnp.uint32(1) << (30 - i).astype(jnp.uint32))
        return jnp.where(mass(bits >= higher[:, None]) >= need, higher, low)

    # Bit 31 is the sign, and every bit pattern above that of infinity is a NaN.
    smallest = jax.lax.fori_loop(0, 31, set_bit, jnp.zeros(len(weights), jnp.uint32))[:, None]
    above, equal = bits > smallest, bits == smallest
    before = jnp.cumsum(equal, axis=1) - 1  # equal options of a lower index
    weight = jax.lax.bitcast_convert_type(smallest, jnp.float32)
    return above | (equal & (mass(above)[:, None] + before * weight < need[:, None]))
