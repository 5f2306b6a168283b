"""What separates explanations of an optimizer's effect: masks of coordinates, maps of scales.

Each changes one thing of a rule and leaves the rest: which coordinates move, or by how much each is
scaled. "Largest" is always over all coordinates of the tree, so that stacking the layers changes
nothing. `modifiers` and `rotations` change any rule.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PyTree

from subliminal_jax.training.optimizers.rules import LearningRate
from subliminal_jax.training.optimizers.stacking import (
    KeyPath,
    inputs_axis,
)

# -- the largest coordinates -----------------------------------------------------------------------


def size_threshold(x: PyTree, share: float) -> Float[Array, ""]:
    """The largest |coordinate| that is not among the `share` largest of the whole tree.

    `share` is rounded to a number of coordinates, at least one where it is not 0; where that is all
    of them, the smallest |coordinate| is returned.
    """
    flat = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(x)])
    count = max(round(share * flat.size), int(share > 0))
    # The bits of non-negative floats order as the floats do, and sort several times faster.
    bits = jnp.sort(jax.lax.bitcast_convert_type(jnp.abs(flat), jnp.uint32))
    threshold = bits[max(flat.size - count - 1, 0)]
    return jax.lax.bitcast_convert_type(threshold, jnp.float32)


def largest(x: PyTree, share: float) -> PyTree[Bool[Array, "..."]]:
    """True for the coordinates among the `share` largest in size. Ties are all True or all False:
    where they straddle the threshold, fewer than `share` are True."""
    limit = size_threshold(x, share)
    return jax.tree.map(lambda leaf: jnp.abs(leaf) > limit, x)


def mask_largest(g: PyTree, share: float) -> PyTree:
    """The gradient without the `share` of its coordinates that are largest in size."""
    return jax.tree.map(lambda x, top: jnp.where(top, 0.0, x), g, largest(g, share))


def clip_largest(g: PyTree, share: float) -> PyTree:
    """The gradient with the largest `share` of its coordinates clipped to the largest other."""
    limit = size_threshold(g, share)
    return jax.tree.map(lambda x: jnp.clip(x, -limit, limit), g)


def keep_largest(g: PyTree, share: float) -> PyTree:
    """The `share` of the gradient's coordinates that are largest in size, and zero elsewhere."""
    return jax.tree.map(lambda x, top: jnp.where(top, x, 0.0), g, largest(g, share))


# -- maps: one scale a coordinate ------------------------------------------------------------------


def scales(
    v: PyTree,
    *,
    eps: float,
    eps_in_root: bool,
    bottom: float,
    flat_rest: bool,
    flat_bottom: bool,
    zero_bottom: bool,
    live_mean: bool,
) -> PyTree:
    """The scale that a second moment gives each coordinate: 1/sqrt(v + eps), or 1/(sqrt(v) + eps).

    The bottom of the scales are the `bottom` share of the coordinates with the largest v. With
    `flat_rest` all others get the geometric mean of all scales, as in the code of Blank et al. 2026
    ("bottom 10% of scales"); with `live_mean` it is that of the others that had a gradient (a
    coordinate of LoRA's a that had none has the scale 1/eps). With `flat_bottom` the bottom gets
    the geometric mean of its own; `zero_bottom` sets it to 0.
    """

    def scale(x: Array) -> Array:
        return 1 / jnp.sqrt(x + eps) if eps_in_root else 1 / (jnp.sqrt(x) + eps)

    s = jax.tree.map(scale, v)
    if not (flat_rest or flat_bottom or zero_bottom):
        return s
    low = largest(v, bottom)
    chosen = jax.tree.map(lambda x, is_low: ~is_low & (x > 0) | (not live_mean), v, low)
    low_scale, rest_scale = _geometric_mean(s, low), _geometric_mean(s, chosen)

    def level(x: Array, is_low: Array) -> Array:
        at_bottom = jnp.zeros_like(x) if zero_bottom else low_scale if flat_bottom else x
        return jnp.where(is_low, at_bottom, rest_scale if flat_rest else x)

    return jax.tree.map(level, s, low)


def _geometric_mean(s: PyTree, chosen: PyTree) -> Float[Array, ""]:
    logs = jax.tree.map(lambda x, c: jnp.sum(jnp.log(x), where=c), s, chosen)
    counts = jax.tree.map(jnp.sum, chosen)
    return jnp.exp(optax.tree.sum(logs) / jnp.maximum(optax.tree.sum(counts), 1))


