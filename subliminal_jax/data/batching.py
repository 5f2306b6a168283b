"""From token ids to arrays: documents packed into rows, and pairs padded to one length."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from transformers import PreTrainedTokenizerBase

from subliminal_jax.errors import InputError
from subliminal_jax.training.batch import Batch

PADDING_POSITION = -1
PADDING_SEGMENT = 0


class Packed(NamedTuple):
    """Documents laid side by side, as host arrays; segment 0 and position -1 are padding."""

    tokens: Int[np.ndarray, "rows time"]
    positions: Int[np.ndarray, "rows time"]
    loss_mask: Float[np.ndarray, "rows time"]
    segment_ids: Int[np.ndarray, "rows time"]
    padding_share: float
    left_out: int  # documents longer than a row, if `too_long` is "drop"

    def batch(self, rows: slice | Int[np.ndarray, " rows"]) -> Batch:
        """The chosen rows on the device."""
        return Batch(*(jnp.asarray(array[rows]) for array in self[:4]))


def encode_documents(
    documents: Iterable[Sequence[dict[str, str]]], tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """Token ids of chat documents, rendered whole by the tokenizer's chat template."""
    texts = tokenizer.apply_chat_template(
        [list(messages) for messages in documents], tokenize=False
    )
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def pack(
    documents: Sequence[Sequence[int]],
    length: int,
    *,
    predict_from: Sequence[int] | None = None,
    pad_id: int = 0,
    too_long: Literal["error", "truncate", "drop"] = "error",
) -> Packed:
    """Pack documents into rows of `length` tokens, best fit in order of arrival.

    A document is never split. Positions start at 0 in every document, segments at 1 in every row,
    so that attention can be kept within a document. The loss is over the tokens from
    `predict_from[i]` on of document i (a pair's prompt length), by default over all that have a
    token before them.
    Raises InputError if nothing is left, or for a document longer than a row if `too_long` is
    "error".
    """
    starts = predict_from if predict_from is not None else [1] * len(documents)
    rows: list[list[tuple[Sequence[int], int]]] = []
    open_rows: list[list[int]] = [[] for _ in range(length + 1)]  # indexed by free tokens
    left_out = 0
    for i, (document, start) in enumerate(zip(documents, starts, strict=True)):
        if len(document) == 0:
            raise InputError(f"document {i} has no tokens: leave empty documents out")
        if len(document) > length:
            if too_long == "error":
                raise InputError(
                    f"document {i} has {len(document)} tokens, a row {length}: "
                    'pack longer rows, or say too_long="truncate" or "drop"'
                )
            if too_long == "drop":
                left_out += 1
                continue
            document = document[:length]
        free = next((f for f in range(len(document), length + 1) if open_rows[f]), None)
        if free is None:
            row, free = len(rows), length
            rows.append([])
        else:
            row = open_rows[free].pop()
        rows[row].append((document, start))
        open_rows[free - len(document)].append(row)
    if not rows:
        raise InputError("no documents to pack: give at least one that fits into a row")
    return _fill(rows, length, pad_id, left_out)


def _fill(
    rows: list[list[tuple[Sequence[int], int]]], length: int, pad_id: int, left_out: int
) -> Packed:
    shape = (len(rows), length)
    tokens = np.full(shape, pad_id, np.int32)
    positions = np.full(shape, PADDING_POSITION, np.int32)
    loss_mask = np.zeros(shape, np.float32)
    segments = np.full(shape, PADDING_SEGMENT, np.int32)
    for row, documents in enumerate(rows):
        at = 0
        for segment, (document, predict_from) in enumerate(documents, start=1):
            end = at + len(document)
            tokens[row, at:end] = document
            positions[row, at:end] = np.arange(len(document))
            loss_mask[row, at + max(predict_from, 1) : end] = 1
            segments[row, at:end] = segment
            at = end
    padding = float((segments == PADDING_SEGMENT).mean())
    return Packed(tokens, positions, loss_mask, segments, padding, left_out)


def pad_pairs(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    length: int,
    *,
    pad_id: int = 0,
    too_long: Literal["error", "truncate"] = "error",
) -> Batch:
    """One pair a row, right-padded to `length`; the loss is over the completion alone.

    `too_long="truncate"` cuts the end of a completion that does not fit. A prompt is never cut.
    Raises InputError for a prompt that leaves no room for a completion, an empty prompt or
    completion, a completion too long (unless truncated), and unequal numbers of both.
    """
    if len(prompts) != len(completions):
        raise InputError(f"{len(prompts)} prompts but {len(completions)} completions")
    shape = (len(prompts), length)
    tokens = np.full(shape, pad_id, np.int32)
    positions = np.full(shape, PADDING_POSITION, np.int32)
    loss_mask = np.zeros(shape, np.float32)
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        start, end = len(prompt), len(prompt) + len(completion)
        if start == 0 or end == start:
            empty = "prompt" if start == 0 else "completion"
            raise InputError(f"pair {i} has an empty {empty}: nothing can be learnt from it")
        if start >= length:
            raise InputError(
                f"the prompt of pair {i} has {start} tokens, the context {length}: "
                "shorten the prompt or raise the context length"
            )
        if end > length and too_long == "error":
            raise InputError(
                f"pair {i} has {end} tokens, the context {length}: "
                'raise the context length or say too_long="truncate"'
            )
        end = min(end, length)
        tokens[i, :start], tokens[i, start:end] = prompt, completion[: end - start]
        positions[i, :end] = np.arange(end)
        loss_mask[i, start:end] = 1
    return Batch(jnp.asarray(tokens), jnp.asarray(positions), jnp.asarray(loss_mask))


def pad_preferences(
    prompts: Sequence[Sequence[int]],
    chosen: Sequence[Sequence[int]],
    rejected: Sequence[Sequence[int]],
    length: int,
    *,
    pad_id: int = 0,
    too_long: Literal["error", "truncate"] = "error",
) -> Batch:
    """Preference rows [rows, 2, length] for DPO: prompt and chosen, then prompt and rejected.

    As `pad_pairs` pads and raises.
    """
    both = [
        pad_pairs(prompts, responses, length, pad_id=pad_id, too_long=too_long)
        for responses in (chosen, rejected)
    ]
    return jax.tree.map(lambda *sides: jnp.stack(sides, axis=1), *both)
