"""Drawing a token: the right ones, in the right proportions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.models.draw import categorical, draw, likeliest, nucleus, two_uniforms

V = 23
GRID = 64  # uniform numbers a stage: every pair of them is one row
U = jnp.stack(
    jnp.meshgrid(jnp.arange(GRID) / GRID, jnp.arange(GRID) / GRID, indexing="ij"), axis=-1
).reshape(-1, 2)
# Weights of few values, so that there are ties; small whole numbers, so that sums are exact.
weights = st.lists(st.integers(0, 4), min_size=V, max_size=V).filter(any)
drawn = jax.jit(categorical)
kept = jax.jit(nucleus, static_argnames=("p",))
sampled = jax.jit(draw, static_argnames=("top_k", "top_p", "greedy"))


def order(w):
    """Ids by falling weight, then by rising id."""
    return np.lexsort((np.arange(V), -np.asarray(w)))


def fewest(w, p):
    """The ids of the nucleus, by sorting."""
    ids = order(w)
    enough = np.cumsum(np.asarray(w, float)[ids]) >= p * sum(w)
    return set(ids[: int(np.argmax(enough)) + 1].tolist())


@given(weights)
def test_inversion_draws_in_proportion_and_never_a_weight_of_zero(w):
    rows = jnp.broadcast_to(jnp.asarray(w, jnp.float32), (len(U), V))
    share = np.bincount(drawn(rows, U), minlength=V) / len(U)
    expected = np.asarray(w) / sum(w)
    assert (share[expected == 0] == 0).all()
    # Each of the two stages is off by at most one cell of the grid at either end.
    assert np.abs(share - expected).max() < 4 / GRID


@given(weights, st.sampled_from([0.25, 0.5, 0.875, 1.0]))
def test_the_nucleus_is_the_smallest_set_that_reaches_p(w, p):
    mask = kept(jnp.asarray(w, jnp.float32)[None], p=p)[0]
    assert set(np.flatnonzero(mask).tolist()) == fewest(w, p)


@given(weights, st.sampled_from([2, 9, V + 2]), st.sampled_from([None, 0.75]))
def test_support_of_top_k_then_top_p(w, k, p):
    """In the logarithm of the weights; a weight of zero is a logit of minus infinity."""
    logits = jnp.log(jnp.asarray(w, jnp.float32))
    rows = jnp.broadcast_to(logits, (len(U), V))
    seen = set(np.unique(sampled(rows, U, jnp.float32(1.0), top_k=k, top_p=p)).tolist())
    cut = np.zeros(V)
    cut[order(w)[:k]] = np.asarray(w)[order(w)[:k]]
    # exp(log(w)) is w but for rounding: p a little lower meets the same set at whole numbers.
    expected = set(np.flatnonzero(cut).tolist()) if p is None else fewest(cut, p - 1e-6)
    assert seen <= expected
    # What weighs less than two cells of the grid may fall between its points.
    assert {i for i in expected if cut[i] / cut.sum() > 4 / GRID} <= seen


@given(weights, st.floats(1e-45, 1e-3))
def test_a_vanishing_temperature_is_greedy(w, temperature):
    """Among several largest logits, any of them."""
    logits = jnp.broadcast_to(jnp.asarray(w, jnp.float32), (len(U), V))
    tokens = np.unique(sampled(logits, U, jnp.float32(max(temperature, 1e-37))))
    assert set(tokens.tolist()) <= set(np.flatnonzero(np.asarray(w) == max(w)).tolist())
    assert int(likeliest(logits[:1])[0]) == int(np.argmax(w))


@pytest.mark.parametrize("setting", [{"top_k": 1}, {"top_p": 1e-6}, {"greedy": True}])
def test_the_narrowest_support_is_greedy(setting):
    logits = jax.random.normal(jax.random.key(0), (50, V)).round(1)  # with ties
    tokens = sampled(logits, U[:50], jnp.float32(3.0), **setting)
    assert np.array_equal(tokens, np.argmax(logits, axis=1))


def test_draws_of_a_long_vocabulary_follow_the_softmax():
    """Blocks that do not divide the vocabulary, and weights over many orders of magnitude."""
    size, rows = 1_009, 40_000
    logits = 4 * jax.random.normal(jax.random.key(1), (size,))
    uniforms = jax.random.uniform(jax.random.key(2), (rows, 2))
    tokens = sampled(jnp.broadcast_to(logits, (rows, size)), uniforms, jnp.float32(2.0))
    p = np.asarray(jax.nn.softmax(logits / 2.0), float)
    share = np.bincount(tokens, minlength=size) / rows
    assert np.abs(share - p).max() < 5 * np.sqrt(p.max() / rows)
    # Mean logit: a statistic of the whole distribution, within five standard errors.
    x = np.asarray(logits, float)
    mean = (p * x).sum()
    assert abs(x[tokens].mean() - mean) < 5 * np.sqrt((p * (x - mean) ** 2).sum() / rows)


def test_random_numbers_depend_on_the_key_and_the_step_alone():
    keys = jax.random.split(jax.random.key(0), 6)
    first, second = two_uniforms(keys, jnp.int32(0)), two_uniforms(keys, jnp.int32(1))
    assert np.array_equal(two_uniforms(keys[::-1], jnp.int32(0)), first[::-1])
    assert len(np.unique(np.concatenate([first, second]))) == first.size + second.size
