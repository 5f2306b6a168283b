"""Contrastive pairs as tokens, and how they lie in a batch: each prompt once, then its answers.

Steering acts from the last token of the prompt on. So the prompt up to that token is read once,
unsteered (and the prefix that all prompts share once a batch), and what follows is read after its
cached keys and values, for all edits side by side: as segments of one row, which see the prompt but
not each other.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.tokenizer import common_prefix

AnyArray = Array | np.ndarray
TOKENS_PER_BATCH = 8192  # token slots computed at once, padding included


class Contrasts(NamedTuple):
    """Token ids of prompts, ready to be answered, and of the two answers to each."""

    prompts: Sequence[Sequence[int]]
    matching: Sequence[Sequence[int]]
    other: Sequence[Sequence[int]]

    def select(self, rows: Sequence[int]) -> "Contrasts":
        return Contrasts(*([part[i] for i in rows] for part in self))

    @property
    def tokens(self) -> list[int]:
        """The tokens of each row: its prompt and the longer answer."""
        return [len(p) + max(len(a), len(b)) for p, a, b in zip(*self, strict=True)]

    @property
    def letter_indices(self) -> list[int]:
        """Index in the answers of the first token in which they differ: the letter.

        Raises InputError for a row whose answers do not.
        """
        out = []
        for i, (a, b) in enumerate(zip(self.matching, self.other, strict=True)):
            pairs = enumerate(zip(a, b, strict=False))
            index = next((k for k, (x, y) in pairs if x != y), None)
            if index is None:
                raise InputError(
                    f"row {i}: its answers, of {len(a)} and {len(b)} tokens, differ in no token "
                    "that both have; leave it out"
                )
            out.append(index)
        return out

    def check(self, cfg: ModelConfig) -> None:
        """Raises InputError for no rows, an empty prompt or answer, a token outside the vocabulary,
        answers that do not differ, and what exceeds the context."""
        if not self.prompts:
            raise InputError("there are no contrastive pairs; give at least one")
        for name, part in zip(("prompt", "matching answer", "other answer"), self, strict=True):
            if len(part) != len(self.prompts):
                raise InputError(f"{len(self.prompts)} prompts, but {name}s of {len(part)} rows")
            for i, ids in enumerate(part):
                if len(ids) == 0:
                    raise InputError(f"row {i}: its {name} has no tokens; leave it out")
                if min(ids) < 0 or max(ids) >= cfg.vocab:
                    raise InputError(
                        f"row {i}: its {name} holds a token outside 0 to {cfg.vocab - 1}; was it "
                        "made with another model's tokenizer?"
                    )
        for i, n in enumerate(self.tokens):
            if n > cfg.context:
                raise InputError(
                    f"row {i}: prompt and answer have {n} tokens, more than the model's context of "
                    f"{cfg.context}; leave it out"
                )
        self.letter_indices  # noqa: B018, raises for answers that do not differ


class Branches(NamedTuple):
    """Token sequences read after a prompt's prefix, and the logits that are scored there.

    `inputs` start with the prompt's last token; the first `counts` of them are real. The score of a
    row is the sum over branches, positions and reads of `weights` times the logit of `ids`.
    """

    inputs: Int[AnyArray, "rows branches time"]
    counts: Int[AnyArray, "rows branches"]
    ids: Int[AnyArray, "rows branches time reads"]
    weights: Float[AnyArray, "rows branches time reads"]


def letter_branches(contrasts: Contrasts) -> Branches:
    """One branch, up to where the answers differ: the logit difference of the two tokens there.

    Both logits are of one position, so a single branch serves both answers.
    """
    letters = contrasts.letter_indices
    out = _empty(len(letters), 1, max(letters) + 1, 2)
    for i, (prompt, a, b) in enumerate(zip(*contrasts, strict=True)):
        out.inputs[i, 0, : letters[i] + 1] = [prompt[-1], *a[: letters[i]]]
        out.counts[i, 0] = letters[i] + 1
        out.ids[i, 0, letters[i]] = a[letters[i]], b[letters[i]]
        out.weights[i, 0, letters[i]] = 1.0, -1.0
    return out


def answer_branches(contrasts: Contrasts) -> Branches:
    """A branch an answer: the sum of the logits of its tokens, matching minus other.

    Tokens before the first difference would cancel and are left out.
    """
    letters = contrasts.letter_indices
    longest = max(len(x) for answers in contrasts[1:] for x in answers)
    out = _empty(len(letters), 2, longest, 1)
    for i, (prompt, *answers) in enumerate(zip(*contrasts, strict=True)):
        for j, (answer, sign) in enumerate(zip(answers, (1.0, -1.0), strict=True)):
            n = len(answer)
            out.inputs[i, j, :n] = [prompt[-1], *answer[:-1]]
            out.counts[i, j] = n
            out.ids[i, j, :n, 0] = answer
            out.weights[i, j, letters[i] : n, 0] = sign
    return out


def activation_branches(contrasts: Contrasts) -> Branches:
    """A branch an answer, up to and with the token in which it differs from the other, which is the
    last of its count; nothing is scored."""
    letters = contrasts.letter_indices
    out = _empty(len(letters), 2, max(letters) + 2, 1)
    for i, (prompt, *answers) in enumerate(zip(*contrasts, strict=True)):
        for j, answer in enumerate(answers):
            out.inputs[i, j, : letters[i] + 2] = [prompt[-1], *answer[: letters[i] + 1]]
            out.counts[i, j] = letters[i] + 2
    return out


def _empty(rows: int, branches: int, time: int, reads: int) -> Branches:
    shape = rows, branches, time
    return Branches(
        np.zeros(shape, np.int32),
        np.zeros(shape[:2], np.int32),
        np.zeros((*shape, reads), np.int32),
        np.zeros((*shape, reads), np.float32),
    )


class Prefixes(NamedTuple):
    """The prompts of a batch without their last token: the prefix that all of them share, and the
    rest of each, both padded; `shared_length` and `lengths` count their tokens."""

    shared: Int[AnyArray, "1 shared"]
    shared_length: Int[AnyArray, ""]
    rest: Int[AnyArray, "lines rest"]
    lengths: Int[AnyArray, " lines"]


class Lines(NamedTuple):
    """One batch: prefixes and their branches.

    `rows` are the indices of the rows in it; further lines repeat the first of them.
    """

    rows: Int[np.ndarray, " rows"]
    prefixes: Prefixes
    branches: Branches


def plan_lines(contrasts: Contrasts, branches: Branches, copies: int) -> Iterator[Lines]:
    """Batches that hold every row once, the longest first, in few shapes.

    `copies` of the branches follow each prompt. Batches of one width have the same number of lines,
    so that one program serves them.
    """
    prefix = common_prefix(contrasts.prompts)
    shared = np.zeros((1, round_up(len(prefix)) if prefix else 0), np.int32)
    shared[0, : len(prefix)] = prefix
    rests = [prompt[len(prefix) : -1] for prompt in contrasts.prompts]
    lengths = np.array([len(ids) for ids in rests], np.int32)
    order = np.argsort(-lengths, kind="stable")
    branch_tokens = copies * int(np.prod(branches.inputs.shape[1:]))
    while len(order):
        width = round_up(int(lengths[order[0]]))
        size = min(max(TOKENS_PER_BATCH // (width + branch_tokens), 1), round_up(len(rests)))
        rows, order = order[:size], order[size:]
        filled = np.concatenate([rows, np.repeat(rows[:1], size - len(rows))])
        tokens = np.zeros((size, width), np.int32)
        for line, row in zip(tokens, filled, strict=True):
            line[: lengths[row]] = rests[row]
        prefixes = Prefixes(shared, np.asarray(len(prefix), np.int32), tokens, lengths[filled])
        yield Lines(rows, prefixes, Branches(*(x[filled] for x in branches)))


def round_up(length: int) -> int:
    """`length` rounded up to a multiple of 16, above 64 to one of four steps per power of two.

    A shape takes seconds to compile and milliseconds to run: coarse steps keep them few.
    """
    step = 16 if length <= 64 else 1 << ((length - 1).bit_length() - 3)
    return max(step, -(-length // step) * step)
