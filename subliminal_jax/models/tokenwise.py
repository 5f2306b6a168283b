"""Embedding, norm and bias: small parameters that act on each token alone.

Their gradients are sums over all tokens, taken in float32 whatever the parameters' dtype: in
bfloat16 a sum of some hundred terms no longer grows.
"""

from collections.abc import Mapping

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


def norm(
    x: Float[Array, "*batch dim"], weights: Mapping[str, Array], name: str, cfg: ModelConfig
) -> Float[Array, "*batch dim"]:
    """The norm called `name`, of those of `weights`: root mean square (Zhang and Sennrich 2019,
    eq. 4), or of a model with biases layer norm (Ba et al. 2016). Statistics in float32.

    NaN where the mean square is beyond float32: its inverse would be 0, and so the result.
    """
    x32 = x.astype(jnp.float32)
    gain = _align(weights[name], x)
    if cfg.layer_norm:
        x32 = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    square = jnp.mean(x32 * x32, axis=-1, keepdims=True)
    normed = x32 * jnp.where(square < jnp.inf, jax.lax.rsqrt(square + cfg.norm_eps), jnp.nan)
    if cfg.layer_norm:
        return (normed * gain + _align(weights[f"{name}_bias"], x)).astype(x.dtype)
    if cfg.unit_offset_norm:
        return (normed * (1.0 + gain)).astype(x.dtype)
    # Rounded twice, as the checkpoints' own code does.
    return (normed.astype(x.dtype).astype(jnp.float32) * gain).astype(x.dtype)


def add_bias(
    x: Float[Array, "batch time out"], bias: Float[Array, " out"]
) -> Float[Array, "batch time out"]:
    """x + bias in the dtype of `x`."""
    return (x.astype(jnp.float32) + _align(bias, x)).astype(x.dtype)


def _align(weight: Float[Array, " dim"], x: Float[Array, "*batch dim"]) -> Float[Array, "... dim"]:
    """`weight` in float32, with the axes of `x`."""
    return jnp.expand_dims(weight, tuple(range(x.ndim - 1))).astype(jnp.float32)
