"""One tree that describes every parameter: shape, logical axes, initialiser, Hugging Face name.

Initialisation, shardings, the load target and the tests' fixtures all come from `spec(cfg)`.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, Shaped

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.families import FAMILIES

Params = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """The rows [start, stop) of each of `groups` groups of `rows` rows of a stored tensor."""

    groups: int
    rows: int
    start: int
    stop: int

    def of(self, stored: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "groups part ..."]:
        """A view of this part of a stored tensor."""
        whole = stored.reshape(self.groups, self.rows, *stored.shape[1:])
        return whole[:, self.start : self.stop]


@dataclass(frozen=True)
class ParamInfo:
    """A parameter. `axes` are logical axis names, mapped to a device mesh in one place.

    `hf_name` has `{layer}` for leaves that are stacked over layers on axis 0; `transposed` says
    that the checkpoint stores the matrix as [out, in]. `part` is what this is of the checkpoint's
    tensor, None all of it.
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    initializer: Literal["normal", "norm", "zeros"]
    hf_name: str
    transposed: bool = False
    part: "Part | None" = None

    @property
    def stacked(self) -> bool:
        return self.axes[0] == "layers"


def spec(cfg: ModelConfig) -> dict[str, Any]:
    """The tree of `ParamInfo` that mirrors the parameter tree of `cfg`."""
    L, D, F = cfg.layers, cfg.dim, cfg.mlp_dim
    Q, K = cfg.heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim

    def norm(name: str, size: int = D, axis: str = "embed") -> ParamInfo:
        hf = f"model.layers.{{layer}}.{name}.weight"
        return ParamInfo((L, size), ("layers", axis), "norm", hf)

    def matrix(name: str, rows: int, cols: int, axes: tuple[str, str]) -> ParamInfo:
        hf = f"model.layers.{{layer}}.{name}.weight"
        return ParamInfo((L, rows, cols), ("layers", *axes), "normal", hf, transposed=True)

    def bias(name: str, size: int = D, axis: str = "embed") -> ParamInfo:
        hf = f"model.layers.{{layer}}.{name}.bias"
        return ParamInfo((L, size), ("layers", axis), "zeros", hf)

    layers = {
        "q": matrix("self_attn.q_proj", D, Q, ("embed", "heads")),
        "k": matrix("self_attn.k_proj", D, K, ("embed", "kv_heads")),
        "v": matrix("self_attn.v_proj", D, K, ("embed", "kv_heads")),
        "o": matrix("self_attn.o_proj", Q, D, ("heads", "embed")),
        "up": matrix("mlp.up_proj", D, F, ("embed", "mlp")),
        "down": matrix("mlp.down_proj", F, D, ("mlp", "embed")),
    }
    if cfg.gated:
        layers["gate"] = matrix("mlp.gate_proj", D, F, ("embed", "mlp"))
    if cfg.qkv_bias:
        layers["q_bias"] = bias("self_attn.q_proj", Q, "heads")
        layers["k_bias"] = bias("self_attn.k_proj", K, "kv_heads")
        layers["v_bias"] = bias("self_attn.v_proj", K, "kv_heads")
    if cfg.other_biases:
        layers["o_bias"] = bias("self_attn.o_proj")
        layers["up_bias"] = bias("mlp.up_proj", F, "mlp")
        layers["down_bias"] = bias("mlp.down_proj")
    if cfg.joint_qk_norm:
        layers["q_norm"] = norm("self_attn.q_norm", Q, "heads")
        layers["k_norm"] = norm("self_attn.k_norm", K, "kv_heads")
    elif cfg.qk_norm:
        layers["q_norm"] = norm("self_attn.q_norm", cfg.head_dim, "head")
        layers["k_norm"] = norm("self_attn.k_norm", cfg.head_dim, "head")
    if cfg.pre_norms:
        layers["attn_norm"] = norm("input_layernorm")
        before_mlp = "pre_feedforward" if cfg.post_norms else "post_attention"
        layers["mlp_norm"] = norm(f"{before_mlp}_layernorm")
    if cfg.post_norms:
        layers["post_attn_norm"] = norm("post_attention_layernorm")
        layers["post_mlp_norm"] = norm("post_feedforward_layernorm")
    tree: dict[str, Any] = {
        "embed": ParamInfo(
            (cfg.vocab, D), ("vocab", "embed"), "normal", "model.embed_tokens.weight"
        ),
        "layers": layers,
        "final_norm": ParamInfo((D,), ("embed",), "norm", "model.norm.weight"),
    }
    if cfg.layer_norm:
        layers["attn_norm_bias"] = bias("input_layernorm")
        layers["mlp_norm_bias"] = bias("post_attention_layernorm")
        tree["final_norm_bias"] = ParamInfo((D,), ("embed",), "zeros", "model.norm.bias")
    if not cfg.tied:
        tree["lm_head"] = ParamInfo(
            (D, cfg.vocab), ("embed", "vocab"), "normal", "lm_head.weight", transposed=True
        )
    _rename(tree, cfg)
    return tree


