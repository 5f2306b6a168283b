"""The families of models that are read: a row of `FAMILIES` holds what config.json leaves out.

The defaults are those of transformers' config classes, field by field: a checkpoint that was saved
without a field means their value. `tests/models/test_config_parity.py` compares them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from subliminal_jax.models.config_fields import Fields

Sliding = Callable[[Fields, int], tuple[bool, ...]]


def _slide_after_first(fields: Fields, layers: int) -> tuple[bool, ...]:
    """Qwen: the first `max_window_layers` attend fully."""
    first = fields.count("max_window_layers", least=0)
    return tuple(layer >= first for layer in range(layers))


def _slide_every_other(fields: Fields, layers: int) -> tuple[bool, ...]:
    """Gemma 2: every other layer slides, the first one does."""
    return tuple(layer % 2 == 0 for layer in range(layers))


def _slide_but_every_sixth(fields: Fields, layers: int) -> tuple[bool, ...]:
    """Gemma 3: every `sliding_window_pattern`-th layer attends fully."""
    period = fields.count("sliding_window_pattern")
    return tuple((layer + 1) % period != 0 for layer in range(layers))


@dataclass(frozen=True)
class Family:
    """What the checkpoints of a family have in common, beyond what their config.json says.

    Attributes:
      model_types: values of `model_type` that the family reads; the first is written.
      architecture: transformers' class.
      mechanisms: fields of `ModelConfig` that are fixed by the family.
      activation_key: the field of config.json with the activation.
      defaults: the values of fields that config.json may leave out.
      nullable: fields that may be null.
      sizes: the sizes that the text part of a multimodal checkpoint may leave out; a config.json
        without them is no whole one.
      derives_head_dim: whether a missing head_dim is the width over the number of heads.
      divides_width: whether the width must be a multiple of the number of heads in any case.
      scales_queries: whether attention is scaled by `query_pre_attn_scalar`, with soft-caps.
      rope_theta: the base of the rotary embedding where config.json has none.
      local_rope: whether sliding layers have a rotary embedding of their own.
      slides: whether layers slide: "never", "if asked" by `use_sliding_window`, or "always".
      sliding_layers: which layers slide where `layer_types` is missing, from config.json and the
        number of layers.
      refused: flags of mechanisms that the forward pass does not have; true is refused.
      written: further fields that transformers expects.
    """

    model_types: tuple[str, ...]
    architecture: str
    defaults: Mapping[str, Any]
    nullable: frozenset[str]
    mechanisms: Mapping[str, bool] = field(default_factory=dict)
    activation_key: str = "hidden_act"
    sizes: Mapping[str, int] = field(default_factory=dict)
    derives_head_dim: bool = False
    divides_width: bool = True
    scales_queries: bool = False
    rope_theta: float = 10_000.0
    local_rope: bool = False
    slides: Literal["never", "if asked", "always"] = "never"
    sliding_layers: Sliding = lambda fields, layers: (False,) * layers
    refused: tuple[str, ...] = ("attention_bias",)
    written: Mapping[str, Any] = field(default_factory=dict)


_QWEN = {
    "num_key_value_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "layer_types": None,
}
_QWEN_NULLABLE = frozenset({"num_key_value_heads", "sliding_window", "layer_types"})
_GEMMA = {
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "layer_types": None,
}
_GEMMA_NULLABLE = frozenset(
    {
        "sliding_window",
        "layer_types",
        "final_logit_softcapping",
        "attn_logit_softcapping",
        "use_bidirectional_attention",
    }
)
_GEMMA_MECHANISMS = {"unit_offset_norm": True, "post_norms": True, "scaled_embedding": True}
_GEMMA_REFUSED = ("attention_bias", "use_bidirectional_attention")

FAMILIES: dict[str, Family] = {
    "llama": Family(
        model_types=("llama",),
        architecture="LlamaForCausalLM",
        defaults={
            "num_key_value_heads": None,
            "head_dim": None,
            "hidden_act": "silu",
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
            "attention_bias": False,
            "mlp_bias": False,
        },
        nullable=frozenset({"num_key_value_heads", "head_dim"}),
        derives_head_dim=True,
        refused=("attention_bias", "mlp_bias"),
        written={"attention_bias": False, "mlp_bias": False},
    ),
    "qwen2": Family(
        model_types=("qwen2",),
        architecture="Qwen2ForCausalLM",
        defaults={**_QWEN, "head_dim": None},
        nullable=_QWEN_NULLABLE | {"head_dim"},
        mechanisms={"qkv_bias": True},
        derives_head_dim=True,
        divides_width=False,
        slides="if asked",
        sliding_layers=_slide_after_first,
        refused=(),
    ),
    "qwen3": Family(
        model_types=("qwen3",),
        architecture="Qwen3ForCausalLM",
        defaults={**_QWEN, "head_dim": 128, "attention_bias": False},
        nullable=_QWEN_NULLABLE,
        mechanisms={"qk_norm": True},
        divides_width=False,
        slides="if asked",
        sliding_layers=_slide_after_first,
        written={"attention_bias": False},
    ),
    "gemma2": Family(
        model_types=("gemma2",),
        architecture="Gemma2ForCausalLM",
        defaults={
            **_GEMMA,
            "max_position_embeddings": 8192,
            "final_logit_softcapping": 30.0,
            "attn_logit_softcapping": 50.0,
            "use_bidirectional_attention": None,
        },
        nullable=_GEMMA_NULLABLE,
        mechanisms=_GEMMA_MECHANISMS,
        activation_key="hidden_activation",
        scales_queries=True,
        slides="always",
        sliding_layers=_slide_every_other,
        refused=_GEMMA_REFUSED,
    ),
    "gemma3": Family(
        model_types=("gemma3_text", "gemma3"),
        architecture="Gemma3ForCausalLM",
        defaults={
            **_GEMMA,
            "max_position_embeddings": 131_072,
            "final_logit_softcapping": None,
            "attn_logit_softcapping": None,
            "use_bidirectional_attention": False,
            "sliding_window_pattern": 6,
        },
        nullable=_GEMMA_NULLABLE,
        sizes={
            "vocab_size": 262_208,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 26,
            "num_attention_heads": 8,
        },
        mechanisms={**_GEMMA_MECHANISMS, "qk_norm": True},
        activation_key="hidden_activation",
        scales_queries=True,
        rope_theta=1_000_000.0,
        local_rope=True,
        slides="always",
        sliding_layers=_slide_but_every_sixth,
        refused=_GEMMA_REFUSED,
    ),
}
_FAMILY_NAMES = {kind: name for name, row in FAMILIES.items() for kind in row.model_types}
MODEL_TYPES = sorted(_FAMILY_NAMES)


def family_name(model_type: object) -> str | None:
    """The family that reads checkpoints of a `model_type`; None for one that none reads."""
    return _FAMILY_NAMES.get(model_type) if isinstance(model_type, str) else None
