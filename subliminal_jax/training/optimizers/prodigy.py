"""Prodigy: Adam that finds its rate by itself."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from subliminal_jax.training.optimizers.rules import LearningRate, rate_at


class ProdigyState(NamedTuple):
    """What the estimate of the distance needs, and Adam's moments.

    `distance` is the estimate d; `numerator` and `sums` are those of its quotient; `start` are the
    parameters at the first step.
    """

    steps: Array
    distance: Array
    numerator: Array
    sums: PyTree
    mean: PyTree
    square: PyTree
    start: PyTree


def prodigy(
    learning_rate: LearningRate,
    *,
    b1: float,
    b2: float,
    eps: float,
    estim_lr0: float,
    estim_lr_coef: float,
    weight_decay: float,
    safeguard_warmup: bool,
    bias_correction: bool,
) -> optax.GradientTransformation:
    """Adam with an estimate of the distance to the solution (arXiv:2306.06101, Adam form).

    As in the authors' code, Adam's means are not corrected for their start unless
    `bias_correction` is set (optax always corrects them), and a step of rate 0 changes nothing.
    """
    b3 = b2**0.5

    def init(params: PyTree) -> ProdigyState:
        sums, mean, square = (optax.tree.zeros_like(params) for _ in range(3))
        distance, numerator = (jnp.asarray(x, jnp.float32) for x in (estim_lr0, 0.0))
        steps = jnp.zeros((), jnp.int32)
        return ProdigyState(steps, distance, numerator, sums, mean, square, params)

    def update(
        g: PyTree, state: ProdigyState, params: PyTree = None
    ) -> tuple[PyTree, ProdigyState]:
        rate, d = rate_at(learning_rate, state.steps), state.distance
        count = state.steps + 1
        if bias_correction:
            rate = rate * (1 - b2**count) ** 0.5 / (1 - b1**count)
        relative = d / estim_lr0  # the authors': values of d alone would be too small
        progress = optax.tree.vdot(g, optax.tree.sub(state.start, params))
        numerator = b3 * state.numerator + relative * d * rate * progress
        weight = relative * d * (1.0 if safeguard_warmup else rate)
        sums = jax.tree.map(lambda s, x: b3 * s + weight * x, state.sums, g)
        mean = jax.tree.map(lambda m, x: b1 * m + (1 - b1) * d * x, state.mean, g)
        square = jax.tree.map(lambda v, x: b2 * v + (1 - b2) * (d * x) ** 2, state.square, g)
        total = optax.tree.sum(jax.tree.map(jnp.abs, sums))
        estimate = estim_lr_coef * numerator / jnp.where(total > 0, total, 1.0)
        distance = jnp.maximum(d, jnp.where(total > 0, estimate, 0.0))

        def leaf(m: Array, v: Array, p: Array) -> Array:
            # A coordinate without a gradient so far stays: eps times d may round to zero.
            size = jnp.sqrt(v) + distance * eps
            step = m / jnp.where(size > 0, size, 1.0)
            return -rate * d * (step + weight_decay * p)

        u = jax.tree.map(leaf, mean, square, params)
        new = ProdigyState(count, distance, numerator, sums, mean, square, state.start)
        held = state._replace(steps=count)  # a schedule goes on
        new = jax.tree.map(lambda x, y: jnp.where(rate > 0, x, y), new, held)
        return u, new

    return optax.GradientTransformation(init, update)
