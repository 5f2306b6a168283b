"""Spectra of changes against numpy's decomposition of the materialised product."""

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.diagnostics.spectrum import effective_rank, spectra_of_change, stable_rank
from subliminal_jax.models.linear import LoraWeight

LAYERS, ROWS, RANK, COLUMNS = 2, 9, 4, 6


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def check(found, products):
    for i, product in enumerate(products.astype(np.float64)):
        u, s, v = np.linalg.svd(product)
        count = found.values.shape[1]
        np.testing.assert_allclose(found.values[i], s[:count], atol=1e-5 * s[0])
        np.testing.assert_allclose(abs(found.inputs[i] @ u[:, 0]), 1, atol=1e-5)
        np.testing.assert_allclose(abs(found.outputs[i] @ v[0]), 1, atol=1e-5)
        shares = s / s.sum()
        entropy = -np.sum(shares * np.log(np.maximum(shares, 1e-30)))
        np.testing.assert_allclose(effective_rank(found.values)[i], np.exp(entropy), rtol=1e-4)
        np.testing.assert_allclose(
            stable_rank(found.values)[i], np.sum(s**2) / s[0] ** 2, rtol=1e-5
        )


@pytest.mark.parametrize("padded", [0, 2])  # students of mixed ranks have zeros beside their own
def test_a_products_values_and_directions_are_those_of_the_product(padded):
    a, b = draw(LAYERS, ROWS, RANK), draw(LAYERS, RANK, COLUMNS, seed=1)
    b[:, 0] *= 30  # one direction that leads
    scale = np.array([0.5, 2.0], np.float32)
    wide = [np.pad(a, ((0, 0), (0, 0), (0, padded))), np.pad(b, ((0, 0), (0, padded), (0, 0)))]
    base = jnp.zeros((LAYERS, ROWS, COLUMNS))
    weight = LoraWeight(base, *map(jnp.asarray, wide), jnp.asarray(scale))
    check(spectra_of_change(weight, base), scale[:, None, None] * a @ b)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5)])
def test_a_whole_matrix_has_the_spectrum_of_its_change(shape):
    base, change = draw(LAYERS, *shape), draw(LAYERS, *shape, seed=2)
    weight = jnp.asarray(base + change)
    check(spectra_of_change(weight, jnp.asarray(base)), np.asarray(weight) - base)


def test_what_has_not_moved_has_no_rank_and_no_direction():
    base = jnp.asarray(draw(1, ROWS, COLUMNS))
    a = jnp.asarray(draw(1, ROWS, RANK))
    start = LoraWeight(base, a, jnp.zeros((1, RANK, COLUMNS)), jnp.ones(1))
    for found in (spectra_of_change(start, base), spectra_of_change(base, base)):
        for value in (*found, effective_rank(found.values), stable_rank(found.values)):
            np.testing.assert_array_equal(value, 0)


def test_ranks_of_known_spectra():
    flat, single = jnp.ones(5), jnp.array([2.0, 0.0, 0.0])
    np.testing.assert_allclose([effective_rank(flat), stable_rank(flat)], 5, rtol=1e-6)
    np.testing.assert_allclose([effective_rank(single), stable_rank(single)], 1, rtol=1e-6)
