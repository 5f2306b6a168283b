"""Propensities under many edits at once: against one forward pass at a time, and by themselves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import Capture, forward
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering import propensity
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
    prompt, at = ROWS.prompts[row], ROWS.differ_at[row]
    sums = []
    for answer in (ROWS.matching[row], ROWS.other[row]):
        tokens = np.zeros((1, 36), np.int32)
        tokens[0, : len(prompt) + len(answer)] = [*prompt, *answer]
        logits, _ = logits_and_activations(*model, tokens, len(prompt) - 1, vector)
        picked = [float(logits[0, len(prompt) - 1 + i, t]) for i, t in enumerate(answer)]
        sums.append(picked[at] if kind == "letter" else sum(picked))
    return sums[0] - sums[1]


@pytest.mark.parametrize("kind", ["letter", "answer"])
def test_propensities_are_those_of_one_pass_an_answer(model, vectors, kind):
    scales = (-1.5, 0.0, 0.5)
    found = propensities(*model, ROWS, vectors, LAYERS, scales, kind=kind)
    expected = [
        [[one_at_a_time(model, s * v, kind, row) for s in scales] for v in vectors]
        for row in range(4)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(found, axis=2).min() > 1e-3  # the vectors are no small matter


def test_nothing_depends_on_how_rows_and_edits_are_cut(model, vectors, monkeypatch):
    whole = propensities(*model, ROWS, vectors, LAYERS)
    narrow = propensities(*model, ROWS, vectors, LAYERS, tokens_per_batch=1)
    np.testing.assert_allclose(narrow, whole, atol=1e-5)
    monkeypatch.setattr(propensity, "SEGMENT_TOKENS", 10)  # 13 edits of 2 tokens in 3 parts
    jax.clear_caches()
    np.testing.assert_allclose(propensities(*model, ROWS, vectors, LAYERS), whole, atol=1e-5)


def test_what_all_prompts_begin_with_is_read_once_and_changes_nothing(model, vectors):
    begun = ROWS._replace(prompts=[[5, 6, 7, *prompt] for prompt in ROWS.prompts])
    alone = [propensities(*model, begun.select([i]), vectors, LAYERS) for i in range(4)]
    found = propensities(*model, begun, vectors, LAYERS)
    np.testing.assert_allclose(found, np.concatenate(alone), atol=1e-5)
    scales = (-1.0, 1.0)
    assert forward_tokens(begun, 1, scales) == forward_tokens(ROWS, 1, scales) + 3


def test_progress_counts_every_row_once(model, vectors):
    seen = []
    propensities(*model, ROWS, vectors, LAYERS, progress=seen.append)
    assert sum(seen) == 4


def test_tokens_are_prefixes_once_and_branches_for_each_edit(vectors):
    assert forward_tokens(ROWS, 2, (-1.0, 0.0, 1.0)) == (0 + 4 + 19 + 30) + 5 * (2 + 2 + 2 + 1)


def test_derivatives_are_limits_of_differences(model, vectors):
    step = 0.02
    found = local_steerability(*model, ROWS, vectors, LAYERS)
    m = propensities(*model, ROWS, vectors, LAYERS, (-step, 0.0, step)).astype(float)
    np.testing.assert_allclose(found.slope, (m[..., 2] - m[..., 0]) / (2 * step), atol=2e-3)
    second = (m[..., 2] - 2 * m[..., 1] + m[..., 0]) / step**2
    np.testing.assert_allclose(found.curvature, second, atol=3e-2)


def test_derivatives_hold_away_from_zero(model, vectors):
    step = 0.02
    found = local_steerability(*model, ROWS, vectors, LAYERS, at=0.5)
    m = propensities(*model, ROWS, vectors, LAYERS, (0.5 - step, 0.5 + step)).astype(float)
    np.testing.assert_allclose(found.slope, (m[..., 1] - m[..., 0]) / (2 * step), atol=2e-3)


def test_activations_are_those_at_the_token_that_differs(model):
    found = answer_activations(*model, ROWS, LAYERS)
    assert found.shape == (4, 2, len(LAYERS), GEMMA2.dim)
    none = np.zeros((len(LAYERS), GEMMA2.dim), np.float32)
    for row, (prompt, *answers) in enumerate(zip(*ROWS, strict=True)):
        at = len(prompt) + ROWS.differ_at[row]
        for j, answer in enumerate(answers):
            tokens = np.zeros((1, 36), np.int32)
            tokens[0, : len(prompt) + len(answer)] = [*prompt, *answer]
            _, h = logits_and_activations(*model, tokens, 0, none)
            np.testing.assert_allclose(found[row, j], h[:, 0, at], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
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
def test_bad_input_is_one_line(model, vectors, change, said):
    given = {"contrasts": ROWS, "vectors": vectors, "layers": LAYERS, **change}
    with pytest.raises(InputError, match=said):
        propensities(*model, **given)
