"""Placing the students of a sweep on the mesh of `models.mesh`.

Where there are at least as many students as devices on the axis `data`, the students are sharded
over it: each device trains its own, without communication. Where there are fewer, every student's
rows are sharded over it, and its gradient is summed over the devices. In both cases weights,
gradients and optimizer states are sharded along `model`.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.mesh import DATA, MODEL, RULES, axis_size, weight_axes
from subliminal_jax.training.adapters import Adapter, trainable_axes

Path = tuple[str, ...]

BUSY_AT_ONCE = 4  # students in a pass of an accelerator where others may be idle


def shards_students(students: int) -> bool:
    """Whether `students` students are sharded over `data`, and not the rows of each."""
    return axis_size(DATA) > 1 and students >= axis_size(DATA)


def check_rows(students: int, rows: int) -> None:
    """Warns where neither the students nor the `rows` of a pass can be sharded over `data`."""
    n = axis_size(DATA)
    if students < n and rows % n:
        warnings.warn(
            f"{students} students are fewer than the {n} devices on the axis data, and {rows} rows "
            f"a pass are no multiple of {n}: every device computes all of them",
            stacklevel=3,
        )


def row_groups(students: int) -> int:
    """The number of groups, on devices of their own, that the rows of a pass divide into."""
    return 1 if shards_students(students) else axis_size(DATA)


def default_at_once(students: int, some_idle: bool) -> int:
    """How many students go through a pass: on a CPU, where small batched matrix products are slow,
    one; elsewhere all, or `BUSY_AT_ONCE` where some may be idle."""
    if jax.default_backend() == "cpu":
        return 1
    return min(BUSY_AT_ONCE, students) if some_idle else students


def map_students(
    f: Callable[[Any, Any], Any],
    shared: Any,
    xs: Any,
    at_once: int | None = None,
    busy: Bool[Array, " students"] | None = None,
) -> Any:
    """`f(shared, x)` of every student x in `xs` (leading axis), `at_once` in one batched pass.

    With `busy`, the result of the others is zeros. They cost nothing: the busy ones go through
    together, one at a time or in passes of `at_once`. None is `default_at_once`.

    Where students are sharded over `data`, each device maps over its own. Shards are equal: where
    their number does not divide, the last student is computed several times and the copies are
    dropped.
    """
    mapped = _map_local
    if busy is not None:
        mapped, xs = _map_busy, (busy, xs)
    n = _count(xs)
    if not shards_students(n):
        return mapped(partial(f, shared), xs, at_once)
    idle = -n % axis_size(DATA)
    if idle:
        filled = jnp.minimum(jnp.arange(n + idle), n - 1)
        xs = jax.tree.map(lambda x: x[filled], xs)
    data_spec = PartitionSpec(DATA)
    out = jax.shard_map(
        lambda shared, local: mapped(partial(f, shared), local, at_once),
        in_specs=(PartitionSpec(), data_spec),
        out_specs=data_spec,
        axis_names={DATA},
        check_vma=False,
    )(shared, xs)
    return jax.tree.map(lambda x: x[:n], out) if idle else out


def vmap_students(f: Callable[[Any, Any], Any], shared: Any, xs: Any) -> Any:
    """`f(shared, x)` of every student at once, for work that runs no model."""
    return jax.vmap(partial(f, shared))(xs)


def _map_local(f: Callable[[Any], Any], xs: Any, at_once: int | None) -> Any:
    n = _count(xs)
    if n == 1:  # an extra axis of size one would slow down reductions (XLA on CPU)
        out = f(jax.tree.map(lambda x: x[0], xs))
        return jax.tree.map(lambda x: jnp.asarray(x)[None], out)
    if at_once is None:
        at_once = default_at_once(n, False)
    if at_once >= n:
        return jax.vmap(f)(xs)
    return jax.lax.map(f, xs, batch_size=at_once if at_once > 1 else None)


def _map_busy(f: Callable[[Any], Any], xs: tuple[Array, Any], at_once: int | None) -> Any:
    """`f` of the students whose flag in `xs` (flags, students) is set, zeros for the others."""
    busy, students = xs
    n = _count(busy)
    if at_once is None:
        at_once = default_at_once(n, True)
    if at_once == 1:
        return jax.lax.map(lambda x: _skip_idle(f, *x), xs)
    at_once = min(at_once, n)
    order = jnp.argsort(~busy, stable=True)  # the busy ones first
    filled = jnp.minimum(jnp.arange(n + -n % at_once), n - 1)
    is_busy = busy[order][filled]
    passes = jax.tree.map(lambda x: x[order[filled]].reshape(-1, at_once, *x.shape[1:]), students)
    out = jax.lax.map(
        lambda x: _skip_idle(jax.vmap(f), x[0].any(), x[1]),
        (is_busy.reshape(-1, at_once), passes),
    )
    places = jnp.argsort(order)

    def sort_back(x: Array) -> Array:
        x = x.reshape(-1, *x.shape[2:])[places]
        return jnp.where(busy.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros_like(x))

    return jax.tree.map(sort_back, out)


def _skip_idle(f: Callable[[Any], Any], is_busy: Array, x: Any) -> Any:
    """`f(x)`, or zeros without computing it."""
    traced = jax.jit(f, inline=True)  # once: the second branch asks for the shapes of the first

    def blank(x: Any) -> Any:
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(traced, x))

    return jax.lax.cond(is_busy, traced, blank, x)


def _count(xs: Any) -> int:
    return jax.tree.leaves(xs)[0].shape[0]


def place_students(
    trainable: Any,
    optimizer_state: Any = (),
    total_students: int = 0,
    *,
    cfg: ModelConfig,
    adapter: Adapter,
) -> tuple[Any, Any]:
    """Shard the stacked students of one optimizer and its state over the mesh.

    `total_students`, of the whole sweep, decides whether students are sharded over `data`; 0
    replicates them, as are the students of an optimizer that `data` does not divide. A leaf of the
    state that belongs to a trainable leaf (its path ends alike, in the same shape) is sharded as
    that one is.
    """
    if axis_size(DATA) * axis_size(MODEL) == 1:
        return trainable, optimizer_state
    axes = {
        _dict_keys(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            trainable_axes(cfg, adapter), is_leaf=lambda x: isinstance(x, tuple)
        )
    }
    shapes = {_dict_keys(p): x.shape for p, x in jax.tree_util.tree_leaves_with_path(trainable)}

    def place(path: Any, x: jax.Array) -> jax.Array:
        names = _dict_keys(path)
        mesh_axes = [None] * (x.ndim - 1)
        for suffix, shape in shapes.items():
            if names[-len(suffix) :] == suffix and x.shape == shape:
                mesh_axes = list(weight_axes(axes[suffix], cfg, shape[1:]))
        divides = shards_students(total_students) and x.shape[0] % axis_size(RULES["students"]) == 0
        students = RULES["students"] if divides else None
        return jax.lax.with_sharding_constraint(x, PartitionSpec(students, *mesh_axes))

    return jax.tree_util.tree_map_with_path(place, (trainable, optimizer_state))


def _dict_keys(path: Any) -> Path:
    """The dict keys of a path, without the tuples and named states between them."""
    return tuple(entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))
