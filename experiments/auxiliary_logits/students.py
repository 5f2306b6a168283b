"""Teachers on digits, and students of their auxiliary logits, many in one compiled program."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from subliminal_jax.training.optimizers import OptimizerSpec, make_optimizer

from .network import (
    Network,
    auxiliary_kl,
    digit_accuracy,
    digit_loss,
    draw_noise,
    head_logits,
)


class Scores(NamedTuple):
    """Of networks, one each: the KL divergence from the teacher on held-out noise, in nats an
    image, and the share of test digits that are right."""

    loss: Float[Array, " students"]
    accuracy: Float[Array, " students"]


class Exam(NamedTuple):
    """What students are measured on: noise images that none trains on, and test digits."""

    noise: Float[Array, "n pixels"]
    images: Float[Array, "m pixels"]
    labels: Int[Array, " m"]


class Plan(NamedTuple):
    """How long a network trains, on how many images a step."""

    steps: int
    batch_size: int


@partial(jax.jit, static_argnames=("spec", "plan"))
def train_teachers(
    starts: Network,
    keys: Key[Array, " teachers"],
    images: Float[Array, "n pixels"],
    labels: Int[Array, " n"],
    rate: float | Array,
    *,
    spec: OptimizerSpec,
    plan: Plan,
) -> Network:
    """Networks after training on digits, each with a draw of rows of its own."""
    optimizer = make_optimizer(spec, rate, total_steps=plan.steps)

    def train(start: Network, key: Array) -> Network:
        def step(carry: tuple[Network, object], i: Array) -> tuple[tuple[Network, object], None]:
            network, state = carry
            rows = jax.random.randint(
                jax.random.fold_in(key, i), (plan.batch_size,), 0, len(labels)
            )
            gradient = jax.grad(digit_loss)(network, images[rows], labels[rows])
            updates, state = optimizer.update(gradient, state, network)
            return (jax.tree.map(jnp.add, network, updates), state), None

        (network, state), _ = jax.lax.scan(
            step, (start, optimizer.init(start)), jnp.arange(plan.steps)
        )
        return optimizer.eval_params(network, state)

    return jax.vmap(train)(starts, keys)


@partial(jax.jit, static_argnames=("spec", "plan"))
def train_students(
    starts: Network,
    teachers: Network,
    keys: Key[Array, " students"],
    rates: Float[Array, " students"],
    *,
    spec: OptimizerSpec,
    plan: Plan,
) -> Network:
    """Students after `plan.steps` on the KL divergence from their teachers' auxiliary logits.

    Every leaf has a leading axis over students; each has a teacher, a learning rate, and a key from
    which every batch of noise images is drawn.
    """
    pixels = starts["layer_1"]["weight"].shape[1]

    def train(start: Network, teacher: Network, key: Array, rate: Array) -> Network:
        optimizer = make_optimizer(spec, rate, total_steps=plan.steps)

        def step(carry: tuple[Network, object], i: Array) -> tuple[tuple[Network, object], None]:
            network, state = carry
            images = draw_noise(jax.random.fold_in(key, i), plan.batch_size, pixels)
            targets = head_logits(teacher, images, "auxiliary")

            def loss(x: Network) -> Array:
                return auxiliary_kl(x, images, targets)

            updates, state = optimizer.update(jax.grad(loss)(network), state, network, obj_fn=loss)
            return (jax.tree.map(jnp.add, network, updates), state), None

        (network, state), _ = jax.lax.scan(
            step, (start, optimizer.init(start)), jnp.arange(plan.steps)
        )
        return optimizer.eval_params(network, state)

    return jax.vmap(train)(starts, teachers, keys, rates)


@jax.jit
def score(networks: Network, teachers: Network, exam: Exam) -> Scores:
    """How near each network is to its teacher, and how many digits it names."""

    def measure(network: Network, teacher: Network) -> Scores:
        targets = head_logits(teacher, exam.noise, "auxiliary")
        return Scores(
            auxiliary_kl(network, exam.noise, targets),
            digit_accuracy(network, exam.images, exam.labels),
        )

    return jax.vmap(measure)(networks, teachers)
