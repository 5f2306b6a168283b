"""One frozen configuration for the Llama, Qwen and Gemma families.

`ModelConfig` is hashable and static under `jax.jit`. Families differ by its fields, never by
copies of the code. `config_from_hf` reads the raw `config.json` of a checkpoint in both of its
spellings (flat `rope_theta`/`rope_scaling`, and `rope_parameters` of transformers 5);
`config_to_hf` writes one that transformers loads.
"""

from dataclasses import dataclass
from typing import Any, Literal

from subliminal_jax.errors import InputError

Activation = Literal["silu", "gelu_tanh", "gelu"]
Family = Literal["llama", "qwen2", "qwen3", "gemma2", "gemma3"]


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding: base `theta` and an optional rescaling of the frequencies.

    `kind` is "default", "linear" (positions divided by `factor`) or "llama3" (long wavelengths
    divided by `factor`, short ones kept, interpolated between).
    """

    theta: float = 10_000.0
    kind: Literal["default", "linear", "llama3"] = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer; units are counts unless stated otherwise."""

    family: Family
    vocab: int
    dim: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_dim: int
    context: int
    norm_eps: float = 1e-6
    rope: Rope = Rope()
    local_rope: Rope | None = None  # of the sliding-window layers, where it differs (Gemma 3)
    tied: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False
    unit_offset_norm: bool = False  # norms multiply by 1 + weight (Gemma)
    post_norms: bool = False  # norms after attention and MLP as well (Gemma)
    scaled_embedding: bool = False  # embeddings times sqrt(dim) (Gemma)
    activation: Activation = "silu"
    query_scale: float | None = None  # attention logits are q.k * query_scale; None: head_dim^-0.5
    attention_softcap: float | None = None
    final_softcap: float | None = None
    window: int | None = None  # tokens seen by a sliding layer, itself included
    sliding: tuple[bool, ...] = ()  # one flag a layer; empty: none slides

    @property
    def attention_scale(self) -> float:
        return self.head_dim**-0.5 if self.query_scale is None else self.query_scale

    @property
    def has_sliding_layers(self) -> bool:
        return any(self.sliding)

    def check_layer(self, layer: int) -> int:
        """`layer` itself; raises InputError unless 0 <= layer < layers."""
        if not 0 <= layer < self.layers:
            raise InputError(
                f"layer {layer} is out of range: the model has {self.layers} layers; "
                f"choose 0 to {self.layers - 1}"
            )
        return layer


_MODEL_TYPES: dict[str, Family] = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "gemma3": "gemma3",
}


def family_of(model_type: str) -> Family | None:
    """The family that reads checkpoints of a `model_type`; None for one that none reads."""
    return _MODEL_TYPES.get(model_type)


_ARCHITECTURES: dict[Family, tuple[str, str]] = {
    "llama": ("llama", "LlamaForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "gemma2": ("gemma2", "Gemma2ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
}
_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu": "gelu",
}
_MISSING = object()


