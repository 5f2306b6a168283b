"""What a GGUF file says of its model, in the words of a Hugging Face config.json.

Nothing is checked here that `config_from_hf` checks: it reads the result as it reads a config.json.
What llama.cpp takes for granted, and a file therefore does not say, is filled in.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.gguf_files import GgufFile

ROPE_FACTORS = "rope_freqs.weight"  # by which Llama 3's wavelengths are divided
LLAMA3_CONTEXT = 8192  # that Llama 3 was trained with before its positions were rescaled
_MISSING = object()


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's architectures.

    Attributes:
      model_type: of config.json.
      interleaved: whether the rows of q and k are stored with the rotary halves of each head
        interleaved.
      largest: layers of the model whose queries are scaled by width over heads, not by head_dim.
    """

    model_type: str
    interleaved: bool = False
    largest: int | None = None


ARCHITECTURES = {
    "llama": Architecture("llama", interleaved=True),  # Mistral and SmolLM, too
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "gemma2": Architecture("gemma2", largest=46),
    "gemma3": Architecture("gemma3_text", largest=62),
}
# Metadata of mechanisms that the forward pass does not have, with the values without an effect.
_WITHOUT_EFFECT = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "expert_count": (0,),
    "residual_scale": (0, 1),
    "embedding_scale": (0, 1),
    "logit_scale": (0, 1),
    "attention.scale": (0,),
    "rope.scaling.attn_factor": (0, 1),
}


def architecture(file: GgufFile) -> Architecture:
    """The architecture of the model in a file.

    Raises InputError for one that is not supported, and for a part of a model.
    """
    name = file.fields.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise InputError(
            f"{file.path}: a GGUF file of {name!r:.80}, not of a model that is supported: "
            f"{', '.join(ARCHITECTURES)}"
        )
    parts = file.fields.get("split.count", 1)
    if not isinstance(parts, int) or parts > 1:
        raise InputError(
            f"{file.path}: one of several files of a model (split.count is {parts!r:.80}); join "
            "them with llama-gguf-split --merge"
        )
    return ARCHITECTURES[name]


