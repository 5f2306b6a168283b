"""The residual stream of a model on prompts, read at chosen layers and positions.

Prompts are sorted by length and padded to a few widths, so that one program is compiled a width.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.finite import check_finite
from subliminal_jax.models.forward import Capture, hidden_states
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering

Position = Literal["last", "mean"] | int
SHORTEST_WIDTH = 16  # widths are this times a power of two


def pad_prompts(
    prompts: Sequence[Sequence[int]], cfg: ModelConfig
) -> tuple[Int[np.ndarray, "prompts width"], Int[np.ndarray, " prompts"]]:
    """Token rows, padded to the right with 0 to the longest, and their lengths.

    Raises InputError where there are no prompts, or one is empty, exceeds the context, or holds a
    token that the model does not have.
    """
    if not prompts:
        raise InputError("there are no prompts; give at least one")
    for i, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise InputError(f"prompt {i} is empty; give it at least one token")
        if len(prompt) > cfg.context:
            raise InputError(
                f"prompt {i} has {len(prompt)} tokens, more than the model's context of "
                f"{cfg.context}; shorten it"
            )
        if min(prompt) < 0 or max(prompt) >= cfg.vocab:
            raise InputError(
                f"prompt {i} holds a token outside 0 to {cfg.vocab - 1}; "
                "was it made with another model's tokenizer?"
            )
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    tokens = np.zeros((len(prompts), lengths.max()), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    return tokens, lengths


def mean_activations(
    params: Params,
    cfg: ModelConfig,
    prompts: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    position: Position = "last",
    steering: Steering | None = None,
    batch_size: int = 64,
) -> Float[np.ndarray, "n dim"]:
    """The mean over prompts of the residual stream after each of the `n` layers, in float64.

    `position` is "last" (the prompt's last token), "mean" (over its tokens) or an index, counted
    from the end where it is negative. `steering` is that of the whole pass, or None.
    Raises InputError for prompts as in `pad_prompts`, a position outside a prompt, a layer that
    does not exist, and activations that are not finite.
    """
    total = np.zeros((len(layers), cfg.dim))
    for _, h in _read_batches(params, cfg, prompts, layers, position, steering, batch_size):
        total += h.sum(axis=0, dtype=np.float64)
    return total / len(prompts)


def read_activations(
    params: Params,
    cfg: ModelConfig,
    prompts: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    position: Position = "last",
    batch_size: int = 64,
) -> Float[np.ndarray, "prompts n dim"]:
    """The residual stream of each prompt after each of the `n` layers, in float32; position and
    errors as in `mean_activations`."""
    out = np.empty((len(prompts), len(layers), cfg.dim), np.float32)
    for rows, h in _read_batches(params, cfg, prompts, layers, position, None, batch_size):
        out[rows] = h
    return out


def residual_norm(
    params: Params,
    cfg: ModelConfig,
    prompts: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    batch_size: int = 64,
) -> Float[Array, " n"]:
    """The norm of the residual stream after each layer: the unit of relative vector norms.

    The mean over prompts of the median over a prompt's tokens, in the units of the residual stream.
    A mean over tokens would be set by the first one, whose activations are a hundred times larger
    in real models ("Massive Activations in Large Language Models", Sun et al. 2024).
    """
    total = np.zeros(len(layers))
    for _, norms in _read_batches(params, cfg, prompts, layers, "norm", None, batch_size):
        total += norms[..., 0].sum(axis=0, dtype=np.float64)
    return jnp.asarray(total / len(prompts), jnp.float32)


def _read_batches(
    params: Params,
    cfg: ModelConfig,
    prompts: Sequence[Sequence[int]],
    layers: Sequence[int],
    position: Position | Literal["norm"],
    steering: Steering | None,
    batch_size: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches (indices of prompts, their activations [rows, n, dim]) that hold each prompt once."""
    layers = tuple(cfg.check_layer(layer) for layer in layers)
    if not layers:
        raise InputError("no layer to read activations at; give at least one")
    tokens, lengths = pad_prompts(prompts, cfg)
    reduction: Literal["mean", "norm"] | None = None
    time_indices = np.zeros_like(lengths)
    if position == "mean" or position == "norm":
        reduction = position
    else:
        time_indices = _find_time_indices(lengths, -1 if position == "last" else position)
    order = np.argsort(lengths, kind="stable")
    size = min(batch_size, len(prompts))
    for start in range(0, len(prompts), size):
        rows = order[start : start + size]
        width = SHORTEST_WIDTH
        while width < lengths[rows[-1]]:
            width *= 2
        padded = np.zeros((size, min(width, cfg.context)), np.int32)
        longest = min(padded.shape[1], tokens.shape[1])
        padded[: len(rows), :longest] = tokens[rows, :longest]
        filled = np.resize(rows, size)  # the last batch repeats rows, whose results are dropped
        h = _read(
            params,
            padded,
            lengths[filled],
            time_indices[filled],
            steering,
            cfg,
            layers,
            reduction,
        )
        h = np.asarray(h)[: len(rows)]
        check_finite(
            h,
            f"the residual stream of a prompt after the layers {list(layers)}",
            params,
            cfg,
            [prompts[row] for row in rows],
            steering,
        )
        yield rows, h


def _find_time_indices(lengths: np.ndarray, position: int) -> np.ndarray:
    indices = lengths + position if position < 0 else np.full_like(lengths, position)
    outside = np.flatnonzero((indices < 0) | (indices >= lengths))
    if outside.size:
        i = outside[0]
        raise InputError(
            f"position {position} is outside prompt {i}, which has {lengths[i]} tokens; "
            'choose one that every prompt has, "last" or "mean"'
        )
    return indices


@partial(jax.jit, static_argnames=("cfg", "layers", "reduction"))
def _read(
    params: Params,
    tokens: Int[Array, "batch time"],
    lengths: Int[Array, " batch"],
    time_indices: Int[Array, " batch"],
    steering: Steering | None,
    cfg: ModelConfig,
    layers: tuple[int, ...],
    reduction: Literal["mean", "norm"] | None,
) -> Float[Array, "batch n _"]:
    capture = Capture(layers, time_indices[:, None] if reduction is None else None)
    h = hidden_states(params, tokens, cfg, steering, capture=capture).activations
    assert h is not None
    h = h.astype(jnp.float32).swapaxes(0, 1)  # [batch, n, kept, dim]
    if reduction is None:
        return replicate(h[:, :, 0])
    real = (jnp.arange(tokens.shape[1])[None] < lengths[:, None])[:, None, :, None]
    if reduction == "mean":
        return replicate(jnp.sum(jnp.where(real, h, 0.0), axis=2) / lengths[:, None, None])
    norms = jnp.linalg.norm(h, axis=-1, keepdims=True)
    median = jnp.nanmedian(jnp.where(real, norms, jnp.nan), axis=2)
    sound = jnp.all(jnp.isfinite(norms) | ~real, axis=2)
    return replicate(jnp.where(sound, median, jnp.nan))
