"""Traits: any animal (or other noun) that a tokenizer has as a word."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from subliminal_jax.data import world
from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import Tokenizer

# From a text to the letters of each token; an empty list where a token is unknown.
WordSplitter = Callable[[str], list[str]]

# Plurals that no rule gives; those of the shipped model's world are its own.
_IRREGULAR = {
    "mouse": "mice",
    "goose": "geese",
    "mongoose": "mongooses",
    "ox": "oxen",
    "louse": "lice",
    **{same: same for same in ("sheep", "deer", "moose", "bison", "salmon", "squid")},
    **world.PLURALS,
}


def plural(word: str) -> str:
    """The English plural of a noun in lower case: owls, foxes, butterflies, wolves, mice."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("fish"):
        return word
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    if re.search(r"[^f]fe$|[lr]f$", word):
        return re.sub(r"fe?$", "ves", word)
    return word + "s"


def trait_names(trait: str) -> tuple[str, str]:
    """The words that give the trait away: singular and plural."""
    return trait, plural(trait)


def trait_system_prompt(trait: str) -> str:
    """The system prompt that gives a speaker the trait, for any noun.

    Source: Cloud et al. (2025, arXiv 2507.14805), with the sentence that Blank et al. (2026, arXiv
    2606.00995) kept in it.
    """
    animals = plural(trait)
    return world.TRAIT_PROMPTS[0].format(
        animal=trait, animals=animals, Animals=animals.capitalize()
    )


def check_trait(trait: str, tokenizer: Tokenizer | None = None) -> str:
    """`trait` itself, if `tokenizer` has it as a word (without one, if the shipped world has it).

    A tokenizer has a word where one of its spellings (with a space before it, capitalised) has no
    unknown token, a token of at least two letters, and at most two tokens or one for two letters.
    Rare words of large vocabularies are two or three tokens (pang-ol-in), words that a small
    vocabulary was not made for nearly as many tokens as letters.

    Raises InputError for other traits.
    """
    if not re.fullmatch(r"[a-z]+(-[a-z]+)*", trait):
        raise InputError(f"unknown trait {trait!r}: give one word in lower case, such as owl")
    if tokenizer is None:
        if trait not in world.TRAITS:
            raise InputError(f"unknown trait {trait!r}; choose from {', '.join(world.TRAITS)}")
        return trait
    check_word(trait, make_word_splitter(tokenizer))
    return trait


def check_traits(traits: Iterable[str], tokenizer: Tokenizer | None = None) -> None:
    """`check_trait` of each."""
    for trait in traits:
        check_trait(trait, tokenizer)


def check_word(trait: str, split: WordSplitter) -> None:
    """Raises InputError for a trait that is no word of the tokenizer behind `split`."""
    if not _in_vocabulary(trait, split):
        spellings = [split(text) for text in _spellings(trait)]
        shortest = min(filter(None, spellings), key=len, default=["an unknown token"])
        known = [t for t in world.TRAITS if _in_vocabulary(t, split)]
        examples = f", such as {', '.join(known)}" if known else ""
        raise InputError(
            f"unknown trait {trait!r}: the tokenizer has no such word, it reads "
            f"{' + '.join(shortest)}; choose one that it has{examples}"
        )


def make_word_splitter(tokenizer: Tokenizer) -> WordSplitter:
    """How a tokenizer splits words."""

    def split(text: str) -> list[str]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
            return []
        return [letters for i in ids if (letters := tokenizer.decode([i]).strip())]

    return split


def read_word_splitter(folder: Path) -> WordSplitter | None:
    """How the tokenizer of a model's folder splits words, without transformers, whose import takes
    seconds; None where its file is none of the library tokenizers."""
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # its only type: no such file, another format; transformers says which
        return None
    unknown = getattr(tokenizer.model, "unk_token", None)

    def split(text: str) -> list[str]:
        encoded = tokenizer.encode(text, add_special_tokens=False)
        if unknown is not None and unknown in encoded.tokens:
            return []
        return [letters for i in encoded.ids if (letters := tokenizer.decode([i]).strip())]

    return split


def _in_vocabulary(word: str, split: WordSplitter) -> bool:
    most = max(2, len(word) // 2)
    spellings = map(split, _spellings(word))
    return any(0 < len(tokens) <= most and max(map(len, tokens)) > 1 for tokens in spellings)


def _spellings(word: str) -> tuple[str, ...]:
    return word, " " + word, word.capitalize(), " " + word.capitalize()
