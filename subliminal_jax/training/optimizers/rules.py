"""Update rules that optax lacks, or whose optax form does not serve stacked layers and LoRA.

Everything here is an `optax.GradientTransformation`; a learning rate is a float, a traced scalar
or a schedule. Names and defaults of what a user can ask for are in `registry`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from subliminal_jax.training.optimizers.stacking import per_layer

LearningRate = float | int | Array | Callable[[Array], Array]


def rate_at(learning_rate: LearningRate, count: Array) -> float | Array:
    """The rate of the step after `count` steps."""
    return learning_rate(count) if callable(learning_rate) else learning_rate


def running_mean(new: PyTree, old: PyTree, b: float) -> PyTree:
    """b * old + (1 - b) * new, leaf by leaf."""
    return jax.tree.map(lambda x, y: b * y + (1 - b) * x, new, old)


def start_correction(b: float, count: Array) -> Float[Array, ""]:
    """1 - b^count: what a running mean that started at zero holds after `count` steps. In float32
    the plain difference is off by 6e-5 for b = 0.999 at the first step."""
    return -jnp.expm1(count * math.log(b)) if b > 0 else jnp.ones(())


def squares(tree: PyTree) -> PyTree:
    """The square of every coordinate."""
    return jax.tree.map(jnp.square, tree)


def _stateless(update: Callable[[PyTree, PyTree], PyTree]) -> optax.GradientTransformation:
    def full_update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        return update(updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), full_update)


def normalize() -> optax.GradientTransformation:
    """The update divided by its Euclidean norm over the whole tree; zero stays zero."""

    def update(updates: PyTree, params: PyTree) -> PyTree:
        norm = optax.tree.norm(updates)
        inverse = jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0)
        return jax.tree.map(lambda u: u * inverse, updates)

    return _stateless(update)


def trust_ratio(min_rms: float = 0.0) -> optax.GradientTransformation:
    """Each leaf's update rescaled to the norm of its parameters.

    `min_rms` is a floor on the parameters' root mean square: phi(|x|) of You et al. 2020
    (arXiv:1904.00962, Algorithm 2) with only its lower clip, in the units of one coordinate as in
    Adafactor's epsilon_2. Without it a leaf that starts at zero, such as LoRA's b, stays at zero.
    A leaf of zero norm (no floor) or with a zero update keeps its update.
    """

    def update(updates: PyTree, params: PyTree) -> PyTree:
        def leaf(u: Array, p: Array) -> Array:
            size = jnp.maximum(jnp.linalg.norm(p), min_rms * p.size**0.5)
            norm = jnp.linalg.norm(u)
            live = (size > 0) & (norm > 0)
            return u * jnp.where(live, size / jnp.where(live, norm, 1), 1)

        return jax.tree.map(leaf, updates, params)

    return _stateless(update)


def lamb(
    learning_rate: LearningRate,
    *,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    min_rms: float,
) -> optax.GradientTransformation:
    """Adam's direction, each leaf rescaled to its parameters' norm (arXiv:1904.00962, Alg. 2)."""
    return optax.chain(
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        optax.add_decayed_weights(weight_decay),
        per_layer(trust_ratio(min_rms=min_rms)),
        optax.scale_by_learning_rate(learning_rate),
    )


def lars(
    learning_rate: LearningRate,
    *,
    momentum: float,
    trust_coefficient: float,
    weight_decay: float,
    min_rms: float,
) -> optax.GradientTransformation:
    """Momentum over gradients rescaled leaf by leaf (arXiv:1708.03888, Algorithm 1).

    A leaf's own rate is |x| / (|g| + weight_decay |x|); optax divides by |g + weight_decay x|.
    """

    def update(g: PyTree, params: PyTree) -> PyTree:
        def leaf(g: Array, p: Array) -> Array:
            size = jnp.maximum(jnp.linalg.norm(p), min_rms * p.size**0.5)
            norm = jnp.linalg.norm(g) + weight_decay * jnp.linalg.norm(p)
            live = (size > 0) & (norm > 0)
            ratio = trust_coefficient * size / jnp.where(live, norm, 1)
            return (g + weight_decay * p) * jnp.where(live, ratio, 1)

        return jax.tree.map(leaf, g, params)

    return optax.chain(
        per_layer(_stateless(update)),
        optax.scale_by_learning_rate(learning_rate),
        optax.trace(decay=momentum),
    )


def fromage(learning_rate: LearningRate, *, min_rms: float) -> optax.GradientTransformation:
    """x <- (x - lr |x| g/|g|) / sqrt(1 + lr^2), leaf by leaf (arXiv:2002.03432, Algorithm 1)."""

    def shrink(rate: float | Array) -> float | Array:
        return (1 + rate**2) ** -0.5

    def step_size(count: Array) -> float | Array:
        rate = rate_at(learning_rate, count)
        return rate * shrink(rate)

    def decay(count: Array) -> float | Array:
        return shrink(rate_at(learning_rate, count)) - 1

    return optax.chain(
        per_layer(trust_ratio(min_rms=min_rms)),
        optax.scale_by_learning_rate(step_size),
        optax.add_decayed_weights(decay),
    )


def adafactor(
    learning_rate: LearningRate,
    *,
    decay_rate: float,
    clipping_threshold: float,
    min_dim_size_to_factor: int,
    multiply_by_parameter_scale: bool,
) -> optax.GradientTransformation:
    """Row and column second moments for each matrix (arXiv:1804.04235, Algorithms 4 and 5)."""
    parts = [
        optax.scale_by_factored_rms(
            decay_rate=decay_rate, min_dim_size_to_factor=min_dim_size_to_factor
        ),
        optax.clip_by_block_rms(clipping_threshold),
    ]
    if multiply_by_parameter_scale:
        parts.append(optax.scale_by_param_block_rms())
    return optax.chain(per_layer(optax.chain(*parts)), optax.scale_by_learning_rate(learning_rate))


def dog(
    learning_rate: LearningRate, *, reps_rel: float, eps: float, weight_decay: float
) -> optax.GradientTransformation:
    """Distance over gradients (arXiv:2302.12022), over all coordinates of the tree."""
    return optax.contrib.dog(
        learning_rate, init_step=("heuristic", reps_rel), eps=eps, weight_decay=weight_decay
    )


def ademamix(
    learning_rate: LearningRate,
    *,
    total_steps: int | None,
    b1: float,
    b2: float,
    b3: float,
    alpha: float,
    eps: float,
    weight_decay: float,
) -> optax.GradientTransformation:
    """Adam with a second, slow momentum (arXiv:2409.03137, Algorithm 1).

    With `total_steps` given, alpha and b3 warm up over them as in the paper (b3 so that its
    half-life grows about linearly); without, they are constant from the first step.
    """

    b3_or_schedule: LearningRate = b3
    alpha_or_schedule: LearningRate = alpha
    if total_steps is not None:
        T, tiny = total_steps, 1e-12  # b1 or b3 may be 0
        low, high = math.log(max(b1, tiny)), math.log(max(b3, tiny))

        def alpha_or_schedule(count: Array) -> Array:
            return alpha * jnp.minimum((count + 1) / T, 1)

        def b3_or_schedule(count: Array) -> Array:
            t = jnp.minimum((count + 1) / T, 1)
            return jnp.exp(low * high / ((1 - t) * high + t * low))

    return optax.contrib.ademamix(
        learning_rate,
        b1=b1,
        b2=b2,
        b3=b3_or_schedule,
        alpha=alpha_or_schedule,
        eps=eps,
        weight_decay=weight_decay,
    )
