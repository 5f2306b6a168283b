"""Losses on completions: cross-entropy on sampled tokens, and KL to the teacher's distribution.

Logits are never held for the whole batch in float32 when that is large: hidden states are
unembedded in chunks of tokens, and each chunk is recomputed in the backward pass.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Remat, hidden_states, unembed
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.batch import Batch

LOGIT_BUDGET = 2**25  # logits (tokens x vocabulary) held at once; 128 MiB in float32


def next_token_log_probs(
    params: Params,
    hidden: Float[Array, "batch time dim"],
    targets: Int[Array, "batch time"],
    cfg: ModelConfig,
    temperature: Float[Array, ""] | None = None,
) -> Float[Array, "batch time"]:
    """log P(targets[b, t] | hidden[b, t]) in float32 nats, when sampled at `temperature`, which is
    1 where None is given."""

    def chunk(h: Array, y: Array) -> Array:
        logits = unembed(params, h, cfg)
        logits = logits if temperature is None else logits / temperature
        picked = jnp.take_along_axis(logits, y[:, None], axis=-1)[:, 0]
        return picked - jax.nn.logsumexp(logits, axis=-1)

    return _map_chunks(chunk, cfg.vocab, hidden, targets)


def most_likely_next(
    params: Params, hidden: Float[Array, "batch time dim"], cfg: ModelConfig
) -> Int[Array, "batch time"]:
    """The most likely token after each hidden state; of equals the one with the lowest id."""

    def chunk(h: Array, _: Array) -> Array:
        return jnp.argmax(unembed(params, h, cfg), axis=-1).astype(jnp.int32)

    return _map_chunks(chunk, cfg.vocab, hidden, hidden)


def divergence_from_teacher(
    params: Params,
    hidden: Float[Array, "batch time dim"],
    teacher_params: Params,
    teacher_hidden: Float[Array, "batch time dim"],
    cfg: ModelConfig,
) -> Float[Array, "batch time"]:
    """KL(teacher || student) of the next token in float32 nats; no gradient to the teacher."""

    def chunk(h: Array, h_teacher: Array) -> Array:
        log_p = jax.nn.log_softmax(unembed(teacher_params, h_teacher, cfg))
        log_q = jax.nn.log_softmax(unembed(params, h, cfg))
        log_p = jax.lax.stop_gradient(log_p)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)

    return _map_chunks(chunk, cfg.vocab, hidden, teacher_hidden)


class ModelInput(NamedTuple):
    """What a forward pass takes: weights, rows [rows, time], and an edit of the residual stream."""

    params: Params
    rows: Batch
    steering: Steering | None = None


def token_losses(
    params: Params,
    batch: Batch,
    cfg: ModelConfig,
    steering: Steering | None = None,
    *,
    max_targets: int | None = None,
    total_targets: int | None = None,
    groups: int = 1,
    remat: Remat = "none",
    trained: bool = False,
) -> tuple[Float[Array, "batch targets"], Float[Array, "batch targets"]]:
    """The cross-entropy of each predicted token (nats) and its weight (0: nothing is predicted).

    `max_targets` (no fewer than any row predicts) restricts the unembedding to the predicted
    tokens, in their order. `total_targets` (no fewer than the rows of any of `groups` equal parts
    of the batch predict together) restricts it further: the losses are then those of the predicted
    tokens of a part's rows, one after the other, [groups, total_targets]. Parts that lie on
    different devices stay there. `remat` and `trained` (of `params`) are as in `hidden_states`.
    """
    student = ModelInput(params, batch, steering)
    hidden, targets, weights = _predictions(
        student, cfg, max_targets=max_targets, remat=remat, trained=trained
    )
    kept = _kept_tokens(weights, total_targets, groups)
    hidden, targets, weights = (_keep(x, kept) for x in (hidden, targets, weights))
    return -next_token_log_probs(params, hidden, targets, cfg), weights


def token_divergences(
    student: ModelInput,
    teacher: ModelInput,
    cfg: ModelConfig,
    *,
    max_targets: int | None = None,
    total_targets: int | None = None,
    groups: int = 1,
    remat: Remat = "none",
    trained: bool = False,
) -> tuple[Float[Array, "batch targets"], Float[Array, "batch targets"]]:
    """KL(teacher || student) of the next token at each predicted token (nats), and its weight.

    The teacher's rows may differ from the student's (by a system prompt); their predicted
    tokens are matched in order, which needs `max_targets`. The teacher gets no gradient. All else
    is as in `token_losses`. Raises ValueError where `max_targets` is needed and missing.
    """
    matched = teacher.rows is not student.rows
    if matched and max_targets is None:
        raise ValueError("a teacher with other rows than the student's needs max_targets")
    hidden, _, weights = _predictions(
        student, cfg, max_targets=max_targets, in_order=matched, remat=remat, trained=trained
    )
    kept = _kept_tokens(weights, total_targets, groups)
    teacher_hidden, _, _ = _predictions(teacher, cfg, max_targets=max_targets, in_order=matched)
    hidden, teacher_hidden, weights = (
        _keep(x, kept) for x in (hidden, jax.lax.stop_gradient(teacher_hidden), weights)
    )
    losses = divergence_from_teacher(student.params, hidden, teacher.params, teacher_hidden, cfg)
    return losses, weights


def _predictions(
    model: ModelInput,
    cfg: ModelConfig,
    *,
    max_targets: int | None,
    in_order: bool = False,
    remat: Remat = "none",
    trained: bool = False,
) -> tuple[
    Float[Array, "batch targets dim"], Int[Array, "batch targets"], Float[Array, "batch targets"]
]:
    """(hidden states, targets, weights) at each position, or with `max_targets` at the predicted
    ones in their order, where these are fewer or `in_order`."""
    rows = model.rows
    weights, targets = rows.loss_mask[:, 1:], rows.tokens[:, 1:]
    order = None
    if max_targets is not None and (in_order or max_targets < weights.shape[1]):
        order = jnp.argsort(weights == 0, axis=1, stable=True)[:, :max_targets]
        weights = jnp.take_along_axis(weights, order, axis=1)
        targets = jnp.take_along_axis(targets, order, axis=1)
    hidden = hidden_states(
        model.params,
        rows.tokens[:, :-1],
        cfg,
        model.steering,
        positions=rows.positions[:, :-1],
        segment_ids=None if rows.segment_ids is None else rows.segment_ids[:, :-1],
        time_indices=order,
        remat=remat,
        trained=trained,
    ).hidden
    return hidden, targets, weights


def _kept_tokens(
    weights: Float[Array, "batch targets"], total_targets: int | None, groups: int
) -> Int[Array, "groups kept"] | None:
    """The predicted tokens of each group of rows, counted through the group; None: keep all."""
    if total_targets is None or groups * total_targets >= weights.size:
        return None
    parts = weights.reshape(groups, -1)
    return jnp.argsort(parts == 0, axis=1, stable=True)[:, :total_targets]


def _keep(
    x: Shaped[Array, "batch time *rest"], kept: Int[Array, "groups kept"] | None
) -> Shaped[Array, "groups targets *rest"]:
    """The `kept` entries of each group of rows; None: all."""
    if kept is None:
        return x
    parts = x.reshape(kept.shape[0], -1, *x.shape[2:])
    return jnp.take_along_axis(parts, kept.reshape(*kept.shape, *[1] * (x.ndim - 2)), axis=1)


def mean_loss(losses: Float[Array, "*b t"], weights: Float[Array, "*b t"]) -> Float[Array, ""]:
    """Mean over the predicted tokens of the batch, as Hugging Face trainers take it; 0 for none."""
    return safe_divide(jnp.sum(losses * weights), jnp.sum(weights))


def example_losses(losses: Float[Array, "b t"], weights: Float[Array, "b t"]) -> Float[Array, " b"]:
    """Mean over the predicted tokens of each row; 0 for a row without any."""
    return safe_divide(jnp.sum(losses * weights, axis=1), jnp.sum(weights, axis=1))


def safe_divide(total: Float[Array, "*b"], weight: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """total / weight, and 0 where both are."""
    return total / jnp.where(weight > 0, weight, 1.0)


def heldout_loss(
    params: Params,
    batch: Batch,
    cfg: ModelConfig,
    steering: Steering | None = None,
    *,
    rows_at_once: int,
    max_targets: int | None = None,
) -> Float[Array, ""]:
    """The mean cross-entropy over many rows, `rows_at_once` (or a few less) at a time."""

    def sums(rows: Batch) -> tuple[Array, Array]:
        losses, weights = token_losses(params, rows, cfg, steering, max_targets=max_targets)
        return jnp.sum(losses * weights), jnp.sum(weights)

    total, weight = jax.lax.map(sums, split_rows(batch, rows_at_once))
    return safe_divide(jnp.sum(total), jnp.sum(weight))


def split_rows(batch: Batch, rows_at_once: int) -> Batch:
    """Split rows [rows, ...] into equal pieces [pieces, rows_at_once or a few less, ...], the last
    one padded with rows that predict nothing."""
    n = batch.tokens.shape[0]
    pieces = -(-n // rows_at_once)
    size = -(-n // pieces)

    def split(leaf: Array) -> Array:
        widths = ((0, pieces * size - n), *[(0, 0)] * (leaf.ndim - 1))
        return jnp.pad(leaf, widths).reshape(pieces, size, *leaf.shape[1:])

    return jax.tree.map(split, batch)


def sequence_log_probs(
    params: Params,
    batch: Batch,
    cfg: ModelConfig,
    steering: Steering | None = None,
    *,
    max_targets: int | None = None,
    remat: Remat = "none",
    trained: bool = False,
) -> Float[Array, " batch"]:
    """log P(completion | prompt) of each row: float32 sum over its predicted tokens, in nats.

    All predicted tokens count alike, whatever their weight in the loss.
    """
    losses, weights = token_losses(
        params, batch, cfg, steering, max_targets=max_targets, remat=remat, trained=trained
    )
    return -jnp.sum(losses, axis=1, where=weights != 0)


def _map_chunks(
    f: Callable[[Array, Array], Array], vocab: int, hidden: Array, other: Array
) -> Shaped[Array, "batch time"]:
    """f over the flattened tokens, in chunks of LOGIT_BUDGET logits with recomputation."""
    B, T = hidden.shape[:2]
    n, size = B * T, max(1, LOGIT_BUDGET // vocab)
    flat = (hidden.reshape(n, -1), other.reshape(n, *other.shape[2:]))
    if n <= size:
        return f(*flat).reshape(B, T)
    chunks = -(-n // size)
    size = -(-n // chunks)  # even chunks waste the least padding
    pad = chunks * size - n
    flat = jax.tree.map(
        lambda x: jnp.pad(x, ((0, pad), *[(0, 0)] * (x.ndim - 1))).reshape(
            chunks, size, *x.shape[1:]
        ),
        flat,
    )
    out = jax.lax.map(lambda xs: jax.checkpoint(f)(*xs), flat)
    return out.reshape(-1)[:n].reshape(B, T)