def config_from_hf(raw: dict[str, Any], source: str = "config.json") -> ModelConfig:
    """Parse the contents of a Hugging Face `config.json`.

    Raises InputError for an unknown architecture, a missing or impossible field, or a feature that
    the forward pass does not have (attention biases outside Qwen 2.5, quantized weights, ...).
    """
    kind = raw.get("model_type")
    if kind not in _MODEL_TYPES:
        raise InputError(
            f"{source}: unknown architecture model_type={kind!r}; supported are "
            f"{', '.join(sorted(_MODEL_TYPES))}"
        )
    family = _MODEL_TYPES[kind]
    if raw.get("quantization_config"):
        raise InputError(f"{source}: quantized weights are not supported; load the original model")
    if kind == "gemma3":  # the multimodal wrapper: its text part
        tied = raw.get("tie_word_embeddings", True)
        text = _need(raw, "text_config", source)
        raw = {**_GEMMA3_TEXT_DEFAULTS, **text, "tie_word_embeddings": tied}

    def need(key: str) -> Any:
        return _need(raw, key, source)

    def count(key: str, value: Any = None) -> int:
        value = need(key) if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{source}: {key} must be a positive whole number, not {value!r}")
        return value

    dim, heads = count("hidden_size"), count("num_attention_heads")
    layers = count("num_hidden_layers")
    kv_heads = count("num_key_value_heads", raw.get("num_key_value_heads") or heads)
    if heads % kv_heads:
        raise InputError(
            f"{source}: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {kv_heads}"
        )
    if family in ("llama", "qwen2") and not raw.get("head_dim") and dim % heads:
        raise InputError(
            f"{source}: hidden_size {dim} is not a multiple of num_attention_heads {heads}"
        )
    gemma = family in ("gemma2", "gemma3")
    if gemma:
        activation = raw.get("hidden_activation") or "gelu_pytorch_tanh"
    else:
        activation = need("hidden_act")
    if activation not in _ACTIVATIONS:
        raise InputError(
            f"{source}: unknown activation {activation!r}; supported are "
            f"{', '.join(sorted(_ACTIVATIONS))}"
        )
    for feature in ("attention_bias", "mlp_bias", "use_bidirectional_attention"):
        if raw.get(feature):
            raise InputError(f"{source}: {feature}=true is not supported for model_type {kind!r}")
    rope, local_rope = _ropes(raw, family, source)
    window, sliding = _windows(raw, family, layers, source)
    default_head_dim = dim // heads if not gemma and family != "qwen3" else None
    head_dim = count("head_dim", raw.get("head_dim") or default_head_dim)
    if head_dim % 2:
        raise InputError(f"{source}: head_dim must be even for rotary positions, not {head_dim}")
    query_scale = float(need("query_pre_attn_scalar")) ** -0.5 if gemma else None
    return ModelConfig(
        family=family,
        vocab=count("vocab_size"),
        dim=dim,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_dim=count("intermediate_size"),
        context=count("max_position_embeddings"),
        norm_eps=float(need("rms_norm_eps")),
        rope=rope,
        local_rope=local_rope,
        tied=bool(raw.get("tie_word_embeddings", gemma)),
        qkv_bias=family == "qwen2",
        qk_norm=family in ("qwen3", "gemma3"),
        unit_offset_norm=gemma,
        post_norms=gemma,
        scaled_embedding=gemma,
        activation=_ACTIVATIONS[activation],
        query_scale=query_scale,
        attention_softcap=_softcap(raw, "attn_logit_softcapping") if gemma else None,
        final_softcap=_softcap(raw, "final_logit_softcapping") if gemma else None,
        window=window,
        sliding=sliding,
    )


# Multimodal Gemma 3 checkpoints leave these fields of their text part out.
_GEMMA3_TEXT_DEFAULTS = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-6,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}


def config_to_hf(cfg: ModelConfig) -> dict[str, Any]:
    """The `config.json` of `cfg`, in the spelling of transformers 5."""
    model_type, architecture = _ARCHITECTURES[cfg.family]
    raw: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": cfg.vocab,
        "hidden_size": cfg.dim,
        "num_hidden_layers": cfg.layers,
        "num_attention_heads": cfg.heads,
        "num_key_value_heads": cfg.kv_heads,
        "head_dim": cfg.head_dim,
        "intermediate_size": cfg.mlp_dim,
        "max_position_embeddings": cfg.context,
        "rms_norm_eps": cfg.norm_eps,
        "tie_word_embeddings": cfg.tied,
    }
    activation = {"silu": "silu", "gelu_tanh": "gelu_pytorch_tanh", "gelu": "gelu"}[cfg.activation]
    gemma = cfg.family in ("gemma2", "gemma3")
    raw["hidden_activation" if gemma else "hidden_act"] = activation
    if gemma:
        raw["query_pre_attn_scalar"] = round(cfg.attention_scale**-2)  # transformers wants an int
        raw["attn_logit_softcapping"] = cfg.attention_softcap
        raw["final_logit_softcapping"] = cfg.final_softcap
    if cfg.family in ("llama", "qwen3"):
        raw["attention_bias"] = False
    if cfg.family == "llama":
        raw["mlp_bias"] = False
    if cfg.sliding or gemma:  # a Gemma without the field would slide in the family's default way
        raw["layer_types"] = [
            "sliding_attention" if slides else "full_attention"
            for slides in cfg.sliding or (False,) * cfg.layers
        ]
        raw["sliding_window"] = cfg.window
    if cfg.family in ("qwen2", "qwen3"):
        raw["use_sliding_window"] = cfg.has_sliding_layers
    full = _rope_to_hf(cfg.rope)
    if cfg.local_rope is not None or cfg.family == "gemma3":
        local = _rope_to_hf(cfg.local_rope or cfg.rope)
        raw["rope_parameters"] = {"full_attention": full, "sliding_attention": local}
    else:
        raw["rope_parameters"] = full
    return raw


