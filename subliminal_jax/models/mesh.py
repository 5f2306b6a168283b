"""Where arrays lie: logical axes mapped to a device mesh with the axes `data` and `model`.

The mesh is JAX's own ambient one, and every function of the package follows it:

>>> with jax.set_mesh(make_mesh(data=4, model=2)):
...     model = load_model("shipped")
...     samples = generate(model.params, prompts, model.cfg, key, sampling)

Students or the rows of a batch are spread over `data`; heads, hidden units and the vocabulary over
`model` (Shoeybi et al. 2019, Megatron-LM, section 3). What does not divide by an axis is whole on
each of its places. Without a mesh nothing here does anything.
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
# Every logical axis that is ever cut; the others ("layers", "embed", "head") are whole everywhere.
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
        raise InputError(f"a mesh of {data} x {model} devices is none: give at least 1 each")
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
    """Make `make_mesh(data, model)` the ambient mesh of this process from now on.

    Nothing is set where that is a single device, and an ambient mesh that is there already stays.
    Raises InputError as `make_mesh` does, and where the ambient mesh is another one than asked for.
    """
    held = jax.sharding.get_mesh()
    if held.empty:
        mesh = make_mesh(data, model)
        if mesh.size > 1:
            jax.set_mesh(mesh)
        return
    given = (held.shape.get(DATA), held.shape.get(MODEL))
    if (data, model) not in ((None, 1), (None, given[1]), given):
        raise InputError(
            f"a mesh of {data or 'all'} x {model} devices is asked for, and the one set in this "
            f"process is {given[0]} x {given[1]}; leave one of them out"
        )


def places(axis: str) -> int:
    """The devices along `data` or `model` in the mesh of this call or program; 1 without a mesh.

    Also 1 inside a program that is already written for one place of the axis (`jax.shard_map`).
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or axis not in mesh.axis_names or axis in mesh.manual_axes:
        return 1
    return mesh.shape[axis]


def partition(axes: Sequence[str | None], sizes: Sequence[int]) -> PartitionSpec:
    """How an array of these logical axes is cut; `sizes` says into what each may be divided."""
    cuts: list[str | None] = []
    for axis, size in zip(axes, sizes, strict=True):
        place = RULES.get(axis) if axis is not None else None
        fits = place is not None and places(place) > 1 and size % places(place) == 0
        cuts.append(place if fits else None)
    return PartitionSpec(*cuts)


def spread(tree: Any, *axes: str | None) -> Any:
    """`tree` with the leading dimensions of every array cut as these logical axes say.

    The numbers are the same; arrays of which nothing can be cut are left to the compiler.
    """

    def one(x: Any) -> Any:
        cut = partition((*axes, *[None] * (x.ndim - len(axes))), x.shape)
        return x if not any(cut) else jax.lax.with_sharding_constraint(x, cut)

    return jax.tree.map(one, tree) if _several() else tree


def whole(tree: Any) -> Any:
    """`tree` with every array whole on each device: what any process may read."""
    if not _several():
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), tree)


def on_host(x: Any) -> np.ndarray:
    """`x` as a numpy array, gathered where its parts lie with several processes: all must call."""
    if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def weight_axes(axes: Sequence[str], cfg: ModelConfig, shape: Sequence[int]) -> PartitionSpec:
    """How a weight of `cfg` is cut: heads are never cut in themselves."""
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
    """`params`, wherever they lie, cut as the ambient mesh says; as they are without one."""
    shardings = param_shardings(cfg)
    if shardings is None:
        return params
    return jax.device_put(jax.tree.map(on_host, params), shardings)


def check_divides(cfg: ModelConfig) -> None:
    """Warns of what the axis `model` does not divide, which is then whole on every device; raises
    InputError where it divides nothing."""
    sizes = {
        "attention heads": cfg.heads,
        "key-value heads": cfg.kv_heads,
        "hidden units": cfg.mlp_dim,
        "tokens of the vocabulary": cfg.vocab,
    }
    n = places(MODEL)
    left = [f"{size} {name}" for name, size in sizes.items() if size % n]
    if len(left) == len(sizes):
        raise InputError(
            f"{n} devices on the axis model divide none of the model's {', '.join(left)}; "
            "choose another number"
        )
    if left:
        warnings.warn(
            f"{n} devices on the axis model do not divide the model's {', '.join(left)}: those "
            "weights are whole on every device",
            stacklevel=3,
        )


def _several() -> bool:
    return places(DATA) * places(MODEL) > 1
