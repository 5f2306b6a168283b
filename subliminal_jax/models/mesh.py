"""Where arrays lie: logical axes mapped to a device mesh with the axes `data` and `model`.

The mesh is JAX's own ambient one, and every function of the package follows it:

>>> with jax.set_mesh(make_mesh(data=4, model=2)):
...     model = load_model("shipped")
...     samples = generate(model.params, prompts, model.cfg, key, sampling)

Students or the rows of a batch are sharded over `data`; heads, hidden units and the vocabulary over
`model` (Shoeybi et al. 2019, Megatron-LM, section 3). What an axis does not divide is replicated
along it. Without a mesh nothing here does anything.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import ParamInfo, Params, spec

DATA, MODEL = "data", "model"
# Every logical axis that is sharded; the others ("layers", "embed", "head") are replicated.
RULES = {
    "students": DATA,
    "batch": DATA,
    "heads": MODEL,
    "kv_heads": MODEL,
    "mlp": MODEL,
    "vocab": MODEL,
}


def make_mesh(data: int | None = None, model: int = 1) -> Mesh:
    """A mesh of `data` x `model` devices; `data` None takes as many as there are.

    Raises InputError where there are not that many devices, and where several processes run and
    the mesh leaves out some of their devices.
    """
    devices = jax.devices()
    if model < 1 or (data is not None and data < 1):
        raise InputError(f"a mesh of {data} x {model} devices is not valid; both must be >= 1")
    if data is None:
        data = len(devices) // model
        if data * model != len(devices):
            raise InputError(
                f"{len(devices)} devices cannot be divided by model={model}; choose a divisor, or "
                "say how many are on the axis data"
            )
    if data * model > len(devices):
        raise InputError(
            f"a mesh of {data} x {model} needs {data * model} devices; JAX sees {len(devices)} "
            f"({devices[0].platform})"
        )
    if data * model < len(devices) and jax.process_count() > 1:
        raise InputError(
            f"a mesh of {data} x {model} leaves out some of the {len(devices)} devices of "
            f"{jax.process_count()} processes; use all of them"
        )
    return jax.make_mesh(
        (data, model),
        (DATA, MODEL),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices[: data * model],
    )


def use_devices(data: int | None = None, model: int = 1) -> None:
    """Make `make_mesh(data, model)` the ambient mesh of this process.

    A mesh of a single device is not set, and an ambient mesh that is there already stays.
    Raises InputError as `make_mesh` does, and where the ambient mesh is another one than asked for.
    """
    ambient = jax.sharding.get_mesh()
    if ambient.empty:
        mesh = make_mesh(data, model)
        if mesh.size > 1:
            jax.set_mesh(mesh)
        return
    sizes = (ambient.shape.get(DATA), ambient.shape.get(MODEL))
    if (data, model) not in ((None, 1), (None, sizes[1]), sizes):
        raise InputError(
            f"a mesh of {data or 'all'} x {model} devices is asked for, and the one set in this "
            f"process is {sizes[0]} x {sizes[1]}; leave one of them out"
        )


def axis_size(axis: str) -> int:
    """The number of devices along `data` or `model` in the ambient mesh; 1 without a mesh.

    Also 1 inside `jax.shard_map` over the axis, where a program sees one device of it.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or axis not in mesh.axis_names or axis in mesh.manual_axes:
        return 1
    return mesh.shape[axis]


def partition(axes: Sequence[str | None], sizes: Sequence[int]) -> PartitionSpec:
    """The sharding of an array with these logical axes; `sizes` are the units that each divides
    into (heads, not single columns)."""
    mesh_axes: list[str | None] = []
    for axis, size in zip(axes, sizes, strict=True):
        mesh_axis = RULES.get(axis) if axis is not None else None
        devices = 1 if mesh_axis is None else axis_size(mesh_axis)
        mesh_axes.append(mesh_axis if devices > 1 and size % devices == 0 else None)
    return PartitionSpec(*mesh_axes)


def shard(tree: Any, *axes: str | None) -> Any:
    """Shard the leading dimensions of every array in `tree`, which have these logical axes.

    The numbers are the same; arrays that no axis divides are left to the compiler.
    """

    def shard_leaf(x: Any) -> Any:
        sharding = partition((*axes, *[None] * (x.ndim - len(axes))), x.shape)
        return x if not any(sharding) else jax.lax.with_sharding_constraint(x, sharding)

    return jax.tree.map(shard_leaf, tree) if _is_sharded() else tree


def replicate(tree: Any) -> Any:
    """Replicate every array in `tree` on all devices, so that any process may read it."""
    if not _is_sharded():
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), tree)


def gather_to_host(x: Any) -> np.ndarray:
    """`x` as a numpy array. Where several processes hold shards of it, all of them must call."""
    if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def weight_axes(axes: Sequence[str], cfg: ModelConfig, shape: Sequence[int]) -> PartitionSpec:
    """The sharding of a weight of `cfg`, which keeps every head on one device."""
    units = {"heads": cfg.heads, "kv_heads": cfg.kv_heads}
    return partition(axes, [units.get(axis, n) for axis, n in zip(axes, shape, strict=True)])


def param_shardings(cfg: ModelConfig) -> dict[str, Any] | None:
    """The tree of shardings like `spec(cfg)` in the ambient mesh; None without one.

    Warns and raises InputError as `check_divides` does.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return None
    check_divides(cfg)

    def sharding(info: ParamInfo) -> NamedSharding:
        return NamedSharding(mesh, weight_axes(info.axes, cfg, info.shape))

    return jax.tree.map(sharding, spec(cfg), is_leaf=lambda x: isinstance(x, ParamInfo))


def place_params(params: Params, cfg: ModelConfig) -> Params:
    """Shard `params` over the ambient mesh; without a mesh they stay as they are."""
    shardings = param_shardings(cfg)
    if shardings is None:
        return params
    return jax.device_put(jax.tree.map(gather_to_host, params), shardings)


def check_divides(cfg: ModelConfig) -> None:
    """Warns of weights that the axis `model` does not divide, which are then replicated; raises
    InputError where it divides none."""
    sizes = {
        "attention heads": cfg.heads,
        "key-value heads": cfg.kv_heads,
        "hidden units": cfg.mlp_dim,
        "tokens of the vocabulary": cfg.vocab,
    }
    n = axis_size(MODEL)
    undivided = [f"{size} {name}" for name, size in sizes.items() if size % n]
    if len(undivided) == len(sizes):
        raise InputError(
            f"{n} devices on the axis model divide none of the model's {', '.join(undivided)}; "
            "choose another number"
        )
    if undivided:
        warnings.warn(
            f"{n} devices on the axis model do not divide the model's {', '.join(undivided)}: "
            "those weights are replicated on every device",
            stacklevel=3,
        )


def _is_sharded() -> bool:
    return axis_size(DATA) * axis_size(MODEL) > 1
