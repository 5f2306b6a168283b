"""Relatives of Adam as their papers or their authors' code have them.

`optax_form` asks for optax's form; what the two differ in stands in each docstring.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from subliminal_jax.training.optimizers.rules import (
    LearningRate,
    rate_at,
    running_mean,
    squares,
    start_correction,
)
from subliminal_jax.training.optimizers.stacking import KeyPath, inputs_axis, per_layer


class AmsgradState(NamedTuple):
    """The running means of gradient and square, and the largest second mean so far."""

    mean: PyTree
    square: PyTree
    largest: PyTree


def amsgrad(
    learning_rate: LearningRate, *, b1: float, b2: float, eps: float, optax_form: bool
) -> optax.GradientTransformation:
    """Adam with the largest second moment so far (arXiv:1904.09237, Algorithm 2).

    The paper corrects neither moment for its start at zero; optax corrects both, and takes the
    largest of the corrected ones.
    """
    if optax_form:
        return optax.amsgrad(learning_rate, b1=b1, b2=b2, eps=eps)

    def init(params: PyTree) -> AmsgradState:
        return AmsgradState(*(optax.tree.zeros_like(params) for _ in range(3)))

    def update(g: PyTree, state: AmsgradState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        mean, square = running_mean(g, state.mean, b1), running_mean(squares(g), state.square, b2)
        largest = jax.tree.map(jnp.maximum, state.largest, square)
        u = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mean, largest)
        return u, AmsgradState(mean, square, largest)

    rule = optax.GradientTransformation(init, update)
    return optax.chain(rule, optax.scale_by_learning_rate(learning_rate))


class MomentState(NamedTuple):
    """The running means of the gradient and of its square, or what stands for it."""

    mean: PyTree
    square: PyTree


def yogi(
    learning_rate: LearningRate,
    *,
    b1: float,
    b2: float,
    eps: float,
    initial_accumulator_value: float,
    optax_form: bool,
) -> optax.GradientTransformation:
    """Adam whose second moment moves by (1 - b2) g^2 at most (Zaheer et al. 2018, Algorithm 2).

    The paper corrects neither moment for its start; optax corrects both, as TensorFlow's form does,
    and starts both from the accumulator's value.
    """
    if optax_form:
        rule = optax.scale_by_yogi(b1, b2, eps, initial_accumulator_value=initial_accumulator_value)
        return optax.chain(rule, optax.scale_by_learning_rate(learning_rate))

    def init(params: PyTree) -> MomentState:
        square = optax.tree.full_like(params, initial_accumulator_value)
        return MomentState(optax.tree.zeros_like(params), square)

    def update(g: PyTree, state: MomentState, params: PyTree = None) -> tuple[PyTree, MomentState]:
        mean = running_mean(g, state.mean, b1)
        square = jax.tree.map(
            lambda v, x: v - (1 - b2) * jnp.sign(v - x**2) * x**2, state.square, g
        )
        u = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mean, square)
        return u, MomentState(mean, square)

    rule = optax.GradientTransformation(init, update)
    return optax.chain(rule, optax.scale_by_learning_rate(learning_rate))


class RadamState(NamedTuple):
    """Steps taken, and the running means of gradient and square."""

    steps: Array
    mean: PyTree
    square: PyTree


def radam(
    learning_rate: LearningRate, *, b1: float, b2: float, eps: float, threshold: float
) -> optax.GradientTransformation:
    """Adam whose early steps are shortened by the variance of its scale (arXiv:1908.03265, Alg. 2).

    Steps whose average is shorter than `threshold` have no scale. optax computes the length as a
    difference of two numbers near 2 / (1 - b2), which leaves its first steps off by some 0.4% in
    float32.
    """
    longest = 2 / (1 - b2) - 1

    def init(params: PyTree) -> RadamState:
        zeros = [optax.tree.zeros_like(params) for _ in range(2)]
        return RadamState(jnp.zeros((), jnp.int32), *zeros)

    def update(g: PyTree, state: RadamState, params: PyTree = None) -> tuple[PyTree, RadamState]:
        count = state.steps + 1
        mean, square = running_mean(g, state.mean, b1), running_mean(squares(g), state.square, b2)
        length = average_length(count, b2)
        is_long = length >= threshold
        long = jnp.maximum(length, threshold)  # no root of a negative number where it is not used
        ratio = (long - 4) * (long - 2) * longest / ((longest - 4) * (longest - 2) * long)
        corrections = [start_correction(b, count) for b in (b1, b2)]

        def leaf(m: Array, v: Array) -> Array:
            m = m / corrections[0]
            scaled = jnp.sqrt(ratio) * m / (jnp.sqrt(v / corrections[1]) + eps)
            return jnp.where(is_long, scaled, m)

        return jax.tree.map(leaf, mean, square), RadamState(count, mean, square)

    rule = optax.GradientTransformation(init, update)
    return optax.chain(rule, optax.scale_by_learning_rate(learning_rate))


def average_length(count: Array, b2: float) -> Float[Array, ""]:
    """How many squares a running mean with weight `b2` holds after `count` steps, in effect:
    2 / (1 - b2) - 1 - 2 count b2^count / (1 - b2^count) (arXiv:1908.03265, section 4.1).

    With x = -count log b2 the last term is 2 count / (e^x - 1), and 1 / (e^x - 1) is
    1/x - 1/2 + x/12 - x^3/720 + x^5/30240 - ...; its first term cancels against the first of all.
    """
    decay = -math.log(b2) if b2 > 0 else math.inf
    t = jnp.asarray(count, jnp.float32)
    x = t * decay
    far = 2 / (1 - b2) - 1 - 2 * t / jnp.expm1(jnp.clip(x, 1e-3, 80.0))
    constant = 2 / (1 - b2) - 1 - 2 / decay
    near = constant + t * (1 - x / 6 + x**3 / 360 - x**5 / 15120)
    return jnp.where(x < 0.5, near, far)


class AdanState(NamedTuple):
    """Steps taken; means of the gradient, its differences and the square; the last gradient."""

    steps: Array
    mean: PyTree
    difference: PyTree
    square: PyTree
    last: PyTree


def adan(
    learning_rate: LearningRate,
    *,
    b1: float,
    b2: float,
    b3: float,
    eps: float,
    weight_decay: float,
    optax_form: bool,
) -> optax.GradientTransformation:
    """Adam with Nesterov's momentum from differences of gradients (arXiv:2208.06677, Algorithm 1).

    As in the authors' code the betas weigh the past (one minus the paper's), and the means are
    corrected for their start. A difference counts b2 = 0.92 times in the step, in optax 1 - b2. The
    decay divides by 1 + rate * weight_decay after the step; in optax it is AdamW's.
    """
    if optax_form:
        return optax.adan(
            learning_rate, b1=b1, b2=b2, b3=b3, eps=eps, eps_root=0.0, weight_decay=weight_decay
        )

    def init(params: PyTree) -> AdanState:
        zeros = [optax.tree.zeros_like(params) for _ in range(4)]
        return AdanState(jnp.zeros((), jnp.int32), *zeros)

    def update(g: PyTree, state: AdanState, params: PyTree = None) -> tuple[PyTree, AdanState]:
        is_first, count = state.steps == 0, state.steps + 1
        change = jax.tree.map(lambda x, y: jnp.where(is_first, 0.0, x - y), g, state.last)
        mean = running_mean(g, state.mean, b1)
        difference = running_mean(change, state.difference, b2)
        mixed = jax.tree.map(lambda x, d: x + b2 * d, g, change)
        square = running_mean(squares(mixed), state.square, b3)
        rate = rate_at(learning_rate, state.steps)
        corrections = [start_correction(b, count) for b in (b1, b2, b3)]

        def leaf(m: Array, d: Array, n: Array, p: Array) -> Array:
            direction = m / corrections[0] + b2 * d / corrections[1]
            step = direction / (jnp.sqrt(n / corrections[2]) + eps)
            return -rate * (step + weight_decay * p) / (1 + rate * weight_decay)

        u = jax.tree.map(leaf, mean, difference, square, params)
        return u, AdanState(count, mean, difference, square, g)

    return optax.GradientTransformation(init, update)


def adadelta(
    learning_rate: LearningRate,
    *,
    rho: float,
    eps: float,
    eps_gradient: float,
    weight_decay: float,
) -> optax.GradientTransformation:
    """Steps in units of the steps before (arXiv:1212.5701, Algorithm 1).

    The paper's one epsilon, 1e-6, is two here: `eps` starts the steps, and `eps_gradient` keeps the
    gradients' mean square from zero. Gradients of LoRA are far below its root, 1e-3 a coordinate:
    with 1e-6 the rule would be SGD. Set both alike for the paper's and optax's form.
    """

    def init(params: PyTree) -> MomentState:
        return MomentState(*(optax.tree.zeros_like(params) for _ in range(2)))

    def update(g: PyTree, state: MomentState, params: PyTree = None) -> tuple[PyTree, MomentState]:
        square = running_mean(squares(g), state.square, rho)
        u = jax.tree.map(
            lambda x, d, v: x * jnp.sqrt(d + eps) / jnp.sqrt(v + eps_gradient),
            g,
            state.mean,
            square,
        )
        return u, MomentState(running_mean(squares(u), state.mean, rho), square)

    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.GradientTransformation(init, update),
        optax.scale_by_learning_rate(learning_rate),
    )


class MarsState(NamedTuple):
    """Steps taken, the running means, and the gradient before."""

    steps: Array
    mean: PyTree
    square: PyTree
    last: PyTree


def mars(
    learning_rate: LearningRate,
    *,
    b1: float,
    b2: float,
    eps: float,
    gamma: float,
    max_norm: float,
    weight_decay: float,
) -> optax.GradientTransformation:
    """AdamW on gradients whose variance is reduced by those of the step before (arXiv:2411.10438,
    MARS-AdamW with the gradient of the last batch, as in the authors' code).

    The corrected gradient of a leaf has at most the norm `max_norm`. The first gradient before is
    zero, and vectors are treated as matrices are (`optimize_1d` in the code).
    """

    def init(params: PyTree) -> MarsState:
        zeros = [optax.tree.zeros_like(params) for _ in range(3)]
        return MarsState(jnp.zeros((), jnp.int32), *zeros)

    def clip(x: PyTree, params: PyTree) -> PyTree:
        def leaf(x: Array) -> Array:
            return x / jnp.maximum(jnp.linalg.norm(x) / max_norm, 1)

        return jax.tree.map(leaf, x)

    clipping = per_layer(optax.stateless(clip))

    def update(g: PyTree, state: MarsState, params: PyTree = None) -> tuple[PyTree, MarsState]:
        weight, count = gamma * b1 / (1 - b1), state.steps + 1
        corrected = jax.tree.map(lambda x, y: x + weight * (x - y), g, state.last)
        corrected = clipping.update(corrected, clipping.init(params), params)[0]
        mean = running_mean(corrected, state.mean, b1)
        square = running_mean(squares(corrected), state.square, b2)
        corrections = [start_correction(b, count) for b in (b1, b2)]

        def leaf(m: Array, v: Array) -> Array:
            return m / corrections[0] / (jnp.sqrt(v / corrections[1]) + eps)

        return jax.tree.map(leaf, mean, square), MarsState(count, mean, square, g)

    return optax.chain(
        optax.GradientTransformation(init, update),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


class AdamMiniState(NamedTuple):
    """Steps taken, the gradient's running mean, and one second moment a row."""

    steps: Array
    mean: PyTree
    square: PyTree


def adam_mini(
    learning_rate: LearningRate, *, b1: float, b2: float, eps: float, weight_decay: float
) -> optax.GradientTransformation:
    """AdamW with one second moment a row (`stacking.inputs_axis`), the mean of its squares
    (arXiv:2406.16793, Algorithm 1).

    Rows are outputs of a matrix and tokens of a table; a vector is one row. The paper has one
    moment a head for the queries and keys of whole weights.
    """

    def average(tree: PyTree) -> PyTree:
        def leaf(path: KeyPath, x: Array) -> Array:
            return jnp.mean(x, axis=inputs_axis(path, x), keepdims=True)

        return jax.tree_util.tree_map_with_path(leaf, tree)

    def init(params: PyTree) -> AdamMiniState:
        zeros = optax.tree.zeros_like(params)
        return AdamMiniState(jnp.zeros((), jnp.int32), zeros, average(zeros))

    def update(g: PyTree, state: AdamMiniState, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count = state.steps + 1
        mean = running_mean(g, state.mean, b1)
        square = running_mean(average(squares(g)), state.square, b2)
        corrections = [start_correction(b, count) for b in (b1, b2)]

        def leaf(m: Array, v: Array) -> Array:
            return m / corrections[0] / (jnp.sqrt(v / corrections[1]) + eps)

        return jax.tree.map(leaf, mean, square), AdamMiniState(count, mean, square)

    return optax.chain(
        optax.GradientTransformation(init, update),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
