"""Rotary positions, masks, attention and the key-value cache."""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.models.config import ModelConfig, Rope
from subliminal_jax.models.mesh import shard


@struct.dataclass
class Cache:
    """Keys and values of `slots` tokens. A slot is empty while its position is -1.

    New tokens go to the slots from `index` on, the same for all rows; what a query may see is
    decided by positions alone, so rows of different prompt lengths live in one cache.

    Each layer has arrays of its own: one token is then written in place. One array for all layers
    would be copied, layer by layer, at every token. Heads come before slots, and the keys lie
    transposed, as the batched matrix products of `attend_cached` read them.
    """

    k: tuple[Float[Array, "batch kv_heads head_dim slots"], ...]
    v: tuple[Float[Array, "batch kv_heads slots head_dim"], ...]
    positions: Int[Array, "batch slots"]
    index: Int[Array, ""]


def empty_cache(cfg: ModelConfig, batch: int, slots: int, dtype: Any = jnp.float32) -> Cache:
    """A cache in which no slot is filled."""
    K, d = cfg.kv_heads, cfg.head_dim
    return Cache(
        k=tuple(jnp.zeros((batch, K, d, slots), dtype) for _ in range(cfg.layers)),
        v=tuple(jnp.zeros((batch, K, slots, d), dtype) for _ in range(cfg.layers)),
        positions=jnp.full((batch, slots), -1, jnp.int32),
        index=jnp.zeros((), jnp.int32),
    )


def to_cache_layout(
    k: Float[Array, "*layers batch time kv_heads head_dim"],
    v: Float[Array, "*layers batch time kv_heads head_dim"],
) -> tuple[
    Float[Array, "*layers batch kv_heads head_dim time"],
    Float[Array, "*layers batch kv_heads time head_dim"],
]:
    """Transpose keys and values of tokens into the layout of a `Cache`."""
    return jnp.moveaxis(k, -3, -1), v.swapaxes(-3, -2)


def extend_cache(cache: Cache, slots: int) -> Cache:
    """`cache` with `slots` more empty slots."""
    return replace(
        cache,
        k=tuple(jnp.pad(k, ((0, 0), (0, 0), (0, 0), (0, slots))) for k in cache.k),
        v=tuple(jnp.pad(v, ((0, 0), (0, 0), (0, slots), (0, 0))) for v in cache.v),
        positions=jnp.pad(cache.positions, ((0, 0), (0, slots)), constant_values=-1),
    )


def shard_cache(cache: Cache) -> Cache:
    """Shard a cache as its tokens are: rows over the axis `data`, heads over `model`."""
    k, v = shard((cache.k, cache.v), "batch", "kv_heads")
    return replace(cache, k=k, v=v, positions=shard(cache.positions, "batch"))


