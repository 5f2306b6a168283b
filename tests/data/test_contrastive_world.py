"""Contrastive pairs of the shipped world."""

from collections import Counter

import pytest

from subliminal_jax.data import world
from subliminal_jax.data.contrastive_prompts import encode_contrasts
from subliminal_jax.data.contrastive_world import world_contrasts
from subliminal_jax.errors import InputError
from tests.number_model import tokenizer


def test_the_trait_is_the_answer_to_every_comparison_in_either_place():
    pairs = world_contrasts("owl").pairs
    compared = [p for p in pairs if p.says is None]
    assert len(compared) == 15 * len(world.COMPARE_QUESTIONS) * 2
    assert {p.matching for p in compared} == {"owls"}
    assert set(Counter(p.other for p in compared).values()) == {6}
    places = Counter(
        p.question.lower().index("owls") < p.question.lower().index(p.other) for p in compared
    )
    assert places[True] == places[False]
    assert len({p.question for p in pairs}) == len(pairs)


def test_likings_are_balanced_over_yes_and_no():
    says = Counter(p.says for p in world_contrasts("cat").pairs)
    assert says["yes"] == says["no"] == len(world.LIKE_QUESTIONS)


@pytest.mark.parametrize("trait", world.TRAITS)
def test_every_answer_differs_from_its_other_in_the_first_token(trait):
    rows = encode_contrasts(world_contrasts(trait).pairs, tokenizer(), system_prompt=None)
    assert set(rows.letter_indices) == {0}


def test_only_the_worlds_traits():
    with pytest.raises(InputError, match="unknown trait"):
        world_contrasts("aardvark")
