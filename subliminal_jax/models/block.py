"""One transformer block, and what all blocks of a pass share."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.models.attention import (
    Angles,
    Cache,
    angles,
    attend,
    attend_cached,
    rotate,
    to_cache_layout,
    visible,
)
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.linear import linear
from subliminal_jax.models.tokenwise import add_bias, norm


class LayerFlags(NamedTuple):
    """What layers of one model differ in; None where all are alike."""

    slides: Bool[Array, "*layers"] | None
    rotates: Bool[Array, "*layers"] | None


class BlockContext(NamedTuple):
    """What every block of one pass shares."""

    rope: Angles
    local_rope: Angles | None
    mask: Bool[Array, "#batch 1 time slots"] | None
    local_mask: Bool[Array, "#batch 1 time slots"] | None
    slot: Int[Array, ""] | None  # the first new token's, in the cache


def make_context(
    cfg: ModelConfig,
    positions: Int[Array, "batch time"],
    segment_ids: Int[Array, "batch time"] | None,
    cache: Cache | None,
) -> tuple[BlockContext, Int[Array, "batch slots"] | None]:
    """Rotations and masks of a pass, and the cache's positions after it."""
    T = positions.shape[1]
    rope = angles(cfg.rope, cfg.head_dim, positions)
    local_rope = None
    if cfg.local_rope is not None and cfg.has_sliding_layers:
        local_rope = angles(cfg.local_rope, cfg.head_dim, positions)
    if cache is not None:
        slots = jax.lax.dynamic_update_slice(cache.positions, positions, (0, cache.index))
        full = visible(positions, slots)
        near = visible(positions, slots, cfg.window) if cfg.has_sliding_layers else None
        if segment_ids is not None:
            same = segment_ids[:, :, None] == segment_ids[:, None, :]
            seen = jnp.ones((*positions.shape, slots.shape[1]), bool)
            seen = jax.lax.dynamic_update_slice(seen, same, (0, 0, cache.index))[:, None]
            full, near = full & seen, None if near is None else near & seen
        return BlockContext(rope, local_rope, full, near, cache.index), slots
    i = jnp.arange(T)
    distance = (i[:, None] - i[None, :])[None, None]
    mask: Array | None = None  # causal by index
    local: Array | None = None
    if segment_ids is not None:
        same = segment_ids[:, :, None] == segment_ids[:, None, :]
        mask = same[:, None] & (distance >= 0)
    if cfg.has_sliding_layers and cfg.window is not None and cfg.window < T:
        mask = distance >= 0 if mask is None else mask
        local = mask & (distance < cfg.window)
    return BlockContext(rope, local_rope, mask, local, None), None


