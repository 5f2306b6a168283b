"""The trainable tree: all weights, LoRA factors, or one steering vector.

`init_trainable` makes it, `attach` turns base and trainable into what the forward pass takes.
Only the trainable tree is ever differentiated; its leaves are float32, the base keeps its dtype.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from subliminal_jax.bounds import (
    Items,
    Layer,
    Namer,
    Positive,
    Range,
    Text,
    as_argument,
    check_fields,
)
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.linear import LoraWeight, is_weight
from subliminal_jax.models.quantized import QuantizedWeight, refuse_quantized
from subliminal_jax.models.spec import ParamInfo, Params, spec
from subliminal_jax.models.steered import Steering, steer

PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
LARGEST_RANK = 65_536  # more than the width of any public model, beyond which a rank adds nothing
Trainable = dict[str, Any]


@dataclass(frozen=True)
class Full:
    """Every weight, in float32."""


@dataclass(frozen=True)
class LoRA:
    """Low-rank updates alpha/rank * a @ b of `targets` in `layers` (None: all of them).

    a is uniform in +-1/sqrt(in), as in PEFT, and b is zero (Hu et al. 2021, section 4.1). Both
    are stacked over the adapted layers in ascending order. `rslora` scales by alpha/sqrt(rank)
    (Kalajdzievski 2023, arXiv 2312.03732): updates then keep their size as the rank grows.

    Raises InputError for values out of range.
    """

    rank: Annotated[int, Range(1, LARGEST_RANK)] = 8
    alpha: Positive = 16.0
    targets: Annotated[tuple[str, ...], Items(1), Text(choices=PROJECTIONS)] = PROJECTIONS
    layers: Annotated[tuple[int, ...] | None, Items(1), Range(0, 9_999)] = None
    rslora: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def scale(self) -> float:
        """The factor on a @ b."""
        return self.scale_of(self.rank)

    def scale_of(self, rank: int) -> float:
        """The factor at another rank."""
        return self.alpha / (math.sqrt(rank) if self.rslora else rank)


@dataclass(frozen=True)
class Vector:
    """A single vector added after block `layer`, zero at the start.

    Raises InputError for a negative layer.
    """

    layer: Layer

    def __post_init__(self) -> None:
        check_fields(self)


Adapter = Full | LoRA | Vector


def check_layers(
    adapter: Adapter, cfg: ModelConfig, name: Namer = as_argument, field: str = "layers"
) -> None:
    """Raises InputError for layers of the adapter that the model does not have.

    Args:
      name, field: how the message names LoRA's layers.
    """
    if isinstance(adapter, Vector):
        cfg.check_layer(adapter.layer)
    elif isinstance(adapter, LoRA):
        for layer in adapter.layers or ():
            if layer >= cfg.layers:
                raise InputError(
                    f"{name(field, adapter.layers)}: layer {layer} is out of range: the model has "
                    f"{cfg.layers} layers; choose 0 to {cfg.layers - 1}"
                )


def find_targets(adapter: LoRA, cfg: ModelConfig) -> tuple[str, ...]:
    """The projections of a model that are adapted: of the default, all of them, those it has.

    Raises InputError for a projection that was asked for and that the model does not have.
    """
    layers = spec(cfg)["layers"]
    absent = [name for name in adapter.targets if name not in layers]
    if absent and adapter.targets != PROJECTIONS:
        raise InputError(
            f"targets {' '.join(adapter.targets)}: models of the family {cfg.family} have no "
            f"{absent[0]}; leave it out"
        )
    return tuple(name for name in adapter.targets if name in layers)


def check_rank(adapter: Adapter, cfg: ModelConfig, name: Namer = as_argument) -> None:
    """Raises InputError for a rank above that of every adapted matrix, which can add nothing."""
    if isinstance(adapter, LoRA):
        infos = spec(cfg)["layers"]
        largest = max(min(infos[target].shape[1:]) for target in find_targets(adapter, cfg))
        if adapter.rank > largest:
            raise InputError(
                f"{name('rank', adapter.rank)} is above the rank of the adapted matrices, which is "
                f"{largest} at most: give a smaller one"
            )


def trainable_count(adapter: Adapter, cfg: ModelConfig) -> int:
    """How many weights one student trains."""
    infos = spec(cfg)
    if isinstance(adapter, Full):
        leaves = jax.tree.leaves(infos, is_leaf=lambda x: isinstance(x, ParamInfo))
        return sum(math.prod(leaf.shape) for leaf in leaves)
    if isinstance(adapter, Vector):
        return cfg.dim
    targets = find_targets(adapter, cfg)
    sides = sum(sum(infos["layers"][target].shape[1:]) for target in targets)
    return adapter.rank * sides * len(_adapted_layers(adapter, cfg))


def init_trainable(
    key: PRNGKeyArray, params: Params, cfg: ModelConfig, adapter: Adapter
) -> Trainable:
    """The trainable tree at the start, which leaves the model as it is.

    A projection's LoRA factors depend on the key, its name, the rank and the number of layers,
    not on the other targets. Raises InputError as `check_layers` does, and for all weights of a
    quantized model.
    """
    check_layers(adapter, cfg)
    if isinstance(adapter, Full):
        refuse_quantized(params, "training of all weights")
        return jax.tree.map(lambda w: jnp.array(w, jnp.float32), params)
    if isinstance(adapter, Vector):
        return {"vector": jnp.zeros((cfg.dim,), jnp.float32)}
    n = len(_adapted_layers(adapter, cfg))
    factors = {}
    for name in find_targets(adapter, cfg):
        rows, cols = params["layers"][name].shape[1:]
        bound, shape = rows**-0.5, (n, rows, adapter.rank)
        subkey = jax.random.fold_in(key, PROJECTIONS.index(name))
        factors[name] = {
            "a": jax.random.uniform(subkey, shape, jnp.float32, -bound, bound),
            "b": jnp.zeros((n, adapter.rank, cols), jnp.float32),
        }
    return {"layers": factors}


def trainable_axes(cfg: ModelConfig, adapter: Adapter) -> dict[str, Any]:
    """The logical axes of every leaf of the trainable tree (`models.mesh`): a LoRA factor is
    sharded as its weight is, and never along its rank."""
    axes = jax.tree.map(
        lambda info: info.axes, spec(cfg), is_leaf=lambda x: isinstance(x, ParamInfo)
    )
    if isinstance(adapter, Full):
        return axes
    if isinstance(adapter, Vector):
        return {"vector": ("embed",)}
    factors = {}
    for name in find_targets(adapter, cfg):
        _, rows, cols = axes["layers"][name]
        factors[name] = {"a": ("layers", rows, "rank"), "b": ("layers", "rank", cols)}
    return {"layers": factors}


def attach(
    params: Params,
    trainable: Trainable,
    cfg: ModelConfig,
    adapter: Adapter,
    scale: Float[Array, ""] | float | None = None,
) -> tuple[Params, Steering | None]:
    """(params, steering) of the student. `scale` overrides LoRA's own (mixed ranks)."""
    if isinstance(adapter, Full):
        return jax.tree.map(lambda w, t: t.astype(w.dtype), params, trainable), None
    if isinstance(adapter, Vector):
        return params, steer(trainable["vector"], adapter.layer)
    layers = dict(params["layers"])
    adapted = _adapted_layers(adapter, cfg)
    scales = jnp.broadcast_to(jnp.asarray(adapter.scale if scale is None else scale), (cfg.layers,))
    for name, factors in trainable["layers"].items():
        a, b = factors["a"], factors["b"]
        if len(adapted) < cfg.layers:
            layer_ids = jnp.asarray(adapted)
            a = jnp.zeros((cfg.layers, *a.shape[1:]), a.dtype).at[layer_ids].set(a)
            b = jnp.zeros((cfg.layers, *b.shape[1:]), b.dtype).at[layer_ids].set(b)
        layers[name] = LoraWeight(params["layers"][name], a, b, scales)
    return {**params, "layers": layers}, None


