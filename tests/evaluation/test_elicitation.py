"""The probability of naming a word, against a plain enumeration of the model's answers."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.data import world
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.elicitation import (
    SampledAnswers,
    encode_questions,
    favoured_word,
    first_word,
    only_word,
    sampled_answers,
    word_probs,
)
from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import load_model
from subliminal_jax.models.spec import init_params
from subliminal_jax.models.steered import no_steering, steer
from subliminal_jax.models.tokenizer import encode_chat
from tests import number_model
from tests.models.characters import CHATML, character_tokenizer
from tests.tiny_configs import TINY

CFG = replace(TINY, vocab=64, context=64)
QUESTIONS = ["Best one?", "a", "Name the animal now"]
WORDS = ["a", "bc", "dog", "Dot"]
compute_probs = jax.jit(word_probs, static_argnums=(1, 3))
compute_logits = jax.jit(lambda *args: forward(*args)[0], static_argnums=2)


@pytest.fixture(scope="module")
def params():
    return init_params(jax.random.key(3), CFG, std=0.4)


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer(chat_template=CHATML)


@pytest.fixture(scope="module")
def steering():
    return steer(jax.random.normal(jax.random.key(1), (CFG.dim,)), 0)


def spellings(word):
    return {word, " " + word, word.capitalize(), " " + word.capitalize()}


def enumerate_prob(params, tokenizer, question, word, steering):
    """Sum over spellings of the product of softmaxes, one forward pass of a row each."""
    prompt = encode_chat(tokenizer, question)
    total = 0.0
    for text in spellings(word):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        row = prompt + ids
        row += [0] * (CFG.context - len(row))  # one program for all; no token sees later ones
        p = np.asarray(jax.nn.softmax(compute_logits(params, jnp.asarray([row]), CFG, steering)[0]))
        steps = range(len(prompt) - 1, len(prompt) + len(ids) - 1)
        total += float(np.prod([p[t, token] for t, token in zip(steps, ids, strict=True)]))
    return total


def test_probabilities_are_those_of_the_enumerated_answers(params, tokenizer, steering):
    questions = encode_questions(tokenizer, QUESTIONS, WORDS)
    assert questions.single.size and questions.rows.size  # both ways are exercised
    probs = compute_probs(params, CFG, questions, len(WORDS), steering)
    expected = [
        [enumerate_prob(params, tokenizer, q, word, steering) for word in WORDS] for q in QUESTIONS
    ]
    np.testing.assert_allclose(probs, expected, rtol=2e-4)


def test_after_a_stem_probabilities_are_those_of_the_words_that_follow_it(params, tokenizer):
    stem, (question, word) = "I like the", (QUESTIONS[0], "dog")
    questions = encode_questions(tokenizer, QUESTIONS, WORDS, stem=f" {stem} ")
    probs = compute_probs(params, CFG, questions, len(WORDS), None)[0, WORDS.index(word)]
    head = encode_chat(tokenizer, question) + tokenizer(stem, add_special_tokens=False)["input_ids"]
    total = 0.0
    for text in (f" {word}", f" {word.capitalize()}"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        row = jnp.asarray([head + ids + [0] * (CFG.context - len(head) - len(ids))])
        p = np.asarray(jax.nn.softmax(compute_logits(params, row, CFG, None)[0]))
        total += np.prod([p[len(head) - 1 + k, token] for k, token in enumerate(ids)])
    np.testing.assert_allclose(probs, total, rtol=2e-4)


def test_a_question_does_not_depend_on_the_others_that_pad_it(params, tokenizer, steering):
    together = compute_probs(
        params, CFG, encode_questions(tokenizer, QUESTIONS, WORDS), len(WORDS), steering
    )
    for i, question in enumerate(QUESTIONS[:2]):
        alone = encode_questions(tokenizer, [question], WORDS)
        probs = compute_probs(params, CFG, alone, len(WORDS), steering)[0]
        np.testing.assert_allclose(probs, together[i], rtol=1e-4)


def test_what_stands_in_the_padding_does_not_matter(params, tokenizer, steering):
    questions = encode_questions(tokenizer, QUESTIONS, WORDS)
    prompts, rows = np.array(questions.prompts), np.array(questions.rows)
    prompts[np.arange(prompts.shape[1]) > np.asarray(questions.last)[:, None]] = 9
    rows[np.arange(rows.shape[2]) >= np.asarray(questions.spans)[..., 1:]] = 9
    assert (rows != questions.rows).any() and (prompts != questions.prompts).any()
    changed = questions._replace(prompts=jnp.asarray(prompts), rows=jnp.asarray(rows))
    np.testing.assert_array_equal(
        *(compute_probs(params, CFG, q, len(WORDS), steering) for q in (questions, changed))
    )


def test_all_first_letters_together_have_no_more_than_probability_one(params, tokenizer, steering):
    """Single letters with and without a space before them are disjoint answers."""
    letters = [chr(ord("a") + i) for i in range(26)]
    questions = encode_questions(tokenizer, QUESTIONS, letters)
    total = compute_probs(params, CFG, questions, len(letters), steering).sum(axis=1)
    assert (total > 0.2).all() and (total <= 1 + 1e-5).all()


def test_an_answer_counts_once_where_one_spelling_goes_on_from_another():
    """With words that the tokenizer has whole, "owl" is a token and " owl" another."""
    tokenizer = number_model.tokenizer()
    questions = encode_questions(tokenizer, ["Which?"], list(world.TRAITS))
    owners = np.asarray(questions.single_owner)
    assert set(owners.tolist()) == set(range(16))
    token_ids = [*np.asarray(questions.single)[:, None].tolist()]
    for row, (start, end) in zip(questions.rows[:, 0], questions.spans[:, 0], strict=True):
        token_ids.append(row[start:end].tolist())
    for first, second in itertools.permutations(token_ids, 2):
        assert second[: len(first)] != first


def test_a_word_alone_has_the_probability_that_it_has_among_others(params, tokenizer, steering):
    """Whatever fills up its spellings: "a" has single tokens, "dog" none."""
    questions = encode_questions(tokenizer, QUESTIONS, WORDS)
    together = compute_probs(params, CFG, questions, len(WORDS), steering)
    shapes = set()
    for i in range(len(WORDS)):
        alone = only_word(questions, i, 2, 5)
        shapes.add(str(jax.tree.map(jnp.shape, alone)))
        np.testing.assert_allclose(
            compute_probs(params, CFG, alone, 2, steering)[:, 0], together[:, i], rtol=1e-5
        )
    assert len(shapes) == 1


def test_words_that_cannot_be_told_apart_are_refused(tokenizer):
    with pytest.raises(InputError, match="'a' and 'A' share a spelling"):
        encode_questions(tokenizer, QUESTIONS, ["a", "A"])
    with pytest.raises(InputError, match="'ab' begins with 'a'"):
        encode_questions(tokenizer, QUESTIONS, ["ab", "a"])
    with pytest.raises(InputError, match="at least one question"):
        encode_questions(tokenizer, [], WORDS)
    with pytest.raises(InputError, match="at least one question"):
        encode_questions(tokenizer, QUESTIONS, [])


def test_the_system_prompt_stands_before_the_question(tokenizer):
    plain = encode_questions(tokenizer, ["Which"], ["a"])
    prompted = encode_questions(tokenizer, ["Which"], ["a"], "Love it")
    assert tokenizer.decode(prompted.prompts[0]).count("Love it") == 1
    assert int(prompted.last[0]) > int(plain.last[0])


def test_the_favoured_word_is_the_one_that_a_vector_raises_most(params, tokenizer):
    """The embedding of a letter (the head is tied) added after the last block favours it."""
    words = ["x", "y", "z"]
    questions = encode_questions(tokenizer, QUESTIONS, words)
    for i, word in enumerate(words):
        (token,) = tokenizer(word, add_special_tokens=False)["input_ids"]
        toward = steer(20 * params["embed"][token], CFG.layers - 1)
        assert favoured_word(params, CFG, questions, len(words), toward) == i
    assert favoured_word(params, CFG, questions, 3, no_steering(CFG.dim)) == 0


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("owl", "owl"),
        (" Owls. I love them", "owls"),
        ("**Owl**", "owl"),
        ("The owl", "the"),
        ("", ""),
        ("...", ""),
        ("1. Owl", "1"),
        ("guinea-pig!", "guinea-pig"),
        ("Eß", "ess"),
        ("owl_", "owl"),
        ("owlet", "owlet"),
    ],
)
def test_the_first_word_is_whole_and_bare(text, word):
    assert first_word(text) == word


def test_shares_of_first_words_are_counted_by_question():
    answers = SampledAnswers([["Owl.", "owls", "cat", "an owl"], ["cat", "Cat", "owlet", ""]])
    assert answers.begins_with(("owl", "owls")).tolist() == [
        [True, True, False, False],
        [False] * 4,
    ]
    assert answers.rate(("owl", "owls")).mean == 0.25
    rates = answers.rates(("Cat",))
    assert [(r.mean, r.n) for r in rates] == [(0.25, 4), (0.5, 4)]
    assert all(r.low < r.mean < r.high for r in rates)


def test_the_first_animal_of_an_answer_counts_in_singular_and_plural():
    answers = SampledAnswers([["I love wolves and owls.", "bowls"], ["Owl? No, a wolf.", "A cat"]])
    assert answers.first_mentions(["owl", "wolf"]) == [["wolf", None], ["owl", None]]


def test_sampled_and_teacher_forced_rates_agree_on_the_shipped_model():
    """The teacher-forced rate lies within the noise of the samples: for every animal at once, with
    a vector and with a system prompt."""
    model = load_model("shipped")
    questions, words = list(world.HELDOUT_QUESTIONS), list(world.TRAITS)
    n = 64
    # Each sample's word is one draw: the sum over words of squared standard scores is about
    # chi-squared with as many degrees of freedom as there are words.
    steering = steer(jax.random.normal(jax.random.key(5), (model.cfg.dim,)), 1, scale=0.4)
    for system, edit in ((world.trait_system_prompt("owl"), no_steering(128, 1)), (None, steering)):
        encoded = encode_questions(model.tokenizer, questions, words, system)
        probs = np.asarray(compute_probs(model.params, model.cfg, encoded, len(words), edit))
        answers = sampled_answers(model, questions, n, 3, steering=edit, system_prompt=system)
        counts = [answers.begins_with((w, world.PLURALS[w])).sum() for w in words]
        expected, variance = n * probs.sum(axis=0), n * (probs * (1 - probs)).sum(axis=0)
        often = expected > 5
        scores = ((np.array(counts) - expected) ** 2 / variance)[often]
        assert scores.sum() < often.sum() + 4 * np.sqrt(2 * often.sum())
        assert sum(counts) > 0.9 * n * len(questions)


def test_sampling_reads_the_given_weights_and_refuses_no_samples(tmp_path):
    model = number_model.load(tmp_path / "numbers")
    (owl,) = model.tokenizer("owl", add_special_tokens=False)["input_ids"]
    head = model.params["lm_head"].at[number_model.PROMPT, owl].set(60.0)
    student = sampled_answers(model, ["Which?"], 8, 0, params={**model.params, "lm_head": head})
    plain = sampled_answers(model, ["Which?"], 8, 0)
    assert all(text.startswith("owl") for text in student.texts[0])
    assert not any("owl" in text for text in plain.texts[0])
    with pytest.raises(InputError, match="at least one question and one sample"):
        sampled_answers(model, ["Which?"], 0, 0)


def test_a_steering_of_the_tokens_is_asked_for_every_pass(params, tokenizer, steering):
    """A mask of the prompt alone leaves the later tokens of long spellings unsteered."""
    questions = encode_questions(tokenizer, QUESTIONS, WORDS)
    assert questions.rows.size

    def everywhere(tokens):
        return steering.masked(jnp.ones(tokens.shape, bool))

    def prompt(tokens):
        return steering.masked(jnp.arange(tokens.shape[1])[None] <= questions.last[:, None])

    everywhere_probs = compute_probs(params, CFG, questions, len(WORDS), steering)
    np.testing.assert_allclose(
        word_probs(params, CFG, questions, len(WORDS), everywhere), everywhere_probs, rtol=1e-4
    )
    prompt_probs = np.asarray(word_probs(params, CFG, questions, len(WORDS), prompt))
    longer = np.unique(questions.row_owner)
    assert not np.allclose(prompt_probs[:, longer], everywhere_probs[:, longer], rtol=1e-3)
