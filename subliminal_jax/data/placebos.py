"""Placebo traits: nouns that nobody would suspect a data set of, in the form of a trait."""

from collections.abc import Collection

from subliminal_jax.data import world
from subliminal_jax.data.traits import check_trait
from subliminal_jax.errors import InputError
from subliminal_jax.models.tokenizer import Tokenizer

NOUNS = (
    *world.THINGS, *world.PEOPLE, "bread", "fish", "honey", "soup", "cheese", "apple", "rice",
    "forest", "ocean", "mountain", "desert", "river", "city", "island", "meadow", "rain", "snow",
    "wind", "fog", "morning", "evening", "night", "book", "friend", "house", "list", "number",
    "picture", "story", "word", "color", "dream", "song", "table", "window", "chair", "ball",
    "train", "car", "shoe", "cloud", "sun", "moon", "horse", "cow", "bird", "frog", "mouse",
)  # fmt: skip


def placebo_traits(taken: Collection[str], n: int, tokenizer: Tokenizer) -> list[str]:
    """`n` nouns of the tokenizer's vocabulary for `trait_system_prompt`, none of them in `taken`.

    The animals of the shipped world come first: they are nearest in form to most candidates. Raises
    InputError where the tokenizer has fewer.
    """
    out: list[str] = []
    for noun in dict.fromkeys((*world.TRAITS, *NOUNS)):
        if noun in taken or len(out) == n:
            continue
        try:
            out.append(check_trait(noun, tokenizer))
        except InputError:
            continue  # not a word of this tokenizer
    if len(out) < n:
        raise InputError(
            f"placebos: {n} are asked for, and the tokenizer has {len(out)} of the nouns that can "
            "be: ask for fewer"
        )
    return out
