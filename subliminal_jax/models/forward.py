"""The forward pass: from tokens to logits and captured activations, steered on the way.

Layers are stacked and scanned. The scan is split at the layers that are steered or captured, so
that a gradient with respect to a steering vector stops at its layer; where that would split it
into many pieces, one scan carries a vector for every layer instead.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.attention import (
    Angles,
    Cache,
    angles,
    attend,
    attend_cached,
    extend_cache,
    rotate,
    shard_cache,
    to_cache_layout,
    visible,
)
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.linear import PRODUCT, LoraWeight, linear
from subliminal_jax.models.mesh import shard
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, edit
from subliminal_jax.models.tokenwise import add_bias, embed, rms_norm

Remat = Literal["none", "narrow", "block"]
FEW_LAYERS = 4  # up to so many, a piece of the stack is unrolled
MAX_SPLITS = 4  # more steered or captured layers than this go through one dense scan


@struct.dataclass
class Capture:
    """Keep the residual stream after each of `layers`, at time indices `positions` only.

    `positions` [batch, kept]; None keeps every token. What is kept already includes the steering.
    """

    layers: tuple[int, ...] = struct.field(pytree_node=False)
    positions: Int[Array, "batch kept"] | None = None


class Output(NamedTuple):
    """`hidden` is the last residual stream after the final norm (see `unembed`), of every token or
    of the requested ones."""

    hidden: Float[Array, "batch time_or_kept dim"]
    activations: Float[Array, "captured batch kept dim"] | None
    cache: Cache | None


class _Context(NamedTuple):
    """What every block of one pass shares."""

    rope: Angles
    local_rope: Angles | None
    mask: Bool[Array, "#batch 1 time slots"] | None
    local_mask: Bool[Array, "#batch 1 time slots"] | None
    slot: Int[Array, ""] | None  # the first new token's, in the cache


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
    `trained` says that whole weights will be differentiated: blocks then read slices of the stacked
    weights, and otherwise each weight at its index in the stack.
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
    context, new_positions = _context(cfg, positions, segment_ids, cache)
    runner = _Runner(
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
    hidden = rms_norm(h, params["final_norm"], cfg)
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


def _context(
    cfg: ModelConfig,
    positions: Int[Array, "batch time"],
    segment_ids: Int[Array, "batch time"] | None,
    cache: Cache | None,
) -> tuple[_Context, Int[Array, "batch slots"] | None]:
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
        return _Context(rope, local_rope, full, near, cache.index), slots
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
    return _Context(rope, local_rope, mask, local, None), None


def _block(
    h: Float[Array, "batch time dim"],
    w: dict[str, Any],
    slides: Bool[Array, ""] | None,
    kv: tuple[Array, Array] | None,
    time_indices: Int[Array, "batch kept"] | None,
    cfg: ModelConfig,
    context: _Context,
) -> tuple[Array, tuple[Array, Array]]:
    """One transformer block; returns the residual stream and the layer's keys and values.

    `kv` are those of its cache; without a cache they are those of these tokens alone.
    `time_indices` are the tokens whose residual stream is returned, None all.
    """
    B, T, _ = h.shape
    rope, mask = context.rope, context.mask
    if slides is not None:
        if context.local_rope is not None:
            rope = jax.tree.map(partial(jnp.where, slides), context.local_rope, rope)
        if context.local_mask is not None and mask is not None:
            mask = jnp.where(slides, context.local_mask, mask)
    with jax.named_scope("attention"):
        x = rms_norm(h, w["attn_norm"], cfg)
        k, v = linear(x, w["k"]), linear(x, w["v"])
        q_rope = rope
        if time_indices is not None:
            mask = _select_queries(mask, time_indices, T)
            select = partial(_select_times, time_indices=time_indices)
            h, x, q_rope = jax.tree.map(select, (h, x, rope))
        q = linear(x, w["q"])
        if cfg.qkv_bias:
            biases = (w[name][None, None] for name in ("q_bias", "k_bias", "v_bias"))
            q, k, v = (add_bias(x, bias) for x, bias in zip((q, k, v), biases, strict=True))
        q = q.reshape(B, h.shape[1], cfg.heads, cfg.head_dim)
        k = k.reshape(B, T, cfg.kv_heads, cfg.head_dim)
        v = v.reshape(B, T, cfg.kv_heads, cfg.head_dim)
        if cfg.qk_norm:
            q, k = rms_norm(q, w["q_norm"], cfg), rms_norm(k, w["k_norm"], cfg)
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
        if cfg.post_norms:
            x = rms_norm(x, w["post_attn_norm"], cfg)
        h = h + x
    with jax.named_scope("mlp"):
        x = rms_norm(h, w["mlp_norm"], cfg)
        gate = linear(x, w["gate"])
        if cfg.activation == "silu":
            gate = jax.nn.silu(gate)
        else:
            gate = jax.nn.gelu(gate, approximate=cfg.activation == "gelu_tanh")
        x = linear(gate * linear(x, w["up"]), w["down"])
        if cfg.post_norms:
            x = rms_norm(x, w["post_mlp_norm"], cfg)
    return h + x, kv


def _select_times(
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


def _save_weight_products(
    primitive: Any, *operands: Any, widest: int | None = None, **parameters: Any
) -> bool:
    """Save for the backward pass the products with weights, of at most `widest` columns.

    The rest, attention included, takes less time to compute again than to write and read.
    """
    if parameters.get("name") != PRODUCT:
        return False
    return widest is None or operands[0].shape[-1] <= widest


def _remat_policy(remat: Remat, cfg: ModelConfig) -> Callable[..., bool]:
    """Which intermediate results of a block are saved for the backward pass: all products with
    weights, those no wider than the residual stream, or none."""
    if remat == "block":
        return jax.checkpoint_policies.nothing_saveable
    return partial(_save_weight_products, widest=cfg.dim if remat == "narrow" else None)


class _Runner:
    """Runs the stacked layers in pieces between the steered and captured ones (the stops)."""

    def __init__(
        self,
        cfg: ModelConfig,
        context: _Context,
        steering: Steering | None,
        capture: Capture | None,
        remat: Remat,
        time_indices: Int[Array, "batch kept"] | None,
        trained: bool,
        keep_kv: bool,
    ):
        self.cfg, self.steering, self.capture, self.keep_kv = cfg, steering, capture, keep_kv
        self.time_indices, self.trained = time_indices, trained
        steered = () if steering is None else steering.layers
        captured = () if capture is None else capture.layers
        self.stops = sorted({cfg.check_layer(layer) for layer in (*steered, *captured)})
        self.block = partial(_block, cfg=cfg, context=context)
        self.policy = _remat_policy(remat, cfg)
        # Whether the last block may leave tokens out: what is captured after it, if anything, is of
        # the requested tokens, and its steering, if any, is the same for all tokens.
        last = cfg.layers - 1
        uniform = steering is None or last not in steered or steering.is_uniform
        captures_same = capture is None or last not in captured or capture.positions is time_indices
        self.skips_tokens = time_indices is not None and captures_same and uniform

    def __call__(
        self, h: Array, layers: dict[str, Any], cache: Cache | None
    ) -> tuple[Array, Array | None, Any]:
        if cache is not None:
            h, kept, kv = self._unrolled(h, layers, cache)
        elif len(self.stops) > MAX_SPLITS:
            self.skips_tokens = False
            h, kept, kv = self._scan_dense(h, layers)
        else:
            h, kept, kv = self._scan_split(h, layers)
        if self.time_indices is not None and not self.skips_tokens:
            h = _select_times(h, self.time_indices)
        if self.capture is None:
            return h, None, kv
        return h, jnp.stack([kept[layer] for layer in self.capture.layers]), kv

    def _unrolled(self, h: Array, layers: dict[str, Any], cache: Cache) -> tuple[Array, dict, Any]:
        """Layer by layer, since a scan would copy each layer's cache out of its carry and back."""
        kept: dict[int, Array] = {}
        kv = []
        for layer in range(self.cfg.layers):
            w = jax.tree.map(lambda leaf, layer=layer: leaf[layer], layers)
            slides = jnp.asarray(self.cfg.sliding[layer]) if self.cfg.has_sliding_layers else None
            skips = self.skips_tokens and layer == self.cfg.layers - 1
            time_indices = self.time_indices if skips else None
            h, layer_kv = self.block(h, w, slides, (cache.k[layer], cache.v[layer]), time_indices)
            kv.append(layer_kv)
            if layer in self.stops:
                h = self._edit(h, layer)
                kept[layer] = h if skips else self._keep(h)
        return h, kept, tuple(zip(*kv, strict=True))

    def _scan_split(self, h: Array, layers: dict[str, Any]) -> tuple[Array, dict, Any]:
        kept: dict[int, Array] = {}
        kv = []  # each piece's keys and values, where a new cache is being made
        start = 0
        for stop in [*(layer + 1 for layer in self.stops), self.cfg.layers]:
            skips = self.skips_tokens and stop == self.cfg.layers
            if stop - skips > start:
                h, piece = self._scan(h, layers, start, stop - skips)
                kv.append(piece)
            if skips and stop > start:
                h, piece = self._run_last(h, layers)
                kv.append(piece)
            layer, start = stop - 1, stop
            if layer in self.stops and layer not in kept:
                h = self._edit(h, layer)
                kept[layer] = h if skips else self._keep(h)
        if not self.keep_kv:
            return h, kept, None
        return h, kept, jax.tree.map(lambda *pieces: jnp.concatenate(pieces), *kv)

    def _scan(
        self, h: Array, layers: dict[str, Any], start: int, stop: int
    ) -> tuple[Array, tuple[Array, Array] | None]:
        run = self._make_layer_fn(layers)

        def body(h, x):
            h, kv = run(h, *x)
            return h, (kv if self.keep_kv else None)

        xs = self._scan_inputs(layers, start, stop)
        return jax.lax.scan(body, h, xs, unroll=self._unrolls(layers, stop - start))

    def _unrolls(self, layers: dict[str, Any], count: int) -> bool:
        """Whether a scan over `count` layers is written out, layer by layer.

        A loop writes what it saves of each layer for the backward pass into stacks. But written
        out, weights that are neither merged nor trained would be copied.
        """
        lora = any(isinstance(stack, LoraWeight) for stack in layers.values())
        return count <= FEW_LAYERS and (self.trained or lora)

    def _run_last(
        self, h: Array, layers: dict[str, Any]
    ) -> tuple[Array, tuple[Array, Array] | None]:
        """The last layer, for the requested tokens; keys and values as from a scan of one layer."""
        last = self._scan_inputs(layers, self.cfg.layers - 1, self.cfg.layers)
        x = jax.tree.map(lambda leaf: leaf[0], last)
        h, kv = self._make_layer_fn(layers)(h, *x, self.time_indices)
        return h, (jax.tree.map(lambda leaf: leaf[None], kv) if self.keep_kv else None)

    def _scan_dense(self, h: Array, layers: dict[str, Any]) -> tuple[Array, Any, Any]:
        steering, L = self.steering, self.cfg.layers
        vectors = target = None
        if steering is not None:
            steered = jnp.asarray(steering.layers)
            v = steering.vectors
            vectors = jnp.zeros((L, *v.shape[1:]), v.dtype).at[steered].set(v)
            if steering.target is not None:
                t = steering.target
                target = jnp.zeros((L, *t.shape[1:]), t.dtype).at[steered].set(t)

        run = self._make_layer_fn(layers)

        def body(h, x):
            layer, v, c = x
            h, kv = run(h, *layer)
            if steering is not None:
                h = edit(h, v, steering, c)
            kept = None if self.capture is None else self._keep(h)
            return h, (kept, kv if self.keep_kv else None)

        xs = (self._scan_inputs(layers, 0, L), vectors, target)
        h, (kept, kv) = jax.lax.scan(body, h, xs)
        return h, kept, kv

    def _make_layer_fn(
        self, layers: dict[str, Any]
    ) -> Callable[..., tuple[Array, tuple[Array, Array]]]:
        """A function (residual stream, layer, whether it slides, requested time indices or None)
        that runs one layer of the stack; `layer` is an entry of `_scan_inputs`."""

        def run(
            h: Array, layer: Any, slides: Array | None, time_indices: Array | None = None
        ) -> tuple[Array, tuple[Array, Array]]:
            index, slices = layer

            def weight(stack: Any, slice_: Any) -> Any:
                lora = isinstance(stack, LoraWeight)
                if slice_ is not None and not lora:
                    return slice_
                base = stack.base if lora else stack
                read = jax.lax.dynamic_index_in_dim(base, index, keepdims=False)
                return LoraWeight(read, *slice_) if lora else read

            w = {name: weight(stack, slices[name]) for name, stack in layers.items()}
            return self.block(h, w, slides, None, time_indices)

        return jax.checkpoint(run, prevent_cse=False, policy=self.policy)

    def _scan_inputs(
        self, layers: dict[str, Any], start: int, stop: int
    ) -> tuple[Any, Array | None]:
        """The xs of a scan over layers: each layer's index and the slices of its trained weights,
        and whether it slides.

        Read at its index, a frozen weight is not copied, while a slice of the stack is a copy. But
        the gradient of a weight read at an index is a stack of zeros around it, and L layers would
        add up L of them: LoRA's factors, and whole weights that are trained, are sliced.
        """

        def trained_weights(stack: Any) -> Any:
            if isinstance(stack, LoraWeight):
                return stack.a, stack.b, stack.scale
            return stack if self.trained else None

        flags = self.cfg.sliding[start:stop] if self.cfg.has_sliding_layers else None
        slices = {
            name: jax.tree.map(
                lambda x: jax.lax.slice_in_dim(x, start, stop), trained_weights(stack)
            )
            for name, stack in layers.items()
        }
        indexed = jnp.arange(start, stop), slices
        return indexed, None if flags is None else jnp.asarray(flags)

    def _edit(self, h: Array, layer: int) -> Array:
        steering = self.steering
        if steering is None or layer not in steering.layers:
            return h
        i = steering.layers.index(layer)
        target = None if steering.target is None else steering.target[i]
        return edit(h, steering.vectors[i], steering, target)

    def _keep(self, h: Array) -> Array:
        assert self.capture is None or self.capture.positions is None or h.ndim == 3
        if self.capture is None or self.capture.positions is None:
            return h
        return jnp.take_along_axis(h, self.capture.positions[:, :, None], axis=1)
