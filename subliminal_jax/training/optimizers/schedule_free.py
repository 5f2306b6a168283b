"""Schedule-free rules: an average of the iterates takes the place of a falling rate."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from subliminal_jax.training.optimizers.rules import LearningRate, rate_at


def averaged_point(params: PyTree, state: PyTree) -> PyTree:
    """The average of the iterates, at which the rule is evaluated."""
    return optax.contrib.schedule_free_eval_params(state, params)


def schedule_free_adamw(
    learning_rate: LearningRate,
    *,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    weight_lr_power: float,
    optax_form: bool,
) -> optax.GradientTransformationExtraArgs:
    """As `schedule_free_sgd`, with Adam's second moment.

    As in the paper (arXiv:2405.15682, Algorithm 1, and the authors' code for its experiments) the
    rate itself is multiplied by sqrt(1 - b2^t) in place of a corrected second moment, so that the
    average weighs the first steps less: a step's weight is the largest such rate so far, squared.
    With `optax_form` the second moment is corrected and the steps weigh by the plain rates.
    """
    if optax_form:
        rule = optax.chain(
            optax.scale_by_rms(decay=b2, eps=eps, eps_in_sqrt=False, bias_correction=True),
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        )
        return average_iterates(rule, learning_rate, b1, weight_lr_power)

    def corrected_rate(count: Array) -> Array:
        return rate_at(learning_rate, count) * jnp.sqrt(1 - b2 ** (count + 1.0))

    rule = optax.chain(
        optax.scale_by_rms(decay=b2, eps=eps, eps_in_sqrt=False),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(corrected_rate),
    )
    return average_iterates(rule, corrected_rate, b1, weight_lr_power)


def schedule_free_sgd(
    learning_rate: LearningRate, *, b1: float, weight_decay: float, weight_lr_power: float
) -> optax.GradientTransformationExtraArgs:
    """SGD on z, gradients at y = (1 - b1) z + b1 x, evaluation at the average x of the z's.

    The parameters in training are y; `eval_params` gives x (arXiv:2405.15682, eq. 3 to 5).
    """
    rule = optax.chain(
        optax.add_decayed_weights(weight_decay), optax.scale_by_learning_rate(learning_rate)
    )
    return average_iterates(rule, learning_rate, b1, weight_lr_power)


def average_iterates(
    rule: optax.GradientTransformation,
    learning_rate: float | Array | Callable[[Array], Array],
    b1: float,
    power: float,
) -> optax.GradientTransformationExtraArgs:
    """`rule` on z, its iterates averaged with the weights (largest rate so far) ** `power`."""
    weight_rate = learning_rate
    if callable(learning_rate):
        schedule = learning_rate

        # optax counts the averaging weights from 1 and the steps from 0; the paper's are the same.
        def weight_rate(count: Array) -> Array:
            return schedule(count - 1)

    return optax.contrib.schedule_free(rule, weight_rate, b1=b1, weight_lr_power=power)