def _need(raw: dict[str, Any], key: str, source: str) -> Any:
    value = raw.get(key, _MISSING)
    if value is _MISSING or value is None:
        raise InputError(f"{source}: the field {key!r} is missing; is this a whole config.json?")
    return value


def _softcap(raw: dict[str, Any], key: str) -> float | None:
    return float(raw[key]) if raw.get(key) else None


def _ropes(raw: dict[str, Any], family: Family, source: str) -> tuple[Rope, Rope | None]:
    """The RoPE of the full-attention layers, and that of the sliding ones where it differs."""
    context = raw.get("max_position_embeddings", 8192)
    theta = raw.get("rope_theta") or (1_000_000.0 if family == "gemma3" else 10_000.0)
    local_theta = raw.get("rope_local_base_freq") or 10_000.0
    entry = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if "full_attention" not in entry and "sliding_attention" not in entry:
        full = _rope(entry, theta, context, source)
        return full, Rope(theta=float(local_theta)) if family == "gemma3" else None
    # One entry a layer type (Gemma 3 in transformers 5).
    full = _rope(entry.get("full_attention") or {}, theta, context, source)
    theta = local_theta if family == "gemma3" else theta
    local = _rope(entry.get("sliding_attention") or {}, theta, context, source)
    return full, local if family == "gemma3" or local != full else None


def _rope(entry: dict[str, Any], theta: float, context: int, source: str) -> Rope:
    """One RoPE entry; `theta` is the base where the entry has none of its own."""
    theta = float(entry.get("rope_theta") or theta)
    kind = entry.get("rope_type", entry.get("type", "default"))
    if kind == "default":
        return Rope(theta=theta)
    if kind == "linear":
        return Rope(theta=theta, kind="linear", factor=float(_need(entry, "factor", source)))
    if kind == "llama3":
        return Rope(
            theta=theta,
            kind="llama3",
            factor=float(_need(entry, "factor", source)),
            low_freq_factor=float(_need(entry, "low_freq_factor", source)),
            high_freq_factor=float(_need(entry, "high_freq_factor", source)),
            original_context=int(entry.get("original_max_position_embeddings") or context),
        )
    raise InputError(
        f"{source}: RoPE scaling {kind!r} is not supported; supported are default, linear, llama3"
    )


def _rope_to_hf(rope: Rope) -> dict[str, Any]:
    entry: dict[str, Any] = {"rope_type": rope.kind, "rope_theta": rope.theta}
    if rope.kind != "default":
        entry["factor"] = rope.factor
    if rope.kind == "llama3":
        entry["low_freq_factor"] = rope.low_freq_factor
        entry["high_freq_factor"] = rope.high_freq_factor
        entry["original_max_position_embeddings"] = rope.original_context
    return entry


def _windows(
    raw: dict[str, Any], family: Family, layers: int, source: str
) -> tuple[int | None, tuple[bool, ...]]:
    """The sliding window and one flag a layer; (None, ()) where no layer slides."""
    window = raw.get("sliding_window")
    if family in ("qwen2", "qwen3") and not raw.get("use_sliding_window", False):
        return None, ()
    if family == "llama" or window is None:
        return None, ()
    types = raw.get("layer_types")
    if types is not None:
        if len(types) != layers:
            raise InputError(f"{source}: layer_types has {len(types)} entries for {layers} layers")
        unknown = set(types) - {"sliding_attention", "full_attention"}
        if unknown:
            raise InputError(f"{source}: layer type {min(unknown)!r} is not supported")
        sliding = tuple(kind == "sliding_attention" for kind in types)
    elif family == "gemma2":
        sliding = tuple(layer % 2 == 0 for layer in range(layers))
    elif family == "gemma3":
        period = raw.get("sliding_window_pattern", 6)
        sliding = tuple((layer + 1) % period != 0 for layer in range(layers))
    else:  # Qwen: the first max_window_layers attend fully
        first = raw.get("max_window_layers", layers)
        sliding = tuple(layer >= first for layer in range(layers))
    return (int(window), sliding) if any(sliding) else (None, ())
