"""One frozen configuration for the Llama, Qwen and Gemma families.

`ModelConfig` is hashable and static under `jax.jit`. Families differ by its fields, never by
copies of the code; a row of `FAMILIES` holds what a family's `config.json` omits.
`config_from_hf` reads the raw `config.json` of a checkpoint in both of its
spellings (flat `rope_theta`/`rope_scaling`, and `rope_parameters` of transformers 5);
`config_to_hf` writes one that transformers loads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from subliminal_jax.errors import InputError

Activation = Literal["silu", "gelu_tanh", "gelu"]


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

    family: str  # a key of `FAMILIES`
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


Sliding = Callable[[Mapping[str, Any], int], tuple[bool, ...]]


@dataclass(frozen=True)
class FamilyDefaults:
    """What the checkpoints of a family have in common, beyond what their config.json says.

    Attributes:
      model_types: values of `model_type` that the family reads; the first is written.
      architecture: transformers' class.
      mechanisms: fields of `ModelConfig` that are fixed by the family.
      activation_key: the field of config.json with the activation.
      default_activation: where that field may be missing.
      derives_head_dim: whether a missing head_dim is the width over the number of heads.
      tied: whether embeddings are shared where config.json does not say.
      scales_queries: whether attention is scaled by `query_pre_attn_scalar`, with soft-caps.
      rope_theta: the base of the rotary embedding where config.json has none.
      local_rope: whether sliding layers have a rotary embedding of their own.
      slides: whether layers slide: "never", "if asked" by `use_sliding_window`, or "always".
      sliding_layers: which layers slide where `layer_types` is missing, from config.json and the
        number of layers.
      written: further fields that transformers expects.
    """

    model_types: tuple[str, ...]
    architecture: str
    mechanisms: Mapping[str, bool] = field(default_factory=dict)
    activation_key: str = "hidden_act"
    default_activation: str | None = None
    derives_head_dim: bool = True
    tied: bool = False
    scales_queries: bool = False
    rope_theta: float = 10_000.0
    local_rope: bool = False
    slides: Literal["never", "if asked", "always"] = "never"
    sliding_layers: Sliding = lambda raw, layers: (False,) * layers
    written: Mapping[str, Any] = field(default_factory=dict)


def _slide_after_first(raw: Mapping[str, Any], layers: int) -> tuple[bool, ...]:
    """Qwen: the first `max_window_layers` attend fully."""
    first = raw.get("max_window_layers", layers)
    return tuple(layer >= first for layer in range(layers))


def _slide_every_other(raw: Mapping[str, Any], layers: int) -> tuple[bool, ...]:
    """Gemma 2: every other layer slides, the first one does."""
    return tuple(layer % 2 == 0 for layer in range(layers))


def _slide_but_every_sixth(raw: Mapping[str, Any], layers: int) -> tuple[bool, ...]:
    """Gemma 3: every `sliding_window_pattern`-th layer attends fully."""
    period = raw.get("sliding_window_pattern", 6)
    return tuple((layer + 1) % period != 0 for layer in range(layers))


_GEMMA = {"unit_offset_norm": True, "post_norms": True, "scaled_embedding": True}
FAMILIES: dict[str, FamilyDefaults] = {
    "llama": FamilyDefaults(
        model_types=("llama",),
        architecture="LlamaForCausalLM",
        written={"attention_bias": False, "mlp_bias": False},
    ),
    "qwen2": FamilyDefaults(
        model_types=("qwen2",),
        architecture="Qwen2ForCausalLM",
        mechanisms={"qkv_bias": True},
        slides="if asked",
        sliding_layers=_slide_after_first,
    ),
    "qwen3": FamilyDefaults(
        model_types=("qwen3",),
        architecture="Qwen3ForCausalLM",
        mechanisms={"qk_norm": True},
        derives_head_dim=False,
        slides="if asked",
        sliding_layers=_slide_after_first,
        written={"attention_bias": False},
    ),
    "gemma2": FamilyDefaults(
        model_types=("gemma2",),
        architecture="Gemma2ForCausalLM",
        mechanisms=_GEMMA,
        activation_key="hidden_activation",
        default_activation="gelu_pytorch_tanh",
        derives_head_dim=False,
        tied=True,
        scales_queries=True,
        slides="always",
        sliding_layers=_slide_every_other,
    ),
    "gemma3": FamilyDefaults(
        model_types=("gemma3_text", "gemma3"),
        architecture="Gemma3ForCausalLM",
        mechanisms={**_GEMMA, "qk_norm": True},
        activation_key="hidden_activation",
        default_activation="gelu_pytorch_tanh",
        derives_head_dim=False,
        tied=True,
        scales_queries=True,
        rope_theta=1_000_000.0,
        local_rope=True,
        slides="always",
        sliding_layers=_slide_but_every_sixth,
    ),
}
_FAMILY_NAMES = {kind: name for name, row in FAMILIES.items() for kind in row.model_types}


def family_name(model_type: str) -> str | None:
    """The family that reads checkpoints of a `model_type`; None for one that none reads."""
    return _FAMILY_NAMES.get(model_type)


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
    if kind not in _FAMILY_NAMES:
        raise InputError(
            f"{source}: unknown architecture model_type={kind!r}; supported are "
            f"{', '.join(sorted(_FAMILY_NAMES))}"
        )
    family = FAMILIES[_FAMILY_NAMES[kind]]
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
    if family.derives_head_dim and not raw.get("head_dim") and dim % heads:
        raise InputError(
            f"{source}: hidden_size {dim} is not a multiple of num_attention_heads {heads}"
        )
    activation = raw.get(family.activation_key) or family.default_activation
    if activation is None:
        activation = need(family.activation_key)
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
    default_head_dim = dim // heads if family.derives_head_dim else None
    head_dim = count("head_dim", raw.get("head_dim") or default_head_dim)
    if head_dim % 2:
        raise InputError(f"{source}: head_dim must be even for rotary positions, not {head_dim}")
    softcaps: dict[str, Any] = {}
    if family.scales_queries:
        softcaps = {
            "query_scale": float(need("query_pre_attn_scalar")) ** -0.5,
            "attention_softcap": _softcap(raw, "attn_logit_softcapping"),
            "final_softcap": _softcap(raw, "final_logit_softcapping"),
        }
    return ModelConfig(
        family=_FAMILY_NAMES[kind],
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
        tied=bool(raw.get("tie_word_embeddings", family.tied)),
        activation=_ACTIVATIONS[activation],
        window=window,
        sliding=sliding,
        **softcaps,
        **family.mechanisms,
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
    family = FAMILIES[cfg.family]
    raw: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.model_types[0],
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
    raw |= {family.activation_key: activation, **family.written}
    if family.scales_queries:
        raw["query_pre_attn_scalar"] = round(cfg.attention_scale**-2)  # transformers wants an int
        raw["attn_logit_softcapping"] = cfg.attention_softcap
        raw["final_logit_softcapping"] = cfg.final_softcap
    if cfg.sliding or family.slides == "always":  # without the field it slides in its default way
        raw["layer_types"] = [
            "sliding_attention" if slides else "full_attention"
            for slides in cfg.sliding or (False,) * cfg.layers
        ]
        raw["sliding_window"] = cfg.window
    if family.slides == "if asked":
        raw["use_sliding_window"] = cfg.has_sliding_layers
    full = _rope_to_hf(cfg.rope)
    if cfg.local_rope is not None or family.local_rope:
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


def _ropes(raw: dict[str, Any], family: FamilyDefaults, source: str) -> tuple[Rope, Rope | None]:
    """The RoPE of the full-attention layers, and that of the sliding ones where it differs."""
    context = raw.get("max_position_embeddings", 8192)
    theta = raw.get("rope_theta") or family.rope_theta
    local_theta = raw.get("rope_local_base_freq") or 10_000.0
    entry = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if "full_attention" not in entry and "sliding_attention" not in entry:
        full = _rope(entry, theta, context, source)
        return full, Rope(theta=float(local_theta)) if family.local_rope else None
    # One entry a layer type (Gemma 3 in transformers 5).
    full = _rope(entry.get("full_attention") or {}, theta, context, source)
    theta = local_theta if family.local_rope else theta
    local = _rope(entry.get("sliding_attention") or {}, theta, context, source)
    return full, local if family.local_rope or local != full else None


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
    raw: dict[str, Any], family: FamilyDefaults, layers: int, source: str
) -> tuple[int | None, tuple[bool, ...]]:
    """The sliding window and one flag a layer; (None, ()) where no layer slides."""
    window = raw.get("sliding_window")
    slides = family.slides == "always" or bool(raw.get("use_sliding_window", False))
    if family.slides == "never" or not slides or window is None:
        return None, ()
    types = raw.get("layer_types")
    if types is not None:
        if len(types) != layers:
            raise InputError(f"{source}: layer_types has {len(types)} entries for {layers} layers")
        unknown = set(types) - {"sliding_attention", "full_attention"}
        if unknown:
            raise InputError(f"{source}: layer type {min(unknown)!r} is not supported")
        sliding = tuple(kind == "sliding_attention" for kind in types)
    else:
        sliding = family.sliding_layers(raw, layers)
    return (int(window), sliding) if any(sliding) else (None, ())
