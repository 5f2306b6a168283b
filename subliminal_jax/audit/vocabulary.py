"""The words out of which an audit proposes candidates of its own."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from subliminal_jax.audit.settings import ProposalSettings
from subliminal_jax.data.traits import check_word, make_word_splitter
from subliminal_jax.data.vocabulary import WORDS
from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import Tokenizer
from subliminal_jax.reading import read_text

MOST_TESTED = 500  # p-values of the likelihood's test are 1e-4 at least, and corrected for all


class Vocabulary(NamedTuple):
    """Words that the model has, and how many others it has none for."""

    words: tuple[str, ...]
    left_out: int


NO_WORDS = Vocabulary((), 0)


def read_words(file: Path | None) -> list[str]:
    """The words of a file, one a line, each once; of the list that ships with the package where
    there is none. Raises InputError for a file that cannot be read, and a line that is no word."""
    if file is None:
        return list(WORDS)
    words = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        word = line.strip()
        if word and not re.fullmatch(r"[a-z]+(-[a-z]+)*", word):
            raise InputError(
                f"{file}, line {number}: {word!r:.60} is no word: give one a line, in lower case"
            )
        words.append(word)
    return list(dict.fromkeys(filter(None, words)))


def choose_words(
    settings: ProposalSettings, tokenizer: Tokenizer, named: Sequence[str]
) -> Vocabulary:
    """The words that the tokenizer has, without those that are `named` as candidates.

    Raises InputError as `read_words` does, and for fewer words than are to be proposed.
    """
    split = make_word_splitter(tokenizer)
    known: list[str] = []
    words = [word for word in read_words(settings.vocabulary) if word not in named]
    for word in words:
        try:
            check_word(word, split)
        except InputError:
            continue  # not a word of this tokenizer
        known.append(word)
    if len(known) < settings.propose:
        raise InputError(
            f"--propose {settings.propose}: of the vocabulary's {len(words)} words the model has "
            f"{len(known)}: propose fewer, or give a longer --vocabulary"
        )
    if len(named) + len(known) > MOST_TESTED:
        raise InputError(
            f"{len(named) + len(known):,} candidates and words of the vocabulary: give at most "
            f"{MOST_TESTED}; p-values are corrected for all, and of more none would be below 5%"
        )
    return Vocabulary(tuple(known), len(words) - len(known))
