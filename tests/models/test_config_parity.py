"""Configs as transformers reads them: defaults, random fields of every model type, tiny models.

A random config.json leaves fields out, sets them to null, spells RoPE in the old way, the new one
or both, and now and then has a value of a wrong type. Where both read it, all that the forward
pass uses must agree; what transformers refuses we must refuse; what we refuse must be something
that we say we do not support.
"""

import dataclasses
import json
import random

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.attention import frequencies
from subliminal_jax.models.config import config_from_hf, config_to_hf
from subliminal_jax.models.families import FAMILIES as ROWS
from subliminal_jax.models.forward import forward
from subliminal_jax.models.weights import load_params
from tests.models.families import ALL

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch", reason="parity needs torch: install the parity extra")
transformers = pytest.importorskip("transformers")

TYPES = {
    "llama": ("LlamaConfig", "LlamaRotaryEmbedding"),
    "qwen2": ("Qwen2Config", "Qwen2RotaryEmbedding"),
    "qwen3": ("Qwen3Config", "Qwen3RotaryEmbedding"),
    "gemma2": ("Gemma2Config", "Gemma2RotaryEmbedding"),
    "gemma3": ("Gemma3TextConfig", "Gemma3RotaryEmbedding"),
    "mistral": ("MistralConfig", "MistralRotaryEmbedding"),
    "smollm3": ("SmolLM3Config", "SmolLM3RotaryEmbedding"),
    "phi3": ("Phi3Config", "Phi3RotaryEmbedding"),
    "olmo2": ("Olmo2Config", "Olmo2RotaryEmbedding"),
    "olmo3": ("Olmo3Config", "Olmo3RotaryEmbedding"),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXRotaryEmbedding"),
}
IN_ALL_LAYERS = ("mistral", "phi3")  # a window is one of all layers
NO_LISTS = ("llama", "olmo2", "gpt_neox", *IN_ALL_LAYERS)  # layer_types say nothing
NESTED = ("gemma3", "olmo3")  # an embedding a kind of layer
ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
# Reasons for which we may refuse what transformers reads.
UNSUPPORTED = (
    "attention_bias=true",
    "mlp_bias=true",
    "use_bidirectional_attention=true",
    "is not used by scaling of type",
    "is missing; is the file whole",
    "partial_rotary_factor",
    "rope_parameters has the key",
    "rope_theta is null",  # of a kind of layer that the model does not have
    "head_dim must be even",  # transformers fails in the forward pass
    "is not a multiple of num_attention_heads",
    "must be a positive whole number, not -3",  # which it does not check
    "must be a positive whole number, not 2.5",
    "RoPE scaling 'longrope' is not supported",
    "truncate=false is not supported",
    "is no even number",
    "head_dim is null",  # SmolLM3's and OLMo's models then fail
    "attention_bias=false",
    "but use_sliding_window is false",  # SmolLM3's model slides all the same
)


def config_class(name):
    return getattr(transformers, TYPES[name][0])


@pytest.mark.parametrize("name", TYPES)
def test_the_defaults_are_those_of_transformers(name):
    row, kind = ROWS[name], config_class(name)
    hints = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    theirs = {key: getattr(kind, key) for key in hints if hasattr(kind, key)}
    for key, value in {**row.defaults, **row.sizes}.items():
        if key in theirs:
            assert (key, value) == (key, theirs[key])
            assert (key, key in row.nullable) == (key, "None" in hints[key])
    others = {"sliding_window_pattern", "head_dim"}  # read from further arguments
    assert set(row.defaults) - set(theirs) <= others
    thetas = kind.default_theta
    assert row.rope_theta == (thetas["global"] if isinstance(thetas, dict) else thetas)


