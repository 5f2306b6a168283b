"""Muon: steps of orthogonal matrices."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from subliminal_jax.training.optimizers.matrices import match_adam, split_matrices
from subliminal_jax.training.optimizers.rules import LearningRate, running_mean
from subliminal_jax.training.optimizers.stacking import matrix_axes

# The quintic's coefficients of Jordan 2024: the slope at zero is as large as it can be.
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(
    x: Float[Array, "*layers rows columns"], steps: int, eps: float
) -> Float[Array, "*layers rows columns"]:
    """Each matrix with its singular values moved to about 1 (between 0.7 and 1.2), by `steps` of
    Newton and Schulz's iteration with Jordan's quintic."""
    a, b, c = _QUINTIC
    is_tall = x.shape[-2] > x.shape[-1]
    x = jnp.swapaxes(x, -1, -2) if is_tall else x
    norm = jnp.linalg.norm(x, axis=(-2, -1), keepdims=True)
    x = x / jnp.maximum(norm, eps)
    for _ in range(steps):
        gram = x @ jnp.swapaxes(x, -1, -2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return jnp.swapaxes(x, -1, -2) if is_tall else x


def muon(
    learning_rate: LearningRate,
    *,
    momentum: float,
    ns_steps: int,
    consistent_rms: float,
    weight_decay: float,
    adam_b1: float,
    adam_b2: float,
    eps: float,
    optax_form: bool,
) -> optax.GradientTransformation:
    """Orthogonalised momentum for every hidden matrix, AdamW for the rest (Jordan 2024).

    `consistent_rms` scales a matrix's step by ``consistent_rms * sqrt(max(rows, columns))``, which
    gives all steps AdamW's size (arXiv:2502.16982), so that one learning rate serves both
    parts; 0 asks for Jordan's ``sqrt(max(1, columns / rows))`` in its place.

    The momentum is Jordan's and torch's: a running mean that is not corrected for its start at
    zero, mixed with the gradient. optax corrects both, so its first steps are others; its part for
    the rest is NAdamW.
    """
    if optax_form:
        return optax.contrib.muon(
            learning_rate,
            beta=momentum,
            ns_steps=ns_steps,
            eps=eps,
            weight_decay=weight_decay,
            adam_b1=adam_b1,
            adam_b2=adam_b2,
            adam_weight_decay=weight_decay,
            consistent_rms=consistent_rms or None,
            muon_weight_dimension_numbers=matrix_axes,
        )

    def init(params: PyTree) -> PyTree:
        return optax.tree.zeros_like(params)

    def update(g: PyTree, mean: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        mean = running_mean(g, mean, momentum)
        mixed = running_mean(g, mean, momentum)
        u = jax.tree.map(
            lambda x: match_adam(orthogonalize(x, ns_steps, eps), consistent_rms), mixed
        )
        return u, mean

    matrices = optax.chain(
        optax.GradientTransformation(init, update),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
    rest = optax.adamw(learning_rate, adam_b1, adam_b2, eps, weight_decay=weight_decay)

    return split_matrices(matrices, rest)
