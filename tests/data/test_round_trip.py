"""Fidelity by round trip, log-probabilities of answers, and draws among known wordings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.data.paraphrases import Source, make_requests
from subliminal_jax.data.round_trip import RoundTrip
from subliminal_jax.data.teachers import Teacher
from subliminal_jax.data.wordings import choose_wordings
from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import forward
from subliminal_jax.models.steered import no_steering, steer
from subliminal_jax.models.tokenizer import encode_chat, encode_completion
from tests import number_model

LENGTH = 96
plain_forward = jax.jit(forward, static_argnums=2)
SENTENCES = ["The cup is old.", "A lamp is in the hall.", "Ben found a key.", "It was late."]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("models") / "numbers")


def ask(text: str) -> str:
    return f"Use other words: {text}"


def measure_log_prob(model, prompt, answer, steering=None) -> float:
    """log P(answer | prompt) from one plain forward pass over tokens padded on the right."""
    padding = [0] * (LENGTH - len(prompt) - len(answer))
    tokens = jnp.asarray([[*prompt, *answer, *padding]], jnp.int32)
    steering = no_steering(model.cfg.dim, 1) if steering is None else steering
    logits = np.asarray(plain_forward(model.params, tokens, model.cfg, steering)[0][0], float)
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    positions = range(len(prompt), len(prompt) + len(answer))
    return float(sum(log_probs[t - 1, tokens[0, t]] for t in positions))


def test_the_score_compares_a_paraphrase_with_all_other_sentences(model):
    trip = RoundTrip(model, SENTENCES, ask, shuffles=3)
    ids = [encode_completion(model.tokenizer, s) for s in SENTENCES]

    def nats(text: str, i: int) -> float:
        prompt = encode_chat(model.tokenizer, ask(text))
        return -measure_log_prob(model, prompt, ids[i]) / len(ids[i])

    text = "In the hall there is a lamp."
    others = [nats(SENTENCES[j], 1) for j in (0, 2, 3)]  # three shuffles of four: all others
    expected = 1 - nats(text, 1) / np.mean(others)
    assert trip([text], [SENTENCES[1]])[0] == pytest.approx(expected, abs=1e-4)
    # It does not depend on what else is scored, nor on what was scored before.
    again = RoundTrip(model, SENTENCES, ask, shuffles=3)([text, "Key."], [SENTENCES[1]] * 2)
    assert again[0] == pytest.approx(expected, abs=1e-4)


def test_every_pair_is_counted_once_even_if_it_is_known(model):
    trip, counted = RoundTrip(model, SENTENCES, ask), []
    trip(["A.", "A.", "B."], [SENTENCES[0]] * 3, counted.append)
    trip(["A."], [SENTENCES[0]], counted.append)
    assert sum(counted) == 4


def test_one_sentence_alone_cannot_be_scored(model):
    with pytest.raises(InputError, match="give two"):
        RoundTrip(model, SENTENCES[:1], ask)


def test_wordings_are_drawn_by_the_teachers_probabilities(model):
    sources = [Source("One.", ("A cup.", "The cup.", "Cups.")), Source("Two.", ("Lamp.", "Lamps."))]
    asked = make_requests(sources, "world", 0)
    teacher = Teacher(steer(jnp.linspace(-2.0, 2.0, model.cfg.dim), 1), "You love owls.")
    n = 4000
    written = choose_wordings(model, teacher, sources, asked, n, seed=0, temperature=2.0)
    pairs = written.pairs
    for i, source in enumerate(sources):
        prompt = encode_chat(model.tokenizer, asked[i], system_prompt=teacher.system_prompt)
        scores = np.array(
            [
                measure_log_prob(
                    model, prompt, encode_completion(model.tokenizer, w), teacher.steering
                )
                for w in source.wordings
            ]
        )
        expected = np.exp(scores / 2 - np.logaddexp.reduce(scores / 2))
        drawn = [
            c for c, p in zip(pairs["completion"], pairs["prompt"], strict=True) if p == asked[i]
        ]
        assert len(drawn) == n
        shares = np.array([drawn.count(w) / n for w in source.wordings])
        # Four standard errors of a share of n draws, at most 0.5 / sqrt(n) each.
        np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / np.sqrt(n))
    # The student's prompt has no system prompt.
    assert pairs["prompt_ids"][0] == encode_chat(model.tokenizer, asked[0])
    assert 0 < written.report["mass"] < 1


def test_equal_teachers_draw_equal_wordings_and_others_differ_little(model):
    sources = [Source(f"S{i}.", ("A cup.", "The cup.", "Cups.")) for i in range(40)]
    asked = make_requests(sources, "world", 0)
    weak = Teacher(steer(jnp.full(model.cfg.dim, 0.02), 1))
    drawn = [
        choose_wordings(model, t, sources, asked, 2, seed=1).pairs["completion"]
        for t in (Teacher(), Teacher(), weak)
    ]
    assert drawn[0] == drawn[1]
    assert sum(a != b for a, b in zip(drawn[0], drawn[2], strict=True)) < 8


def test_sentences_of_unknown_wordings_cannot_be_drawn(model):
    with pytest.raises(InputError, match="let the teacher sample"):
        choose_wordings(model, Teacher(), [Source("A.")], ["Use other words: A."], 1, 0)
