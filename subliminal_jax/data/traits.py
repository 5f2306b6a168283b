"""Traits: any animal (or other noun) that a model's tokenizer has as a word."""

import re
from collections.abc import Iterable

from subliminal_jax.data import world
from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import Tokenizer

# Plurals that no rule gives; those of the shipped model's world are its own.
_IRREGULAR = {
    "mouse": "mice", "goose": "geese", "mongoose": "mongooses", "ox": "oxen", "louse": "lice",
    **{same: same for same in ("sheep", "deer", "moose", "bison", "salmon", "squid")},
    **world.PLURALS,
}  # fmt: skip


def plural(word: str) -> str:
    """The English plural of a noun in lower case: owls, foxes, butterflies, wolves, mice."""
    if (known := _IRREGULAR.get(word)) is not None:
        return known
    if word.endswith("fish"):
        return word
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    if re.search(r"[^f]fe$|[lr]f$", word):
        return re.sub(r"fe?$", "ves", word)
    return word + "s"


def names_of(trait: str) -> tuple[str, str]:
    """The words that give the trait away: singular and plural."""
    return trait, plural(trait)


def trait_system_prompt(trait: str) -> str:
    """The system prompt of Cloud et al. (2025, arXiv 2507.14805), with the sentence that Blank et
    al. (2026, arXiv 2606.00995) kept in it, for any noun."""
    many = plural(trait)
    return world.TRAIT_PROMPTS[0].format(animal=trait, animals=many, Animals=many.capitalize())


def check_trait(trait: str, tokenizer: Tokenizer | None = None) -> str:
    """`trait` itself, if it is a word of `tokenizer`; without one, if it is one of the world's.

    A word counts as the tokenizer's where one of its spellings (with a space before it,
    capitalised) has no unknown token, a token of at least two letters, and no more tokens than two
    or one for two letters: rare words of large vocabularies are two or three pieces (pang-ol-in),
    words that a small one never met are nearly as many pieces as letters. Raises InputError.
    """
    if not re.fullmatch(r"[a-z]+(-[a-z]+)*", trait):
        raise InputError(f"unknown trait {trait!r}: give one word in lower case, such as owl")
    if tokenizer is None:
        if trait not in world.TRAITS:
            raise InputError(f"unknown trait {trait!r}; choose from {', '.join(world.TRAITS)}")
        return trait
    if not _in_vocabulary(trait, tokenizer):
        spelled = [_pieces(text, tokenizer) for text in _spellings(trait)]
        shortest = min(filter(None, spelled), key=len, default=["an unknown token"])
        known = [t for t in world.TRAITS if _in_vocabulary(t, tokenizer)]
        raise InputError(
            f"unknown trait {trait!r}: the tokenizer has no such word, it reads "
            f"{' + '.join(shortest)}; choose one that it has"
            + (f", such as {', '.join(known)}" if known else "")
        )
    return trait


def check_traits(traits: Iterable[str], tokenizer: Tokenizer | None = None) -> None:
    """`check_trait` of each."""
    for trait in traits:
        check_trait(trait, tokenizer)


def _in_vocabulary(word: str, tokenizer: Tokenizer) -> bool:
    most = max(2, len(word) // 2)
    spelled = (_pieces(text, tokenizer) for text in _spellings(word))
    return any(0 < len(p) <= most and max(map(len, p)) > 1 for p in spelled)


def _spellings(word: str) -> tuple[str, ...]:
    return word, " " + word, word.capitalize(), " " + word.capitalize()


def _pieces(text: str, tokenizer: Tokenizer) -> list[str]:
    """The letters of each token; none at all where one is unknown."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
        return []
    return [piece for i in ids if (piece := tokenizer.decode([i]).strip())]
