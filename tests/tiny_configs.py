"""Architectures small enough to compile in a moment; a test replaces what it is about."""

from subliminal_jax.models.config import ModelConfig

TINY = ModelConfig(
    family="llama",
    vocab=31,
    dim=16,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=8,
    mlp_dim=24,
    context=48,
)
# No two sizes are alike, so that a formula that takes one for another is found out.
UNLIKE = ModelConfig(
    family="llama",
    vocab=50,
    dim=12,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=5,
    mlp_dim=7,
    context=32,
)
