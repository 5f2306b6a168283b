"""Propensities: how much a model prefers one answer to another, under many edits at once.

The propensity m_LD is the logit difference of the two answers at the token in which they differ
(Tan et al. 2024, arXiv 2407.12404, section 3). An edit adds multiplier times vector after a block,
at the last token of the prompt and at those of the answer.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.attention import Cache, empty_cache, extend_cache
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Capture, Output, hidden_states, unembed
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.contrasts import (
    TOKENS_PER_BATCH,
    AnyArray,
    Branches,
    Contrasts,
    Lines,
    Prefixes,
    activation_branches,
    answer_branches,
    batches,
    letter_branches,
)

MULTIPLIERS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
Kind = Literal["letter", "answer"]
SEGMENT_TOKENS = 256  # after one prompt at once: each attends over the slots of all
BATCHES_IN_FLIGHT = 2  # the next one is queued before the last one is read, so no core waits
Progress = Callable[[int], Any]


def propensities(
    params: Params,
    cfg: ModelConfig,
    contrasts: Contrasts,
    vectors: Float[Array, "vectors n dim"] | Float[np.ndarray, "vectors n dim"],
    layers: Sequence[int],
    multipliers: Sequence[float] = MULTIPLIERS,
    *,
    kind: Kind = "letter",
    progress: Progress | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Float[np.ndarray, "rows vectors multipliers"]:
    """m_LD of every row under every vector at every multiplier, in logits.

    Each prompt is read once, whatever the number of edits. The unedited model, a multiplier of 0,
    is computed once for all vectors.

    Args:
      vectors: an edit of the blocks `layers`, [n, dim] each, in units of the residual stream.
      kind: "letter" takes the logits of the two tokens in which the answers differ. "answer" sums
        the logits of all tokens of each answer, as the paper's released code does: for "(A)" that
        adds the logit of ")" after each letter.
      progress: called with the number of rows done since its last call.

    Raises InputError for rows as `Contrasts.check`, a layer that does not exist, vectors of another
    width or number of layers, and values that are not finite.
    """
    layers = _checked(cfg, contrasts, vectors, layers)
    if len(multipliers) == 0 or not np.isfinite(multipliers).all():
        raise InputError(f"multipliers {tuple(multipliers)}: give at least one, all finite")
    v = jnp.asarray(vectors, jnp.float32)
    scales = jnp.asarray([x for x in multipliers if x != 0], jnp.float32)
    edited = (v[:, None] * scales[None, :, None, None]).reshape(-1, *v.shape[1:])
    edits = jnp.concatenate([jnp.zeros((1, *v.shape[1:]), jnp.float32), edited])
    found = _over_rows(
        partial(_scores, params, cfg, layers, edits),
        len(edits),
        contrasts,
        kind,
        progress,
        tokens_per_batch,
    )
    out = np.empty((len(found), len(v), len(multipliers)), np.float32)
    of_edited = found[:, 1:].reshape(len(found), len(v), len(scales))
    nonzero = np.array([x != 0 for x in multipliers])
    out[:, :, nonzero] = of_edited
    out[:, :, ~nonzero] = found[:, :1, None]
    return out


class LocalSteerability(NamedTuple):
    """Of each row and vector: dm/dl and d2m/dl2, the slope of m_LD in the multiplier l and its
    change, both in logits a multiplier (squared)."""

    slope: Float[np.ndarray, "rows vectors"]
    curvature: Float[np.ndarray, "rows vectors"]


def local_steerability(
    params: Params,
    cfg: ModelConfig,
    contrasts: Contrasts,
    vectors: Float[Array, "vectors n dim"] | Float[np.ndarray, "vectors n dim"],
    layers: Sequence[int],
    at: float = 0.0,
    *,
    kind: Kind = "letter",
    progress: Progress | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> LocalSteerability:
    """Steerability without multipliers: the derivatives of the propensity at the multiplier `at`.

    The slope is <grad of m_LD in the residual stream, vector> summed over the edited positions: one
    forward-mode derivative (`jax.jvp`) through the propensity for all vectors, and the curvature is
    a second through the first. Arguments and errors as `propensities`.
    """
    layers = _checked(cfg, contrasts, vectors, layers)
    v = jnp.asarray(vectors, jnp.float32)
    found = _over_rows(
        partial(_derivatives, params, cfg, layers, v, jnp.asarray(at, jnp.float32)),
        2 * len(v),
        contrasts,
        kind,
        progress,
        tokens_per_batch,
    )
    return LocalSteerability(found[:, : len(v)], found[:, len(v) :])


def answer_activations(
    params: Params,
    cfg: ModelConfig,
    contrasts: Contrasts,
    layers: Sequence[int],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Float[np.ndarray, "rows 2 n dim"]:
    """The residual stream after each of `layers` at the token in which the answers differ, under
    the matching answer and the other; float32, all layers in one pass.

    For "(A)" that token is the letter, the position from which Tan et al. take their vectors.
    Raises InputError as `propensities`.
    """
    contrasts.check(cfg)
    layers = tuple(cfg.check_layer(layer) for layer in layers)
    if not layers:
        raise InputError("no layer to read activations at; give at least one")
    out = np.empty((len(contrasts.prompts), 2, len(layers), cfg.dim), np.float32)
    for lines in batches(contrasts, activation_branches(contrasts), 1, tokens_per_batch):
        h = _activations(params, cfg, layers, lines.prefixes, lines.branches)
        out[lines.rows] = np.asarray(h)[: len(lines.rows)]
    return out


def forward_tokens(
    contrasts: Contrasts, vectors: int, multipliers: Sequence[float], kind: Kind = "letter"
) -> int:
    """Tokens that `propensities` reads, without padding."""
    edits = 1 + vectors * sum(x != 0 for x in multipliers)
    branches = _branches(contrasts, kind)
    tokens = edits * int(branches.counts.sum())
    for lines in batches(contrasts, branches, edits):
        of = lines.prefixes
        tokens += int(of.shared_length) + int(of.lengths[: len(lines.rows)].sum())
    return tokens


def _branches(contrasts: Contrasts, kind: Kind) -> Branches:
    return letter_branches(contrasts) if kind == "letter" else answer_branches(contrasts)


def _checked(
    cfg: ModelConfig, contrasts: Contrasts, vectors: Any, layers: Sequence[int]
) -> tuple[int, ...]:
    contrasts.check(cfg)
    layers = tuple(cfg.check_layer(layer) for layer in layers)
    count, n, dim = vectors.shape
    if n != len(layers) or dim != cfg.dim or count == 0 or n == 0:
        raise InputError(
            f"{count} vectors of shape {(n, dim)} for layers {list(layers)} of a model of width "
            f"{cfg.dim}: give at least one, of shape {(len(layers), cfg.dim)}; were they made on "
            "another model?"
        )
    if not np.isfinite(vectors).all():
        raise InputError("a steering vector is not finite; make it anew")
    return layers


def _over_rows(
    run: Callable[..., Array],
    columns: int,
    contrasts: Contrasts,
    kind: Kind,
    progress: Progress | None,
    tokens_per_batch: int,
) -> Float[np.ndarray, "rows columns"]:
    """`run` on batches of all rows; its result [lines, columns] put back into the rows' order."""
    out = np.empty((len(contrasts.prompts), columns), np.float32)
    running: deque[tuple[Lines, Array]] = deque()

    def collect() -> None:
        lines, result = running.popleft()
        out[lines.rows] = np.asarray(result)[: len(lines.rows)]
        if progress is not None:
            progress(len(lines.rows))

    for lines in batches(contrasts, _branches(contrasts, kind), columns, tokens_per_batch):
        running.append((lines, run(lines.prefixes, lines.branches)))
        if len(running) == BATCHES_IN_FLIGHT:
            collect()
    while running:
        collect()
    return out


