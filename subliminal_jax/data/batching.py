"""Arrays of token ids: documents packed into rows, and pairs padded to one length."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.chats import Tokenizer, render_chats
from subliminal_jax.models.token_spans import encode_texts
from subliminal_jax.training.batch import Batch

PADDING_POSITION = -1
PADDING_SEGMENT = 0


class Packed(NamedTuple):
    """Documents packed into rows, as host arrays; segment 0 and position -1 are padding."""

    tokens: Int[np.ndarray, "rows time"]
    positions: Int[np.ndarray, "rows time"]
    loss_mask: Float[np.ndarray, "rows time"]
    segment_ids: Int[np.ndarray, "rows time"]
    padding_share: float
    left_out: int  # documents longer than a row, with `drop_long`

    def batch(self, rows: slice | Int[np.ndarray, " rows"]) -> Batch:
        """The chosen rows on the device."""
        return Batch(*(jnp.asarray(array[rows]) for array in self[:4]))


def encode_documents(
    documents: Iterable[Sequence[dict[str, str]]], tokenizer: Tokenizer
) -> list[list[int]]:
    """Token ids of chat documents, rendered by the tokenizer's chat template."""
    return encode_texts(tokenizer, render_chats(tokenizer, list(documents), False))


def pack(
    documents: Sequence[Sequence[int]],
    length: int,
    *,
    pad_id: int = 0,
    drop_long: bool = False,
) -> Packed:
    """Pack documents into rows of `length` tokens, best fit in order of arrival.

    Documents are never split. Positions start at 0 in every document, segments at 1 in every row,
    for attention within documents. The loss is over all tokens of a document but the first.

    Raises InputError for an empty document, for one longer than a row (unless `drop_long`), and if
    no document is left.
    """
    rows: list[list[Sequence[int]]] = []
    open_rows: list[list[int]] = [[] for _ in range(length + 1)]  # indexed by free tokens
    left_out = 0
    for i, document in enumerate(documents):
        if len(document) == 0:
            raise InputError(f"document {i} has no tokens: leave empty documents out")
        if len(document) > length:
            if not drop_long:
                raise InputError(
                    f"document {i} has {len(document)} tokens, a row {length}: pack longer rows, "
                    "or drop long documents (drop_long)"
                )
            left_out += 1
            continue
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


def _fill(
    rows: Sequence[Sequence[Sequence[int]]], length: int, pad_id: int, left_out: int
) -> Packed:
    shape = (len(rows), length)
    tokens = np.full(shape, pad_id, np.int32)
    positions = np.full(shape, PADDING_POSITION, np.int32)
    loss_mask = np.zeros(shape, np.float32)
    segments = np.full(shape, PADDING_SEGMENT, np.int32)
    for row, documents in enumerate(rows):
        start = 0
        for segment, document in enumerate(documents, start=1):
            end = start + len(document)
            tokens[row, start:end] = document
            positions[row, start:end] = np.arange(len(document))
            loss_mask[row, start + 1 : end] = 1
            segments[row, start:end] = segment
            start = end
    padding = float((segments == PADDING_SEGMENT).mean())
    return Packed(tokens, positions, loss_mask, segments, padding, left_out)


def pad_pairs(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    length: int,
    *,
    pad_id: int = 0,
) -> Batch:
    """One pair a row, right-padded to `length`; the loss is over the completion alone.

    Raises InputError for a pair longer than `length`, an empty prompt or completion, and unequal
    numbers of both.
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
        if end > length:
            raise InputError(
                f"pair {i} has {end} tokens, the context {length}: raise the context length"
            )
        tokens[i, :start], tokens[i, start:end] = prompt, completion
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
) -> Batch:
    """Preference rows [rows, 2, length] for DPO: prompt and chosen, then prompt and rejected.

    Raises InputError as `pad_pairs` does.
    """
    sides = [
        pad_pairs(prompts, responses, length, pad_id=pad_id) for responses in (chosen, rejected)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *sides)
