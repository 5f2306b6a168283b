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
from subliminal_jax.models.finite import check_finite, not_finite
from subliminal_jax.models.forward import Capture, Output, hidden_states, unembed
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.contrasts import (
    AnyArray,
    Branches,
    Contrasts,
    Lines,
    Prefixes,
    activation_branches,
    answer_branches,
    letter_branches,
    plan_lines,
)

MULTIPLIERS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
Kind = Literal["letter", "answer"]
SEGMENT_TOKENS = 256  # read at once after one prompt; each attends over the slots of all
BATCHES_IN_FLIGHT = 2  # the next one is queued before the last one is read, so no core waits


def propensities(
    params: Params,
    cfg: ModelConfig,
    contrasts: Contrasts,
    vectors: Float[Array, "vectors n dim"] | Float[np.ndarray, "vectors n dim"],
    layers: Sequence[int],
    multipliers: Sequence[float] = MULTIPLIERS,
    *,
    kind: Kind = "letter",
) -> Float[np.ndarray, "rows vectors multipliers"]:
    """m_LD of every row under every vector at every multiplier, in logits.

    Each prompt is read once, whatever the number of edits. The unedited model, a multiplier of 0,
    is computed once for all vectors.

    Args:
      vectors: an edit of the blocks `layers`, [n, dim] each, in units of the residual stream.
      kind: "letter" takes the logits of the two tokens in which the answers differ. "answer" sums
        the logits of all tokens of each answer, as the paper's released code does: for "(A)" that
        adds the logit of ")" after each letter.

    Raises InputError for rows as `Contrasts.check`, a layer that does not exist, vectors of another
    width or number of layers, and vectors, multipliers or propensities that are not finite.
    """
    layers = _check_inputs(cfg, contrasts, vectors, layers)
    if len(multipliers) == 0 or not np.isfinite(multipliers).all():
        raise InputError(f"multipliers {tuple(multipliers)}: give at least one, all finite")
    v = jnp.asarray(vectors, jnp.float32)
    scales = jnp.asarray([x for x in multipliers if x != 0], jnp.float32)
    edited = (v[:, None] * scales[None, :, None, None]).reshape(-1, *v.shape[1:])
    edits = jnp.concatenate([jnp.zeros((1, *v.shape[1:]), jnp.float32), edited])
    scores = _score_rows(
        partial(_score_edits, params, cfg, layers, edits),
        len(edits),
        contrasts,
        kind,
        lambda row, column: _not_finite(params, cfg, contrasts, row, layers, edits[column]),
    )
    out = np.empty((len(scores), len(v), len(multipliers)), np.float32)
    nonzero = np.array([x != 0 for x in multipliers])
    out[:, :, nonzero] = scores[:, 1:].reshape(len(scores), len(v), len(scales))
    out[:, :, ~nonzero] = scores[:, :1, None]
    return out


class LocalSteerability(NamedTuple):
    """dm/dl and d2m/dl2 of each row and vector, with m = m_LD in logits and l the multiplier."""

    slope: Float[np.ndarray, "rows vectors"]
    curvature: Float[np.ndarray, "rows vectors"]


def local_steerability(
    params: Params,
    cfg: ModelConfig,
    contrasts: Contrasts,
    vectors: Float[Array, "vectors n dim"] | Float[np.ndarray, "vectors n dim"],
    layers: Sequence[int],
    *,
    kind: Kind = "letter",
) -> LocalSteerability:
    """Steerability without multipliers: the derivatives of the propensity at multiplier 0.

    The slope is <grad of m_LD in the residual stream, vector> summed over the edited positions: one
    forward-mode derivative (`jax.jvp`) through the propensity for all vectors, and the curvature is
    a second through the first. Arguments and errors as `propensities`.
    """
    layers = _check_inputs(cfg, contrasts, vectors, layers)
    v = jnp.asarray(vectors, jnp.float32)
    derivatives = _score_rows(
        partial(_differentiate, params, cfg, layers, v),
        2 * len(v),
        contrasts,
        kind,
        lambda row, column: _not_finite(params, cfg, contrasts, row, layers, 0 * v[0]),
    )
    return LocalSteerability(derivatives[:, : len(v)], derivatives[:, len(v) :])


