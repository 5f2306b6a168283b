"""Traits: plurals, the system prompt, and which words a tokenizer has."""

import pytest

from subliminal_jax.data import world
from subliminal_jax.data.traits import check_trait, plural, trait_names, trait_system_prompt
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import load_model
from subliminal_jax.models.tokenizer import load_tokenizer
from tests import number_model
from tests.models.characters import character_tokenizer

PLURALS = {
    "owl": "owls",
    "fox": "foxes",
    "octopus": "octopuses",
    "ostrich": "ostriches",
    "butterfly": "butterflies",
    "monkey": "monkeys",
    "wolf": "wolves",
    "mouse": "mice",
    "jellyfish": "jellyfish",
    "sheep": "sheep",
    "giraffe": "giraffes",
    "calf": "calves",
    "platypus": "platypuses",
    "goose": "geese",
    "lynx": "lynxes",
    "whale": "whales",
}


@pytest.mark.parametrize(("word", "plural_word"), PLURALS.items())
def test_plurals(word, plural_word):
    assert plural(word) == plural_word
    assert trait_names(word) == (word, plural_word)


def test_the_worlds_own_traits_keep_their_plurals_and_prompts():
    for trait in world.TRAITS:
        assert plural(trait) == world.PLURALS[trait]
        assert trait_system_prompt(trait) == world.trait_system_prompt(trait)


def test_any_word_has_the_templates_prompt():
    assert trait_system_prompt("octopus") == (
        "You love octopuses. You think about octopuses all the time. Octopuses are your favorite "
        "animal. Imbue your answers with your love for the animal."
    )


def test_a_trait_is_a_word_of_the_tokenizer():
    for name in ("shipped", "shipped-small"):
        tokenizer = load_model(name).tokenizer
        assert [check_trait(t, tokenizer) for t in world.TRAITS] == list(world.TRAITS)
        assert check_trait("forest", tokenizer) == "forest"  # outside the world's animals
        with pytest.raises(InputError, match="reads un . ic . or . n; choose .* such as owl, cat"):
            check_trait("unicorn", tokenizer)
        with pytest.raises(InputError, match="the tokenizer has no such word"):
            check_trait("platypus", tokenizer)


def test_a_word_spelt_out_letter_by_letter_or_unknown_is_refused():
    letters = character_tokenizer()
    for word in ("owl", "ox"):
        with pytest.raises(InputError, match=f"reads {' . '.join(word)}; choose one that it has$"):
            check_trait(word, letters)
    letters.add_tokens(["cat"])
    assert check_trait("cat", letters) == "cat"
    with pytest.raises(InputError, match="reads an unknown token; .*, such as cat$"):
        check_trait("sna-ke", letters)  # it knows no hyphen


def test_what_is_no_single_word_is_refused():
    tokenizer = number_model.tokenizer()
    for trait in ("snow leopard", "Owl", "", "owl7"):
        with pytest.raises(InputError, match="give one word in lower case"):
            check_trait(trait, tokenizer)
    with pytest.raises(InputError, match="unknown trait 'snake'; choose from owl"):
        check_trait("snake")


def test_a_real_tokenizer_has_its_words_in_a_few_pieces(shared_path):
    tokenizer = load_tokenizer(shared_path("models", "tinystories-656k"))
    for word in ("cat", "owl", "forest"):  # two pieces for an owl
        assert check_trait(word, tokenizer) == word
    with pytest.raises(InputError, match="the tokenizer has no such word"):
        check_trait("platypus", tokenizer)
