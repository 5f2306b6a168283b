"""Sophia, and the estimate of the Hessian's diagonal that it needs."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from subliminal_jax.training.optimizers.rules import LearningRate, running_mean
from subliminal_jax.training.optimizers.stacking import random_signs


class HutchinsonState(NamedTuple):
    """The key of the next probe, as raw key data."""

    key: Array


def hutchinson(seed: int) -> optax.GradientTransformationExtraArgs:
    """The Hessian's diagonal, estimated as z * (H z) with random signs z.

    Needs ``obj_fn`` (parameters -> this step's loss). Unbiased, and exact where the Hessian is
    diagonal (Hutchinson 1989; arXiv:2305.14342, Algorithm 1).
    """

    def init(params: PyTree) -> HutchinsonState:
        return HutchinsonState(jax.random.key_data(jax.random.key(seed)))

    def update(
        updates: PyTree,
        state: HutchinsonState,
        params: PyTree = None,
        *,
        obj_fn: Callable[[PyTree], Array],
        **extra: object,
    ) -> tuple[PyTree, HutchinsonState]:
        key, probe_key = jax.random.split(jax.random.wrap_key_data(state.key))
        z = random_signs(probe_key, params)
        Hz = jax.jvp(jax.grad(obj_fn), (params,), (z,))[1]
        return jax.tree.map(jnp.multiply, z, Hz), HutchinsonState(jax.random.key_data(key))

    return optax.GradientTransformationExtraArgs(init, update)


class SophiaState(NamedTuple):
    """Steps taken, the gradient's mean, the Hessian's, and the state of its estimator."""

    steps: Array
    mean: PyTree
    hessian: PyTree
    estimator: PyTree


def sophia(
    learning_rate: LearningRate,
    *,
    b1: float,
    b2: float,
    eps: float,
    gamma: float,
    clip_threshold: float,
    update_interval: int,
    weight_decay: float,
    seed: int,
    optax_form: bool,
) -> optax.GradientTransformationExtraArgs:
    """Sophia-H: momentum over the Hessian's diagonal, clipped (arXiv:2305.14342, Algorithm 3).

    optax corrects the momentum for its start at zero, and divides by the Hessian's mean of before
    the step's estimate, which at the first step is zero.
    """
    estimator = hutchinson(seed)
    if optax_form:
        return optax.contrib.sophia(
            learning_rate,
            b1=b1,
            b2=b2,
            eps=eps,
            weight_decay=weight_decay,
            gamma=gamma,
            clip_threshold=clip_threshold,
            update_interval=update_interval,
            hessian_diagonal_fn=estimator,
        )

    def init(params: PyTree) -> SophiaState:
        mean, hessian = (optax.tree.zeros_like(params) for _ in range(2))
        return SophiaState(jnp.zeros((), jnp.int32), mean, hessian, estimator.init(params))

    def update(
        g: PyTree, state: SophiaState, params: PyTree = None, **extra: object
    ) -> tuple[PyTree, SophiaState]:
        def renew(hessian: PyTree, inner: PyTree) -> tuple[PyTree, PyTree]:
            estimate, inner = estimator.update(g, inner, params, **extra)
            return running_mean(estimate, hessian, b2), inner

        hessian, inner = jax.lax.cond(
            state.steps % update_interval == 0,
            renew,
            lambda hessian, inner: (hessian, inner),
            state.hessian,
            state.estimator,
        )
        mean = running_mean(g, state.mean, b1)

        def leaf(m: Array, h: Array) -> Array:
            return jnp.clip(m / jnp.maximum(gamma * h, eps), -clip_threshold, clip_threshold)

        u = jax.tree.map(leaf, mean, hessian)
        return u, SophiaState(state.steps + 1, mean, hessian, inner)

    return optax.chain(
        optax.GradientTransformationExtraArgs(init, update),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