def answer_activations(
    params: Params,
    cfg: ModelConfig,
    contrasts: Contrasts,
    layers: Sequence[int],
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
    for lines in plan_lines(contrasts, activation_branches(contrasts), 1):
        h = _read_activations(params, cfg, layers, lines.prefixes, lines.branches)
        out[lines.rows] = np.asarray(h)[: len(lines.rows)]
    for side, answers in enumerate((contrasts.matching, contrasts.other)):
        rows = [[*p, *a] for p, a in zip(contrasts.prompts, answers, strict=True)]
        check_finite(out[:, side], "row {row}: its activations at an answer", params, cfg, rows)
    return out


def forward_tokens(contrasts: Contrasts, vectors: int, multipliers: Sequence[float]) -> int:
    """The number of tokens that `propensities` of kind "letter" reads, without padding."""
    edits = 1 + vectors * sum(x != 0 for x in multipliers)
    branches = letter_branches(contrasts)
    tokens = edits * int(branches.counts.sum())
    for lines in plan_lines(contrasts, branches, edits):
        prefixes = lines.prefixes
        tokens += int(prefixes.shared_length) + int(prefixes.lengths[: len(lines.rows)].sum())
    return tokens


def _check_inputs(
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
        raise InputError("a steering vector is not finite; extract it again")
    return layers


def _score_rows(
    run: Callable[..., Array],
    columns: int,
    contrasts: Contrasts,
    kind: Kind,
    explain: Callable[[int, int], InputError],
) -> Float[np.ndarray, "rows columns"]:
    """Run `run` on batches of all rows; its results [lines, columns] in the order of the rows.

    Raises what `explain` returns for a row and a column that are not finite.
    """
    out = np.empty((len(contrasts.prompts), columns), np.float32)
    running: deque[tuple[Lines, Array]] = deque()

    def collect() -> None:
        lines, result = running.popleft()
        scores = np.asarray(result)[: len(lines.rows)]
        out[lines.rows] = scores
        if not np.isfinite(scores).all():
            line, column = np.argwhere(~np.isfinite(scores))[0]
            raise explain(int(lines.rows[line]), int(column))

    branches = letter_branches(contrasts) if kind == "letter" else answer_branches(contrasts)
    for lines in plan_lines(contrasts, branches, columns):
        running.append((lines, run(lines.prefixes, lines.branches)))
        if len(running) == BATCHES_IN_FLIGHT:
            collect()
    while running:
        collect()
    return out


def _not_finite(
    params: Params,
    cfg: ModelConfig,
    contrasts: Contrasts,
    row: int,
    layers: tuple[int, ...],
    edit: Float[Array, "n dim"],
) -> InputError:
    """The error for a row whose propensity under `edit` is not finite."""
    prompt = contrasts.prompts[row]
    longer = max(contrasts.matching[row], contrasts.other[row], key=len)
    tokens = [*prompt, *longer]
    edited = np.arange(len(tokens))[None] >= len(prompt) - 1
    steering = Steering(edit, jnp.ones((), jnp.float32), layers, mask=jnp.asarray(edited))
    return not_finite(f"row {row}: its propensity", params, cfg, tokens, steering)


@partial(jax.jit, static_argnums=(1, 2))
def _score_edits(
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
def _differentiate(
    params: Params,
    cfg: ModelConfig,
    layers: tuple[int, ...],
    vectors: Float[Array, "vectors n dim"],
    prefixes: Prefixes,
    branches: Branches,
) -> Float[Array, "lines two_vectors"]:
    """First derivatives along each vector at multiplier 0, then second ones."""
    _, J, S = branches.inputs.shape
    V = vectors.shape[0]
    cache = _prefix_cache(params, cfg, prefixes, V * J * S)

    def score(multipliers: Float[Array, " vectors"]) -> Float[Array, "lines vectors"]:
        edits = multipliers[:, None, None] * vectors
        return _edited_scores(params, cfg, layers, cache, prefixes, branches, edits)

    def slope(multipliers: Float[Array, " vectors"]) -> Float[Array, "lines vectors"]:
        return jax.jvp(score, (multipliers,), (jnp.ones((V,)),))[1]

    slopes, curvatures = jax.jvp(slope, (jnp.zeros((V,)),), (jnp.ones((V,)),))
    return replicate(jnp.concatenate([slopes, curvatures], axis=1))


@partial(jax.jit, static_argnums=(1, 2))
def _read_activations(
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
    """The cache of the unedited prompts up to their last token, with `after` empty slots.

    Both parts continue a cache, in which layers are not scanned, so that XLA drops what the last
    layer computes for the unused final norm.
    """
    shared, shared_length, rest, lengths = prefixes
    S, (B, P) = shared.shape[1], rest.shape
    cache = empty_cache(cfg, 1, S + P, params["embed"].dtype)
    if S:
        slot = jnp.arange(S, dtype=jnp.int32)[None]
        positions = jnp.where(slot < shared_length, slot, -1)
        cache = _extend(params, cfg, shared, positions, cache)
    copies = partial(jnp.repeat, repeats=B, axis=0)
    k, v, positions = jax.tree.map(copies, (cache.k, cache.v, cache.positions))
    cache = Cache(k, v, positions, cache.index)
    slot = jnp.arange(P, dtype=jnp.int32)[None]
    positions = jnp.where(slot < lengths[:, None], shared_length + slot, -1)
    cache = _extend(params, cfg, rest, positions, cache)
    return extend_cache(cache, after)


def _extend(
    params: Params,
    cfg: ModelConfig,
    tokens: Int[AnyArray, "batch time"],
    positions: Int[Array, "batch time"],
    cache: Cache,
) -> Cache:
    """`cache` with the keys and values of `tokens`."""
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
    """Read the branches, `copies` times side by side after each prefix; none sees another."""
    B, J, S = branches.inputs.shape
    shape = B, copies, J, S
    slot = jnp.arange(S, dtype=jnp.int32)[None, None]
    real = slot < branches.counts[:, :, None]
    start = (prefixes.shared_length + prefixes.lengths)[:, None, None]
    positions = jnp.where(real, start + slot, -1)
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
    token_vectors = jnp.repeat(edits.swapaxes(0, 1), J * S, axis=1)[:, None]  # [n, 1, time, dim]
    steering = Steering(token_vectors, jnp.ones((), jnp.float32), layers)
    hidden = _branch_states(params, cfg, cache, prefixes, branches, steering, E).hidden
    hidden = hidden.reshape(B, E, J, S, cfg.dim).transpose(0, 2, 3, 1, 4)

    def logits(h: Float[Array, "edits dim"], ids: Int[Array, " reads"]) -> Array:
        """The logits of the tokens `ids` alone, from their rows of the head."""
        if cfg.tied:
            return unembed({"embed": params["embed"][ids]}, h, cfg)
        return unembed({"lm_head": params["lm_head"][:, ids]}, h, cfg)

    for _ in range(3):
        logits = jax.vmap(logits)
    scored = logits(hidden, jnp.asarray(branches.ids))  # [lines, branches, time, edits, reads]
    return jnp.einsum("bjser,bjsr->be", scored, branches.weights)
