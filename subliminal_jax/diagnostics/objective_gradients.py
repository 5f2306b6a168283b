"""Gradients of hard and soft objectives with respect to one vector at a layer, at the base.

A student that is a single vector starts at zero. Trained on samples of a teacher it follows the
gradient of their cross-entropy, trained on the teacher's distribution that of the KL to it. Both
have the same mean over samples. To first order in a steered teacher's vector v the negative of it
is F v, F the Fisher information of the vector at the base (Chen et al. 2026, arXiv 2610.04907).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import (
    ModelInput,
    example_losses,
    token_divergences,
    token_losses,
)


@partial(jax.jit, static_argnames=("cfg", "layer", "max_targets", "rows_at_once"))
def row_gradients(
    params: Params,
    cfg: ModelConfig,
    rows: Batch,
    layer: int,
    *,
    max_targets: int,
    rows_at_once: int = 32,
) -> Float[Array, "rows dim"]:
    """The gradient of each row's mean cross-entropy with respect to a vector added after `layer` at
    all its tokens, at zero. `max_targets` is as in `token_losses`."""

    def piece_gradients(piece: Batch) -> Float[Array, "piece dim"]:
        def loss(vectors: Float[Array, "1 piece 1 dim"]) -> Float[Array, ""]:
            steering = Steering(vectors, jnp.ones(()), (layer,))
            return jnp.sum(
                example_losses(*token_losses(params, piece, cfg, steering, max_targets=max_targets))
            )

        return jax.grad(loss)(jnp.zeros((1, piece.tokens.shape[0], 1, cfg.dim)))[0, :, 0]

    return _over_rows(piece_gradients, rows, rows_at_once)


@partial(jax.jit, static_argnames=("cfg", "layer", "max_targets", "rows_at_once"))
def divergence_gradients(
    params: Params,
    cfg: ModelConfig,
    rows: Batch,
    layer: int,
    teacher_steering: Steering | None,
    teacher_rows: Batch | None = None,
    *,
    max_targets: int,
    rows_at_once: int = 32,
) -> Float[Array, "rows dim"]:
    """`row_gradients` of the KL to a teacher: the base with a steering, which reads `teacher_rows`
    where these are not the student's."""

    def piece_gradients(piece: tuple[Batch, Batch | None]) -> Float[Array, "piece dim"]:
        batch, other_batch = piece
        teacher = ModelInput(
            params, batch if other_batch is None else other_batch, teacher_steering
        )

        def loss(vectors: Float[Array, "1 piece 1 dim"]) -> Float[Array, ""]:
            student = ModelInput(params, batch, Steering(vectors, jnp.ones(()), (layer,)))
            return jnp.sum(
                example_losses(*token_divergences(student, teacher, cfg, max_targets=max_targets))
            )

        return jax.grad(loss)(jnp.zeros((1, batch.tokens.shape[0], 1, cfg.dim)))[0, :, 0]

    return _over_rows(piece_gradients, (rows, teacher_rows), rows_at_once)


@partial(jax.jit, static_argnames=("cfg", "layer", "max_targets", "rows_at_once"))
def fisher_products(
    params: Params,
    cfg: ModelConfig,
    rows: Batch,
    layer: int,
    vector: Float[Array, " dim"],
    *,
    max_targets: int,
    rows_at_once: int = 32,
) -> Float[Array, "rows dim"]:
    """F v of each row: the Hessian of KL(base || base + u) at u = 0, times v, with the KL the mean
    over the row's predicted tokens and u added after `layer` at all tokens."""

    def one(own: Batch) -> Float[Array, "piece dim"]:
        def loss(u: Float[Array, "piece dim"]) -> Float[Array, ""]:
            student = ModelInput(params, own, Steering(u[None, :, None], jnp.ones(()), (layer,)))
            base = ModelInput(params, own, steer(jnp.zeros_like(vector), layer))
            return jnp.sum(
                example_losses(*token_divergences(student, base, cfg, max_targets=max_targets))
            )

        at = jnp.zeros((own.tokens.shape[0], cfg.dim))
        along = jnp.broadcast_to(vector.astype(jnp.float32), at.shape)
        return jax.jvp(jax.grad(loss), (at,), (along,))[1]

    return _over_rows(one, rows, rows_at_once)


def _over_rows(
    f: Callable[..., Float[Array, "piece dim"]], rows: Batch | tuple, rows_at_once: int
) -> Float[Array, "rows dim"]:
    """`f` on pieces of the rows; the last is filled up with rows whose results are dropped."""
    n = jax.tree.leaves(rows)[0].shape[0]
    size = min(rows_at_once, n)
    at = jnp.arange(-(-n // size) * size).reshape(-1, size) % n
    found = jax.lax.map(lambda i: f(jax.tree.map(lambda leaf: leaf[i], rows)), at)
    return replicate(found.reshape(-1, found.shape[-1])[:n])
