"""Gradients of hard and soft objectives: the expectation of one is the other, and F v is both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.diagnostics.objective_gradients import (
    divergence_gradients,
    fisher_products,
    row_gradients,
)
from subliminal_jax.models.forward import forward
from subliminal_jax.models.steered import steer
from subliminal_jax.training.batch import max_targets
from tests.training.tiny import CFG, base, close, rows

BASE, LAYER = base(), 0
VECTOR = jnp.linspace(-1.0, 1.0, CFG.dim)
PROMPT = [3, 1, 4]
BATCH = rows(6)
MOST = max_targets(BATCH)


def fisher(vector):
    return fisher_products(BASE, CFG, BATCH, LAYER, vector, max_targets=MOST, rows_at_once=4)


def one_token_answers():
    """Every token of the vocabulary as the answer to one prompt."""
    return pad_pairs([PROMPT] * CFG.vocab, [[y] for y in range(CFG.vocab)], 5)


def test_the_mean_of_the_hard_gradient_over_the_teachers_answers_is_the_soft_one():
    batch, teacher = one_token_answers(), steer(VECTOR, LAYER)
    logits, _ = forward(BASE, jnp.asarray([PROMPT]), CFG, teacher)
    probs = jax.nn.softmax(logits[0, -1])
    hard = row_gradients(BASE, CFG, batch, LAYER, max_targets=1, rows_at_once=7)
    soft = divergence_gradients(BASE, CFG, batch, LAYER, teacher, max_targets=1, rows_at_once=7)
    close(soft, jnp.broadcast_to(soft[0], soft.shape), rtol=1e-4)  # whatever was answered
    close(probs @ hard, soft[0], rtol=1e-4)


def test_a_teachers_own_rows_stand_in_for_the_students():
    teacher = steer(VECTOR, LAYER)
    longer = BATCH._replace(
        tokens=jnp.pad(BATCH.tokens, ((0, 0), (0, 3))),
        positions=jnp.pad(BATCH.positions, ((0, 0), (0, 3)), constant_values=-1),
        loss_mask=jnp.pad(BATCH.loss_mask, ((0, 0), (0, 3))),
    )
    found = divergence_gradients(BASE, CFG, BATCH, LAYER, teacher, longer, max_targets=MOST)
    expected = divergence_gradients(BASE, CFG, BATCH, LAYER, teacher, max_targets=MOST)
    close(found, expected, rtol=1e-4)


def test_the_soft_gradient_of_a_small_vector_is_minus_fisher_times_it():
    """To third order: the even orders are gone from half the difference of v and -v."""
    small = 3e-2 * VECTOR
    soft, other = (
        divergence_gradients(BASE, CFG, BATCH, LAYER, steer(v, LAYER), max_targets=MOST)
        for v in (small, -small)
    )
    expected = fisher(small)
    assert float(jnp.abs(expected).max()) > 1e-5
    close((other - soft) / 2, expected, rtol=0.02)


def test_fisher_is_positive_linear_and_symmetric():
    once = fisher(VECTOR)
    close(fisher(2 * VECTOR), 2 * once, rtol=1e-4)
    assert (np.asarray(once @ VECTOR) > 0).all()
    other = jnp.cos(jnp.arange(CFG.dim))
    across = fisher(other) @ VECTOR
    assert np.asarray(across) == pytest.approx(np.asarray(once @ other), rel=1e-3, abs=1e-5)