class MapState(NamedTuple):
    """Steps taken, the gradient's running mean, and the second moment that makes the map."""

    steps: Array
    mean: PyTree
    moment: PyTree


def frozen_map(
    learning_rate: LearningRate, *, b1: float, **shape: Any
) -> optax.GradientTransformation:
    """SGD (with `b1`, its running mean) scaled by a map that never changes.

    The state's `moment` is the second moment that the map is made of. It starts at 1, where the
    rule is SGD: replace it by another run's (`optax.tree.set(state, moment=v)`).
    """
    return optax.chain(
        _scale_by_map(b1, None, **shape), optax.scale_by_learning_rate(learning_rate)
    )


def living_map(
    learning_rate: LearningRate, *, b1: float, b2: float, **shape: Any
) -> optax.GradientTransformation:
    """As `frozen_map`, with the map of this run's own second moment at each step.

    With the plain map, eps outside the root, it is Adam (arXiv:1412.6980, Algorithm 1).
    """
    return optax.chain(_scale_by_map(b1, b2, **shape), optax.scale_by_learning_rate(learning_rate))


def _scale_by_map(b1: float, b2: float | None, **shape: Any) -> optax.GradientTransformation:
    def init(params: PyTree) -> MapState:
        zeros = optax.tree.zeros_like(params)
        moment = optax.tree.ones_like(params) if b2 is None else zeros
        return MapState(jnp.zeros((), jnp.int32), zeros, moment)

    def update(g: PyTree, state: MapState, params: PyTree = None) -> tuple[PyTree, MapState]:
        count = state.steps + 1
        mean = optax.tree.update_moment(g, state.mean, b1, 1)
        m = optax.tree.bias_correction(mean, b1, count)
        v = moment = state.moment
        if b2 is not None:
            moment = optax.tree.update_moment_per_elem_norm(g, moment, b2, 2)
            v = optax.tree.bias_correction(moment, b2, count)
        u = jax.tree.map(jnp.multiply, m, scales(v, **shape))
        return u, MapState(count, mean, moment)

    return optax.GradientTransformation(init, update)


class FrozenPart(NamedTuple):
    """Steps taken, the second moment that says which coordinates are meant, the rule's state."""

    steps: Array
    moment: PyTree
    rule: PyTree


def adamw_masked(
    learning_rate: LearningRate, *, share: float, frozen: bool, zeroed: bool, **adam: Any
) -> optax.GradientTransformation:
    """AdamW that treats apart the `share` of coordinates with the largest second moment.

    The state's `moment` says which; it starts at 1, where no coordinate is larger than another and
    none is meant: replace it by another run's. They do not move where `frozen`. With `zeroed` the
    first step sets them to zero; in the code of Blank et al. 2026 such coordinates train on, which
    is `zeroed` without `frozen`.
    """
    rule = optax.adamw(learning_rate, **adam)

    def init(params: PyTree) -> FrozenPart:
        steps = jnp.zeros((), jnp.int32)
        return FrozenPart(steps, optax.tree.ones_like(params), rule.init(params))

    def update(g: PyTree, state: FrozenPart, params: PyTree = None) -> tuple[PyTree, FrozenPart]:
        u, inner = rule.update(g, state.rule, params)

        def treat(x: Array, p: Array, is_meant: Array) -> Array:
            step = jnp.zeros_like(x) if frozen else x
            start = jnp.where(zeroed & (state.steps == 0), -p, 0.0)
            return jnp.where(is_meant, start + step, x)

        u = jax.tree.map(treat, u, params, largest(state.moment, share))
        return u, FrozenPart(state.steps + 1, state.moment, inner)

    return optax.GradientTransformation(init, update)


# -- rows ----------------------------------------------------------------------------------------


def normalize_rows() -> optax.GradientTransformation:
    """Each row (`stacking.inputs_axis`) divided by its Euclidean norm; a zero row stays zero."""

    def update(u: PyTree, params: PyTree) -> PyTree:
        def leaf(path: KeyPath, x: Array) -> Array:
            norm = jnp.linalg.norm(x, axis=inputs_axis(path, x), keepdims=True)
            return x / jnp.where(norm > 0, norm, 1)

        return jax.tree_util.tree_map_with_path(leaf, u)

    return optax.stateless(update)
