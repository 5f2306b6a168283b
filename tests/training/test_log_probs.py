from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.compilation import count_compilations
from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import steer
from subliminal_jax.training.log_probs import Meter, response_log_probs
from tests.models.families import FAMILIES, noisy_params

LONGEST = 48


def tiny(family):
    cfg = FAMILIES[family]
    return Model(noisy_params(cfg), cfg, None, family, Path(), (1,), 0)


def rows(count=9, k=2, shared=5, seed=0):
    """Prompts that begin alike, and k responses to each."""
    rng = np.random.default_rng(seed)
    draw = lambda low, high: rng.integers(1, 67, rng.integers(low, high)).tolist()  # noqa: E731
    beginning = draw(shared, shared + 1)
    prompts = [beginning + draw(1, 20) for _ in range(count)]
    return prompts, [[draw(1, 20) for _ in range(k)] for _ in prompts]


def one_by_one(model, prompts, responses, steering=None, temperature=1.0):
    """Each response after its prompt, alone in a pass; the padding behind it is seen by nothing."""
    run = jax.jit(partial(forward, cfg=model.cfg, steering=steering))
    out = np.zeros((len(prompts), len(responses[0])))
    for i, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
        for j, response in enumerate(row):
            tokens = np.zeros((1, LONGEST), np.int32)
            tokens[0, : len(prompt) + len(response)] = prompt + response
            logits = run(model.params, jnp.asarray(tokens))[0][0]
            log_p = np.asarray(jax.nn.log_softmax(logits / temperature))
            out[i, j] = sum(log_p[len(prompt) - 1 + t, y] for t, y in enumerate(response))
    return out


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("prompt_cache", ["never", "always"])
def test_equal_to_one_row_at_a_time(family, prompt_cache):
    model, (prompts, responses) = tiny(family), rows()
    log_probs = response_log_probs(model, prompts, responses, prompt_cache=prompt_cache)
    assert log_probs.shape == (9, 2)
    assert log_probs.dtype == np.float32
    np.testing.assert_allclose(
        log_probs, one_by_one(model, prompts, responses), rtol=1e-5, atol=1e-4
    )
    cooled = response_log_probs(
        model, prompts, responses, temperature=0.7, prompt_cache=prompt_cache
    )
    expected = one_by_one(model, prompts, responses, temperature=0.7)
    np.testing.assert_allclose(cooled, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("prompt_cache", ["never", "always"])
def test_steering_edits_prompt_and_response(prompt_cache):
    model, (prompts, responses) = tiny("llama"), rows(k=1, shared=0)
    vector = steer(jax.random.normal(jax.random.key(3), (model.cfg.dim,)), layer=1)
    log_probs = response_log_probs(
        model, prompts, responses, steering=vector, prompt_cache=prompt_cache
    )
    expected = one_by_one(model, prompts, responses, vector)
    np.testing.assert_allclose(log_probs, expected, rtol=1e-5, atol=1e-4)
    assert np.abs(expected - one_by_one(model, prompts, responses)).max() > 0.1


def test_neither_batches_nor_order_change_a_row():
    model, (prompts, responses) = tiny("llama"), rows(count=12)
    order = np.random.default_rng(0).permutation(12)
    whole = response_log_probs(model, prompts, responses, prompt_cache="never")
    pieces = response_log_probs(
        model,
        [prompts[i] for i in order],
        [responses[i] for i in order],
        tokens_per_batch=128,
        prompt_cache="never",
    )
    np.testing.assert_allclose(pieces, whole[order], atol=1e-4)


def test_progress_and_meter_count_rows_and_padding():
    model, (prompts, responses) = tiny("llama"), rows(count=12)
    done, meter = [], Meter()
    response_log_probs(
        model,
        prompts,
        responses,
        tokens_per_batch=128,
        prompt_cache="never",
        progress=done.append,
        meter=meter,
    )
    assert sum(done) == meter.rows == 12
    read = sum(len(p) + len(r) - 1 for p, row in zip(prompts, responses, strict=True) for r in row)
    assert meter.tokens == read
    assert 0 < meter.padding_share == 1 - read / meter.slots < 0.5
    assert meter.seconds > 0
    assert meter.rows_per_second == 12 / meter.seconds


def test_the_cache_is_used_where_it_computes_less():
    """Long prompts with short responses are read once, short prompts with long responses whole."""
    model = tiny("llama")

    def slots(prompt_cache, prompt, response, count=64):
        meter = Meter()
        prompts = [[1 + i % 60, *range(1, prompt)] for i in range(count)]
        responses = [[[5] * response, [7] * response]] * count
        response_log_probs(model, prompts, responses, prompt_cache=prompt_cache, meter=meter)
        return meter.slots

    for prompt, response, better in ((33, 8, "always"), (2, 40, "never")):
        assert slots("auto", prompt, response) == slots(better, prompt, response)


def test_other_rows_of_these_lengths_compile_nothing():
    model, (prompts, responses) = tiny("llama"), rows()
    response_log_probs(model, prompts, responses, prompt_cache="always")
    others = [[prompt[0], *prompt[:0:-1]] for prompt in prompts]
    with count_compilations() as compiled:
        response_log_probs(model, prompts[::-1], responses[::-1], prompt_cache="always")
        response_log_probs(model, others, responses, prompt_cache="always")
    assert compiled.total <= 1  # the reversed prompts share a shorter beginning


@pytest.mark.parametrize(
    ("prompts", "responses", "message"),
    [
        ([[1], [2]], [[[3]]], "2 prompts but responses for 1"),
        ([[1], [2]], [[[3]], [[3], [4]]], "row 1 has 2 responses, row 0 has 1"),
        ([[1], []], [[[3]], [[3]]], "row 1: its prompt has no tokens"),
        ([[1]], [[[3], []]], "row 0: its response 1 has no tokens"),
        ([[1]], [[[3, 99]]], "token id 99, outside the vocabulary of 67"),
        ([[1] * 60], [[[3] * 5]], "60 prompt tokens and up to 5 in a response.*context"),
    ],
)
def test_bad_rows_are_refused(prompts, responses, message):
    with pytest.raises(InputError, match=message):
        response_log_probs(tiny("llama"), prompts, responses)


def test_temperatures_are_above_0():
    with pytest.raises(InputError, match="temperature 0 is not above 0"):
        response_log_probs(tiny("llama"), *rows(), temperature=0.0)


def test_steering_that_does_not_fit_is_refused():
    model = tiny("llama")
    vector = steer(jnp.ones(model.cfg.dim), layer=0)
    for steering in (steer(jnp.ones(7), layer=0), replace(vector, operation="replace")):
        with pytest.raises(InputError, match=r"scoring (needs|edits)"):
            response_log_probs(model, [[1]], [[[2]]], steering=steering)


def test_no_rows_have_no_scores():
    assert response_log_probs(tiny("llama"), [], []).shape == (0, 0)
