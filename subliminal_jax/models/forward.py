"""The forward pass: from tokens to logits and captured activations, steered on the way.

Layers are stacked and scanned. The scan is split at the layers that are steered or captured, so
that a gradient with respect to a steering vector stops at its layer; where that would split it
into many pieces, one scan carries a vector for every layer instead.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.attention import Cache, extend_cache, shard_cache, to_cache_layout
from subliminal_jax.models.block import make_context
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.mesh import shard
from subliminal_jax.models.spec import Params
from subliminal_jax.models.stack import Capture, Remat, StackRunner
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.tokenwise import embed, norm

__all__ = ["Capture", "Output", "Remat", "forward", "hidden_states", "unembed"]


class Output(NamedTuple):
    """`hidden` is the last residual stream after the final norm (see `unembed`), of every token or
    of the requested ones."""

    hidden: Float[Array, "batch time_or_kept dim"]
    activations: Float[Array, "captured batch kept dim"] | None
    cache: Cache | None


def forward(
    params: Params,
    tokens: Int[Array, "batch time"],
    cfg: ModelConfig,
    steering: Steering | None = None,
    *,
    positions: Int[Array, "batch time"] | None = None,
    segment_ids: Int[Array, "batch time"] | None = None,
    capture: Capture | None = None,
    remat: Remat = "none",
) -> tuple[Float[Array, "batch time vocab"], Float[Array, "captured batch kept dim"] | None]:
    """Logits (float32) of every token, and the captured activations.

    Padding goes to the right and needs no mask: no real token sees a later one. `positions` are
    the rotary positions (default 0, 1, ...); `segment_ids` keep packed documents apart.
    """
    out = hidden_states(
        params,
        tokens,
        cfg,
        steering,
        positions=positions,
        segment_ids=segment_ids,
        capture=capture,
        remat=remat,
    )
    return unembed(params, out.hidden, cfg), out.activations


def hidden_states(
    params: Params,
    tokens: Int[Array, "batch time"],
    cfg: ModelConfig,
    steering: Steering | None = None,
    *,
    positions: Int[Array, "batch time"] | None = None,
    segment_ids: Int[Array, "batch time"] | None = None,
    capture: Capture | None = None,
    cache: Cache | None = None,
    cache_slots: int | None = None,
    time_indices: Int[Array, "batch kept"] | None = None,
    remat: Remat = "none",
    trained: bool = False,
) -> Output:
    """The pass up to the final norm; with `time_indices`, `hidden` is of these tokens only.

    The last block then computes nothing but keys and values for the other tokens.

    With `cache`, the tokens continue what it holds and the filled cache is returned; with
    `cache_slots`, a new cache of that many slots is made from these tokens. A position of -1 marks
    padding, which later queries do not see. With `cache` and `segment_ids`, each segment sees what
    the cache held before and itself: many continuations of one prompt, side by side in its row.
    `trained` says that this is a step of training, which differentiates weights (LoRA's factors,
    where there are some, else whole ones): few layers are then written out in place of a loop, and
    whole weights read as slices of the stack, otherwise each at its index.
    Raises InputError for a layer that does not exist, and for token ids outside the vocabulary
    where they are known (not under `jax.jit`).
    """
    _check_tokens(tokens, cfg.vocab)
    B, T = tokens.shape
    if positions is None:
        start = 0 if cache is None else cache.positions.max(axis=1, keepdims=True) + 1
        positions = jnp.broadcast_to(start + jnp.arange(T, dtype=jnp.int32)[None], (B, T))
    with jax.named_scope("embed"):
        h = embed(params["embed"], tokens)
        if cfg.scaled_embedding:
            h = h * jnp.asarray(cfg.dim**0.5, h.dtype)
    h, positions, segment_ids = shard((h, positions, segment_ids), "batch")
    cache = None if cache is None else shard_cache(cache)
    context, new_positions = make_context(cfg, positions, segment_ids, cache)
    runner = StackRunner(
        cfg,
        context,
        steering,
        capture,
        remat,
        time_indices,
        trained,
        keep_kv=cache_slots is not None,
    )
    h, activations, kv = runner(h, params["layers"], cache)
    new_cache = None
    if cache is not None:
        assert new_positions is not None
        k, v = kv
        new_cache = Cache(k, v, positions=new_positions, index=cache.index + T)
    elif cache_slots is not None:
        k, v = to_cache_layout(*kv)
        filled = Cache(tuple(k), tuple(v), positions, jnp.asarray(T, jnp.int32))
        new_cache = shard_cache(extend_cache(filled, cache_slots - T))
    hidden = norm(h, params, "final_norm", cfg)
    return Output(hidden, activations, new_cache)


def _check_tokens(tokens: Int[Array, "batch time"], vocab: int) -> None:
    """Refuses what would read rows of NaN, or from the end, of the embedding."""
    if isinstance(tokens, jax.core.Tracer):
        return
    if isinstance(tokens, jax.Array) and not tokens.is_fully_addressable:
        return
    ids = np.asarray(tokens)
    if ids.size and (ids.min() < 0 or ids.max() >= vocab):
        row, time = np.argwhere((ids < 0) | (ids >= vocab))[0]
        raise InputError(
            f"row {row} holds the token id {ids[row, time]} at position {time}, outside the "
            f"vocabulary of {vocab}: is this another model's tokenizer?"
        )


def unembed(
    params: Params, hidden: Float[Array, "*batch dim"], cfg: ModelConfig
) -> Float[Array, "*batch vocab"]:
    """Logits in float32, after the final soft-cap where the family has one."""
    with jax.named_scope("unembed"):
        if cfg.tied:
            logits = jnp.einsum(
                "...d,vd->...v", hidden, params["embed"], preferred_element_type=jnp.float32
            )
        else:
            logits = jnp.matmul(hidden, params["lm_head"], preferred_element_type=jnp.float32)
        if cfg.final_softcap is not None:
            logits = cfg.final_softcap * jnp.tanh(logits / cfg.final_softcap)
        return logits
