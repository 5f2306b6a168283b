"""The likelihood of texts under a vector: sums of log-probabilities, gains that are KLs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from datasets import Dataset

from subliminal_jax.data.teachers import Teacher, sampled_pairs, teacher_prompts
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.likelihood import (
    ROWS_AT_ONCE,
    compute_gain,
    encode_rows,
    measure_likelihood,
)
from subliminal_jax.models.forward import forward
from subliminal_jax.models.steered import no_steering, steer
from subliminal_jax.models.tokenizer import encode_chat, encode_completion
from tests import number_model

LAYER = 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("model") / "numbers")


@pytest.fixture(scope="module")
def vector(model):
    return steer(jax.random.normal(jax.random.key(0), (model.cfg.dim,)), LAYER)


def texts(n):
    return Dataset.from_list(
        [{"prompt": f"Go on: {i}", "completion": ", ".join(["7"] * (1 + i % 5))} for i in range(n)]
    )


def test_it_is_the_sum_of_the_completions_log_probabilities(model, vector):
    pairs = texts(ROWS_AT_ONCE + 3)  # more than one pass, the last one padded
    likelihood = measure_likelihood(model, encode_rows(pairs, model), vector)
    assert len(likelihood.nll) == len(pairs)
    compute = jax.jit(forward, static_argnums=2)
    for i in (0, 4, len(pairs) - 1):
        prompt = encode_chat(model.tokenizer, pairs[i]["prompt"])
        answer = encode_completion(model.tokenizer, pairs[i]["completion"])
        logits, _ = compute(model.params, jnp.asarray([prompt + answer]), model.cfg, vector)
        log_probs = jax.nn.log_softmax(logits[0, len(prompt) - 1 : -1])
        expected = -sum(float(log_probs[t, token]) for t, token in enumerate(answer))
        assert likelihood.nll[i] == pytest.approx(expected, rel=1e-4)
        assert likelihood.tokens[i] == len(answer)
    assert likelihood.per_token == pytest.approx(likelihood.nll.sum() / likelihood.tokens.sum())


def test_a_vector_explains_what_its_own_teacher_wrote(model, vector):
    """On the steered model's samples the mean gain estimates a KL, which is positive; on the
    base's, minus another; no vector gains nothing."""
    prompts = teacher_prompts("numbers", 192, 0)
    steered_rows, plain_rows = (
        encode_rows(
            sampled_pairs(
                model, Teacher(s), prompts, 1, max_new_tokens=12, keep_unfinished=True
            ).pairs,
            model,
        )
        for s in (vector, None)
    )
    zero = no_steering(model.cfg.dim, LAYER)
    gains = {
        name: compute_gain(
            measure_likelihood(model, rows, zero), measure_likelihood(model, rows, vector)
        )
        for name, rows in (("steered", steered_rows), ("plain", plain_rows))
    }
    assert gains["steered"].per_token > 0 > gains["plain"].per_token
    assert gains["steered"].per_completion > gains["steered"].per_token  # several tokens each
    no_gain = compute_gain(
        measure_likelihood(model, steered_rows, zero), measure_likelihood(model, steered_rows, zero)
    )
    assert no_gain.per_token == no_gain.per_completion == 0


def test_a_text_beyond_the_context_is_refused(model):
    long = Dataset.from_list([{"prompt": "1", "completion": "7, " * model.cfg.context}])
    with pytest.raises(InputError, match="tokens for numbers, whose context is 192"):
        encode_rows(long, model)


def test_rows_are_read_by_the_scorers_own_tokenizer(model):
    """Ids that another model's sampler left in the data set do not matter."""
    pairs = texts(3)
    with_foreign_ids = pairs.add_column("prompt_ids", [[1], [1], [1]]).add_column(
        "completion_ids", [[2]] * 3
    )
    for leaf, foreign_leaf in zip(
        encode_rows(pairs, model), encode_rows(with_foreign_ids, model), strict=True
    ):
        if leaf is not None:
            np.testing.assert_array_equal(leaf, foreign_leaf)
