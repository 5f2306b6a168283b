"""Where the students of a sweep lie in the mesh of `models.mesh`.

There are two ways. Where there are at least as many students as places on the axis `data`, the
students are spread over it: each place trains its own, and nothing passes between them. Where there
are fewer, every student's rows are spread over it, and its gradient is summed over the places. In
both, weights and what belongs to them are cut along `model`.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.mesh import DATA, MODEL, RULES, axis_size, weight_axes
from subliminal_jax.training.adapters import Adapter, Trainable, trainable_axes

Path = tuple[str, ...]


def shards_students(students: int) -> bool:
    """Whether so many students are spread over `data`, and not the rows of each."""
    return axis_size(DATA) > 1 and students >= axis_size(DATA)


def check_rows(students: int, rows: int) -> None:
    """Warns where neither so many students nor the `rows` of a pass can be spread over `data`."""
    n = axis_size(DATA)
    if students < n and rows % n:
        warnings.warn(
            f"{students} students are fewer than the {n} devices on the axis data, and {rows} rows "
            f"a pass are no multiple of {n}: every device computes all of them",
            stacklevel=3,
        )


def row_groups(students: int) -> int:
    """Into how many groups, each on places of its own, the rows of a pass are spread."""
    return 1 if shards_students(students) else axis_size(DATA)


def map_students(
    f: Callable[[Any, Any], Any], shared: Any, xs: Any, at_once: int | None = None
) -> Any:
    """`f(shared, x)` of every student x in `xs` (leading axis), `at_once` in one batched pass.

    None is one on a CPU, where small batched matrix products are slow, and all elsewhere. Where
    students are spread over `data`, each place maps over its own share. Shares are equal: the last
    student is computed several times where their number does not divide, and the copies dropped.
    """
    n = _count(xs)
    if not shards_students(n):
        return _map_here(partial(f, shared), xs, at_once)
    idle = -n % axis_size(DATA)
    if idle:
        filled = jnp.minimum(jnp.arange(n + idle), n - 1)
        xs = jax.tree.map(lambda x: x[filled], xs)
    by_data = PartitionSpec(DATA)
    out = jax.shard_map(
        lambda shared, share: _map_here(partial(f, shared), share, at_once),
        in_specs=(PartitionSpec(), by_data),
        out_specs=by_data,
        axis_names={DATA},
        check_vma=False,
    )(shared, xs)
    return jax.tree.map(lambda x: x[:n], out) if idle else out


def vmap_students(f: Callable[[Any, Any], Any], shared: Any, xs: Any) -> Any:
    """`f(shared, x)` of every student at once, for work without a model in it."""
    return jax.vmap(partial(f, shared))(xs)


def _map_here(f: Callable[[Any], Any], xs: Any, at_once: int | None) -> Any:
    n = _count(xs)
    if n == 1:  # an axis of one more would only slow the sums over others (XLA on CPU)
        out = f(jax.tree.map(lambda x: x[0], xs))
        return jax.tree.map(lambda x: jnp.asarray(x)[None], out)
    if at_once is None:
        at_once = 1 if jax.default_backend() == "cpu" else n
    if at_once >= n:
        return jax.vmap(f)(xs)
    return jax.lax.map(f, xs, batch_size=at_once if at_once > 1 else None)


def _count(xs: Any) -> int:
    return jax.tree.leaves(xs)[0].shape[0]


def place_students(
    trainable: Trainable,
    optimizer_state: Any = (),
    of: int = 0,
    *,
    cfg: ModelConfig,
    adapter: Adapter,
) -> tuple[Trainable, Any]:
    """The stacked students of one optimizer and its state, cut as the mesh says.

    `of` is the number of all students of the sweep, by which they are spread over `data` or not; 0
    leaves each on every place. So are students of one optimizer that `data` does not divide. A leaf
    of the state that stands for a trainable leaf (its path ends alike, in the same shape) is cut as
    that one is.
    """
    if axis_size(DATA) * axis_size(MODEL) == 1:
        return trainable, optimizer_state
    axes = {
        _names(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            trainable_axes(cfg, adapter), is_leaf=lambda x: isinstance(x, tuple)
        )
    }
    shapes = {_names(p): x.shape for p, x in jax.tree_util.tree_leaves_with_path(trainable)}

    def place(path: Any, x: jax.Array) -> jax.Array:
        names = _names(path)
        cut = [None] * (x.ndim - 1)
        for own, shape in shapes.items():
            if names[-len(own) :] == own and x.shape == shape:
                cut = list(weight_axes(axes[own], cfg, shape[1:]))
        divides = shards_students(of) and x.shape[0] % axis_size(RULES["students"]) == 0
        students = RULES["students"] if divides else None
        return jax.lax.with_sharding_constraint(x, PartitionSpec(students, *cut))

    return jax.tree_util.tree_map_with_path(place, (trainable, optimizer_state))


def _names(path: Any) -> Path:
    """The dict keys of a path: what stands between them (tuples, named states) is left out."""
    return tuple(entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))
