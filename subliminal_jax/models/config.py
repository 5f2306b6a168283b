"""One frozen configuration for all families of models.

`ModelConfig` is hashable and static under `jax.jit`. Families differ by its fields, never by
copies of the code; a row of `FAMILIES` holds what a family's `config.json` omits.
`config_from_hf` reads the raw `config.json` of a checkpoint in both of its
spellings (flat `rope_theta`/`rope_scaling`, and `rope_parameters` of transformers 5);
`config_to_hf` writes one that transformers loads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from subliminal_jax.errors import InputError
from subliminal_jax.models.config_fields import MOST_LAYERS, Fields
from subliminal_jax.models.families import (
    FAMILIES,
    MODEL_TYPES,
    Family,
    family_name,
    rotary_layers,
)
from subliminal_jax.models.rope import Rope, rope_to_hf, ropes_from_hf

__all__ = ["ModelConfig", "Rope", "config_from_hf", "config_to_hf", "family_name"]

Activation = Literal["silu", "gelu_tanh", "gelu"]


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
    rope: Rope = field(default_factory=Rope)
    local_rope: Rope | None = None  # of the sliding-window layers, where it differs (Gemma 3)
    tied: bool = True
    qkv_bias: bool = False
    other_biases: bool = False  # of attention's output and of the MLP (GPT-NeoX)
    qk_norm: bool = False
    joint_qk_norm: bool = False  # over all heads at once rather than over each (OLMo 2)
    layer_norm: bool = False  # norms subtract the mean, and have a bias (GPT-NeoX)
    unit_offset_norm: bool = False  # norms multiply by 1 + weight (Gemma)
    pre_norms: bool = True  # norms before attention and MLP (not in OLMo 2)
    post_norms: bool = False  # norms after attention and MLP, of what they add (Gemma, OLMo 2)
    parallel: bool = False  # the MLP reads what attention reads, not what it writes (GPT-NeoX)
    gated: bool = True  # the MLP has a gate (not in GPT-NeoX)
    scaled_embedding: bool = False  # embeddings times sqrt(dim) (Gemma)
    activation: Activation = "silu"
    query_scale: float | None = None  # attention logits are q.k * query_scale; None: head_dim^-0.5
    attention_softcap: float | None = None
    final_softcap: float | None = None
    window: int | None = None  # tokens seen by a sliding layer, itself included
    sliding: tuple[bool, ...] = ()  # one flag a layer; empty: none slides
    rotary: tuple[bool, ...] = ()  # one flag a layer; empty: queries and keys of all are rotated

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

    @property
    def default_layer(self) -> int:
        """The block at a third of the depth: the steering layer unless another is named."""
        return self.layers // 3


_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu": "gelu",
}
_WRITTEN_ACTIVATIONS = {"silu": "silu", "gelu_tanh": "gelu_pytorch_tanh", "gelu": "gelu"}
# Where quantizers say what they did: transformers, compressed-tensors, MLX.
_QUANTIZATION_KEYS = ("quantization_config", "compression_config", "quantization")


def config_from_hf(raw: Mapping[str, Any], source: str = "config.json") -> ModelConfig:
    """Parse the contents of a Hugging Face `config.json`.

    A field that is left out, or given in one of two spellings, is filled as transformers fills it
    for that model type, but for the sizes of the model, which must be there. Fields that no model
    of the type uses are passed over.

    Raises InputError for an unknown architecture, a missing or impossible field, one of a wrong
    type, or a feature that the forward pass does not have (attention biases outside Qwen 2.5,
    quantized weights, ...).
    """
    kind = Fields(raw, source).raw.get("model_type")
    name = family_name(kind)
    if name is None:
        raise InputError(
            f"{source}: unknown architecture model_type={kind!r}; supported are "
            f"{', '.join(MODEL_TYPES)}"
        )
    family = FAMILIES[name]
    fields = _text_fields(raw, family, source)
    for place in (raw, fields.raw):
        _check_supported(place, family, fields)
    dim, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers = fields.count("num_hidden_layers", largest=MOST_LAYERS)
    kv_heads = heads
    if family.shares_heads:
        kv_heads = fields.optional_count("num_key_value_heads") or heads
    if heads % kv_heads:
        raise fields.error(
            f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    head_dim = fields.optional_count("head_dim") if "head_dim" in family.defaults else None
    if dim % heads and (family.divides_width or head_dim is None):
        raise fields.error(f"hidden_size {dim} is not a multiple of num_attention_heads {heads}")
    head_dim = head_dim or dim // heads
    if head_dim % 2:
        raise fields.error(f"head_dim must be even for rotary positions, not {head_dim}")
    rope, local_rope = ropes_from_hf(fields, family)
    if rope.rotated(head_dim) < 2 or rope.rotated(head_dim) % 2:
        raise fields.error(
            f"{family.rope_fraction_key} {rope.fraction} of head_dim {head_dim} is no even number"
        )
    rotary = rotary_layers(fields, layers) if family.skips_rotation else ()
    window, sliding = _windows(fields, family, layers)
    softcaps: dict[str, Any] = {}
    if family.scales_queries:
        softcaps = {
            "query_scale": fields.count("query_pre_attn_scalar") ** -0.5,
            "attention_softcap": fields.optional_number("attn_logit_softcapping"),
            "final_softcap": fields.optional_number("final_logit_softcapping"),
        }
    activation = fields.choice(family.activation_key, _ACTIVATIONS, "unknown activation {}")
    return ModelConfig(
        family=name,
        vocab=fields.count("vocab_size"),
        dim=dim,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_dim=fields.count("intermediate_size"),
        context=fields.count("max_position_embeddings"),
        norm_eps=fields.number(family.norm_eps_key, zero=True),
        rope=rope,
        local_rope=local_rope,
        tied=fields.flag("tie_word_embeddings"),
        activation=_ACTIVATIONS[activation],
        window=window,
        sliding=sliding,
        rotary=() if all(rotary) else rotary,
        **({"parallel": fields.flag(family.parallel_key)} if family.parallel_key else {}),
        **softcaps,
        **family.mechanisms,
    )


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
        "intermediate_size": cfg.mlp_dim,
        "max_position_embeddings": cfg.context,
        family.norm_eps_key: cfg.norm_eps,
        "tie_word_embeddings": cfg.tied,
    }
    if family.shares_heads:
        raw |= {"num_key_value_heads": cfg.kv_heads, "head_dim": cfg.head_dim}
    raw |= {family.activation_key: _WRITTEN_ACTIVATIONS[cfg.activation], **family.written}
    if family.parallel_key is not None:
        raw[family.parallel_key] = cfg.parallel
    if family.skips_rotation:
        raw["no_rope_layers"] = [int(rotated) for rotated in cfg.rotary or (True,) * cfg.layers]
    if family.scales_queries:
        raw["query_pre_attn_scalar"] = round(cfg.attention_scale**-2)  # transformers wants an int
        raw["attn_logit_softcapping"] = cfg.attention_softcap
        raw["final_logit_softcapping"] = cfg.final_softcap
    if family.slides == "in all layers":
        raw["sliding_window"] = cfg.window
    elif cfg.sliding or family.slides == "always":  # without the field it slides in its default way
        raw["layer_types"] = [
            "sliding_attention" if slides else "full_attention"
            for slides in cfg.sliding or (False,) * cfg.layers
        ]
        raw["sliding_window"] = cfg.window
    if family.slides == "if asked":
        raw["use_sliding_window"] = cfg.has_sliding_layers
    full = rope_to_hf(cfg.rope, family)
    if cfg.local_rope is not None or family.local_theta is not None:
        local = rope_to_hf(cfg.local_rope or cfg.rope, family)
        raw["rope_parameters"] = {"full_attention": full, "sliding_attention": local}
    else:
        raw["rope_parameters"] = full
    return raw


def _text_fields(raw: Mapping[str, Any], family: Family, source: str) -> Fields:
    """The fields of the language model: of a multimodal config.json those of its text part, which
    leaves out the sizes that are the defaults of its type."""
    if raw["model_type"] == family.model_types[0]:
        return Fields(raw, source, family.defaults, family.nullable)
    outer = Fields(raw, source, {"tie_word_embeddings": True})
    text = Fields(outer.get("text_config"), f"{source}: text_config").raw
    kind, tied = text.get("model_type", family.model_types[0]), outer.flag("tie_word_embeddings")
    if kind != family.model_types[0]:
        raise outer.error(f"text_config is of model_type {kind!r}, not {family.model_types[0]!r}")
    if text.get("tie_word_embeddings", tied) is not tied:
        raise outer.error(
            "tie_word_embeddings differs between the model and its text_config; make them alike"
        )
    defaults = {**family.defaults, **family.sizes}
    return Fields({**text, "tie_word_embeddings": tied}, source, defaults, family.nullable)


def _check_supported(raw: Mapping[str, Any], family: Family, fields: Fields) -> None:
    """Raise InputError for what changes the forward pass and is not there."""
    for key in _QUANTIZATION_KEYS:
        if raw.get(key) is not None:
            method = raw[key].get("quant_method") if isinstance(raw[key], Mapping) else None
            raise fields.error(
                f"{key} says that these are quantized weights{f' ({method})' if method else ''}, "
                "which are not supported; load the original model"
            )
    for key in family.refused:
        if fields.get(key) is not None and fields.flag(key):
            raise fields.error(
                f"{key}=true is not supported for model_type {family.model_types[0]!r}"
            )
    for key in family.required:
        if not fields.flag(key):
            raise fields.error(
                f"{key}=false is not supported for model_type {family.model_types[0]!r}"
            )
    if raw.get("is_causal", True) is not True:
        raise fields.error("is_causal must be true: only causal attention is supported")
    if raw.get("per_layer_config"):
        raise fields.error("per_layer_config is not supported: all layers must be alike")


def _windows(fields: Fields, family: Family, layers: int) -> tuple[int | None, tuple[bool, ...]]:
    """The sliding window and one flag a layer; (None, ()) where no layer slides."""
    listed = family.slides in ("if asked", "always")
    # Llama's layers do not slide whatever it says, but it is checked by transformers all the same.
    types = fields.get("layer_types") if listed else fields.raw.get("layer_types")
    if types is not None:
        if not isinstance(types, list) or len(types) != layers:
            shown = f"{len(types)} entries" if isinstance(types, list) else "no list"
            raise fields.error(f"layer_types has {shown} for {layers} layers")
        for kind in types:
            if kind not in ("sliding_attention", "full_attention"):
                raise fields.error(f"layer type {kind!r} is not supported")
    if family.slides == "in all layers":
        window = fields.optional_count("sliding_window")
        return window, (True,) * layers if window else ()
    if not listed:
        return None, ()
    asked = family.slides == "always" or fields.flag("use_sliding_window")
    window = fields.optional_count("sliding_window")
    by_default = family.sliding_layers(fields, layers)
    if types is None:
        sliding = by_default if family.slides == "always" or (asked and window) else ()
    else:
        sliding = tuple(kind == "sliding_attention" for kind in types)
    if not any(sliding):
        return None, ()
    if window is None or not asked:
        reason = "sliding_window is null" if asked else "use_sliding_window is false"
        raise fields.error(f"some layers are of the type sliding_attention, but {reason}")
    return window, sliding
