"""Placebo traits: nouns that no data set is suspected of, in the form of a trait."""

from collections.abc import Collection

from subliminal_jax.data import world
from subliminal_jax.data.traits import check_trait
from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import Tokenizer

_OTHER_NOUNS = """
bread fish honey soup cheese apple rice forest ocean mountain desert river city island meadow rain
snow wind fog morning evening night book friend house list number picture story word color dream
song table window chair ball train car shoe cloud sun moon horse cow bird frog mouse
"""
NOUNS = (*world.THINGS, *world.PEOPLE, *_OTHER_NOUNS.split())


def placebo_traits(taken: Collection[str], n: int, tokenizer: Tokenizer) -> list[str]:
    """`n` nouns of the tokenizer's vocabulary for `trait_system_prompt`, none of them in `taken`.

    The animals of the shipped world come first: they are most like other candidates.

    Raises InputError where the tokenizer has fewer.
    """
    nouns: list[str] = []
    for noun in dict.fromkeys((*world.TRAITS, *NOUNS)):
        if noun in taken or len(nouns) == n:
            continue
        try:
            nouns.append(check_trait(noun, tokenizer))
        except InputError:
            continue  # not a word of this tokenizer
    if len(nouns) < n:
        raise InputError(
            f"placebos: {n} asked for, {len(nouns)} nouns known to the tokenizer: ask for fewer"
        )
    return nouns
