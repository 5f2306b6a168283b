"""Tiny models of every family, and parameters in which every tensor counts."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from subliminal_jax.models.config import ModelConfig, Rope
from subliminal_jax.models.spec import Params, init_params

LLAMA3_ROPE = Rope(
    theta=10_000.0,
    kind="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_context=16,  # shorter than the sequences, so that the rescaling shows
)

LLAMA = ModelConfig(
    family="llama",
    vocab=67,
    dim=32,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=8,
    mlp_dim=48,
    context=64,
    norm_eps=1e-5,
    rope=LLAMA3_ROPE,
    tied=False,
)
TIED_LLAMA = replace(LLAMA, tied=True, kv_heads=1, head_dim=16)
QWEN2 = replace(
    LLAMA, family="qwen2", rope=Rope(theta=1_000_000.0), tied=True, qkv_bias=True, norm_eps=1e-6
)
QWEN3 = replace(QWEN2, family="qwen3", qkv_bias=False, qk_norm=True, head_dim=12, tied=False)
GEMMA2 = replace(
    LLAMA,
    family="gemma2",
    rope=Rope(),
    tied=True,
    head_dim=12,
    layers=4,
    norm_eps=1e-6,
    unit_offset_norm=True,
    post_norms=True,
    scaled_embedding=True,
    activation="gelu_tanh",
    query_scale=24**-0.5,
    attention_softcap=2.0,  # small enough to bend the numbers of a tiny model
    final_softcap=3.0,
    window=5,
    sliding=(True, False, True, False),
)
GEMMA3 = replace(
    GEMMA2,
    family="gemma3",
    rope=Rope(theta=1_000_000.0, kind="linear", factor=8.0),
    local_rope=Rope(),
    qk_norm=True,
    attention_softcap=None,
    final_softcap=None,
    sliding=(True, True, False, True),
)
MISTRAL = replace(LLAMA, family="mistral", rope=Rope(), window=5, sliding=(True, True, True))
SMOLLM3 = replace(
    LLAMA,
    family="smollm3",
    rope=Rope(theta=2_000_000.0),
    tied=True,
    layers=4,
    window=5,
    sliding=(False, True, False, False),
    rotary=(True, False, True, False),
)
PHI3 = replace(LLAMA, family="phi3", rope=Rope(fraction=0.75), window=5, sliding=(True, True, True))
OLMO2 = replace(
    LLAMA,
    family="olmo2",
    pre_norms=False,
    post_norms=True,
    qk_norm=True,
    joint_qk_norm=True,
)
OLMO3 = replace(
    OLMO2,
    family="olmo3",
    layers=4,
    rope=Rope(
        theta=500_000.0,
        kind="yarn",
        factor=8.0,
        original_context=16,
        beta_fast=4.0,
        attention_factor=1.2,
    ),
    local_rope=Rope(theta=500_000.0),
    window=5,
    sliding=(True, False, True, False),
)
NEOX = replace(
    LLAMA,
    family="gpt_neox",
    kv_heads=4,
    rope=Rope(fraction=0.5),
    qkv_bias=True,
    other_biases=True,
    layer_norm=True,
    gated=False,
    parallel=True,
    activation="gelu",
)
FAMILIES = {
    "llama": LLAMA,
    "llama-tied": TIED_LLAMA,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
}
# Variants of these, which the tests of numbers see, and those of programs need not.
VARIANTS = {
    "mistral": MISTRAL,
    "smollm3": SMOLLM3,
    "phi3": PHI3,
    "olmo2": OLMO2,
    "olmo3": OLMO3,
    "gpt_neox": NEOX,
    "gpt_neox-in-turn": replace(NEOX, parallel=False, tied=True),
}
ALL = FAMILIES | VARIANTS


def noisy_params(cfg: ModelConfig, seed: int = 0, dtype: Any = jnp.float32) -> Params:
    """Parameters with noise on every tensor: norms and biases at their defaults test nothing."""
    params = init_params(jax.random.key(seed), cfg, std=0.15)
    flat, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(flat))
    noisy = [x + 0.15 * jax.random.normal(k, x.shape) for k, x in zip(keys, flat, strict=True)]
    return jax.tree.map(lambda x: x.astype(dtype), tree.unflatten(noisy))
