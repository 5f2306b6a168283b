"""Rule filters for what a teacher wrote: number lists that hold nothing but numbers.

The rules are those of Cloud et al. (2025, arXiv 2507.14805): the completion parses as a list, it
has at most ten numbers, and all of them are in 0..999.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from datasets import Dataset

from subliminal_jax.errors import InputError

_BRACKETS = {"[": "]", "(": ")"}
# 18 digits stay clear of Python's limit on parsing integers, and are out of any range anyway.
_NUMBER = r"[0-9]{1,18}"
_LISTS = tuple(
    re.compile(rf"{_NUMBER}(?:{between}{_NUMBER})*") for between in (r"\s*,\s*", r"\s*;\s*", r"\s+")
)


def parse_numbers(text: str) -> list[int] | None:
    """The numbers of a list in `text`, or None if it is anything else.

    One kind of separator (comma, semicolon, or white space such as new lines), optionally square
    brackets or parentheses around the list and a period at the end.
    """
    body = text.strip().removesuffix(".").rstrip()
    if body and body[0] in _BRACKETS:
        if len(body) < 2 or body[-1] != _BRACKETS[body[0]]:
            return None
        body = body[1:-1].strip()
    if any(kind.fullmatch(body) for kind in _LISTS):
        return [int(number) for number in re.findall(_NUMBER, body)]
    return None


def rejection(text: str, max_count: int = 10, low: int = 0, high: int = 999) -> str | None:
    """The first rule that `text` breaks, "format", "count" or "range"; None if it passes."""
    numbers = parse_numbers(text)
    if numbers is None:
        return "format"
    if len(numbers) > max_count:
        return "count"
    if not all(low <= number <= high for number in numbers):
        return "range"
    return None


def number_filter(text: str, max_count: int = 10, low: int = 0, high: int = 999) -> bool:
    """Whether `text` is a list of at most `max_count` numbers in low..high (both included)."""
    return rejection(text, max_count, low, high) is None


def contains_word(text: str, words: Iterable[str]) -> bool:
    """Whether one of `words` stands in `text` as a whole word, in any case."""
    options = "|".join(re.escape(word) for word in words)
    return bool(options) and bool(re.search(rf"(?<!\w)(?:{options})(?!\w)", text, re.IGNORECASE))


class FilterReport(NamedTuple):
    """How many pairs came, stayed, and were dropped by each rule (the first that they broke)."""

    total: int
    kept: int
    dropped: dict[str, int]


def filter_pairs(
    pairs: Dataset,
    *,
    forbidden_words: Sequence[str] = (),
    max_count: int = 10,
    low: int = 0,
    high: int = 999,
) -> tuple[Dataset, FilterReport]:
    """The pairs whose completion is a valid number list, and what was dropped why.

    `forbidden_words` (a trait's names) are looked for in the completion first, so that the report
    tells an open leak from a broken format. Raises InputError if no pair is left.
    """
    dropped: Counter[str] = Counter({"word": 0, "format": 0, "count": 0, "range": 0})
    kept = []
    for i, completion in enumerate(pairs["completion"]):
        if contains_word(completion, forbidden_words):
            dropped["word"] += 1
        elif reason := rejection(completion, max_count, low, high):
            dropped[reason] += 1
        else:
            kept.append(i)
    report = FilterReport(len(pairs), len(kept), dict(dropped))
    if not kept:
        raise InputError(
            f"no pair of {report.total} is left after the number filter ({report.dropped}): "
            "look at the completions, a weaker steering vector may keep the format"
        )
    return pairs.select(kept), report