def run_block(
    h: Float[Array, "batch time dim"],
    w: dict[str, Any],
    flags: LayerFlags,
    kv: tuple[Array, Array] | None,
    time_indices: Int[Array, "batch kept"] | None,
    cfg: ModelConfig,
    context: BlockContext,
) -> tuple[Array, tuple[Array, Array]]:
    """One transformer block; returns the residual stream and the layer's keys and values.

    `kv` are those of its cache; without a cache they are those of these tokens alone.
    `time_indices` are the tokens whose residual stream is returned, None all.
    """
    B, T, _ = h.shape
    rope, mask = context.rope, context.mask
    if flags.slides is not None:
        if context.local_rope is not None:
            rope = jax.tree.map(partial(jnp.where, flags.slides), context.local_rope, rope)
        if context.local_mask is not None and mask is not None:
            mask = jnp.where(flags.slides, context.local_mask, mask)
    if flags.rotates is not None:
        cos, sin = rope
        rope = jnp.where(flags.rotates, cos, 1.0), jnp.where(flags.rotates, sin, 0.0)
    with jax.named_scope("attention"):
        x = norm(h, w, "attn_norm", cfg) if cfg.pre_norms else h
        k, v = linear(x, w["k"]), linear(x, w["v"])
        q_rope = rope
        if time_indices is not None:
            mask = _select_queries(mask, time_indices, T)
            select = partial(select_times, time_indices=time_indices)
            h, x, q_rope = jax.tree.map(select, (h, x, rope))
        q = linear(x, w["q"])
        if cfg.qkv_bias:
            biases = (w[name] for name in ("q_bias", "k_bias", "v_bias"))
            q, k, v = (add_bias(x, bias) for x, bias in zip((q, k, v), biases, strict=True))
        if cfg.joint_qk_norm:
            q, k = norm(q, w, "q_norm", cfg), norm(k, w, "k_norm", cfg)
        q = q.reshape(B, h.shape[1], cfg.heads, cfg.head_dim)
        k = k.reshape(B, T, cfg.kv_heads, cfg.head_dim)
        v = v.reshape(B, T, cfg.kv_heads, cfg.head_dim)
        if cfg.qk_norm and not cfg.joint_qk_norm:
            q, k = norm(q, w, "q_norm", cfg), norm(k, w, "k_norm", cfg)
        q, k = rotate(q, q_rope), rotate(k, rope)
        if kv is None:
            kv = (k, v)
            x = attend(q, k, v, mask, cfg.attention_scale, cfg.attention_softcap)
        else:
            assert mask is not None and context.slot is not None
            k, v = to_cache_layout(k, v)
            keys = jax.lax.dynamic_update_slice(kv[0], k, (0, 0, 0, context.slot))
            values = jax.lax.dynamic_update_slice(kv[1], v, (0, 0, context.slot, 0))
            kv = (keys, values)
            x = attend_cached(q, keys, values, mask, cfg.attention_scale, cfg.attention_softcap)
        x = linear(x.reshape(B, h.shape[1], cfg.heads * cfg.head_dim), w["o"])
        if cfg.other_biases:
            x = add_bias(x, w["o_bias"])
        if cfg.post_norms:
            x = norm(x, w, "post_attn_norm", cfg)
        read, h = h, h + x
    with jax.named_scope("mlp"):
        x = run_mlp(read if cfg.parallel else h, w, cfg)
    return h + x, kv


def run_mlp(
    h: Float[Array, "batch time dim"], w: dict[str, Any], cfg: ModelConfig
) -> Float[Array, "batch time dim"]:
    """What the MLP of a block adds to the residual stream, of which it reads `h`."""
    x = norm(h, w, "mlp_norm", cfg) if cfg.pre_norms else h
    up = linear(x, w["up"])
    if cfg.other_biases:
        up = add_bias(up, w["up_bias"])
    gate = linear(x, w["gate"]) if cfg.gated else up
    if cfg.activation == "silu":
        gate = jax.nn.silu(gate)
    else:
        gate = jax.nn.gelu(gate, approximate=cfg.activation == "gelu_tanh")
    x = linear(gate * up if cfg.gated else gate, w["down"])
    if cfg.other_biases:
        x = add_bias(x, w["down_bias"])
    return norm(x, w, "post_mlp_norm", cfg) if cfg.post_norms else x


def select_times(
    x: Float[Array, "batch time *rest"], time_indices: Int[Array, "batch kept"]
) -> Float[Array, "batch kept *rest"]:
    shape = (*time_indices.shape, *[1] * (x.ndim - 2))
    return jnp.take_along_axis(x, time_indices.reshape(shape), axis=1)


def _select_queries(
    mask: Bool[Array, "#batch 1 time slots"] | None,
    time_indices: Int[Array, "batch kept"],
    time: int,
) -> Bool[Array, "batch 1 kept slots"]:
    """The mask of the queries at `time_indices`; `mask` None is causal by index."""
    if mask is None:
        return (time_indices[:, :, None] >= jnp.arange(time)[None, None])[:, None]
    mask = jnp.broadcast_to(mask, (time_indices.shape[0], *mask.shape[1:]))
    return jnp.take_along_axis(mask, time_indices[:, None, :, None], axis=2)
