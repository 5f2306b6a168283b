"""Lifting optimizers to one leaf a layer and one matrix a projection.

Parameter trees stack their layers on axis 0 under the first key "layers". An optimizer whose rule
looks at a leaf as a whole (a norm, a row mean, a singular vector) would mix the layers, so such
rules are lifted here. Rules for single coordinates, and rules that sum over all coordinates of the
tree, need no lift.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

KeyPath = tuple[Any, ...]


def key_name(key: Any) -> str:
    """The name in one step of a key path: a dict key, an attribute, or an index, as text."""
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def is_stacked(path: KeyPath) -> bool:
    """Whether the leaf at `path` holds all layers, stacked on its axis 0."""
    return bool(path) and key_name(path[0]) == "layers"


def is_vector(path: KeyPath, leaf: Array) -> bool:
    """Whether the leaf at `path` is a vector, one a layer where layers are stacked."""
    return leaf.ndim - int(is_stacked(path)) < 2


def is_table(path: KeyPath, *names: str) -> bool:
    """Whether the leaf at `path` is a table of one vector a token: of `names`, or either."""
    return key_name(path[-1]) in (names or ("embed", "lm_head"))


def inputs_axis(path: KeyPath, leaf: Array) -> int:
    """The axis over which a row runs, as in torch, where it holds the weights into one output: of a
    matrix here [inputs, outputs] it is a column, of the embedding one token's vector, of a vector
    the whole."""
    return -1 if is_vector(path, leaf) or "embed" in map(key_name, path) else -2


def per_layer(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """`rule` applied to every leaf by itself, and to every layer of a stacked leaf by itself.

    Exact for rules in which one leaf does not influence another. The state is the tree of
    parameters with the rule's state in place of each leaf; for a stacked leaf it has a leading
    layer axis.
    """

    def init(params: PyTree) -> PyTree:
        def init_leaf(path: KeyPath, leaf: Array) -> PyTree:
            return (jax.vmap(rule.init) if is_stacked(path) else rule.init)(leaf)

        return jax.tree_util.tree_map_with_path(init_leaf, params)

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        def update_leaf(path: KeyPath, u: Array, s: PyTree, p: Array) -> tuple[Array, PyTree]:
            return (jax.vmap(rule.update) if is_stacked(path) else rule.update)(u, s, p)

        # `state` and `pairs` have a subtree where `updates` has a leaf; tree.map hands it over.
        pairs = jax.tree_util.tree_map_with_path(update_leaf, updates, state, params)
        new_updates = jax.tree.map(lambda _, pair: pair[0], updates, pairs)
        new_state = jax.tree.map(lambda _, pair: pair[1], updates, pairs)
        return new_updates, new_state

    return optax.GradientTransformation(init, update)


def unstack(params: PyTree) -> PyTree:
    """The tree with a tuple of one leaf a layer in place of each stacked leaf, and "blocks" in
    place of the key "layers"; trees without that key are returned as they are."""
    if not isinstance(params, dict) or "layers" not in params:
        return params
    rest = {name: leaf for name, leaf in params.items() if name != "layers"}
    return {**rest, "blocks": jax.tree.map(tuple, params["layers"])}


def restack(split: PyTree, like: PyTree) -> PyTree:
    """The inverse of `unstack`; `like` is the tree with stacked leaves."""
    if not isinstance(like, dict) or "layers" not in like:
        return split
    rest = {name: leaf for name, leaf in split.items() if name != "blocks"}
    layers = jax.tree.map(lambda _, leaves: jnp.stack(leaves), like["layers"], split["blocks"])
    return {**rest, "layers": layers}


def lift(rule: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """`rule` on the tree with one leaf a layer and one matrix a projection.

    Exact for every rule, also for one in which leaves influence each other (a global norm). The
    state is the rule's own, of the unstacked tree. Where a rule's leaves are independent
    `per_layer` compiles to fewer operations.
    """

    def init(params: PyTree) -> PyTree:
        return rule.init(unstack(params))

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        if "obj_fn" in extra:
            obj_fn = extra["obj_fn"]
            extra["obj_fn"] = lambda split: obj_fn(restack(split, updates))
        split = None if params is None else unstack(params)
        split_updates, state = rule.update(unstack(updates), state, split, **extra)
        return restack(split_updates, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def matrix_axes(params: PyTree) -> PyTree:
    """The two axes that make a hidden projection's matrix, for each leaf; None for other leaves.

    Matrices are the projections of a block and the two factors of a LoRA pair, one a layer.
    The embedding and the unembedding are tables of vectors, not hidden projections, so they, the
    norm gains, the biases and a steering vector get None (Jordan 2024, "Muon").
    """

    def axes(path: KeyPath, leaf: Array) -> optax.contrib.MuonDimensionNumbers | None:
        first = int(is_stacked(path))
        if leaf.ndim - first != 2 or is_table(path):
            return None
        return optax.contrib.MuonDimensionNumbers(reduction_axis=first, output_axis=first + 1)

    return jax.tree_util.tree_map_with_path(axes, params)


def random_signs(key: Array, params: PyTree) -> PyTree[Float[Array, "..."]]:
    """Independent +1 or -1 for every coordinate; each layer of a stacked leaf has its own key.

    Keys are assigned in the order of the leaves, layer by layer, as for a tree with separate
    layers.
    """
    with_paths = jax.tree_util.tree_leaves_with_path(params)
    layers = [leaf.shape[0] if is_stacked(path) else 1 for path, leaf in with_paths]
    keys = jax.random.split(key, sum(layers))
    signs, used = [], 0
    for (path, leaf), n in zip(with_paths, layers, strict=True):
        layer_keys, used = keys[used : used + n], used + n
        shape = leaf.shape[1:] if is_stacked(path) else leaf.shape
        draw = jax.vmap(partial(jax.random.rademacher, shape=shape, dtype=leaf.dtype))(layer_keys)
        signs.append(draw.reshape(leaf.shape))
    return jax.tree.unflatten(jax.tree.structure(params), signs)


def copy_arrays(tree: PyTree) -> PyTree[Array]:
    """Copies with strong types: a weakly typed leaf would compile the second call again, and one
    that shares the parameters' buffer (DoG, Prodigy) could not be donated together with them."""
    return jax.tree.map(lambda x: jnp.array(x, dtype=jnp.asarray(x).dtype, copy=True), tree)


def cast_like(tree: PyTree, like: PyTree) -> PyTree[Array]:
    """`tree` in the dtypes of `like`, strongly typed."""
    return jax.tree.map(lambda x, y: jnp.asarray(x, dtype=y.dtype), tree, like)