def random_rope(rng, name):
    """Some of the ways in which a config.json speaks of RoPE."""
    entries = [
        {"rope_type": "default"},
        {"rope_type": "default", "rope_theta": 5e5},
        {"type": "linear", "factor": 2.0},
        {"rope_type": "linear", "factor": 4, "rope_theta": 3e4},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        {
            "rope_type": "llama3",
            "factor": 8,
            "low_freq_factor": 1,
            "high_freq_factor": 4,
            "original_max_position_embeddings": 32,
        },
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        {
            "rope_type": "yarn",
            "factor": 40.0,
            "beta_fast": 4.0,
            "beta_slow": 0.5,
            "mscale": 1.0,
            "mscale_all_dim": 0.7,
        },
        {"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.5, "beta_fast": None},
    ]
    raw = {}
    if name == "phi3" and rng.random() < 0.9:
        entries = entries[:2]
    if name == "gpt_neox":
        if rng.random() < 0.5:
            raw["rotary_emb_base"] = rng.choice([1e6, 250_000])
        if rng.random() < 0.5:
            raw["rotary_pct"] = rng.choice([1.0, 0.5])
    if rng.random() < 0.5:
        raw["rope_theta"] = rng.choice([1e6, 250_000, None] if rng.random() < 0.2 else [1e6, 123])
    if rng.random() < 0.5:
        raw["rope_scaling"] = rng.choice([None, *entries])
    if rng.random() < 0.5:
        raw["rope_parameters"] = rng.choice([None, *entries])
        if name in NESTED and rng.random() < 0.8:
            kinds = ("full_attention", "sliding_attention")
            raw["rope_parameters"] = {kind: rng.choice(entries) for kind in kinds}
            if rng.random() < 0.3:
                raw["rope_parameters"][rng.choice(kinds)] = None
    if rng.random() < 0.3:
        raw["original_max_position_embeddings"] = rng.choice([16, 40])
    if rng.random() < 0.3:
        raw["rope_local_base_freq"] = rng.choice([500.0, 20_000])
    if rng.random() < (0.4 if name == "phi3" else 0.1):
        raw["partial_rotary_factor"] = rng.choice([1.0, 0.5])
    return raw


def random_config(rng, name):
    layers = rng.randint(1, 7)
    kinds = ["sliding_attention", "full_attention"]
    raw = {
        "vocab_size": rng.randint(10, 99),
        "hidden_size": rng.choice([32, 32, 32, 36]),
        "intermediate_size": rng.randint(8, 60),
        "num_hidden_layers": layers,
        "num_attention_heads": rng.choice([4, 8]),
    }
    optional = {
        "num_key_value_heads": [2, 4, 1, None, 3],
        "head_dim": [8, 12, None],
        "hidden_act": ["silu", "gelu", "gelu_pytorch_tanh"],
        "hidden_activation": ["silu", "gelu", "gelu_pytorch_tanh"],
        "max_position_embeddings": [64, 4096],
        "rms_norm_eps": [1e-5, 1e-6, 0.01],
        "tie_word_embeddings": [True, False],
        "attention_bias": [False, False, False, True],
        "mlp_bias": [False, False, False, True],
        "query_pre_attn_scalar": [16, 144],
        "final_logit_softcapping": [None, 30.0, 3.0],
        "attn_logit_softcapping": [None, 50.0, 2.0],
        "use_bidirectional_attention": [None, False],
        "sliding_window": [3, 1, None, 4096],
        "use_sliding_window": [True, False],
        "max_window_layers": [0, 2, 28],
        "sliding_window_pattern": [1, 2, 3, 6],
        "layer_types": [
            None,
            ["full_attention"] * layers,
            [rng.choice(kinds) for _ in range(layers)],
        ],
        "layer_norm_eps": [1e-5, 0.01],
        "use_parallel_residual": [True, False],
        "no_rope_layers": [None, [rng.choice([0, 1]) for _ in range(layers)]],
        "no_rope_layer_interval": [1, 2, 4],
        "dtype": ["bfloat16"],
        "attention_dropout": [0.0],
        "use_cache": [True],
    }
    for key, values in optional.items():
        if rng.random() < 0.5:
            raw[key] = rng.choice(values)
    if rng.random() < 0.8:  # Qwen's default of 32 suits few
        raw.setdefault("num_key_value_heads", 2)
    if name == "gpt_neox":
        raw.pop("head_dim", None)  # which its rotary embedding reads, and its attention does not
        if rng.random() < 0.9:
            raw.pop("attention_bias", None)
    raw |= random_rope(rng, name)
    if rng.random() < 0.1:  # a wrong type
        key = rng.choice(sorted(set(raw) - {"dtype", "attention_dropout", "use_cache"}))
        raw[key] = rng.choice(["12", [1], {"a": 1}, -3, 2.5])
    return {"model_type": ROWS[name].model_types[0], **raw}


def read_by_transformers(raw, name):
    """What the forward pass uses, from transformers' own classes, and the angles of each kind of
    layer; raises what they raise, and ValueError for what only their forward pass refuses."""
    fields = {key: value for key, value in raw.items() if key != "model_type"}
    config = config_class(name)(**json.loads(json.dumps(fields)))
    heads, head_dim = config.num_attention_heads, getattr(config, "head_dim", None)
    if "head_dim" in fields and head_dim is None:
        config.head_dim = config.hidden_size // heads  # YaRN does without null alone
    kv_heads = getattr(config, "num_key_value_heads", heads) if name != "gpt_neox" else heads
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    if len(kinds) != config.num_hidden_layers:
        raise ValueError("layer_types")
    sliding = tuple(kind == "sliding_attention" for kind in kinds) if name not in NO_LISTS else ()
    if name in IN_ALL_LAYERS and config.sliding_window is not None:
        sliding = (True,) * config.num_hidden_layers
    if any(sliding) and config.sliding_window is None:
        raise ValueError("its model has no window")  # masking_utils raises in the forward pass
    if (any(sliding) and config.sliding_window < 1) or heads % kv_heads:
        raise ValueError("its model sees nothing, or shares heads unevenly")
    module = getattr(transformers.models, name.removesuffix("_text"))
    rotary = getattr(getattr(module, f"modeling_{name}"), TYPES[name][1])(config)
    if name in NESTED:
        angles = {
            slides: getattr(rotary, f"{kind}_inv_freq", None)
            for slides, kind in ((False, "full_attention"), (True, "sliding_attention"))
        }
    else:
        angles = {False: rotary.inv_freq, True: rotary.inv_freq}
    capped = name.startswith("gemma")
    rotated = tuple(map(bool, config.no_rope_layers)) if name == "smollm3" else ()
    return {
        "vocab": config.vocab_size,
        "dim": config.hidden_size,
        "layers": config.num_hidden_layers,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim or config.hidden_size // heads,
        "mlp_dim": config.intermediate_size,
        "context": config.max_position_embeddings,
        "norm_eps": config.layer_norm_eps if name == "gpt_neox" else config.rms_norm_eps,
        "tied": config.tie_word_embeddings,
        "activation": ACTIVATIONS[config.hidden_activation if capped else config.hidden_act],
        "query_scale": config.query_pre_attn_scalar**-0.5 if capped else None,
        "attention_softcap": config.attn_logit_softcapping if capped else None,
        "final_softcap": config.final_logit_softcapping if capped else None,
        "window": config.sliding_window if any(sliding) else None,
        "sliding": sliding if any(sliding) else (),
        "rotary": () if all(rotated) else rotated[: config.num_hidden_layers],
        "parallel": name == "gpt_neox" and config.use_parallel_residual,
    }, {slides: angles[slides] for slides in set(sliding) or {False}}


def assert_alike(ours, theirs, angles, raw):
    assert {key: getattr(ours, key) for key in theirs} == theirs, raw
    for slides, expected in angles.items():
        rope = ours.local_rope if slides and ours.local_rope else ours.rope
        actual = np.asarray(frequencies(rope, ours.head_dim))
        assert np.allclose(actual, expected.numpy(), rtol=1e-5), (raw, slides)


@pytest.mark.parametrize("name", TYPES)
def test_random_configs_are_read_as_transformers_reads_them(name):
    rng, agreed = random.Random(name), 0
    for _ in range(100):
        raw = random_config(rng, name)
        try:
            theirs, angles = read_by_transformers(raw, name)
        except Exception as why:  # of many types
            theirs, reason = None, why
        try:
            ours = config_from_hf(json.loads(json.dumps(raw)))
        except InputError as error:
            if theirs is not None and not any(part in str(error) for part in UNSUPPORTED):
                pytest.fail(f"we refuse {raw}: {error}")
            continue
        if theirs is None:
            pytest.fail(f"transformers refuses {raw} ({reason!r}), we read {ours}")
        assert_alike(ours, theirs, angles, raw)
        written = config_to_hf(ours)
        assert_alike(ours, *read_by_transformers(written, name), written)
        assert config_from_hf(written) == ours
        agreed += 1
    assert agreed >= 25  # the others have a wrong type or what we do not support


SIZES = {
    "vocab_size": 67,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
}
# Fields that are left out, which once were filled otherwise than by transformers.
SPARSE = {
    "soft-caps of Gemma 2": ("gemma2", {"num_hidden_layers": 2, "sliding_window": 4}),
    "window of Qwen 3 by layer_types": (
        "qwen3",
        {
            "num_hidden_layers": 2,
            "use_sliding_window": True,
            "sliding_window": 3,
            "max_window_layers": 0,
        },
    ),
    "original length beside the entry": (
        "llama",
        {
            "num_hidden_layers": 2,
            "original_max_position_embeddings": 16,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
            },
        },
    ),
    "pattern of Gemma 3": (
        "gemma3",
        {"num_hidden_layers": 2, "sliding_window_pattern": 2, "sliding_window": 3},
    ),
}


@pytest.mark.parametrize("case", SPARSE)
def test_a_tiny_model_with_a_sparse_config_gives_the_same_logits(case, tmp_path):
    name, changes = SPARSE[case]
    raw = {**SIZES, **changes}
    torch.manual_seed(0)
    config = config_class(name)(**json.loads(json.dumps(raw)))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.eval().save_pretrained(tmp_path)
    cfg = config_from_hf({"model_type": ROWS[name].model_types[0], **raw})
    params = load_params(tmp_path, cfg)
    tokens = np.random.default_rng(0).integers(0, 67, (1, 12))
    ours, _ = forward(params, jnp.asarray(tokens), cfg)
    with torch.no_grad():
        theirs = model(torch.tensor(tokens)).logits.numpy()
    assert np.abs(np.asarray(ours) - theirs).max() < 2e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("cfg", ALL.values(), ids=ALL)
def test_transformers_reads_what_we_write(cfg):
    written = config_to_hf(cfg)
    assert_alike(cfg, *read_by_transformers(written, cfg.family), written)
