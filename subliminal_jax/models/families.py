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


def _slide_but_every_fourth(fields: Fields, layers: int) -> tuple[bool, ...]:
    """OLMo 3: every fourth layer attends fully."""
    return tuple((layer + 1) % 4 != 0 for layer in range(layers))


def _slide_without_rotation(fields: Fields, layers: int) -> tuple[bool, ...]:
    """SmolLM3: the layers without rotary positions."""
    return tuple(not rotated for rotated in rotary_layers(fields, layers))


def rotary_layers(fields: Fields, layers: int) -> tuple[bool, ...]:
    """SmolLM3: whether each layer has rotary positions: what `no_rope_layers` says (its ones
    have), else all but every `no_rope_layer_interval`-th."""
    listed = fields.get("no_rope_layers")
    if listed is None:
        period = fields.count("no_rope_layer_interval")
        return tuple((layer + 1) % period != 0 for layer in range(layers))
    if not isinstance(listed, list) or len(listed) < layers:
        raise fields.error(f"no_rope_layers must be a list of {layers} flags, one a layer")
    if any(isinstance(flag, bool) or flag not in (0, 1) for flag in listed):
        raise fields.error("no_rope_layers must hold 1 (rotary positions) and 0 (none) alone")
    return tuple(flag == 1 for flag in listed[:layers])


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
      divides_width: whether the width must be a multiple of the number of heads in any case.
      scales_queries: whether attention is scaled by `query_pre_attn_scalar`, with soft-caps.
      shares_heads: whether several queries may share a key (`num_key_value_heads`).
      norm_eps_key: the field of config.json with the norms' epsilon.
      rope_theta: the base of the rotary embedding where config.json has none, else it is in its
        field `rope_theta_key`.
      rope_fraction: the part of each head that is rotated where config.json does not say so in its
        field `rope_fraction_key`; None where only a whole head is supported.
      rope_kinds: the scalings of the rotary embedding that are supported; empty: all.
      local_theta: the base of the rotary embedding that sliding layers have of their own, where
        `local_theta_key`, if any, does not give another; None where they have that of the others.
      skips_rotation: whether layers may have no rotary positions (`rotary_layers`).
      parallel_key: the field of config.json that says whether MLP and attention run in parallel.
      slides: whether layers slide: "never", "if asked" by `use_sliding_window`, "always" where
        `layer_types` says so, or "in all layers" where there is a window.
      sliding_layers: which layers slide where `layer_types` is missing, from config.json and the
        number of layers.
      refused: flags of mechanisms that the forward pass does not have; true is refused.
      required: flags of mechanisms that are always there; false is refused.
      names: the name of a parameter in the checkpoint, where it is not Llama's (see `spec`).
      fused: tensors of the checkpoint that hold several parameters, one after the other or, where
        `fused_by_head`, of each head in turn.
      written: further fields that transformers expects.
    """

    model_types: tuple[str, ...]
    architecture: str
    defaults: Mapping[str, Any]
    nullable: frozenset[str]
    mechanisms: Mapping[str, bool] = field(default_factory=dict)
    activation_key: str = "hidden_act"
    sizes: Mapping[str, int] = field(default_factory=dict)
    divides_width: bool = True
    scales_queries: bool = False
    shares_heads: bool = True
    norm_eps_key: str = "rms_norm_eps"
    rope_theta: float = 10_000.0
    rope_theta_key: str = "rope_theta"
    rope_fraction: float | None = None
    rope_fraction_key: str = "partial_rotary_factor"
    rope_kinds: tuple[str, ...] = ()
    local_theta: float | None = None
    local_theta_key: str | None = None
    skips_rotation: bool = False
    parallel_key: str | None = None
    slides: Literal["never", "if asked", "always", "in all layers"] = "never"
    sliding_layers: Sliding = lambda fields, layers: (False,) * layers
    refused: tuple[str, ...] = ("attention_bias",)
    required: tuple[str, ...] = ()
    written: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fused_by_head: bool = False


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
_OLMO = {
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attention_bias": False,
}
_OLMO_MECHANISMS = {
    "pre_norms": False,
    "post_norms": True,
    "qk_norm": True,
    "joint_qk_norm": True,
}
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
        refused=("attention_bias", "mlp_bias"),
        written={"attention_bias": False, "mlp_bias": False},
    ),
    "qwen2": Family(
        model_types=("qwen2",),
        architecture="Qwen2ForCausalLM",
        defaults={**_QWEN, "head_dim": None},
        nullable=_QWEN_NULLABLE | {"head_dim"},
        mechanisms={"qkv_bias": True},
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
        local_theta=10_000.0,
        local_theta_key="rope_local_base_freq",
        slides="always",
        sliding_layers=_slide_but_every_sixth,
        refused=_GEMMA_REFUSED,
    ),
    "mistral": Family(
        model_types=("mistral",),
        architecture="MistralForCausalLM",
        defaults={
            "num_key_value_heads": 8,
            "head_dim": None,
            "hidden_act": "silu",
            "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
            "sliding_window": 4096,
        },
        nullable=frozenset({"head_dim", "sliding_window"}),
        divides_width=False,
        slides="in all layers",
        refused=(),
    ),
    "smollm3": Family(
        model_types=("smollm3",),
        architecture="SmolLM3ForCausalLM",
        defaults={
            "num_key_value_heads": 4,
            "head_dim": None,
            "hidden_act": "silu",
            "max_position_embeddings": 32_768,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "sliding_window": None,
            "no_rope_layers": None,
            "no_rope_layer_interval": 4,
            "layer_types": None,
            "attention_bias": False,
            "mlp_bias": False,
        },
        nullable=frozenset(
            {"num_key_value_heads", "sliding_window", "no_rope_layers", "layer_types"}
        ),
        divides_width=False,
        rope_theta=2_000_000.0,
        skips_rotation=True,
        slides="if asked",
        sliding_layers=_slide_without_rotation,
        refused=("attention_bias", "mlp_bias"),
    ),
    "phi3": Family(
        model_types=("phi3",),
        architecture="Phi3ForCausalLM",
        defaults={
            "num_key_value_heads": None,
            "head_dim": None,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "sliding_window": None,
        },
        nullable=frozenset({"num_key_value_heads", "head_dim", "sliding_window"}),
        divides_width=False,
        rope_fraction=1.0,
        rope_kinds=("default",),
        slides="in all layers",
        refused=(),
        fused={
            "model.layers.{layer}.self_attn.qkv_proj.weight": ("q", "k", "v"),
            "model.layers.{layer}.mlp.gate_up_proj.weight": ("gate", "up"),
        },
    ),
    "olmo2": Family(
        model_types=("olmo2",),
        architecture="Olmo2ForCausalLM",
        defaults=_OLMO,
        nullable=frozenset({"num_key_value_heads"}),
        mechanisms=_OLMO_MECHANISMS,
        divides_width=False,
    ),
    "olmo3": Family(
        model_types=("olmo3",),
        architecture="Olmo3ForCausalLM",
        defaults={**_OLMO, "sliding_window": 4096, "layer_types": None},
        nullable=frozenset({"num_key_value_heads", "sliding_window", "layer_types"}),
        mechanisms=_OLMO_MECHANISMS,
        divides_width=False,
        rope_theta=500_000.0,
        local_theta=500_000.0,
        slides="always",
        sliding_layers=_slide_but_every_fourth,
    ),
    "gpt_neox": Family(
        model_types=("gpt_neox",),
        architecture="GPTNeoXForCausalLM",
        defaults={
            "hidden_act": "gelu",
            "max_position_embeddings": 2048,
            "layer_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "attention_bias": True,
            "use_parallel_residual": True,
        },
        nullable=frozenset(),
        mechanisms={
            "qkv_bias": True,
            "other_biases": True,
            "layer_norm": True,
            "gated": False,
        },
        shares_heads=False,
        norm_eps_key="layer_norm_eps",
        rope_theta_key="rotary_emb_base",
        rope_fraction=0.25,
        rope_fraction_key="rotary_pct",
        parallel_key="use_parallel_residual",
        refused=(),
        required=("attention_bias",),
        names={
            "embed": "gpt_neox.embed_in.weight",
            "lm_head": "embed_out.weight",
            "final_norm": "gpt_neox.final_layer_norm.weight",
            "final_norm_bias": "gpt_neox.final_layer_norm.bias",
            "attn_norm": "gpt_neox.layers.{layer}.input_layernorm.weight",
            "attn_norm_bias": "gpt_neox.layers.{layer}.input_layernorm.bias",
            "mlp_norm": "gpt_neox.layers.{layer}.post_attention_layernorm.weight",
            "mlp_norm_bias": "gpt_neox.layers.{layer}.post_attention_layernorm.bias",
            "o": "gpt_neox.layers.{layer}.attention.dense.weight",
            "o_bias": "gpt_neox.layers.{layer}.attention.dense.bias",
            "up": "gpt_neox.layers.{layer}.mlp.dense_h_to_4h.weight",
            "up_bias": "gpt_neox.layers.{layer}.mlp.dense_h_to_4h.bias",
            "down": "gpt_neox.layers.{layer}.mlp.dense_4h_to_h.weight",
            "down_bias": "gpt_neox.layers.{layer}.mlp.dense_4h_to_h.bias",
        },
        fused={
            "gpt_neox.layers.{layer}.attention.query_key_value.weight": ("q", "k", "v"),
            "gpt_neox.layers.{layer}.attention.query_key_value.bias": (
                "q_bias",
                "k_bias",
                "v_bias",
            ),
        },
        fused_by_head=True,
    ),
}
_FAMILY_NAMES = {kind: name for name, row in FAMILIES.items() for kind in row.model_types}
MODEL_TYPES = sorted(_FAMILY_NAMES)


def family_name(model_type: object) -> str | None:
    """The family that reads checkpoints of a `model_type`; None for one that none reads."""
    return _FAMILY_NAMES.get(model_type) if isinstance(model_type, str) else None