@partial(jax.jit, static_argnums=(1, 2))
def _scores(
    params: Params,
    cfg: ModelConfig,
    layers: tuple[int, ...],
    edits: Float[Array, "edits n dim"],
    prefixes: Prefixes,
    branches: Branches,
) -> Float[Array, "lines edits"]:
    """The propensity under each edit."""
    _, J, S = branches.inputs.shape
    E = edits.shape[0]
    size = min(E, max(SEGMENT_TOKENS // (J * S), 1))
    cache = _prefix_cache(params, cfg, prefixes, size * J * S)
    score = partial(_edited_scores, params, cfg, layers, cache, prefixes, branches)
    if size == E:
        return replicate(score(edits))
    pad = -E % size
    parts = jnp.pad(edits, ((0, pad), (0, 0), (0, 0))).reshape(-1, size, *edits.shape[1:])
    scores = jax.lax.map(score, parts)  # [parts, lines, size]
    return replicate(scores.swapaxes(0, 1).reshape(-1, E + pad)[:, :E])


@partial(jax.jit, static_argnums=(1, 2))
def _derivatives(
    params: Params,
    cfg: ModelConfig,
    layers: tuple[int, ...],
    vectors: Float[Array, "vectors n dim"],
    at: Float[Array, ""],
    prefixes: Prefixes,
    branches: Branches,
) -> Float[Array, "lines two_vectors"]:
    """First derivatives along each vector, then second ones."""
    _, J, S = branches.inputs.shape
    V = vectors.shape[0]
    cache = _prefix_cache(params, cfg, prefixes, V * J * S)

    def score(multipliers: Float[Array, " vectors"]) -> Float[Array, "lines vectors"]:
        edits = multipliers[:, None, None] * vectors
        return _edited_scores(params, cfg, layers, cache, prefixes, branches, edits)

    def slope(multipliers: Float[Array, " vectors"]) -> Float[Array, "lines vectors"]:
        return jax.jvp(score, (multipliers,), (jnp.ones((V,)),))[1]

    slopes, curvatures = jax.jvp(slope, (jnp.full((V,), at),), (jnp.ones((V,)),))
    return replicate(jnp.concatenate([slopes, curvatures], axis=1))


@partial(jax.jit, static_argnums=(1, 2))
def _activations(
    params: Params,
    cfg: ModelConfig,
    layers: tuple[int, ...],
    prefixes: Prefixes,
    branches: Branches,
) -> Float[Array, "lines branches n dim"]:
    B, J, S = branches.inputs.shape
    cache = _prefix_cache(params, cfg, prefixes, J * S)
    h = _branch_states(params, cfg, cache, prefixes, branches, None, 1, Capture(layers)).activations
    assert h is not None
    h = h.reshape(len(layers), B, J, S, cfg.dim).astype(jnp.float32)
    last = branches.counts[None, :, :, None, None] - 1
    return replicate(jnp.take_along_axis(h, last, axis=3)[:, :, :, 0].transpose(1, 2, 0, 3))


def _prefix_cache(params: Params, cfg: ModelConfig, prefixes: Prefixes, after: int) -> Cache:
    """The unedited prompts up to their last token, with `after` slots left free.

    Both parts continue a cache, in which layers are not scanned, so that what the last layer
    computes for nothing but the final norm is left out.
    """
    shared, begun, own, lengths = prefixes
    S, (B, P) = shared.shape[1], own.shape
    cache = empty_cache(cfg, 1, S + P, params["embed"].dtype)
    if S:
        at = jnp.arange(S, dtype=jnp.int32)[None]
        cache = _after(params, cfg, shared, jnp.where(at < begun, at, -1), cache)
    copies = partial(jnp.repeat, repeats=B, axis=0)
    k, v, positions = jax.tree.map(copies, (cache.k, cache.v, cache.positions))
    cache = Cache(k, v, positions, cache.index)
    at = jnp.arange(P, dtype=jnp.int32)[None]
    cache = _after(params, cfg, own, jnp.where(at < lengths[:, None], begun + at, -1), cache)
    return extend_cache(cache, after)


def _after(
    params: Params,
    cfg: ModelConfig,
    tokens: Int[AnyArray, "batch time"],
    positions: Int[Array, "batch time"],
    cache: Cache,
) -> Cache:
    filled = hidden_states(params, jnp.asarray(tokens), cfg, positions=positions, cache=cache).cache
    assert filled is not None
    return filled


def _branch_states(
    params: Params,
    cfg: ModelConfig,
    cache: Cache,
    prefixes: Prefixes,
    branches: Branches,
    steering: Steering | None,
    copies: int,
    capture: Capture | None = None,
) -> Output:
    """The branches, `copies` times side by side after each prefix, none of which sees another."""
    B, J, S = branches.inputs.shape
    shape = B, copies, J, S
    at = jnp.arange(S, dtype=jnp.int32)[None, None]
    real = at < branches.counts[:, :, None]
    start = (prefixes.shared_length + prefixes.lengths)[:, None, None]
    positions = jnp.where(real, start + at, -1)
    tokens, positions = (
        jnp.broadcast_to(x[:, None], shape).reshape(B, -1) for x in (branches.inputs, positions)
    )
    segments = jnp.repeat(jnp.arange(copies * J, dtype=jnp.int32), S)
    return hidden_states(
        params,
        tokens,
        cfg,
        steering,
        positions=positions,
        cache=cache,
        capture=capture,
        segment_ids=jnp.broadcast_to(segments[None], tokens.shape),
    )


def _edited_scores(
    params: Params,
    cfg: ModelConfig,
    layers: tuple[int, ...],
    cache: Cache,
    prefixes: Prefixes,
    branches: Branches,
    edits: Float[Array, "edits n dim"],
) -> Float[Array, "lines edits"]:
    B, J, S = branches.inputs.shape
    E = edits.shape[0]
    by_token = jnp.repeat(edits.swapaxes(0, 1), J * S, axis=1)[:, None]  # [n, 1, time, dim]
    steering = Steering(by_token, jnp.ones((), jnp.float32), layers)
    hidden = _branch_states(params, cfg, cache, prefixes, branches, steering, E).hidden
    hidden = hidden.reshape(B, E, J, S, cfg.dim).transpose(0, 2, 3, 1, 4)

    def logits(h: Float[Array, "edits dim"], ids: Int[Array, " reads"]) -> Array:
        """Of a few tokens only: a share of the head's rows, and none of the vocabulary's logits."""
        if cfg.tied:
            return unembed({"embed": params["embed"][ids]}, h, cfg)
        return unembed({"lm_head": params["lm_head"][:, ids]}, h, cfg)

    for _ in range(3):
        logits = jax.vmap(logits)
    scored = logits(hidden, jnp.asarray(branches.ids))  # [lines, branches, time, edits, reads]
    return jnp.einsum("bjser,bjsr->be", scored, branches.weights)
