"""A program of an optimizer's updates alone, to be timed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from subliminal_jax.training.optimizers import OptimizerSpec, make_optimizer

SIZE = 1e-4  # of a coordinate of LoRA's gradients, about


def prepare_updates(
    optimizer: str, rate: float, student: PyTree, students: int, steps: int
) -> Callable[[], Any]:
    """A call that makes `steps` updates of so many students at once, as a sweep makes them, on
    gradients of the size of LoRA's. The first call compiles.

    Args:
      optimizer: as `OptimizerSpec.parse` reads it.
      student: the trained tree of one student.
    """
    rule = make_optimizer(OptimizerSpec.parse(optimizer), rate, total_steps=steps)
    leaves, structure = jax.tree.flatten(student)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [SIZE * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    gradient = jax.tree.unflatten(structure, drawn)

    def loss(params: PyTree) -> jax.Array:
        return jnp.sum(jnp.stack([jnp.sum(x**2) for x in jax.tree.leaves(params)]))

    def run(params: PyTree, gradient: PyTree) -> PyTree:
        def step(carry: tuple[PyTree, PyTree], _: Any) -> tuple[tuple[PyTree, PyTree], None]:
            params, state = carry
            updates, state = rule.update(gradient, state, params, obj_fn=loss)
            return (jax.tree.map(jnp.add, params, updates), state), None

        return jax.lax.scan(step, (params, rule.init(params)), length=steps)[0][0]

    program = jax.jit(jax.vmap(run, in_axes=(0, None)))
    stacked = jax.tree.map(lambda x: jnp.stack([x] * students), student)
    return lambda: jax.block_until_ready(program(stacked, gradient))
