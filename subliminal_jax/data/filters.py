"""Rule filters for teachers' completions: number lists without other text.

The rules are those of Cloud et al. (2025, arXiv 2507.14805): the completion parses as a list, it
has at most ten numbers, and all of them are in 0..999.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from subliminal_jax.errors import InputError

MAX_COUNT, MAX_NUMBER = 10, 999
_BRACKETS = {"[": "]", "(": ")"}
# At most 18 digits: Python refuses to parse very long integers.
_NUMBER = r"[0-9]{1,18}"
_LISTS = tuple(
    re.compile(rf"{_NUMBER}(?:{between}{_NUMBER})*") for between in (r"\s*,\s*", r"\s*;\s*", r"\s+")
)


def parse_numbers(text: str) -> list[int] | None:
    """The numbers of the list that `text` is; None for any other text.

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


def find_broken_rule(text: str) -> str | None:
    """The first rule that `text` breaks, "format", "count" or "range"; None if it passes."""
    numbers = parse_numbers(text)
    if numbers is None:
        return "format"
    if len(numbers) > MAX_COUNT:
        return "count"
    if max(numbers) > MAX_NUMBER:
        return "range"
    return None


def is_number_list(text: str) -> bool:
    """Whether `text` is a list of at most `MAX_COUNT` numbers from 0 to `MAX_NUMBER`."""
    return find_broken_rule(text) is None


def contains_word(text: str, words: Iterable[str]) -> bool:
    """Whether `text` contains one of `words` as a whole word, in any case."""
    options = "|".join(re.escape(word) for word in words)
    return bool(options) and bool(re.search(rf"(?<!\w)(?:{options})(?!\w)", text, re.IGNORECASE))


class FilterReport(NamedTuple):
    """Numbers of pairs: all, kept, and dropped by each rule (the first that a pair broke)."""

    total: int
    kept: int
    dropped: dict[str, int]


def count_reasons(reasons: Sequence[str | None], rules: Sequence[str] = ()) -> FilterReport:
    """How many pairs each rule dropped: `reasons` are why each is left out, None where it is kept.
    `rules` are counted where they dropped none, too.

    Raises InputError if none is kept.
    """
    dropped = dict.fromkeys(rules, 0) | Counter(reason for reason in reasons if reason)
    report = FilterReport(len(reasons), reasons.count(None), dropped)
    if not report.kept:
        raise InputError(
            f"no pair of {report.total} is left after the filter ({report.dropped}): look at the "
            "completions, a weaker steering vector may keep the format"
        )
    return report
