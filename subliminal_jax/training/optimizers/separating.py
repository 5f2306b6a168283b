"""Rules that separate explanations of an optimizer's effect: masks, maps, rotations, rates.

Each changes one thing of SGD or Adam and leaves the rest: which coordinates move, by how much each
is scaled, in which basis the rule works, or how the two LoRA factors share the step. "Largest" is
always over all coordinates of the tree, so that stacking the layers changes nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PyTree

from subliminal_jax.training.optimizers.rules import LearningRate
from subliminal_jax.training.optimizers.stacking import (
    KeyPath,
    inputs_axis,
    is_stacked,
    key_name,
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


def _make_sgd(
    change: Callable[[PyTree, float], PyTree],
) -> Callable[..., optax.GradientTransformation]:
    """SGD on gradients changed by `change(gradient, share)`."""

    def build(learning_rate: LearningRate, *, share: float) -> optax.GradientTransformation:
        rule = optax.stateless(lambda updates, params: change(updates, share))
        return optax.chain(rule, optax.scale_by_learning_rate(learning_rate))

    return build


def _mask_largest(g: PyTree, share: float) -> PyTree:
    return jax.tree.map(lambda x, top: jnp.where(top, 0.0, x), g, largest(g, share))


def _clip_largest(g: PyTree, share: float) -> PyTree:
    limit = size_threshold(g, share)
    return jax.tree.map(lambda x: jnp.clip(x, -limit, limit), g)


def _keep_largest(g: PyTree, share: float) -> PyTree:
    return jax.tree.map(lambda x, top: jnp.where(top, x, 0.0), g, largest(g, share))


# SGD without the largest `share` of each step's gradient; with these clipped to the size of the
# largest other coordinate; and with these alone.
sgd_top_masked, sgd_top_clipped, sgd_top_only = map(
    _make_sgd, (_mask_largest, _clip_largest, _keep_largest)
)


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


# -- rows and factors ------------------------------------------------------------------------------


def normalize_rows() -> optax.GradientTransformation:
    """Each row (`stacking.inputs_axis`) divided by its Euclidean norm; a zero row stays zero."""

    def update(u: PyTree, params: PyTree) -> PyTree:
        def leaf(path: KeyPath, x: Array) -> Array:
            norm = jnp.linalg.norm(x, axis=inputs_axis(path, x), keepdims=True)
            return x / jnp.where(norm > 0, norm, 1)

        return jax.tree_util.tree_map_with_path(leaf, u)

    return optax.stateless(update)


def scale_factors(
    rule: Callable[..., optax.GradientTransformation],
) -> Callable[..., optax.GradientTransformation]:
    """`rule` with learning rates of their own for LoRA's factors: `a` and `b` times the common one
    (LoRA+, arXiv:2402.12354, has b = 16). At 0 a factor stays where it is."""

    def build(
        learning_rate: LearningRate, *, a: float, b: float, **hyper: Any
    ) -> optax.GradientTransformation:
        def update(u: PyTree, params: PyTree) -> PyTree:
            def leaf(path: KeyPath, x: Array) -> Array:
                names = _names(path)
                return x * (a if "a" in names else b if "b" in names else 1.0)

            return jax.tree_util.tree_map_with_path(leaf, u)

        return optax.chain(rule(learning_rate, **hyper), optax.stateless(update))

    return build


# -- rotations -------------------------------------------------------------------------------------


class RotationState(NamedTuple):
    """The rotations [n, n], or [layers, n, n], by name, and the state of the rule."""

    rotations: dict[str, Array]
    rule: PyTree


def rotate(
    rule: Callable[..., optax.GradientTransformation],
) -> Callable[..., optax.GradientTransformation]:
    """`rule` in a randomly rotated basis: gradients turned into it, updates turned back.

    This equals the rule on parameters R' x in place of x, for a rule that ignores the parameters'
    values. The long side of LoRA's factors is rotated (the inputs of a, the outputs of b), and the
    inputs of whole matrices; with `mlp_only` only a of gate and up, and b of down (Blank et al.
    2026). Sides of the same length share one rotation; with `per_layer` stacked leaves have one a
    layer. SGD is the same in every basis, Adam is not.
    """

    def build(
        learning_rate: LearningRate, *, seed: int, per_layer: bool, mlp_only: bool, **hyper: Any
    ) -> optax.GradientTransformation:
        inner = rule(learning_rate, **hyper)

        def init(params: PyTree) -> RotationState:
            rotations = {}
            for path, leaf in jax.tree_util.tree_leaves_with_path(params):
                if (along := _rotated_axis(path, leaf, mlp_only)) is None:
                    continue
                n, layers = leaf.shape[along], _layers(path, leaf, per_layer)
                key = jax.random.fold_in(jax.random.key(seed), n)
                shape = (n, n) if layers is None else (layers, n, n)
                rotations[_rotation_name(n, layers)] = random_rotation(key, shape)
            return RotationState(rotations, inner.init(params))

        def turn(tree: PyTree, rotations: dict[str, Array], back: bool) -> PyTree:
            def leaf(path: KeyPath, x: Array) -> Array:
                if (along := _rotated_axis(path, x, mlp_only)) is None:
                    return x
                R = rotations[_rotation_name(x.shape[along], _layers(path, x, per_layer))]
                R = jnp.swapaxes(R, -1, -2) if back else R
                if R.ndim == 2 or x.ndim == 3:
                    return R @ x if along == -2 else x @ jnp.swapaxes(R, -1, -2)
                return jnp.einsum("lij,lj->li", R, x)  # one vector a layer

            return jax.tree_util.tree_map_with_path(leaf, tree)

        def update(
            g: PyTree, state: RotationState, params: PyTree = None
        ) -> tuple[PyTree, RotationState]:
            u, new = inner.update(turn(g, state.rotations, back=False), state.rule, params)
            return turn(u, state.rotations, back=True), RotationState(state.rotations, new)

        return optax.GradientTransformation(init, update)

    return build


def random_rotation(key: Array, shape: tuple[int, ...]) -> Float[Array, "*layers n n"]:
    """Orthogonal matrices, reflections among them, from the uniform (Haar) distribution.

    The polar factor of a Gaussian matrix, by Newton and Schulz's iteration: products alone. (Two
    of LAPACK's QR factorisations in one program deadlock on a CPU with two cores in jaxlib 0.10:
    each waits in the pool of threads that the other needs.)
    """
    X = jax.random.normal(key, shape) / (2 * shape[-1] ** 0.5)  # singular values up to about 1

    def step(_: Any, X: Array) -> Array:
        return 1.5 * X - 0.5 * X @ (jnp.swapaxes(X, -1, -2) @ X)

    # Each step multiplies the smallest singular value by 1.5: 60 suffice from 1e-9 of the largest.
    return jax.lax.fori_loop(0, 60, step, X)


def _rotated_axis(path: KeyPath, leaf: Array, mlp_only: bool) -> int | None:
    names = set(_names(path))
    if mlp_only:
        chosen = ("a" in names and names & {"gate", "up"}) or ("b" in names and "down" in names)
        if not chosen:
            return None
    is_vector = leaf.ndim - int(is_stacked(path)) < 2
    return -1 if is_vector or "b" in names else -2


def _layers(path: KeyPath, leaf: Array, per_layer: bool) -> int | None:
    return leaf.shape[0] if per_layer and is_stacked(path) else None


def _rotation_name(n: int, layers: int | None) -> str:
    return f"{n}" if layers is None else f"{layers} layers of {n}"


def _names(path: KeyPath) -> list[str]:
    return [key_name(key) for key in path]
