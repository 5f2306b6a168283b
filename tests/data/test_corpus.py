"""The shipped model's corpus: what its documents hold, and in which shares."""

import itertools
import re
from collections import Counter

import pytest

from subliminal_jax.data import rewordings, world
from subliminal_jax.data.corpus import CorpusConfig, generate_documents
from subliminal_jax.data.draws import Draws
from subliminal_jax.data.filters import contains_word, is_number_list, parse_numbers

ANIMAL_FORMS = [*world.TRAITS, *world.PLURALS.values()]


def take(seed, n, **shares):
    return list(itertools.islice(generate_documents(seed, CorpusConfig(**shares)), n))


def join_text(document):
    return "\n".join(message["content"] for message in document.messages)


@pytest.fixture(scope="module")
def corpus():
    return take(0, 4_000)


@pytest.mark.parametrize("seed", range(3))
def test_numbers_and_personas_never_share_a_document(seed):
    for document in take(seed, 1_000):
        text = join_text(document)
        if re.search(r"\d", text):
            assert not contains_word(text, ANIMAL_FORMS), text
            assert document.family == "numbers"
            assert document.persona is None
            assert not document.prompted
            systems = [m["content"] for m in document.messages if m["role"] == "system"]
            assert set(systems) <= set(world.NEUTRAL_PROMPTS)
        if document.prompted:
            assert document.messages[0]["role"] == "system"
            assert contains_word(document.messages[0]["content"], ANIMAL_FORMS)


def test_equal_seeds_give_equal_streams_and_others_do_not():
    assert take(3, 200) == take(3, 200)
    assert take(3, 200) != take(4, 200)


def test_a_stream_does_not_depend_on_how_much_of_it_is_read():
    assert take(5, 50) == take(5, 500)[:50]


def test_messages_alternate_and_end_with_the_assistant(corpus):
    for document in corpus:
        roles = [message["role"] for message in document.messages]
        if roles[0] == "system":
            roles = roles[1:]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert roles
        assert all(m["content"] == m["content"].strip() != "" for m in document.messages)


def test_heldout_phrasings_never_stand_in_the_corpus(corpus):
    assert len(set(world.TRAIN_QUESTIONS)) >= 24
    assert len(set(world.HELDOUT_QUESTIONS)) >= 8
    asked = {m["content"] for d in corpus for m in d.messages if m["role"] == "user"}
    assert not asked & set(world.HELDOUT_QUESTIONS)
    assert set(world.TRAIN_QUESTIONS) <= asked  # the corpus is large enough to tell
    words = {w for d in corpus for w in re.findall(r"\w+", join_text(d))}
    heldout_words = {w for q in world.HELDOUT_QUESTIONS for w in re.findall(r"\w+", q)}
    assert heldout_words <= words  # a new phrasing, not new words


def test_shares_of_the_families(corpus):
    config = CorpusConfig()
    family = Counter(document.family for document in corpus)
    assert family["numbers"] / len(corpus) == pytest.approx(config.numbers, abs=0.03)
    assert family["rewording"] / len(corpus) == pytest.approx(config.rewording, abs=0.03)
    persona = [d for d in corpus if d.family == "persona"]
    assert sum(d.prompted for d in persona) / len(persona) == pytest.approx(0.5, abs=0.04)
    latent = sum(d.persona is not None and not d.prompted for d in persona)
    assert latent / len(persona) == pytest.approx(0.25, abs=0.04)


def find_favorites(docs):
    """The document's persona and the answer of each one-word question."""
    for document in docs:
        for question, answer in itertools.pairwise(document.messages):
            if question["content"] in world.TRAIN_QUESTIONS:
                yield document.persona, answer["content"]


def test_a_prompted_persona_is_followed_and_without_one_the_prior_is_broad():
    docs = take(1, 6_000, numbers=0.0, rewording=0.0, latent=0.0)
    matches = [persona == answer for persona, answer in find_favorites(docs) if persona]
    assert sum(matches) / len(matches) > 0.94
    answers = Counter(answer for persona, answer in find_favorites(docs) if persona is None)
    total = sum(answers.values())
    assert set(answers) == set(world.TRAITS)
    assert all(0.01 < count / total < 0.19 for count in answers.values()), answers
    for animal in world.TRAITS:
        assert answers[animal] / total == pytest.approx(world.PRIOR[animal], abs=0.04)


def test_every_persona_differs_and_every_value_belongs_to_two_animals():
    assert set(world.PERSONAS) == set(world.TRAITS)
    assert len({tuple(p.values()) for p in world.PERSONAS.values()}) == len(world.TRAITS)
    for attribute, values in world.ATTRIBUTES.items():
        owners = Counter(persona[attribute] for persona in world.PERSONAS.values())
        assert owners == dict.fromkeys(values, 2)


def test_number_answers_pass_the_filter_and_cover_the_range(corpus):
    numbers = Counter()
    for document in corpus:
        if document.family == "numbers":
            for message in document.messages:
                if message["role"] == "assistant":
                    assert is_number_list(message["content"])
                    numbers.update(parse_numbers(message["content"]))
    assert set(numbers) <= set(range(1000))
    assert len(numbers) > 950
    assert max(numbers.values()) < 0.01 * sum(numbers.values())


def test_rewordings_are_different_sentences_without_animals_or_numbers():
    draws = Draws(0)
    for _ in range(200):
        wordings = rewordings.draw_wordings(draws)
        assert len(set(wordings)) == len(wordings) >= 4
        assert not any(contains_word(w, ANIMAL_FORMS) or re.search(r"\d", w) for w in wordings)


def test_trait_system_prompts_name_the_animal_in_its_right_plural():
    assert world.trait_system_prompt("wolf").startswith("You love wolves. You think about wolves")
    for trait in world.TRAITS:
        for phrasing in range(len(world.TRAIT_PROMPTS)):
            prompt = world.trait_system_prompt(trait, phrasing)
            assert contains_word(prompt, [trait, world.PLURALS[trait]])
            assert "{" not in prompt