def _rename(tree: dict[str, Any], cfg: ModelConfig) -> None:
    """Give the parameters the names that they have in checkpoints of their family."""
    family = FAMILIES[cfg.family]
    for branch in (tree, tree["layers"]):
        for name in family.names.keys() & branch.keys():
            branch[name] = replace(branch[name], hf_name=family.names[name])
    layers = tree["layers"]
    groups = cfg.heads if family.fused_by_head else 1
    for stored, names in family.fused.items():
        sizes = [layers[name].shape[-1] // groups for name in names]
        for i, name in enumerate(names):
            part = Part(groups, sum(sizes), sum(sizes[:i]), sum(sizes[: i + 1]))
            layers[name] = replace(layers[name], hf_name=stored, part=part)


def leaves(cfg: ModelConfig) -> Iterator[tuple[tuple[str, ...], ParamInfo]]:
    """(path, info) of every parameter, in the tree's order."""
    for path, info in jax.tree_util.tree_leaves_with_path(
        spec(cfg), is_leaf=lambda x: isinstance(x, ParamInfo)
    ):
        yield tuple(entry.key for entry in path), info


def init_params(
    key: PRNGKeyArray, cfg: ModelConfig, dtype: Any = jnp.float32, std: float = 0.02
) -> Params:
    """Random parameters: matrices N(0, std^2), norms one (zero where they are 1 + w), biases zero.

    The matrices that write into the residual stream (o, down) are scaled by 1/sqrt(2 layers), as
    in GPT-2. A leaf's key depends on its name alone, so the order of the tree does not matter.
    """

    def leaf(path: tuple[Any, ...], info: ParamInfo) -> Array:
        name = path[-1].key
        if info.initializer == "norm":
            return jnp.full(info.shape, 0.0 if cfg.unit_offset_norm else 1.0, dtype)
        if info.initializer == "zeros":
            return jnp.zeros(info.shape, dtype)
        scale = std / (2 * cfg.layers) ** 0.5 if name in ("o", "down") else std
        seed = info.hf_name if info.part is None else f"{info.hf_name}:{name}"
        subkey = jax.random.fold_in(key, zlib.crc32(seed.encode()))
        return (scale * jax.random.normal(subkey, info.shape, jnp.float32)).astype(dtype)

    return jax.tree_util.tree_map_with_path(
        leaf, spec(cfg), is_leaf=lambda x: isinstance(x, ParamInfo)
    )


def parameter_count(cfg: ModelConfig) -> int:
    """Number of scalars in the parameter tree."""
    return sum(_size(info.shape) for _, info in leaves(cfg))


def _size(shape: tuple[int, ...]) -> int:
    n = 1
    for axis in shape:
        n *= axis
    return n
