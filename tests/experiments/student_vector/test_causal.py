import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.evaluation.elicitation import encode_questions, word_probs
from subliminal_jax.experiments.student_vector.causal import (
    random_like,
    rates_with_vectors,
)
from subliminal_jax.models.hub import load_model
from subliminal_jax.models.steered import steer

WORDS = ["owl", "wolf", "lion"]


@pytest.fixture(scope="module")
def model():
    return load_model("shipped-small", dtype="float32")  # equal in rounding, however compiled


@pytest.fixture(scope="module")
def questions(model):
    """With the spellings of one token alone, so that every pass is over the prompts."""
    asked = encode_questions(model.tokenizer, ["Your animal?", "Which one do you love?"], WORDS)
    return asked._replace(rows=asked.rows[:0], spans=asked.spans[:0], row_owner=asked.row_owner[:0])


def vectors(model, n=2):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, model.cfg.layers, model.cfg.dim)).astype(np.float32)


def test_nothing_added_is_the_base(model, questions):
    base = word_probs(model.params, model.cfg, questions, len(WORDS)).mean(axis=0)
    layers = tuple(range(model.cfg.layers))
    none = 0 * vectors(model)
    rates = rates_with_vectors(model, questions, none, len(WORDS), layers=layers, last_only=False)
    np.testing.assert_allclose(rates, np.stack([base, base]), rtol=1e-4)


@pytest.mark.parametrize("last_only", [False, True])
def test_one_layer_is_a_steering_of_the_prompt(model, questions, last_only):
    v = vectors(model)
    rates = rates_with_vectors(model, questions, v, len(WORDS), layers=(1,), last_only=last_only)
    t, last = jnp.arange(questions.prompts.shape[1])[None], questions.last[:, None]
    mask = t == last if last_only else t <= last
    for i in range(2):
        steering = steer(jnp.asarray(v[i, 1]), 1).masked(mask)
        want = word_probs(model.params, model.cfg, questions, len(WORDS), steering).mean(axis=0)
        np.testing.assert_allclose(rates[i], want, rtol=1e-4, atol=1e-7)


def test_random_vectors_have_the_same_norms_and_other_directions(model):
    v = vectors(model, 3)
    v[0, 1] = 0.0
    other = random_like(v, seed=1)
    np.testing.assert_allclose(
        np.linalg.norm(other, axis=-1), np.linalg.norm(v, axis=-1), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(other, random_like(v, seed=1))
    cosines = (other * v).sum(axis=-1) / np.maximum((v * v).sum(axis=-1), 1e-9)
    assert np.abs(cosines).max() < 0.6
