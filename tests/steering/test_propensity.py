"""Propensities under many edits at once: against one forward pass at a time, and by themselves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import Capture, forward
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering import contrasts, propensity
from subliminal_jax.steering.contrasts import Contrasts
from subliminal_jax.steering.propensity import (
    answer_activations,
    forward_tokens,
    local_steerability,
    propensities,
)
from tests.models.families import GEMMA2, noisy_params

LAYERS = (1, 2)
ROWS = Contrasts(
    [[7], [3, 4, 5, 6, 7], list(range(20)), list(range(9, 40))],
    [[50, 9, 51], [50, 9, 51], [50, 9, 51], [3]],
    [[50, 11, 51], [50, 11, 51], [50, 11, 51], [4, 12]],
)


@pytest.fixture(scope="module")
def model():
    return noisy_params(GEMMA2), GEMMA2


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(2, len(LAYERS), GEMMA2.dim)).astype(np.float32)


@partial(jax.jit, static_argnums=1)
def logits_and_activations(params, cfg, tokens, start, vectors):
    mask = jnp.arange(tokens.shape[1])[None] >= start
    steering = Steering(vectors, jnp.ones(()), LAYERS, mask=mask)
    return forward(params, tokens, cfg, steering, capture=Capture(LAYERS))


def one_at_a_time(model, vector, kind, row):
    """The propensity of one row by a whole steered pass for each answer."""
    prompt, letter = ROWS.prompts[row], ROWS.letter_indices[row]
    sums = []
    for answer in (ROWS.matching[row], ROWS.other[row]):
        tokens = np.zeros((1, 36), np.int32)
        tokens[0, : len(prompt) + len(answer)] = [*prompt, *answer]
        logits, _ = logits_and_activations(*model, tokens, len(prompt) - 1, vector)
        picked = [float(logits[0, len(prompt) - 1 + i, t]) for i, t in enumerate(answer)]
        sums.append(picked[letter] if kind == "letter" else sum(picked))
    return sums[0] - sums[1]


@pytest.mark.parametrize("kind", ["letter", "answer"])
def test_propensities_are_those_of_one_pass_an_answer(model, vectors, kind):
    scales = (-1.5, 0.0, 0.5)
    values = propensities(*model, ROWS, vectors, LAYERS, scales, kind=kind)
    expected = [
        [[one_at_a_time(model, s * v, kind, row) for s in scales] for v in vectors]
        for row in range(4)
    ]
    np.testing.assert_allclose(values, expected, atol=1e-4)
    assert np.ptp(values, axis=2).min() > 1e-3  # every vector has an effect


def test_nothing_depends_on_how_rows_and_edits_are_cut(model, vectors, monkeypatch):
    whole = propensities(*model, ROWS, vectors, LAYERS)
    with monkeypatch.context() as one_line_a_batch:
        one_line_a_batch.setattr(contrasts, "TOKENS_PER_BATCH", 1)
        narrow = propensities(*model, ROWS, vectors, LAYERS)
    np.testing.assert_allclose(narrow, whole, atol=1e-5)
    monkeypatch.setattr(propensity, "SEGMENT_TOKENS", 10)  # 13 edits of 2 tokens in 3 parts
    jax.clear_caches()
    np.testing.assert_allclose(propensities(*model, ROWS, vectors, LAYERS), whole, atol=1e-5)


def test_a_shared_prefix_is_read_once_and_changes_nothing(model, vectors):
    prefixed = ROWS._replace(prompts=[[5, 6, 7, *prompt] for prompt in ROWS.prompts])
    alone = [propensities(*model, prefixed.select([i]), vectors, LAYERS) for i in range(4)]
    together = propensities(*model, prefixed, vectors, LAYERS)
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
    scales = (-1.0, 1.0)
    assert forward_tokens(prefixed, 1, scales) == forward_tokens(ROWS, 1, scales) + 3


def test_tokens_are_prefixes_once_and_branches_for_each_edit(vectors):
    assert forward_tokens(ROWS, 2, (-1.0, 0.0, 1.0)) == (0 + 4 + 19 + 30) + 5 * (2 + 2 + 2 + 1)


def test_derivatives_are_limits_of_differences(model, vectors):
    step = 0.02
    local = local_steerability(*model, ROWS, vectors, LAYERS)
    m = propensities(*model, ROWS, vectors, LAYERS, (-step, 0.0, step)).astype(float)
    np.testing.assert_allclose(local.slope, (m[..., 2] - m[..., 0]) / (2 * step), atol=2e-3)
    second = (m[..., 2] - 2 * m[..., 1] + m[..., 0]) / step**2
    np.testing.assert_allclose(local.curvature, second, atol=3e-2)


def test_activations_are_those_at_the_token_that_differs(model):
    activations = answer_activations(*model, ROWS, LAYERS)
    assert activations.shape == (4, 2, len(LAYERS), GEMMA2.dim)
    none = np.zeros((len(LAYERS), GEMMA2.dim), np.float32)
    for row, (prompt, *answers) in enumerate(zip(*ROWS, strict=True)):
        letter = len(prompt) + ROWS.letter_indices[row]
        for j, answer in enumerate(answers):
            tokens = np.zeros((1, 36), np.int32)
            tokens[0, : len(prompt) + len(answer)] = [*prompt, *answer]
            _, h = logits_and_activations(*model, tokens, 0, none)
            np.testing.assert_allclose(activations[row, j], h[:, 0, letter], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": (1, 9)}, "layer 9 is out of range"),
        ({"vectors": np.zeros((1, 2, 8), np.float32)}, "made on another model"),
        ({"vectors": np.full((1, 2, 32), np.nan, np.float32)}, "not finite"),
        ({"multipliers": ()}, "at least one"),
        ({"contrasts": ROWS._replace(other=ROWS.matching)}, "row 0: its answers"),
        ({"contrasts": ROWS.select([])}, "no contrastive pairs"),
        ({"contrasts": Contrasts([[1]], [[2]], [[99]])}, "outside 0 to 66"),
        ({"contrasts": Contrasts([[1] * 64], [[2]], [[3]])}, "more than the model's context"),
    ],
)
def test_bad_input_is_one_line(model, vectors, change, message):
    arguments = {"contrasts": ROWS, "vectors": vectors, "layers": LAYERS, **change}
    with pytest.raises(InputError, match=message):
        propensities(*model, **arguments)
