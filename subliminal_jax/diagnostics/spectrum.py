"""The singular values of a change of weights: of a LoRA product without ever making the product.

A flat spectrum spreads a change over many directions, a steep one puts it into one. Brown et al.
2026 (arXiv:2606.31591) hold that the optimizer's effect on a fine-tune goes through it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subliminal_jax.linear_algebra import orthonormalize, svd
from subliminal_jax.models.linear import LoraWeight


class Spectrum(NamedTuple):
    """Of one matrix [inputs, outputs]: its singular values, the largest first, and the directions
    of the largest, unit vectors or zero."""

    values: Float[Array, " rank"]
    inputs: Float[Array, " inputs"]
    outputs: Float[Array, " outputs"]


def spectrum_of_product(
    a: Float[Array, "inputs rank"], b: Float[Array, "rank outputs"]
) -> Spectrum:
    """That of a b, from two orthonormal bases and a matrix [rank, rank]."""
    left, right = orthonormalize(a), orthonormalize(b.T)
    u, values, v = svd((left.T @ a) @ (b @ right))
    return Spectrum(values, left @ u[:, 0], right @ v[:, 0] * (values[0] > 0))


def spectrum_of_matrix(x: Float[Array, "inputs outputs"]) -> Spectrum:
    """That of a whole matrix, which has as many values as its shorter side."""
    is_wide = x.shape[0] < x.shape[1]
    u, values, v = svd(x.T if is_wide else x)
    first, second = u[:, 0], v[:, 0] * (values[0] > 0)
    return Spectrum(values, second, first) if is_wide else Spectrum(values, first, second)


def spectra_of_change(
    weight: LoraWeight | Float[Array, "layers inputs outputs"],
    base: Float[Array, "layers inputs outputs"],
) -> Spectrum:
    """The spectrum of each layer's change of a projection, all with a leading axis of layers."""
    if isinstance(weight, LoraWeight):
        scales = jnp.broadcast_to(weight.scale, (weight.a.shape[0],))
        found = jax.vmap(spectrum_of_product)(weight.a, weight.b)
        return found._replace(values=jnp.abs(scales)[:, None] * found.values)
    change = weight.astype(jnp.float32) - base.astype(jnp.float32)
    return jax.vmap(spectrum_of_matrix)(change)


def effective_rank(values: Float[Array, "*axes rank"]) -> Float[Array, "*axes"]:
    """exp of the entropy of the values as shares of their sum (Roy and Vetterli 2007): how many
    directions of one size would be as spread. 0 where nothing has changed."""
    total = jnp.sum(values, axis=-1, keepdims=True)
    shares = values / jnp.where(total > 0, total, 1)
    logs = jnp.log(jnp.where(shares > 0, shares, 1))
    return jnp.where(total[..., 0] > 0, jnp.exp(-jnp.sum(shares * logs, axis=-1)), 0)


def stable_rank(values: Float[Array, "*axes rank"]) -> Float[Array, "*axes"]:
    """The sum of squares over the largest square (Rudelson and Vershynin 2007); 0 of nothing."""
    largest = values[..., 0]
    ratios = values / jnp.where(largest > 0, largest, 1)[..., None]
    return jnp.where(largest > 0, jnp.sum(ratios**2, axis=-1), 0)
