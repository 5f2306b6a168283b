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
from subliminal_jax.models.mesh import whole
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import example_losses, token_losses


@partial(jax.jit, static_argnames=("cfg", "layer", "max_targets", "rows_at_once"))
def row_gradients(
    params: Params,
    cfg: ModelConfig,
    rows: Batch,
    layer: int,
    teacher: tuple[Steering | None, Batch | None] | None = None,
    *,
    max_targets: int,
    rows_at_once: int = 32,
) -> Float[Array, "rows dim"]:
    """The gradient of each row's mean loss with respect to a vector added after `layer` at all its
    tokens, at zero: of the cross-entropy, or with `teacher` (the base's steering and, where it
    reads others, its rows) of the KL to it.

    `max_targets` is as in `token_losses`.
    """

    def one(piece: tuple[Batch, Batch | None]) -> Float[Array, "piece dim"]:
        own, theirs = piece

        def loss(at: Float[Array, "1 piece 1 dim"]) -> Float[Array, ""]:
            given = None if teacher is None else (params, teacher[0], theirs)
            steering = Steering(at, jnp.ones(()), (layer,))
            found = token_losses(params, own, cfg, steering, teacher=given, max_targets=max_targets)
            return jnp.sum(example_losses(*found))

        return jax.grad(loss)(jnp.zeros((1, own.tokens.shape[0], 1, cfg.dim)))[0, :, 0]

    return _over_rows(one, (rows, None if teacher is None else teacher[1]), rows_at_once)


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
            steering = Steering(u[None, :, None], jnp.ones(()), (layer,))
            zero = (params, steer(jnp.zeros_like(vector), layer), None)
            found = token_losses(params, own, cfg, steering, teacher=zero, max_targets=max_targets)
            return jnp.sum(example_losses(*found))

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
    return whole(found.reshape(-1, found.shape[-1])[:n])