def read_gguf_config(file: GgufFile) -> dict[str, Any]:
    """The contents of the config.json that a file's model would have.

    Raises InputError as `architecture`, for a missing field, for lists with a value a layer, and
    for mechanisms that config.json has no words for.
    """
    kind, prefix = architecture(file), file.fields["general.architecture"]

    def get(key: str, default: Any = _MISSING) -> Any:
        value = file.fields.get(f"{prefix}.{key}", default)
        if value is _MISSING:
            raise InputError(f"{file.path}: no {prefix}.{key} in its metadata; is the file whole?")
        if isinstance(value, np.ndarray | list):
            raise InputError(
                f"{file.path}: {prefix}.{key} is a list; all layers must be alike, with one value"
            )
        if not isinstance(value, float):
            return value
        with np.errstate(over="ignore"):
            return float(str(np.float32(value)))  # 1e-5, not 9.99999974e-06

    for key, harmless in _WITHOUT_EFFECT.items():
        if (value := get(key, harmless[0])) not in harmless:
            raise InputError(f"{file.path}: {prefix}.{key}={value!r:.80} is not supported")
    dim, heads, layers = (
        get(key) for key in ("embedding_length", "attention.head_count", "block_count")
    )
    tokens = file.fields.get("tokenizer.ggml.tokens", ())
    rows = len(tokens) if isinstance(tokens, list) else 0
    raw = {
        "model_type": kind.model_type,
        "vocab_size": get("vocab_size", rows),
        "hidden_size": dim,
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_theta": get("rope.freq_base", 10_000.0),
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }
    counts = all(type(n) is int and n > 0 for n in (dim, heads))
    head_dim = get("attention.key_length", dim // heads if counts else None)
    raw["head_dim"] = head_dim
    for key in ("attention.value_length", "rope.dimension_count"):
        if (size := get(key, head_dim)) != head_dim:
            raise InputError(
                f"{file.path}: {prefix}.{key} is {size!r:.80}, and only the length of keys, "
                f"{head_dim!r:.80}, is supported"
            )
    if kind.largest is not None:
        scale = dim // heads if counts and layers == kind.largest else head_dim
        raw |= {"query_pre_attn_scalar": scale, **_windows(file, prefix, layers)}
        for key in ("attn_logit_softcapping", "final_logit_softcapping"):
            if (cap := get(key, None)) is not None:
                raw[key] = cap or None
    if prefix == "gemma3" and (local := get("rope.freq_base_swa", None)):
        raw["rope_local_base_freq"] = local
    scaling = _rope_scaling(file, raw, get)
    return raw if scaling is None else {**raw, "rope_scaling": scaling}


def _windows(file: GgufFile, prefix: str, layers: Any) -> dict[str, Any]:
    """The sliding window of Gemma's layers, and which of them slide where that is not as usual."""
    window = file.fields.get(f"{prefix}.attention.sliding_window")
    if window is None and prefix != "gemma2":
        raise InputError(
            f"{file.path}: no {prefix}.attention.sliding_window in its metadata; is the file whole?"
        )
    windows = {} if window is None else {"sliding_window": window}
    pattern = file.fields.get(f"{prefix}.attention.sliding_window_pattern")
    if isinstance(pattern, np.ndarray):
        names = ("full_attention", "sliding_attention")
        return {**windows, "layer_types": [names[bool(slides)] for slides in pattern]}
    if pattern is None or prefix == "gemma3":
        return windows if pattern is None else {**windows, "sliding_window_pattern": pattern}
    if pattern != 2:
        raise InputError(
            f"{file.path}: {prefix}.attention.sliding_window_pattern is {pattern!r:.80}, not 2"
        )
    return windows


def _rope_scaling(file: GgufFile, raw: dict[str, Any], get: Any) -> dict[str, Any] | None:
    """The entry `rope_scaling`; None for positions that are not rescaled.

    Raises InputError for factors of wavelengths that are not those of Llama 3.
    """
    factor = get("rope.scaling.factor", get("rope.scale_linear", None))
    kind = get("rope.scaling.type", "none" if factor is None else "linear")
    entry = None
    if kind != "none" and factor not in (None, 0, 1):
        if kind != "linear":
            raise InputError(f"{file.path}: positions rescaled by {kind!r:.80} are not supported")
        entry = {"rope_type": kind, "factor": factor}
    if ROPE_FACTORS not in file.tensors:
        return entry
    factors = file.read(ROPE_FACTORS).reshape(-1)
    if entry is not None:
        raise InputError(f"{file.path}: {ROPE_FACTORS} and rope.scaling.factor; only one counts")
    if bool((factors == 1).all()):
        return None
    entry = {
        "rope_type": "llama3",
        "factor": float(factors.max()) if factors.size else 0.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": get(
            "rope.scaling.original_context_length", LLAMA3_CONTEXT
        ),
    }
    expected = _llama3_factors(entry, raw)
    if (
        expected is None
        or factors.shape != expected.shape
        or not np.allclose(factors, expected, rtol=1e-4, atol=0)
    ):
        raise InputError(
            f"{file.path}: the factors in {ROPE_FACTORS} are not those of Llama 3 (wavelengths up "
            f"to {entry['original_max_position_embeddings']!r:.80} over 1 and 4)"
        )
    return entry


def _llama3_factors(entry: dict[str, Any], raw: dict[str, Any]) -> np.ndarray | None:
    """What each wavelength is multiplied by; None where the numbers allow none."""
    theta, dim = raw["rope_theta"], raw["head_dim"]
    context, factor = entry["original_max_position_embeddings"], entry["factor"]
    sound = type(dim) is int and 0 < dim < 1 << 16 and type(context) is int and context > 0
    if not (sound and isinstance(theta, float) and theta > 0 and factor > 0):
        return None
    waves = 2 * math.pi * theta ** (np.arange(0, dim, 2) / dim)
    low, high = entry["low_freq_factor"], entry["high_freq_factor"]
    kept = np.clip((context / waves - low) / (high - low), 0, 1)
    return 1 / ((1 - kept) / factor + kept)
