"""The stacked blocks of a model, run in pieces between those that are steered or captured."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int

from subliminal_jax.models.attention import Cache
from subliminal_jax.models.block import BlockContext, LayerFlags, run_block, select_times
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.linear import PRODUCT, LoraWeight
from subliminal_jax.models.quantized import QuantizedWeight
from subliminal_jax.models.steered import Steering, edit

# The stacked blocks; of tokens that continue a cache also one tree a layer.
Layers = dict[str, Any] | tuple[dict[str, Any], ...]
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


class StackRunner:
    """Runs the stacked layers in pieces between the steered and captured ones (the stops)."""

    def __init__(
        self,
        cfg: ModelConfig,
        context: BlockContext,
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
        self.block = partial(run_block, cfg=cfg, context=context)
        self.policy = _remat_policy(remat, cfg)
        # Whether the last block may leave tokens out: what is captured after it, if anything, is of
        # the requested tokens, and its steering, if any, is the same for all tokens.
        last = cfg.layers - 1
        uniform = steering is None or last not in steered or steering.is_uniform
        captures_same = capture is None or last not in captured or capture.positions is time_indices
        self.skips_tokens = time_indices is not None and captures_same and uniform

    def __call__(
        self, h: Array, layers: Layers, cache: Cache | None
    ) -> tuple[Array, Array | None, Any]:
        many_stops = len(self.stops) > MAX_SPLITS
        if isinstance(layers, tuple):
            assert cache is not None
            h, kept, kv = self._unrolled(h, layers, cache)
        elif cache is not None and (many_stops or not self._scans_cache(h)):
            split = (jax.tree.map(lambda x, i=i: x[i], layers) for i in range(self.cfg.layers))
            h, kept, kv = self._unrolled(h, tuple(split), cache)
        elif many_stops:
            self.skips_tokens = False
            h, kept, kv = self._scan_dense(h, layers)
        else:
            h, kept, kv = self._scan_split(h, layers, cache)
        if self.time_indices is not None and not self.skips_tokens:
            h = select_times(h, self.time_indices)
        if self.capture is None:
            return h, None, kv
        return h, jnp.stack([kept[layer] for layer in self.capture.layers]), kv

    def _scans_cache(self, h: Array) -> bool:
        """Whether layers that continue a cache are scanned: written out, a program compiles for
        seconds, of a long stack for a minute, and beside several tokens a copy of the cache costs
        little."""
        return h.shape[1] > 1

    def _unrolled(
        self, h: Array, layers: tuple[dict[str, Any], ...], cache: Cache
    ) -> tuple[Array, dict, Any]:
        """Layer by layer, since a scan would copy each layer's cache."""
        kept: dict[int, Array] = {}
        kv = []
        for layer, w in enumerate(layers):
            flags = jax.tree.map(lambda x: x[0], self._flags(layer, layer + 1))
            skips = self.skips_tokens and layer == self.cfg.layers - 1
            time_indices = self.time_indices if skips else None
            h, layer_kv = self.block(h, w, flags, (cache.k[layer], cache.v[layer]), time_indices)
            kv.append(layer_kv)
            if layer in self.stops:
                h = self._edit(h, layer)
                kept[layer] = h if skips else self._keep(h)
        return h, kept, tuple(zip(*kv, strict=True))

    def _scan_split(
        self, h: Array, layers: dict[str, Any], cache: Cache | None
    ) -> tuple[Array, dict, Any]:
        kept: dict[int, Array] = {}
        kv = []  # each piece's keys and values, where there is a cache or one is being made
        start = 0
        for stop in [*(layer + 1 for layer in self.stops), self.cfg.layers]:
            skips = self.skips_tokens and stop == self.cfg.layers
            if stop - skips > start:
                h, piece = self._scan(h, layers, start, stop - skips, cache)
                kv.append(piece)
            if skips and stop > start:
                h, piece = self._run_last(h, layers, cache)
                kv.append(piece)
            layer, start = stop - 1, stop
            if layer in self.stops and layer not in kept:
                h = self._edit(h, layer)
                kept[layer] = h if skips else self._keep(h)
        if cache is not None:
            return (
                h,
                kept,
                tuple(
                    tuple(layer for piece in part for layer in piece)
                    for part in zip(*kv, strict=True)
                ),
            )
        if not self.keep_kv:
            return h, kept, None
        return h, kept, jax.tree.map(lambda *pieces: jnp.concatenate(pieces), *kv)

    def _scan(
        self, h: Array, layers: dict[str, Any], start: int, stop: int, cache: Cache | None
    ) -> tuple[Array, tuple[Array, Array] | None]:
        run = self._make_layer_fn(layers)

        def body(h, x):
            h, kv = run(h, *x)
            return h, (kv if self.keep_kv or cache is not None else None)

        cached = (
            None
            if cache is None
            else (jnp.stack(cache.k[start:stop]), jnp.stack(cache.v[start:stop]))
        )
        xs = (*self._scan_inputs(layers, start, stop), cached)
        return jax.lax.scan(body, h, xs, unroll=self._unrolls(stop - start))

    def _unrolls(self, count: int) -> bool:
        """Whether a scan over `count` layers is written out, layer by layer.

        A loop writes what it saves of each layer for the backward pass into stacks, and in training
        that counts. Everywhere else a loop's program, a fraction as long, compiles in less time
        than it loses.
        """
        return count <= FEW_LAYERS and self.trained

    def _run_last(
        self, h: Array, layers: dict[str, Any], cache: Cache | None
    ) -> tuple[Array, tuple[Array, Array] | None]:
        """The last layer, for the requested tokens; keys and values as from a scan of one layer."""
        last = self._scan_inputs(layers, self.cfg.layers - 1, self.cfg.layers)
        x = jax.tree.map(lambda leaf: leaf[0], last)
        cached = None if cache is None else (cache.k[-1], cache.v[-1])
        h, kv = self._make_layer_fn(layers)(h, *x, cached, self.time_indices)
        kept = self.keep_kv or cache is not None
        return h, (jax.tree.map(lambda leaf: leaf[None], kv) if kept else None)

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
        """A function (residual stream, layer, its flags, its cache or None, requested time indices
        or None) that runs one layer of the stack; `layer` is an entry of `_scan_inputs`."""

        def run(
            h: Array,
            layer: Any,
            flags: LayerFlags,
            cached: tuple[Array, Array] | None = None,
            time_indices: Array | None = None,
        ) -> tuple[Array, tuple[Array, Array]]:
            index, slices = layer

            def weight(stack: Any, slice_: Any) -> Any:
                lora = isinstance(stack, LoraWeight)
                if slice_ is not None and not lora:
                    return slice_
                base = stack.base if lora else stack
                read = jax.tree.map(
                    lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), base
                )
                return LoraWeight(read, *slice_) if lora else read

            w = {name: weight(stack, slices[name]) for name, stack in layers.items()}
            return self.block(h, w, flags, cached, time_indices)

        return jax.checkpoint(run, prevent_cse=False, policy=self.policy)

    def _scan_inputs(self, layers: dict[str, Any], start: int, stop: int) -> tuple[Any, LayerFlags]:
        """The xs of a scan over layers: each layer's index and the slices of its trained weights,
        and its flags.

        Read at its index, a frozen weight is not copied, while a slice of the stack is a copy. But
        the gradient of a weight read at an index is a stack of zeros around it, and L layers would
        add up L of them: LoRA's factors, and whole weights that are trained, are sliced.
        """
        lora = any(isinstance(stack, LoraWeight) for stack in layers.values())

        def trained_weights(stack: Any) -> Any:
            if isinstance(stack, LoraWeight):
                return stack.a, stack.b, stack.scale
            frozen = lora or isinstance(stack, QuantizedWeight)
            return stack if self.trained and not frozen else None

        slices = {
            name: jax.tree.map(
                lambda x: jax.lax.slice_in_dim(x, start, stop), trained_weights(stack)
            )
            for name, stack in layers.items()
        }
        indexed = jnp.arange(start, stop), slices
        return indexed, self._flags(start, stop)

    def _flags(self, start: int, stop: int) -> LayerFlags:
        """The flags of the layers from `start` on, before `stop`."""
        sliding = self.cfg.sliding if self.cfg.has_sliding_layers else ()
        return LayerFlags(
            *(jnp.asarray(f[start:stop]) if f else None for f in (sliding, self.cfg.rotary))
        )

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
