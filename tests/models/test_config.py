"""config.json in, ModelConfig out, and back: both spellings, all families, every refusal."""

from dataclasses import replace

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import Rope, config_from_hf, config_to_hf
from tests.models.families import ALL, FAMILIES, GEMMA2, GEMMA3, LLAMA3_ROPE, QWEN2, QWEN3

SIZES = {
    "vocab_size": 67,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
LLAMA_FLAT = {
    **SIZES,
    "model_type": "llama",
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "rope_theta": 10_000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
}
QWEN_FLAT = {
    **SIZES,
    "model_type": "qwen2",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "rope_theta": 1_000_000.0,
    "sliding_window": 4096,
    "use_sliding_window": False,
    "max_window_layers": 2,
}
GEMMA_FLAT = {
    **SIZES,
    "num_hidden_layers": 4,
    "rms_norm_eps": 1e-6,
    "head_dim": 12,
    "query_pre_attn_scalar": 24,
    "sliding_window": 5,
    "hidden_activation": "gelu_pytorch_tanh",
}
GEMMA2_FLAT = {
    **GEMMA_FLAT,
    "model_type": "gemma2",
    "rope_theta": 10_000.0,
    "attn_logit_softcapping": 2,
    "final_logit_softcapping": 3.0,
}
GEMMA3_FLAT = {
    **GEMMA_FLAT,
    "model_type": "gemma3_text",
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    "sliding_window_pattern": 3,
}
PHI3_FLAT = {**SIZES, "model_type": "phi3", "rope_scaling": None}
FLAT = {
    "llama": LLAMA_FLAT,
    "qwen2": QWEN_FLAT,
    "qwen3": {
        **QWEN_FLAT,
        "model_type": "qwen3",
        "head_dim": 12,
        "tie_word_embeddings": False,
        "attention_bias": False,
    },
    "gemma2": GEMMA2_FLAT,
    "gemma3": GEMMA3_FLAT,
}
ROPE_KEYS = ("rope_theta", "rope_scaling", "rope_local_base_freq")


def nested(flat: dict) -> dict:
    """The spelling of transformers 5: everything about RoPE under `rope_parameters`."""
    raw = {key: value for key, value in flat.items() if key not in ROPE_KEYS}
    full = {"rope_type": "default", **(flat.get("rope_scaling") or {})}
    full["rope_theta"] = flat["rope_theta"]
    if "rope_local_base_freq" in flat:
        local = {"rope_type": "default", "rope_theta": flat["rope_local_base_freq"]}
        full = {"full_attention": full, "sliding_attention": local}
    return {**raw, "rope_parameters": full}


@pytest.mark.parametrize("spell", [dict, nested], ids=["flat", "rope_parameters"])
@pytest.mark.parametrize("family", FLAT)
def test_both_spellings_give_the_config_of_the_family(family, spell):
    assert config_from_hf(spell(FLAT[family])) == FAMILIES[family]


@pytest.mark.parametrize("name", ALL)
def test_a_config_survives_the_round_trip(name):
    cfg = ALL[name]
    assert config_from_hf(config_to_hf(cfg)) == cfg


@pytest.mark.parametrize(
    "cfg",
    [
        replace(GEMMA2, window=None, sliding=()),
        replace(GEMMA2, query_scale=144**-0.5),  # of the 27B model: no exact square
        replace(GEMMA2, query_scale=168**-0.5, activation="gelu"),
        replace(QWEN2, window=7, sliding=(False, True, True)),
        replace(QWEN3, window=7, sliding=(False, False, True), rope=LLAMA3_ROPE),
        replace(
            GEMMA3, rope=Rope(theta=5e5), local_rope=Rope(theta=123.0, kind="linear", factor=2.0)
        ),
    ],
)
def test_unusual_configs_survive_the_round_trip(cfg):
    assert config_from_hf(config_to_hf(cfg)) == cfg


def test_multimodal_gemma3_is_read_as_its_text_part():
    text = {**GEMMA3_FLAT, "tie_word_embeddings": True}
    raw = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 7}}
    assert config_from_hf(raw) == config_from_hf(GEMMA3_FLAT)
    assert config_from_hf({**raw, "text_config": nested(text)}) == config_from_hf(GEMMA3_FLAT)


