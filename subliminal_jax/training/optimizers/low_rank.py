"""Rules with a state of low rank: GaLore and Dion."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from subliminal_jax.linear_algebra import (
    compute_where,
    orthonormalize,
    svd,
)
from subliminal_jax.training.optimizers.matrices import match_adam, train_matrices
from subliminal_jax.training.optimizers.rules import LearningRate, start_correction

Matrix = Float[Array, "rows columns"]


class GaloreState(NamedTuple):
    """Steps taken, an orthonormal basis of the short side, and Adam's moments within it."""

    steps: Array
    basis: Float[Array, "short rank"]
    mean: Float[Array, "long rank"]
    moment: Float[Array, "long rank"]


def galore(
    learning_rate: LearningRate,
    *,
    rank: int,
    frequency: int,
    scale: float,
    b1: float,
    b2: float,
    eps: float,
    **rest: Any,
) -> optax.GradientTransformation:
    """Adam on the gradient's projection to `rank` directions of its short side (arXiv:2403.03507,
    Algorithm 2): the leading singular vectors of the gradient of every `frequency`-th step.

    optax projects the long side.
    """

    def init(p: Matrix) -> GaloreState:
        short, long = sorted(p.shape)
        r = min(rank, short)
        zeros = jnp.zeros((long, r))
        return GaloreState(jnp.zeros((), jnp.int32), jnp.eye(short, r), zeros, zeros)

    def update(g: Matrix, state: GaloreState, p: Matrix | None = None) -> Any:
        is_wide = g.shape[0] < g.shape[1]
        tall = g.T if is_wide else g
        r = state.basis.shape[1]

        def find_basis(inputs: tuple[Array, Array]) -> Array:
            """The leading right singular vectors of the gradient. The moments before are kept, so
            each has the sign that is nearer to the vector before."""
            tall, old = inputs
            vectors = svd(tall)[2][:, :r]
            nearness = jnp.sum(vectors * old, axis=0, keepdims=True)
            return vectors * jnp.where(nearness < 0, -1, 1)

        due = state.steps % frequency == 0
        basis = compute_where(due, find_basis, (tall, state.basis), state.basis)
        low = tall @ basis
        count = state.steps + 1
        mean = b1 * state.mean + (1 - b1) * low
        moment = b2 * state.moment + (1 - b2) * low**2
        m, v = mean / start_correction(b1, count), moment / start_correction(b2, count)
        step = scale * (m / (jnp.sqrt(v) + eps)) @ basis.T
        return step.T if is_wide else step, GaloreState(count, basis, mean, moment)

    rule = optax.GradientTransformation(init, update)
    return train_matrices(rule, learning_rate, eps=eps, **rest)


class DionState(NamedTuple):
    """The buffer of gradients and the right factor that the next power iteration starts from."""

    buffer: Matrix
    right: Float[Array, "columns rank"]


def dion(
    learning_rate: LearningRate,
    *,
    rank_share: float,
    momentum: float,
    consistent_rms: float,
    **rest: Any,
) -> optax.GradientTransformation:
    """The orthogonal factor of the momentum's leading `rank_share` of directions, by one power
    iteration a step (arXiv:2504.05295, Algorithm 1).

    What a step used of the buffer is taken from it but for `momentum`; the rest waits. The first
    iteration starts from the first directions of the identity, where the authors draw them.
    `matrices.match_adam` says how steps are scaled.
    """

    def init(p: Matrix) -> DionState:
        rank = max(round(rank_share * min(p.shape)), 1)
        return DionState(jnp.zeros_like(p), jnp.eye(p.shape[1], rank))

    def update(g: Matrix, state: DionState, p: Matrix | None = None) -> tuple[Matrix, DionState]:
        buffer = state.buffer + g
        left = orthonormalize(buffer @ state.right)
        factor = buffer.T @ left
        norms = jnp.linalg.norm(factor, axis=0, keepdims=True)
        live = norms > 0
        right = factor / jnp.where(live, norms, 1)
        used = left @ factor.T
        # A direction without a gradient keeps its place for the next step.
        kept = jnp.where(live, right, state.right)
        return match_adam(left @ right.T, consistent_rms), DionState(
            buffer - (1 - momentum) * used, kept
        )

    return train_matrices(optax.GradientTransformation(init, update), learning_rate, **rest)
