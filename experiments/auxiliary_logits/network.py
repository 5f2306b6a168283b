"""The network of Cloud et al.: an MLP with ten logits of digits and a few auxiliary ones.

Its parameters are a tree of two trunk layers and two output heads. A head's weights are called
`lm_head`, as the unembedding of a language model: rules for hidden matrices (Muon) leave it to the
rule for all other leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Network = Mapping[str, Mapping[str, Float[Array, "..."]]]
DIGITS = 10
HEADS = ("digits", "auxiliary")
TRUNK = ("layer_1", "layer_2")


@dataclass(frozen=True)
class Sizes:
    """Widths of the network."""

    pixels: int
    hidden: int
    auxiliary: int


def draw_network(key: Array, sizes: Sizes) -> Network:
    """Weights of N(0, 1 / inputs), biases of zero."""
    shapes = {
        "layer_1": (sizes.pixels, sizes.hidden),
        "layer_2": (sizes.hidden, sizes.hidden),
        "digits": (sizes.hidden, DIGITS),
        "auxiliary": (sizes.hidden, sizes.auxiliary),
    }
    keys = jax.random.split(key, len(shapes))
    return {
        name: {
            "lm_head" if name in HEADS else "weight": jax.random.normal(k, shape) / shape[0] ** 0.5,
            "bias": jnp.zeros(shape[1]),
        }
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def hidden_units(network: Network, images: Float[Array, "n pixels"]) -> Float[Array, "n hidden"]:
    """The trunk's outputs."""
    x = images
    for name in TRUNK:
        x = jax.nn.relu(x @ network[name]["weight"] + network[name]["bias"][None])
    return x


def head_logits(
    network: Network, images: Float[Array, "n pixels"], head: str
) -> Float[Array, "n logits"]:
    """The logits of one head."""
    units = hidden_units(network, images)
    return units @ network[head]["lm_head"] + network[head]["bias"][None]


def digit_loss(
    network: Network, images: Float[Array, "n pixels"], labels: Int[Array, " n"]
) -> Float[Array, ""]:
    """The teacher's loss: cross-entropy of the digits, in nats an image."""
    log_probs = jax.nn.log_softmax(head_logits(network, images, "digits"))
    return -jnp.mean(jnp.take_along_axis(log_probs, labels[:, None], axis=1))


def auxiliary_kl(
    network: Network,
    images: Float[Array, "n pixels"],
    teacher: Float[Array, "n auxiliary"],
) -> Float[Array, ""]:
    """The KL divergence of the student's auxiliary distribution from the teacher's, whose logits
    are given, in nats an image. Its gradient is that of the softmax cross-entropy."""
    student = jax.nn.log_softmax(head_logits(network, images, "auxiliary"))
    target = jax.nn.log_softmax(teacher)
    return jnp.mean(jnp.sum(jnp.exp(target) * (target - student), axis=-1))


def auxiliary_squared_error(
    network: Network,
    images: Float[Array, "n pixels"],
    teacher: Float[Array, "n auxiliary"],
) -> Float[Array, ""]:
    """The squared error of the auxiliary logits, summed over them, a mean over images."""
    error = head_logits(network, images, "auxiliary") - teacher
    return jnp.mean(jnp.sum(error**2, axis=-1))


def digit_accuracy(
    network: Network, images: Float[Array, "n pixels"], labels: Int[Array, " n"]
) -> Float[Array, ""]:
    """The share of images whose digit has the largest logit."""
    return jnp.mean(head_logits(network, images, "digits").argmax(axis=-1) == labels)


def draw_noise(key: Array, count: int, pixels: int) -> Float[Array, "count pixels"]:
    """Images of independent pixels, uniform from -1 to 1."""
    return jax.random.uniform(key, (count, pixels), minval=-1.0, maxval=1.0)


def make_start(start: str, teacher: Network, other: Network) -> Network:
    """Where a student begins, from the network in which its teacher began and another one.

    "same" and "other" are these; "mixed-0.25" is a quarter of the way from one to the other;
    "auxiliary-head" has only the auxiliary head of the teacher's, "trunk" only the trunk.
    """
    if start.startswith("mixed-"):
        share = float(start.removeprefix("mixed-"))
        return jax.tree.map(lambda a, b: (1 - share) * a + share * b, teacher, other)
    shared = {
        "same": (*TRUNK, *HEADS),
        "other": (),
        "auxiliary-head": ("auxiliary",),
        "trunk": TRUNK,
    }[start]
    return {name: (teacher if name in shared else other)[name] for name in teacher}
