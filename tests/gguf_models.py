"""Writes tiny GGUF models, by the names and number formats of the package `gguf`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params, leaves

BYTES = [chr(b) for b in range(33, 127)] + [chr(b) for b in (*range(161, 173), *range(174, 256))]
BYTES += [chr(256 + i) for i in range(256 - len(BYTES))]  # of byte-level BPE, in GPT-2's order
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "Ġ hello", "1 2", "Ġ Ġ", "' s"]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<turn>", "<end>"]
WORDS = [
    "\u2581",
    "a",
    "b",
    "c",
    "ab",
    "bc",
    "abc",
    "\u2581ab",
    "he",
    "hell",
    "hello",
    "\u2581hello",
    "ll",
    "o",
]
CHAT = (
    "{% for m in messages %}{{ '<turn>' + m['role'] + '\n' + m['content'] + '<end>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"
)
VOCABULARY = 320


def byte_level(pre: str = "smollm", **more: Any) -> dict[str, Any]:
    """The fields `tokenizer.ggml.*` of a byte-level tokenizer."""
    tokens = [*SPECIAL, *BYTES, *("".join(merge.split()) for merge in MERGES)]
    types = [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL))
    return _fill({"model": "gpt2", "pre": pre, "merges": MERGES}, tokens, types) | more


def sentence_piece(**more: Any) -> dict[str, Any]:
    """The fields `tokenizer.ggml.*` of a SentencePiece tokenizer: control, byte, user-defined and
    normal tokens, which are the better the longer they are."""
    letters = [chr(b) for b in range(100, 123) if chr(b) != "o"]
    tokens = [*SPECIAL, *(f"<0x{b:02X}>" for b in range(256)), "\n\n", *WORDS, *letters]
    types = [3] * 3 + [2] + [3] * 2 + [6] * 256 + [4] + [1] * len([*WORDS, *letters])
    fields = _fill({"model": "llama", "add_bos_token": True}, tokens, types)
    scores = [-100.0 + len(t) - i / 1000 for i, t in enumerate(fields["tokens"])]
    return fields | {"scores": scores} | more


def _fill(fields: dict[str, Any], tokens: list[str], types: list[int]) -> dict[str, Any]:
    left = VOCABULARY - len(tokens)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 3, "padding_token_id": 0}
    return {
        **fields,
        **ids,
        "tokens": [*tokens, *(f"[PAD{i}]" for i in range(left))],
        "token_type": [*types, *[5] * left],
    }


def random_params(cfg: ModelConfig, seed: int = 0) -> Params:
    """Parameters of NumPy in which every tensor counts; nothing is compiled."""
    rng = np.random.default_rng(seed)
    tree: Params = {}
    for path, info in leaves(cfg):
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = 0.15 * rng.standard_normal(info.shape, np.float32)
    return tree


def describe(cfg: ModelConfig) -> dict[str, Any]:
    """The metadata of a model as llama.cpp's converter writes it, by the ends of its keys."""
    rope = cfg.rope
    fields: dict[str, Any] = {
        "context_length": cfg.context,
        "embedding_length": cfg.dim,
        "block_count": cfg.layers,
        "feed_forward_length": cfg.mlp_dim,
        "vocab_size": cfg.vocab,
        "attention.head_count": cfg.heads,
        "attention.head_count_kv": cfg.kv_heads,
        "attention.key_length": cfg.head_dim,
        "attention.value_length": cfg.head_dim,
        "attention.layer_norm_rms_epsilon": float(cfg.norm_eps),
        "rope.freq_base": rope.theta,
    }
    if rope.kind == "linear":
        fields |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope.factor}
    elif rope.kind == "llama3":
        fields["rope.scaling.original_context_length"] = rope.original_context
    if cfg.window is not None:
        fields["attention.sliding_window"] = cfg.window
    if cfg.family == "gemma3":
        fields["attention.sliding_window_pattern"] = list(cfg.sliding)
    for key, cap in (("attn", cfg.attention_softcap), ("final", cfg.final_softcap)):
        if cap is not None:
            fields[f"{key}_logit_softcapping"] = float(cap)
    return fields


def name_tensors(params: Params, cfg: ModelConfig) -> dict[str, np.ndarray]:
    """The tensors of a model as a file of transformers has them, float32, by name."""
    tensors = {}
    for path, info in leaves(cfg):
        leaf: Any = params
        for key in path:
            leaf = leaf[key]
        for layer, matrix in enumerate(np.asarray(leaf, np.float32)) if info.stacked else ():
            name = info.hf_name.format(layer=layer)
            tensors[name] = matrix.T if info.transposed else matrix
        if not info.stacked:
            tensors[info.hf_name] = np.asarray(leaf.T if info.transposed else leaf, np.float32)
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def choose_format(tensor: np.ndarray, wanted: str) -> gguf.GGMLQuantizationType:
    """The wanted format, or half precision where rows do not fill its blocks; norms are float32."""
    kind = gguf.GGMLQuantizationType[wanted]
    if tensor.ndim == 1:
        return gguf.GGMLQuantizationType.F32
    fits = tensor.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0
    return kind if fits else gguf.GGMLQuantizationType.F16


def round_tensor(tensor: np.ndarray, wanted: str) -> np.ndarray:
    """What is left of a tensor in the format."""
    kind = choose_format(tensor, wanted)
    return gguf.quants.dequantize(gguf.quants.quantize(tensor, kind), kind).reshape(tensor.shape)


def write_gguf_model(
    path: Path,
    cfg: ModelConfig,
    params: Params,
    tokenizer: Mapping[str, Any],
    *,
    number_format: str = "F32",
    chat_template: str | None = None,
    fields: Mapping[str, Any] = {},
) -> None:
    """Write a model; `fields` change its metadata (None leaves one out)."""
    writer = gguf.GGUFWriter(path, cfg.family)
    described = {f"{cfg.family}.{key}": value for key, value in describe(cfg).items()}
    described |= {f"tokenizer.ggml.{key}": value for key, value in tokenizer.items()}
    if chat_template is not None:
        described["tokenizer.chat_template"] = chat_template
    for key, value in {**described, **fields}.items():
        add_field(writer, key, value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[cfg.family.upper()], cfg.layers)
    for name, tensor in name_tensors(params, cfg).items():
        if cfg.family == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = cfg.heads if "q_proj" in name else cfg.kv_heads
            split = tensor.reshape(heads, 2, cfg.head_dim // 2, -1)
            tensor = np.ascontiguousarray(split.swapaxes(1, 2).reshape(tensor.shape))
        if cfg.unit_offset_norm and name.endswith("norm.weight"):
            tensor = tensor + np.float32(1)
        kind = choose_format(tensor, number_format)
        key = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(key, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    if cfg.rope.kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(cfg))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama3_factors(cfg: ModelConfig) -> np.ndarray:
    """What llama.cpp's converter writes for Llama 3's positions."""
    rope, factors = cfg.rope, []
    for i in range(0, cfg.head_dim, 2):
        wave = 2 * np.pi * rope.theta ** (i / cfg.head_dim)
        if wave < rope.original_context / rope.high_freq_factor:
            factors.append(1.0)
        elif wave > rope.original_context / rope.low_freq_factor:
            factors.append(rope.factor)
        else:
            smooth = rope.original_context / wave - rope.low_freq_factor
            smooth /= rope.high_freq_factor - rope.low_freq_factor
            factors.append(1 / ((1 - smooth) / rope.factor + smooth))
    return np.asarray(factors, np.float32)


def add_field(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value is not None:
        writer.add_array(key, value)
