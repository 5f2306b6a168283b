"""Theorem 1 of Cloud et al.: one step of gradient descent on outputs of a teacher that took one."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .network import (
    Network,
    auxiliary_kl,
    auxiliary_squared_error,
    digit_loss,
    head_logits,
)

LOSSES: dict[str, Callable[..., Float[Array, ""]]] = {
    "softmax": auxiliary_kl,
    "squared": auxiliary_squared_error,
}


class OneStep(NamedTuple):
    """What one step of a student does.

    Attributes:
      inner_product: of the student's step with the teacher's, both in units of the learning rate.
      cosine: the same, of their directions; 0 where the student does not move.
      changes: of the teacher's loss at the student, by student's step, in nats an image.
      teacher_change: of the teacher's loss at the teacher by its own step.
    """

    inner_product: Float[Array, ""]
    cosine: Float[Array, ""]
    changes: Float[Array, " alphas"]
    teacher_change: Float[Array, ""]


def inner_product(a: Network, b: Network) -> Float[Array, ""]:
    """Over all parameters."""
    return sum(map(jnp.vdot, jax.tree.leaves(a), jax.tree.leaves(b)), start=jnp.zeros(()))


def move(network: Network, step: Network, length: float | Array) -> Network:
    """The network after `length` times `step`."""
    return jax.tree.map(lambda x, d: x + length * d, network, step)


@partial(jax.jit, static_argnames=("loss", "alphas"))
def take_one_step(
    teacher: Network,
    student: Network,
    images: Float[Array, "n pixels"],
    labels: Int[Array, " n"],
    inputs: Float[Array, "m pixels"],
    eps: float | Array,
    *,
    loss: str,
    alphas: tuple[float, ...],
) -> OneStep:
    """A teacher takes one step of size `eps` on its digits, a student one of each size in `alphas`
    on the teacher's auxiliary logits.

    Args:
      teacher: where the teacher begins.
      student: where the student begins.
      images, labels: what the teacher's loss is of.
      inputs: what the student is distilled on.
      loss: of the student, a name of `LOSSES`.
    """
    before, gradient = jax.value_and_grad(digit_loss)(teacher, images, labels)
    teacher_step = jax.tree.map(jnp.negative, gradient)
    moved = move(teacher, teacher_step, eps)
    targets = head_logits(moved, inputs, "auxiliary")
    student_step = jax.tree.map(jnp.negative, jax.grad(LOSSES[loss])(student, inputs, targets))
    product = inner_product(student_step, teacher_step)
    norms = jnp.sqrt(
        inner_product(student_step, student_step) * inner_product(teacher_step, teacher_step)
    )
    start = digit_loss(student, images, labels)
    changes = [digit_loss(move(student, student_step, a), images, labels) - start for a in alphas]
    return OneStep(
        product,
        jnp.where(norms > 0, product / jnp.where(norms > 0, norms, 1.0), 0.0),
        jnp.stack(changes),
        digit_loss(moved, images, labels) - before,
    )
