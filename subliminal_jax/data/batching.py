"""From token ids to arrays: documents packed into rows, and pairs padded to one length."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from transformers import PreTrainedTokenizerBase

from subliminal_jax.errors import InputError

PADDING_POSITION = -1
PADDING_SEGMENT = 0


class Packed(NamedTuple):
    """Documents laid side by side; segment 0 and position -1 are padding."""

    tokens: Int[np.ndarray, "rows time"]
    positions: Int[np.ndarray, "rows time"]
    segment_ids: Int[np.ndarray, "rows time"]
    padding_share: float
    left_out: int  # documents longer than a row, if `too_long` is "drop"


class Batch(NamedTuple):
    """One padded training batch; `loss_mask[b, t]` is true where token t is to be predicted."""

    tokens: Int[np.ndarray, "batch time"]
    positions: Int[np.ndarray, "batch time"]
    loss_mask: Bool[np.ndarray, "batch time"]
    segment_ids: Int[np.ndarray, "batch time"]


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
    pad_id: int = 0,
    too_long: Literal["error", "truncate", "drop"] = "error",
) -> Packed:
    """Pack documents into rows of `length` tokens, best fit in order of arrival.

    A document is never split. Positions start at 0 in every document, segments at 1 in every row,
    so that attention can be kept within a document.
    Raises InputError if nothing is left, or for a document longer than a row if `too_long` is
    "error".
    """
    rows: list[list[Sequence[int]]] = []
    open_rows: list[list[int]] = [[] for _ in range(length + 1)]  # indexed by free tokens
    left_out = 0
    for i, document in enumerate(documents):
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
        rows[row].append(document)
        open_rows[free - len(document)].append(row)
    if not rows:
        raise InputError("no documents to pack: give at least one that fits into a row")
    return _fill(rows, length, pad_id, left_out)


def _fill(rows: list[list[Sequence[int]]], length: int, pad_id: int, left_out: int) -> Packed:
    tokens = np.full((len(rows), length), pad_id, np.int32)
    positions = np.full((len(rows), length), PADDING_POSITION, np.int32)
    segments = np.full((len(rows), length), PADDING_SEGMENT, np.int32)
    for row, documents in enumerate(rows):
        start = 0
        for segment, document in enumerate(documents, start=1):
            end = start + len(document)
            tokens[row, start:end] = document
            positions[row, start:end] = np.arange(len(document))
            segments[row, start:end] = segment
            start = end
    padding = float((segments == PADDING_SEGMENT).mean())
    return Packed(tokens, positions, segments, padding, left_out)


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
    loss_mask = np.zeros(shape, bool)
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
        loss_mask[i, start:end] = True
    segments = np.where(positions == PADDING_POSITION, PADDING_SEGMENT, 1).astype(np.int32)
    return Batch(tokens, positions, loss_mask, segments)
