"""Scion: steps to the boundary of a norm ball of each leaf's own norm."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from subliminal_jax.training.optimizers.muon import orthogonalize
from subliminal_jax.training.optimizers.rules import LearningRate, running_mean
from subliminal_jax.training.optimizers.stacking import KeyPath, is_table, is_vector


def scion(
    learning_rate: LearningRate,
    *,
    momentum: float,
    radius: float,
    table_radius: float,
    ns_steps: int,
    constrained: bool,
) -> optax.GradientTransformation:
    """The gradient's running mean, turned into the point of a norm ball that descends most
    (arXiv:2502.07529, Algorithms 1 and 2, with the norms of its Table 3).

    A hidden matrix has the spectral norm, ``radius * sqrt(columns / rows)``; a table of tokens the
    largest coordinate, ``table_radius`` over the model's width; a vector the root mean square, 1.
    Steps are added to the parameters; `constrained` moves the parameters towards the ball's
    point, so that they stay within the ball.
    """

    def init(params: PyTree) -> PyTree:
        return optax.tree.zeros_like(params)

    def find_point(path: KeyPath, x: Array) -> Array:
        if is_vector(path, x):
            rms = jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True))
            return x / jnp.where(rms > 0, rms, 1)
        if is_table(path):
            width = x.shape[-1] if is_table(path, "embed") else x.shape[-2]
            return table_radius / width * jnp.sign(x)
        rows, columns = x.shape[-2:]
        return radius * (columns / rows) ** 0.5 * orthogonalize(x, ns_steps, 1e-30)

    def update(g: PyTree, mean: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        mean = running_mean(g, mean, momentum)
        point = jax.tree_util.tree_map_with_path(find_point, mean)
        if constrained:
            point = jax.tree.map(jnp.add, point, params)
        return point, mean

    rule = optax.GradientTransformation(init, update)
    return optax.chain(rule, optax.scale_by_learning_rate(learning_rate))