def test_multimodal_gemma3_fills_in_what_its_text_part_leaves_out():
    # The text part of google/gemma-3-4b-it, whole.
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    cfg = config_from_hf({"model_type": "gemma3", "text_config": text})
    assert (cfg.vocab, cfg.heads, cfg.kv_heads, cfg.head_dim) == (262_208, 8, 4, 256)
    assert cfg.rope == Rope(theta=1_000_000.0, kind="linear", factor=8.0)
    assert cfg.local_rope == Rope(theta=10_000.0)
    assert cfg.tied
    assert cfg.window == 1024
    assert [i for i in range(34) if not cfg.sliding[i]] == [5, 11, 17, 23, 29]


def test_a_rope_entry_without_theta_takes_the_one_beside_it_or_the_family_default():
    raw = {**nested(GEMMA3_FLAT), "rope_parameters": {"full_attention": {"rope_type": "default"}}}
    cfg = config_from_hf(raw)
    assert (cfg.rope.theta, cfg.local_rope.theta) == (1_000_000.0, 10_000.0)
    raw = {**LLAMA_FLAT, "rope_theta": 5e5, "rope_scaling": None}
    raw["rope_parameters"] = {"rope_type": "default"}
    assert config_from_hf(raw).rope == Rope(theta=5e5)


def test_an_old_rope_scaling_says_type_instead_of_rope_type():
    raw = {**LLAMA_FLAT, "rope_scaling": {"type": "linear", "factor": 4}}
    assert config_from_hf(raw).rope == Rope(theta=10_000.0, kind="linear", factor=4.0)


def test_qwen_slides_from_max_window_layers_on_where_it_slides():
    raw = {**QWEN_FLAT, "use_sliding_window": True, "sliding_window": 9}
    cfg = config_from_hf(raw)
    assert (cfg.window, cfg.sliding) == (9, (False, False, True))


