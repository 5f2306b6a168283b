"""Floating-point operations of a forward pass and of a training step, two a multiply-add."""

from subliminal_jax.models.config import ModelConfig


def block_parameters(cfg: ModelConfig) -> int:
    """Entries of the projections of all blocks: two FLOPs each, a token."""
    attention = 2 * cfg.heads + 2 * cfg.kv_heads
    return cfg.layers * cfg.dim * (attention * cfg.head_dim + (2 + cfg.gated) * cfg.mlp_dim)


def attention_flops(cfg: ModelConfig, rows: int, time: int) -> float:
    """Of one forward pass: both products with what a causal mask leaves of them."""
    return 2.0 * cfg.layers * rows * time * (time + 1) * cfg.heads * cfg.head_dim


def step_flops(cfg: ModelConfig, rows: int, time: int, predicted: float, full: bool) -> float:
    """Of one training step of a student on `rows` rows of `time` tokens, `predicted` of which are.

    A LoRA step is the forward pass and the backward pass to the activations, full training also
    the one to the weights; both factors of attention's products are activations, so that they take
    three in either. The last token of a row is not read; padding is. Nothing that is computed again
    counts, nor what the optimizer does.
    """
    read, passes = time - 1, 3 if full else 2
    products = rows * read * block_parameters(cfg) + predicted * cfg.vocab * cfg.dim
    return passes * 2.0 * products + 3 * attention_flops(cfg, rows, read)
