"""Texts as token ids, split where a prompt ends and its answer begins.

The tokens are those of the whole text: encoded in parts it has other tokens where the parts meet
(spaces that SentencePiece writes, merges across the boundary).
"""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import one_line

Place = Callable[[int], str]  # how messages call row i

# The attribute of a tokenizer that says how many tokens its model has rows for, if that is known.
_VOCABULARY = "model_vocabulary"


class AnswerTokens(NamedTuple):
    """Token ids of prompts, and of the answers to each; all answers of a row follow its prompt."""

    prompts: list[list[int]]
    answers: list[list[list[int]]]

    def join(self, other: "AnswerTokens") -> "AnswerTokens":
        """The answers of both to the same prompts, after the shorter of each two prompts."""
        joined = AnswerTokens([], [])
        for a, b, answers, others in zip(
            self.prompts, other.prompts, self.answers, other.answers, strict=True
        ):
            n = min(len(a), len(b))
            joined.prompts.append(a[:n])
            joined.answers.append(
                [a[n:] + ids for ids in answers] + [b[n:] + ids for ids in others]
            )
        return joined


def set_vocabulary(tokenizer: Any, size: int) -> None:
    """Note that the tokenizer's model has rows for the ids below `size` alone.

    `encode_texts` then refuses all others. Tokenizers may have more, such as tokens that were added
    to them and not to the model.
    """
    setattr(tokenizer, _VOCABULARY, size)


def is_readable(tokenizer: Any, token: int) -> bool:
    """Whether the tokenizer's model has a row for the token id, as far as is known."""
    size = getattr(tokenizer, _VOCABULARY, None)
    return token >= 0 and (size is None or token < size)


def describe_unreadable(tokenizer: Any, token: int) -> str:
    """Says which token it is that the model has no row for."""
    size = getattr(tokenizer, _VOCABULARY, None)
    known = 0 <= token < len(tokenizer)
    name = f"the token {tokenizer.convert_ids_to_tokens(token)!r}, " if known else ""
    bound = "negative" if size is None else f"outside the model's vocabulary of {size}"
    return f"{name}id {token}, is {bound}" if known else f"the token id {token} is {bound}"


def is_tokenizer_error(error: BaseException) -> bool:
    """Whether a bad tokenizer raises this. A panic of the library's Rust code is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def run_tokenizer(tokenizer: Any, texts: str | list[str], **options: Any) -> Any:
    """`tokenizer(texts, **options)`.

    Raises InputError where the tokenizer's files fail on a text: an unknown token that is missing,
    a pattern that takes too many steps.
    """
    try:
        return tokenizer(texts, **options)
    except BaseException as error:
        if not is_tokenizer_error(error):
            raise
        where = f"{tokenizer.name_or_path}: " if tokenizer.name_or_path else ""
        raise InputError(
            f"{where}the tokenizer fails on {texts!r:.80}: {one_line(str(error))}"
        ) from error


def encode_texts(
    tokenizer: Any, texts: Sequence[str], place: Place | None = None
) -> list[list[int]]:
    """Token ids of each text, without special tokens but those that it spells.

    Raises InputError for a token that the tokenizer's model has no row for (see `set_vocabulary`).
    """
    if not len(texts):
        return []
    rows = run_tokenizer(
        tokenizer,
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    size = getattr(tokenizer, _VOCABULARY, None)
    for i, ids in enumerate(rows if size is not None else ()):
        if ids and max(ids) >= size:
            token = next(token for token in ids if token >= size)
            where = "" if place is None else f"{place(i)}: "
            raise InputError(
                f"{where}{describe_unreadable(tokenizer, token)}: it was added to the tokenizer "
                f"alone; leave it out of {_excerpt(tokenizer, token, texts[i])}"
            )
    return rows


def split_tokens(
    tokenizer: Any, rows: Sequence[Sequence[tuple[str, str]]], place: Place | None = None
) -> AnswerTokens:
    """The tokens of whole texts, split where the prompt in them ends.

    A token that reaches from the prompt into an answer is part of the answer. Where only some
    answers of a row have one, what it leaves of the prompt goes before all of them.

    Args:
      rows: for each answer of each row, the text before it and the whole text, which begins with
        that.

    Raises InputError as `encode_texts` does, and where no token is left before the answers.
    """
    pairs = [pair for row in rows for pair in row]
    owners = [i for i, row in enumerate(rows) for _ in row]
    wholes = encode_texts(
        tokenizer,
        [whole for _, whole in pairs],
        None if place is None else lambda j: place(owners[j]),
    )
    befores = list(dict.fromkeys(before for before, _ in pairs))
    encoded = dict(zip(befores, encode_texts(tokenizer, befores), strict=True))
    ends = [len(encoded[before]) for before, _ in pairs]
    merged = [j for j, (before, _) in enumerate(pairs) if wholes[j][: ends[j]] != encoded[before]]
    if merged:
        found = _tokens_before(tokenizer, [pairs[j] for j in merged])
        for j, end in zip(merged, found, strict=True):
            ends[j] = end
    result = AnswerTokens([], [])
    start = 0
    for i, row in enumerate(rows):
        ids, end = wholes[start : start + len(row)], min(ends[start : start + len(row)])
        while any(other[:end] != ids[0][:end] for other in ids):
            end -= 1
        if end < 1:
            where = f"row {i}" if place is None else place(i)
            raise InputError(
                f"{where}: the tokenizer merges the whole prompt with its answer, so no token is "
                "left before it; give a longer prompt"
            )
        result.prompts.append(list(ids[0][:end]))
        result.answers.append([list(other[end:]) for other in ids])
        start += len(row)
    return result


def _tokens_before(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[int]:
    """How many tokens of each whole text end no later than the text before."""
    wholes = [whole for _, whole in pairs]
    if not tokenizer.is_fast:  # it does not say where its tokens stand
        befores = encode_texts(tokenizer, [before for before, _ in pairs])
        return [
            sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
            for a, b in zip(befores, encode_texts(tokenizer, wholes), strict=True)
        ]
    encoded = run_tokenizer(
        tokenizer, wholes, add_special_tokens=False, return_offsets_mapping=True
    )
    return [
        next((t for t, (_, end) in enumerate(offsets) if end > len(before)), len(offsets))
        for offsets, (before, _) in zip(encoded["offset_mapping"], pairs, strict=True)
    ]


def _excerpt(tokenizer: Any, token: int, text: str) -> str:
    """The part of a text around a token, quoted."""
    spelling = tokenizer.convert_ids_to_tokens(token) or ""
    start = max(0, text.rfind(spelling) - 30)
    return repr(text[start : start + len(spelling) + 60])
