"""One tree that describes every parameter: shape, logical axes, initialiser, Hugging Face name.

Initialisation, shardings, the load target and the tests' fixtures all come from `spec(cfg)`.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from subliminal_jax.models.config import ModelConfig

Params = dict[str, Any]


@dataclass(frozen=True)
class ParamInfo:
    """A parameter. `axes` are logical axis names, mapped to a device mesh in one place.

    `hf_name` has `{layer}` for leaves that are stacked over layers on axis 0; `transposed` says
    that the checkpoint stores the matrix as [out, in].
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    initializer: Literal["normal", "norm", "zeros"]
    hf_name: str
    transposed: bool = False

    @property
    def stacked(self) -> bool:
        return self.axes[0] == "layers"


def spec(cfg: ModelConfig) -> dict[str, Any]:
    """The tree of `ParamInfo` that mirrors the parameter tree of `cfg`."""
    L, D, F = cfg.layers, cfg.dim, cfg.mlp_dim
    Q, K = cfg.heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim

    def norm(name: str, size: int = D, axis: str = "embed") -> ParamInfo:
        return ParamInfo(
            (L, size), ("layers", axis), "norm", f"model.layers.{{layer}}.{name}.weight"
        )

    def matrix(name: str, rows: int, cols: int, axes: tuple[str, str]) -> ParamInfo:
        hf = f"model.layers.{{layer}}.{name}.weight"
        return ParamInfo((L, rows, cols), ("layers", *axes), "normal", hf, transposed=True)

    def bias(name: str, size: int, axis: str) -> ParamInfo:
        return ParamInfo(
            (L, size), ("layers", axis), "zeros", f"model.layers.{{layer}}.{name}.bias"
        )

    layers = {
        "attn_norm": norm("input_layernorm"),
        "q": matrix("self_attn.q_proj", D, Q, ("embed", "heads")),
        "k": matrix("self_attn.k_proj", D, K, ("embed", "kv_heads")),
        "v": matrix("self_attn.v_proj", D, K, ("embed", "kv_heads")),
        "o": matrix("self_attn.o_proj", Q, D, ("heads", "embed")),
        "gate": matrix("mlp.gate_proj", D, F, ("embed", "mlp")),
        "up": matrix("mlp.up_proj", D, F, ("embed", "mlp")),
        "down": matrix("mlp.down_proj", F, D, ("mlp", "embed")),
    }
    if cfg.qkv_bias:
        layers["q_bias"] = bias("self_attn.q_proj", Q, "heads")
        layers["k_bias"] = bias("self_attn.k_proj", K, "kv_heads")
        layers["v_bias"] = bias("self_attn.v_proj", K, "kv_heads")
    if cfg.qk_norm:
        layers["q_norm"] = norm("self_attn.q_norm", cfg.head_dim, "head")
        layers["k_norm"] = norm("self_attn.k_norm", cfg.head_dim, "head")
    if cfg.post_norms:
        layers["post_attn_norm"] = norm("post_attention_layernorm")
        layers["mlp_norm"] = norm("pre_feedforward_layernorm")
        layers["post_mlp_norm"] = norm("post_feedforward_layernorm")
    else:
        layers["mlp_norm"] = norm("post_attention_layernorm")
    tree: dict[str, Any] = {
        "embed": ParamInfo(
            (cfg.vocab, D), ("vocab", "embed"), "normal", "model.embed_tokens.weight"
        ),
        "layers": layers,
        "final_norm": ParamInfo((D,), ("embed",), "norm", "model.norm.weight"),
    }
    if not cfg.tied:
        tree["lm_head"] = ParamInfo(
            (D, cfg.vocab), ("embed", "vocab"), "normal", "lm_head.weight", transposed=True
        )
    return tree


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
        subkey = jax.random.fold_in(key, zlib.crc32(info.hf_name.encode()))
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