def merge(params: Params) -> Params:
    """`params` with every LoRA weight merged into one matrix; those of a quantized base stay."""

    def merge_one(w: Any) -> Any:
        whole = isinstance(w, LoraWeight) and not isinstance(w.base, QuantizedWeight)
        return w.merge() if whole else w

    return jax.tree.map(merge_one, params, is_leaf=is_weight)


def pad_rank(trainable: Trainable, rank: int) -> Trainable:
    """LoRA factors a [..., in, r] and b [..., r, out] with zeros up to `rank`; they act the same.

    The gradient of the padding is zero too, since each factor's is a multiple of the other.
    """

    def pad(leaf: Array, axis: int) -> Array:
        widths = [(0, 0)] * leaf.ndim
        widths[axis] = (0, rank - leaf.shape[axis])
        return jnp.pad(leaf, widths)

    layers = trainable["layers"].items()
    return {"layers": {name: {"a": pad(f["a"], -1), "b": pad(f["b"], -2)} for name, f in layers}}


def unpad_rank(trainable: Trainable, like: Trainable) -> Trainable:
    """The inverse of `pad_rank`: `trainable` cut to the shapes of `like`."""
    return jax.tree.map(lambda x, y: x[tuple(slice(n) for n in y.shape)], trainable, like)


def _adapted_layers(adapter: LoRA, cfg: ModelConfig) -> tuple[int, ...]:
    if adapter.layers is None:
        return tuple(range(cfg.layers))
    return tuple(cfg.check_layer(layer) for layer in sorted(set(adapter.layers)))
