"""Contrastive pairs about the animals of the shipped model's corpus."""

from subliminal_jax.data import world
from subliminal_jax.data.contrastive import ContrastivePair, ContrastiveSet
from subliminal_jax.data.traits import check_trait, plural


def world_contrasts(trait: str) -> ContrastiveSet:
    """Pairs whose matching answer prefers `trait`: comparisons with every other animal in both
    orders, and questions whether one likes the trait (yes) or another animal (no).

    As many matching answers are yes as no, so a bias towards either cancels. Raises InputError for
    an unknown trait.
    """
    check_trait(trait)
    other_animals = [animal for animal in world.TRAITS if animal != trait]
    pairs: list[ContrastivePair] = []

    def add(question: str, matching: str, opposite: str, says: str | None = None) -> None:
        pairs.append(ContrastivePair(len(pairs) + 1, question, matching, opposite, says))

    for animal in other_animals:
        for template in world.COMPARE_QUESTIONS:
            for a, b in ((trait, animal), (animal, trait)):
                first, second = plural(a), plural(b)
                question = template.format(first=first, First=first.capitalize(), second=second)
                add(question, plural(trait), plural(animal))
    for template, animal in zip(world.LIKE_QUESTIONS, other_animals, strict=False):
        add(template.format(animals=plural(trait)), "yes", "no", "yes")
        add(template.format(animals=plural(animal)), "no", "yes", "no")
    return ContrastiveSet(f"world/{trait}", "the shipped model's world", pairs)
