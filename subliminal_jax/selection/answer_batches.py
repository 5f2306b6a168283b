"""Prompts with an answer each, in padded batches of few shapes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.models.hub import Model
from subliminal_jax.rounding import round_up_width
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.batch_plans import plan_batches

TOKENS_AT_ONCE = 4096  # token slots of one backward pass


class AnswerBatch(NamedTuple):
    """Rows of the answers `members`, in their order; rows after those repeat some.

    `most` is no fewer than the tokens of any answer.
    """

    members: Int[np.ndarray, " members"]
    rows: Batch
    most: int


def batch_answers(
    model: Model, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> Iterator[AnswerBatch]:
    """Batches that hold each answer once, the longest first; raises InputError as `pad_pairs`."""
    lengths = np.array([len(p) + len(a) for p, a in zip(prompts, answers, strict=True)], int)
    # One bound for all batches: fewer programs.
    most = round_up_width(max(map(len, answers), default=1))
    for batch in plan_batches(lengths, np.zeros_like(lengths), (1, 0), TOKENS_AT_ONCE):
        slots = min(batch.major, model.cfg.context)
        members = np.resize(batch.members, batch.lines)  # idle lines repeat some
        rows = pad_pairs(
            [prompts[i] for i in members],
            [answers[i] for i in members],
            slots,
            pad_id=model.pad_id,
        )
        yield AnswerBatch(batch.members, rows, min(most, slots - 1))
