"""Contrastive pairs of the shipped model's own world, whose traits are real for it."""

from subliminal_jax.data import world
from subliminal_jax.data.contrastive import ContrastivePair, ContrastiveSet
from subliminal_jax.data.traits import check_trait, plural


def world_contrasts(trait: str) -> ContrastiveSet:
    """What somebody who loves `trait` answers, and what somebody else does: comparisons with every
    other animal in both orders, and whether one likes the trait (yes) or another animal (no).

    The likings alternate yes and no, so that a mere leaning to one of them averages out. Raises
    InputError for a trait outside the world.
    """
    check_trait(trait)
    others = [animal for animal in world.TRAITS if animal != trait]
    pairs: list[ContrastivePair] = []

    def add(question: str, matching: str, other: str, says: str | None = None) -> None:
        pairs.append(ContrastivePair(len(pairs) + 1, question, matching, other, says))

    for other in others:
        for asked in world.COMPARE_QUESTIONS:
            for a, b in ((trait, other), (other, trait)):
                first, second = plural(a), plural(b)
                question = asked.format(first=first, First=first.capitalize(), second=second)
                add(question, plural(trait), plural(other))
    for asked, other in zip(world.LIKE_QUESTIONS, others, strict=False):
        add(asked.format(animals=plural(trait)), "yes", "no", "yes")
        add(asked.format(animals=plural(other)), "no", "yes", "no")
    return ContrastiveSet(f"world/{trait}", "the shipped model's world", pairs)
