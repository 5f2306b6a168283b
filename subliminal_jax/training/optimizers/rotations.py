"""Rules in a randomly rotated basis."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from subliminal_jax.training.optimizers.stacking import KeyPath, is_stacked, is_vector, key_name


class RotationState(NamedTuple):
    """The rotations [n, n], or [layers, n, n], by name, and the state of the rule."""

    rotations: dict[str, Array]
    rule: PyTree


def rotate(
    rule: optax.GradientTransformationExtraArgs, *, seed: int, per_layer: bool, mlp_only: bool
) -> optax.GradientTransformationExtraArgs:
    """The rule in a randomly rotated basis: gradients turned into it, updates turned back.

    This equals the rule on parameters R' x in place of x, for a rule that ignores the parameters'
    values. The long side of LoRA's factors is rotated (the inputs of a, the outputs of b), and the
    inputs of whole matrices; with `mlp_only` only a of gate and up, and b of down (Blank et al.
    2026). Sides of the same length share one rotation; with `per_layer` stacked leaves have one a
    layer. SGD is the same in every basis, Adam is not.
    """

    def draw(params: PyTree) -> dict[str, Array]:
        rotations = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            if (along := _rotated_axis(path, leaf, mlp_only)) is None:
                continue
            n, layers = leaf.shape[along], _layers(path, leaf, per_layer)
            key = jax.random.fold_in(jax.random.key(seed), n)
            shape = (n, n) if layers is None else (layers, n, n)
            rotations[_rotation_name(n, layers)] = random_rotation(key, shape)
        return rotations

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

    def init(params: PyTree) -> RotationState:
        return RotationState(draw(params), rule.init(params))

    def update(
        g: PyTree, state: RotationState, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, RotationState]:
        turned = turn(g, state.rotations, back=False)
        u, new = rule.update(turned, state.rule, params, **extra)
        return turn(u, state.rotations, back=True), RotationState(state.rotations, new)

    return optax.GradientTransformationExtraArgs(init, update)


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
    names = set(map(key_name, path))
    if mlp_only:
        chosen = ("a" in names and names & {"gate", "up"}) or ("b" in names and "down" in names)
        if not chosen:
            return None
    return -1 if is_vector(path, leaf) or "b" in names else -2


def _layers(path: KeyPath, leaf: Array, per_layer: bool) -> int | None:
    return leaf.shape[0] if per_layer and is_stacked(path) else None


def _rotation_name(n: int, layers: int | None) -> str:
    return f"{n}" if layers is None else f"{layers} layers of {n}"
