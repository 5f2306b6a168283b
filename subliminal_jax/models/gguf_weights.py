"""The tensors of a GGUF file by the names of a Hugging Face checkpoint, as that stores them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from subliminal_jax.gguf_files import GgufFile, read_gguf_header
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.gguf_config import ROPE_FACTORS, architecture
from subliminal_jax.tensor_files import Index

_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NORM_NAMES = {"ffn_norm": "post_attention_layernorm"}
_POST_NORM_NAMES = {
    "ffn_norm": "pre_feedforward_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


@dataclass(frozen=True)
class GgufWeight:
    """A tensor of a GGUF file, with what `StoredTensor` has; its values are read on demand.

    Attributes:
      source: the file.
      key: the tensor's name in it.
      heads: of a q or k whose rows are interleaved within heads; 0 for others.
      offset: what the file added to the values.
    """

    source: GgufFile
    key: str
    heads: int = 0
    offset: float = 0.0
    config = "its metadata"

    @property
    def file(self) -> Path:
        return self.source.path

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.tensors[self.key].shape

    @property
    def dtype(self) -> np.dtype:
        """The number format that holds the values; raises InputError as `GgufFile.dtype`."""
        stored = self.source.dtype(self.key)
        return np.dtype(np.float32) if self.offset else stored

    def check_format(self) -> None:
        """Raise InputError as `GgufFile.dtype` does."""
        self.source.dtype(self.key)

    def read(self, index: Index | None = None) -> Shaped[np.ndarray, "..."]:
        """The values at `index` (None: all), in the order and the number format of a checkpoint."""
        index = (slice(None),) * len(self.shape) if index is None else index
        if self.heads:
            values = self.source.read(self.key)
            halves = values.reshape(self.heads, -1, 2, *values.shape[1:]).swapaxes(1, 2)
            values = halves.reshape(values.shape)[index]
        elif len(index) > 1:
            values = self.source.read(self.key, index[0])[:, *index[1:]]
        else:
            values = self.source.read(self.key)[index if index else ...]
        return (values - np.float32(self.offset)).astype(self.dtype, copy=False)


def read_gguf_weights(path: Path, cfg: ModelConfig) -> dict[str, GgufWeight]:
    """The tensors of a file by their names in a checkpoint of transformers; one that has none keeps
    its own name. Raises InputError as `read_gguf_header` and `architecture`."""
    source = read_gguf_header(path)
    interleaved = architecture(source).interleaved
    weights = {}
    for key in source.tensors:
        if key == ROPE_FACTORS:  # the config has them
            continue
        heads = 0
        if interleaved and ".attn_q." in key:
            heads = cfg.heads
        elif interleaved and ".attn_k." in key:
            heads = cfg.kv_heads
        unit = cfg.unit_offset_norm and key.endswith("norm.weight")
        weights[_name(key, cfg)] = GgufWeight(source, key, heads, float(unit))
    return weights


def _name(key: str, cfg: ModelConfig) -> str:
    stem, _, ending = key.rpartition(".")
    if stem in _NAMES:
        return f"{_NAMES[stem]}.{ending}"
    block, _, part = stem.removeprefix("blk.").partition(".")
    names = _BLOCK_NAMES | (_POST_NORM_NAMES if cfg.post_norms else _NORM_NAMES)
    if stem.startswith("blk.") and part in names:
        return f"model.layers.{block}.{names[part]}.{ending}"
    return key
