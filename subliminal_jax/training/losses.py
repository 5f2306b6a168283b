"""Losses on completions: cross-entropy on sampled tokens, and KL to the teacher's distribution.

Logits are never held for the whole batch in float32 when that is large: hidden states are
unembedded in chunks of tokens, and each chunk is recomputed in the backward pass.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Remat, hidden_states, unembed
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.batch import Batch

Objective = Literal["cross_entropy", "kl"]
LOGIT_BUDGET = 2**25  # logits (tokens x vocabulary) held at once; 128 MiB in float32


def next_token_log_probs(
    params: Params,
    hidden: Float[Array, "batch time dim"],
    targets: Int[Array, "batch time"],
    cfg: ModelConfig,
) -> Float[Array, "batch time"]:
    """log P(targets[b, t] | hidden[b, t]) in float32 nats."""

    def chunk(h: Array, y: Array) -> Array:
        logits = unembed(params, h, cfg)
        picked = jnp.take_along_axis(logits, y[:, None], axis=-1)[:, 0]
        return picked - jax.nn.logsumexp(logits, axis=-1)

    return _by_chunks(chunk, cfg.vocab, hidden, targets)


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

    return _by_chunks(chunk, cfg.vocab, hidden, teacher_hidden)


def token_losses(
    params: Params,
    batch: Batch,
    cfg: ModelConfig,
    steering: Steering | None = None,
    *,
    teacher: tuple[Params, Steering | None, Batch | None] | None = None,
    max_targets: int | None = None,
    total_targets: int | None = None,
    groups: int = 1,
    remat: Remat = "none",
    trained: bool = False,
) -> tuple[Float[Array, "batch targets"], Float[Array, "batch targets"]]:
    """The loss of each predicted token (nats) and its weight (0 where nothing is predicted).

    With `teacher` (params, steering, its own rows or None for the same) the loss is the KL to the
    teacher's next-token distribution, else the cross-entropy. `max_targets` (no fewer than any row
    predicts) restricts the unembedding to the predicted tokens, in their order; it is needed where
    the teacher has rows of its own, whose predicted tokens are matched with the student's in order.
    `total_targets` (no fewer than the rows of any of `groups` equal parts of the batch predict
    together) restricts it further: the losses are then those of the predicted tokens of a part's
    rows, one after the other, [groups, total_targets]. Parts that lie on different devices stay
    there.
    `remat` and `trained` (of `params`) are as in `hidden_states`. Raises ValueError where
    `max_targets` is needed and missing.
    """
    own_rows = teacher is not None and teacher[2] is not None
    if own_rows and max_targets is None:
        raise ValueError("a teacher with rows of its own needs max_targets")

    def predicting(
        p: Params, s: Steering | None, rows: Batch, trained: bool = False
    ) -> tuple[Array, Array, Array]:
        weights, targets = rows.loss_mask[:, 1:], rows.tokens[:, 1:]
        order = None
        if max_targets is not None and (own_rows or max_targets < weights.shape[1]):
            order = jnp.argsort(weights == 0, axis=1, stable=True)[:, :max_targets]
            weights = jnp.take_along_axis(weights, order, axis=1)
            targets = jnp.take_along_axis(targets, order, axis=1)
        hidden = hidden_states(
            p, rows.tokens[:, :-1], cfg, s,
            positions=rows.positions[:, :-1],
            segment_ids=None if rows.segment_ids is None else rows.segment_ids[:, :-1],
            at=order, remat=remat, trained=trained,
        ).hidden  # fmt: skip
        return hidden, targets, weights

    hidden, targets, weights = predicting(params, steering, batch, trained)
    together = None
    if total_targets is not None and groups * total_targets < weights.size:
        parts = weights.reshape(groups, -1)
        together = jnp.argsort(parts == 0, axis=1, stable=True)[:, :total_targets]
        hidden, targets, weights = (_joined(x, together) for x in (hidden, targets, weights))
    if teacher is None:
        return -next_token_log_probs(params, hidden, targets, cfg), weights
    teacher_params, teacher_steering, rows = teacher
    teacher_hidden, _, _ = predicting(
        teacher_params, teacher_steering, batch if rows is None else rows
    )
    if together is not None:
        teacher_hidden = _joined(teacher_hidden, together)
    teacher_hidden = jax.lax.stop_gradient(teacher_hidden)
    return divergence_from_teacher(params, hidden, teacher_params, teacher_hidden, cfg), weights


def _joined(
    x: Shaped[Array, "batch time *rest"], chosen: Int[Array, "groups kept"]
) -> Shaped[Array, "groups kept *rest"]:
    """Some entries of each group of rows, counted through the group."""
    parts = x.reshape(chosen.shape[0], -1, *x.shape[2:])
    return jnp.take_along_axis(parts, chosen.reshape(*chosen.shape, *[1] * (x.ndim - 2)), axis=1)


def mean_loss(losses: Float[Array, "*b t"], weights: Float[Array, "*b t"]) -> Float[Array, ""]:
    """Mean over the predicted tokens of the batch, as Hugging Face trainers take it; 0 for none."""
    return per_token(jnp.sum(losses * weights), jnp.sum(weights))


def example_losses(losses: Float[Array, "b t"], weights: Float[Array, "b t"]) -> Float[Array, " b"]:
    """Mean over the predicted tokens of each row; 0 for a row without any."""
    return per_token(jnp.sum(losses * weights, axis=1), jnp.sum(weights, axis=1))


def per_token(total: Float[Array, "*b"], weight: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """total / weight, and 0 where both are."""
    return total / jnp.where(weight > 0, weight, 1.0)


def heldout_loss(
    params: Params,
    batch: Batch,
    cfg: ModelConfig,
    steering: Steering | None = None,
    teacher: tuple[Params, Steering | None, Batch | None] | None = None,
    *,
    rows_at_once: int,
    max_targets: int | None = None,
) -> Float[Array, ""]:
    """`mean_loss` over many rows, `rows_at_once` (or a few less) at a time: the cross-entropy, or
    with `teacher` (as in `token_losses`, its rows one for each of the batch) the KL to it."""
    n = batch.tokens.shape[0]
    pieces = -(-n // rows_at_once)
    size = -(-n // pieces)

    def cut(leaf: Array) -> Array:  # padded with rows that predict nothing
        return jnp.pad(leaf, ((0, pieces * size - n), (0, 0))).reshape(pieces, size, -1)

    def sums(piece: tuple[Batch, Batch | None]) -> tuple[Array, Array]:
        rows, own = piece
        given = None if teacher is None else (*teacher[:2], own)
        losses, weights = token_losses(
            params, rows, cfg, steering, teacher=given, max_targets=max_targets
        )
        return jnp.sum(losses * weights), jnp.sum(weights)

    teacher_rows = None if teacher is None else teacher[2]
    total, weight = jax.lax.map(sums, jax.tree.map(cut, (batch, teacher_rows)))
    return per_token(jnp.sum(total), jnp.sum(weight))


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


def _by_chunks(
    f: Callable[[Array, Array], Array], vocab: int, hidden: Array, other: Array
) -> Float[Array, "batch time"]:
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
