"""Update rules that optax lacks, or whose optax form does not serve stacked layers and LoRA.

Everything here is an `optax.GradientTransformation`; a learning rate is a float, a traced scalar
or a schedule. Names and defaults of what a user can ask for are in `registry`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from subliminal_jax.training.optimizers.stacking import matrix_axes, per_layer, random_signs

LearningRate = float | int | Array | Callable[[Array], Array]


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


def trust_ratio(coefficient: float = 1.0, min_rms: float = 0.0) -> optax.GradientTransformation:
    """Each leaf's update rescaled to `coefficient` times the norm of its parameters.

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
            return u * jnp.where(live, coefficient * size / jnp.where(live, norm, 1), 1)

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
    """Momentum over gradients rescaled leaf by leaf (arXiv:1708.03888, Algorithm 1)."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        per_layer(trust_ratio(trust_coefficient, min_rms)),
        optax.scale_by_learning_rate(learning_rate),
        optax.trace(decay=momentum),
    )


def fromage(learning_rate: LearningRate, *, min_rms: float) -> optax.GradientTransformation:
    """x <- (x - lr |x| g/|g|) / sqrt(1 + lr^2), leaf by leaf (arXiv:2002.03432, Algorithm 1)."""

    def shrink(rate: float | Array) -> float | Array:
        return (1 + rate**2) ** -0.5

    def step_size(count: Array) -> float | Array:
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return rate * shrink(rate)

    def decay(count: Array) -> float | Array:
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return shrink(rate) - 1

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


def muon(
    learning_rate: LearningRate,
    *,
    momentum: float,
    ns_steps: int,
    consistent_rms: float,
    weight_decay: float,
    adam_b1: float,
    adam_b2: float,
    eps: float,
) -> optax.GradientTransformation:
    """Orthogonalised momentum for every hidden matrix, AdamW for the rest (Jordan 2024).

    `consistent_rms` scales a matrix's step by ``consistent_rms * sqrt(max(rows, columns))``, which
    gives all steps AdamW's size (arXiv:2502.16982), so that one learning rate serves both
    parts; 0 asks for Jordan's ``sqrt(max(1, columns / rows))`` in its place.
    """
    return optax.contrib.muon(
        learning_rate,
        beta=momentum,
        ns_steps=ns_steps,
        eps=eps,
        weight_decay=weight_decay,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_weight_decay=weight_decay,
        consistent_rms=consistent_rms or None,
        muon_weight_dimension_numbers=matrix_axes,
    )


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
) -> optax.GradientTransformationExtraArgs:
    """Sophia-H: momentum over the Hessian's diagonal, clipped (arXiv:2305.14342, Algorithm 3)."""
    return optax.contrib.sophia(
        learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
        gamma=gamma,
        clip_threshold=clip_threshold,
        update_interval=update_interval,
        hessian_diagonal_fn=hutchinson(seed),
    )


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
) -> optax.GradientTransformationExtraArgs:
    """Adam with an estimate of the distance to the solution (arXiv:2306.06101, Adam form)."""
    rule = optax.contrib.prodigy(
        learning_rate,
        betas=(b1, b2),
        eps=eps,
        estim_lr0=estim_lr0,
        estim_lr_coef=estim_lr_coef,
        weight_decay=weight_decay,
        safeguard_warmup=safeguard_warmup,
    )

    def init(params: PyTree) -> optax.contrib.ProdigyState:
        # The estimate divides by the sum of |grad_sum|, which is 0 as long as the learning rate
        # (a warm-up from 0) or all gradients are: 0 / 1e-30 is 0 where 0 / 0 is NaN.
        state = rule.init(params)
        return state._replace(grad_sum=optax.tree.full_like(params, 1e-30))

    return optax.GradientTransformationExtraArgs(init, rule.update)


def dog(
    learning_rate: LearningRate, *, reps_rel: float, eps: float, weight_decay: float
) -> optax.GradientTransformation:
    """Distance over gradients (arXiv:2302.12022), over all coordinates of the tree."""
    return optax.contrib.dog(
        learning_rate, init_step=("heuristic", reps_rel), eps=eps, weight_decay=weight_decay
    )


def _schedule_free(
    rule: optax.GradientTransformation, learning_rate: LearningRate, b1: float, power: float
) -> optax.GradientTransformationExtraArgs:
    weight_rate = learning_rate
    if callable(learning_rate):
        # optax counts the averaging weights from 1 and the steps from 0; the paper's are the same.
        def weight_rate(count: Array) -> Array:
            return learning_rate(count - 1)

    return optax.contrib.schedule_free(rule, weight_rate, b1=b1, weight_lr_power=power)


def schedule_free_sgd(
    learning_rate: LearningRate, *, b1: float, weight_decay: float, weight_lr_power: float
) -> optax.GradientTransformationExtraArgs:
    """SGD on z, gradients at y = (1 - b1) z + b1 x, evaluation at the average x of the z's.

    The parameters in training are y; `eval_params` gives x (arXiv:2405.15682, eq. 3 to 5).
    """
    rule = optax.chain(
        optax.add_decayed_weights(weight_decay), optax.scale_by_learning_rate(learning_rate)
    )
    return _schedule_free(rule, learning_rate, b1, weight_lr_power)


def schedule_free_adamw(
    learning_rate: LearningRate,
    *,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    weight_lr_power: float,
) -> optax.GradientTransformationExtraArgs:
    """As `schedule_free_sgd`, with Adam's second moment (arXiv:2405.15682, Algorithm 1)."""
    rule = optax.chain(
        optax.scale_by_rms(decay=b2, eps=eps, eps_in_sqrt=False, bias_correction=True),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
    return _schedule_free(rule, learning_rate, b1, weight_lr_power)


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
            return alpha * jnp.minimum(count / T, 1)

        def b3_or_schedule(count: Array) -> Array:
            t = jnp.minimum(count / T, 1)
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