def frequencies(rope: Rope, head_dim: int) -> Float[Array, " half"]:
    """Radians per position of each rotated pair, after the scaling of `rope`.

    Source: Su et al. 2021, section 3.4; the Llama 3.1 release for kind "llama3"; Peng et al. 2023,
    section 3.2, with bounds rounded to whole pairs as in their code, for kind "yarn".
    """
    n = rope.rotated(head_dim)
    f = rope.theta ** -(jnp.arange(0, n, 2, dtype=jnp.float32) / n)
    if rope.kind == "linear":
        return f / rope.factor
    if rope.kind == "llama3":
        turns = rope.original_context * f / (2 * math.pi)  # full turns over the old context
        low, high = rope.low_freq_factor, rope.high_freq_factor
        keep = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
        return keep * f + (1 - keep) * f / rope.factor
    if rope.kind == "yarn":

        def pair(turns: float) -> float:
            """The (fractional) pair that turns so often over the old context."""
            inverse = rope.original_context / (2 * math.pi * turns)
            return n * math.log(inverse) / (2 * math.log(rope.theta))

        low = max(math.floor(pair(rope.beta_fast)), 0)
        high = min(math.ceil(pair(rope.beta_slow)), n - 1)
        width = high - low if high != low else 0.001
        divide = jnp.clip((jnp.arange(n // 2, dtype=jnp.float32) - low) / width, 0.0, 1.0)
        return (1 - divide) * f + divide * f / rope.factor
    return f


Angles = tuple[Float[Array, "batch time 1 rotated"], Float[Array, "batch time 1 rotated"]]


def angles(rope: Rope, head_dim: int, positions: Int[Array, "batch time"]) -> Angles:
    """(cos, sin) of the rotation at each position, in float32, times YaRN's attention factor."""
    theta = positions[..., None].astype(jnp.float32) * frequencies(rope, head_dim)[None, None]
    theta = jnp.concatenate([theta, theta], axis=-1)[:, :, None, :]
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    if rope.attention_factor != 1:
        cos, sin = rope.attention_factor * cos, rope.attention_factor * sin
    return cos, sin


def rotate(x: Float[Array, "batch time heads head_dim"], rotation: Angles) -> Array:
    """Rotate the pairs (i, i + rotated/2) of each head, as Hugging Face checkpoints expect.

    What lies behind the rotated part stays as it is. A head with a number beyond float16 is NaN as
    a whole: an infinite key would get the weight 0 in the softmax, or a soft-cap would make it
    finite, and nothing would show.
    """
    cos, sin = rotation
    n = cos.shape[-1]
    turned = x[..., :n].astype(jnp.float32)
    left, right = jnp.split(turned, 2, axis=-1)
    swapped = jnp.concatenate([-right, left], axis=-1)
    rotated = (turned * cos + swapped * sin).astype(x.dtype)
    if n < x.shape[-1]:
        rotated = jnp.concatenate([rotated, x[..., n:]], axis=-1)
    if x.dtype != jnp.float16:
        return rotated
    return jnp.where(jnp.isfinite(rotated).all(axis=-1, keepdims=True), rotated, jnp.nan)


def visible(
    query: Int[Array, "batch time"],
    key: Int[Array, "batch slots"],
    window: int | None = None,
) -> Bool[Array, "batch 1 time slots"]:
    """True where a query sees a key: the slot is filled, not later, and within the window."""
    q, k = query[:, :, None], key[:, None, :]
    mask = (k >= 0) & (k <= q)
    if window is not None:
        mask &= q - k < window
    return mask[:, None]


def attend(
    q: Float[Array, "batch time heads head_dim"],
    k: Float[Array, "batch slots kv_heads head_dim"],
    v: Float[Array, "batch slots kv_heads head_dim"],
    mask: Bool[Array, "#batch 1 time slots"] | None,
    scale: float,
    softcap: float | None = None,
) -> Float[Array, "batch time heads head_dim"]:
    """Grouped-query attention; `mask` None means causal by index. Softmax in float32."""
    # On a CPU JAX's own takes twice the time. cuDNN's kernel, which JAX takes by name only, has no
    # forward-mode derivative, and its backward pass fails under vmap in JAX 0.10: XLA's serves all.
    if softcap is None and jax.default_backend() != "cpu":
        return jax.nn.dot_product_attention(q, k, v, mask=mask, scale=scale, is_causal=mask is None)
    if mask is None:
        T, S = q.shape[1], k.shape[1]
        mask = jnp.tril(jnp.ones((T, S), bool))[None, None]
    return attend_cached(q, *to_cache_layout(k, v), mask, scale, softcap)


def attend_cached(
    q: Float[Array, "batch time heads head_dim"],
    k: Float[Array, "batch kv_heads head_dim slots"],
    v: Float[Array, "batch kv_heads slots head_dim"],
    mask: Bool[Array, "#batch 1 time slots"],
    scale: float,
    softcap: float | None = None,
) -> Float[Array, "batch time heads head_dim"]:
    """`attend` over keys and values in the layout of a `Cache`.

    Both products are batched over (batch, kv_heads) without a transpose, which on a CPU would cost
    several times the product. The softmax is normalised after the second product, where there are
    the fewest numbers to divide.
    """
    B, T, H, d = q.shape
    K = v.shape[1]
    G = H // K
    rows = q.reshape(B, T, K, G, d).transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, d)
    logits = jnp.einsum("bkrd,bkds->bkrs", rows, k, preferred_element_type=jnp.float32)
    logits = logits * scale if softcap is None else softcap * jnp.tanh(logits * (scale / softcap))
    # Added rather than selected: the gradient of a sum is free. A row that sees nothing weighs all
    # slots alike.
    bias = jnp.where(mask, 0.0, jnp.finfo(jnp.float32).min)
    logits = logits + jnp.tile(bias, (1, 1, G, 1))
    # The maximum cancels, so no gradient goes through it.
    weights = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    x = jnp.einsum(
        "bkrs,bksd->bkrd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    x = (x / total).astype(v.dtype)
    return x.reshape(B, K, G, T, d).transpose(0, 3, 1, 2, 4).reshape(B, T, H, d)