@pytest.mark.parametrize("field", SIZES)
def test_a_missing_size_is_named_and_other_fields_are_filled(field):
    raw = {k: v for k, v in LLAMA_FLAT.items() if k != field}
    filled = {"num_key_value_heads": ("kv_heads", 4), "rms_norm_eps": ("norm_eps", 1e-6)}
    filled["max_position_embeddings"] = ("context", 2048)
    if field in filled:  # as transformers does
        name, value = filled[field]
        assert getattr(config_from_hf(raw), name) == value
        return
    with pytest.raises(InputError, match=f"'{field}' is missing"):
        config_from_hf(raw, "config.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "unknown architecture model_type='mamba'"),
        ({"model_type": None}, "unknown architecture model_type=None"),
        ({"hidden_act": "relu"}, "unknown activation 'relu'"),
        ({"attention_bias": True}, "attention_bias=true is not supported"),
        ({"mlp_bias": True}, "mlp_bias=true is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantized weights"),
        ({"hidden_size": "32"}, "hidden_size must be a positive whole number, not '32'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive whole number, not 0"),
        ({"vocab_size": 1.5}, "vocab_size must be a positive whole number, not 1.5"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of"),
        ({"hidden_size": 34}, "hidden_size 34 is not a multiple"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, "RoPE scaling 'dynamic'"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2, "truncate": False}},
            "truncate=false is not supported",
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2, "beta_slow": 40}},
            "beta_slow 40.0 must not be above beta_fast 32.0",
        ),
        ({"model_type": "phi3", "rope_scaling": {"type": "longrope"}}, "RoPE scaling 'longrope'"),
        ({**PHI3_FLAT, "partial_rotary_factor": 1.5}, "must be at most 1, not 1.5"),
        ({**PHI3_FLAT, "partial_rotary_factor": 0.4}, "0.4 of head_dim 8 is no even"),
        ({"model_type": "gpt_neox", "attention_bias": False}, "attention_bias=false is not sup"),
        ({"model_type": "gpt_neox", "use_parallel_residual": 1}, "must be true or false, not 1"),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0]}, "must be a list of 3 flags"),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0, 2]}, "must hold 1 .* and 0"),
        ({"model_type": "olmo2", "attention_bias": True}, "attention_bias=true is not supported"),
        ({"rope_scaling": {"rope_type": "linear"}}, "'factor' is missing"),
        ({"model_type": "gemma3"}, "'text_config' is missing"),
        ({"model_type": ["llama"]}, "unknown architecture model_type="),
        ({"hidden_act": ["silu"]}, "unknown activation"),
        ({"hidden_size": 34, "head_dim": 8}, "hidden_size 34 is not a multiple"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be at most 10000"),
        ({"vocab_size": 10**400}, "vocab_size must be at most .* a number of 401 digits"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a finite number >= 0, not nan"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps must be a finite number >= 0, not '1e-5'"),
        ({"rms_norm_eps": True}, "rms_norm_eps must be a finite number >= 0, not true"),
        ({"rms_norm_eps": None}, "rms_norm_eps is null"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps must be a finite number"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings must be true or false, not 'f"),
        ({"tie_word_embeddings": 0}, "tie_word_embeddings must be true or false, not 0"),
        ({"attention_bias": "no"}, "attention_bias must be true or false"),
        ({"is_causal": False}, "is_causal must be true"),
        ({"per_layer_config": {"0": {"hidden_act": "gelu"}}}, "per_layer_config"),
        ({"rope_theta": 0.0}, "rope_theta must be a finite number > 0, not 0.0"),
        ({"rope_theta": -1e4}, "rope_theta must be a finite number > 0"),
        ({"rope_theta": None}, "rope_theta is null"),
        ({"rope_scaling": [2]}, "rope_scaling: must hold a JSON object"),
        ({"rope_scaling": {"rope_type": ["linear"]}}, r"RoPE scaling \['linear'\]"),
        ({"rope_scaling": {"rope_type": None}}, "rope_type is null"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor must be a finite number"),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta_fast": 32}},
            "beta_fast is not used by scaling of type 'linear'",
        ),
        (
            {"rope_scaling": {**LLAMA_FLAT["rope_scaling"], "high_freq_factor": 1}},
            "low_freq_factor 1.0 must be below high_freq_factor 1.0",
        ),
        (
            {
                "rope_scaling": LLAMA_FLAT["rope_scaling"],
                "original_max_position_embeddings": 16.0,
            },
            "original_max_position_embeddings must be a positive whole number, not 16.0",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported"),
        (
            {"rope_scaling": None, "rope_parameters": {"full_attention": {}}},
            "full_attention is not used",
        ),
        ({**GEMMA3_FLAT, "rope_parameters": {"rope_type": "linear"}}, "the key 'rope_type'"),
        ({**GEMMA2_FLAT, "sliding_window": None}, "sliding_window is null"),
        ({**GEMMA2_FLAT, "sliding_window": 0}, "sliding_window must be a positive whole number"),
        ({**GEMMA2_FLAT, "sliding_window": 5.0}, "sliding_window must be a positive whole number"),
        ({**GEMMA2_FLAT, "attn_logit_softcapping": 0}, "attn_logit_softcapping must be a finite"),
        ({**GEMMA2_FLAT, "query_pre_attn_scalar": 0}, "query_pre_attn_scalar must be a positive"),
        ({**GEMMA2_FLAT, "head_dim": None}, "head_dim is null"),
        ({**GEMMA2_FLAT, "layer_types": "full"}, "layer_types has no list for 4 layers"),
        ({**GEMMA2_FLAT, "layer_types": [["full_attention"]] * 4}, "layer type"),
        ({**GEMMA3_FLAT, "sliding_window_pattern": 0}, "sliding_window_pattern must be a pos"),
        (
            {**QWEN_FLAT, "layer_types": ["sliding_attention"] * 3},
            "type sliding_attention, but use_sliding_window is false",
        ),
        ({**QWEN_FLAT, "use_sliding_window": "yes"}, "use_sliding_window must be true or false"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"quantized weights \(gptq\)"),
        ({"compression_config": {}}, "compression_config says"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "quantization says"),
        (
            {
                "model_type": "gemma3",
                "text_config": {**GEMMA3_FLAT, "quantization_config": {"quant_method": "awq"}},
            },
            r"quantized weights \(awq\)",
        ),
        ({"model_type": "gemma3", "text_config": [1]}, "text_config: must hold a JSON object"),
        ({"model_type": "gemma3", "text_config": LLAMA_FLAT}, "text_config is of model_type 'll"),
        (
            {"model_type": "gemma3", "text_config": {**GEMMA3_FLAT, "tie_word_embeddings": True}},
            "tie_word_embeddings differs",
        ),
        ({**GEMMA2_FLAT, "layer_types": ["full_attention"]}, "1 entries for 4 layers"),
        ({**GEMMA2_FLAT, "layer_types": ["chunked"] * 4}, "layer type 'chunked'"),
        ({**GEMMA3_FLAT, "use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        config_from_hf({**LLAMA_FLAT, **change}, "here/config.json")
    assert str(caught.value).startswith("here/config.json: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_out_of_range_is_refused(layer):
    with pytest.raises(InputError, match=f"layer {layer} is out of range.* 0 to 2"):
        FAMILIES["llama"].check_layer(layer)
