"""Embedding, norm and bias: small parameters that act on each token alone.

Their gradients are sums over all tokens, taken in float32 whatever the parameters' dtype: in
bfloat16 a sum of some hundred terms no longer grows.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from subliminal_jax.models.config import ModelConfig


@jax.custom_jvp
def embed(
    table: Float[Array, "vocab dim"], tokens: Int[Array, "batch time"]
) -> Float[Array, "batch time dim"]:
    """The rows of `table` at `tokens`."""
    return table[tokens]


@embed.defjvp
def _embed_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    table, tokens = primals
    tangent = tangents[0].astype(jnp.float32)[tokens]  # its transpose is the sum over tokens
    return embed(table, tokens), tangent.astype(table.dtype)


def rms_norm(
    x: Float[Array, "*batch dim"], weight: Float[Array, " dim"], cfg: ModelConfig
) -> Float[Array, "*batch dim"]:
    """Root-mean-square norm (Zhang and Sennrich 2019, eq. 4), statistics in float32.

    NaN where the mean square is beyond float32: its inverse would be 0, and so the result.
    """
    x32 = x.astype(jnp.float32)
    gain = jnp.expand_dims(weight, tuple(range(x.ndim - 1))).astype(jnp.float32)
    square = jnp.mean(x32 * x32, axis=-1, keepdims=True)
    normed = x32 * jnp.where(square < jnp.inf, jax.lax.rsqrt(square + cfg.norm_eps), jnp.nan)
    if cfg.unit_offset_norm:
        return (normed * (1.0 + gain)).astype(x.dtype)
    # Rounded twice, as the checkpoints' own code does.
    return (normed.astype(x.dtype).astype(jnp.float32) * gain).astype(x.dtype)


def add_bias(
    x: Float[Array, "batch time out"], bias: Float[Array, "1 1 out"]
) -> Float[Array, "batch time out"]:
    """x + bias in the dtype of `x`."""
    return (x.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)
