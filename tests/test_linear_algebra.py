"""Decompositions without LAPACK, against numpy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.linear_algebra import (
    compute_where,
    inverse_root,
    invert_triangular,
    orthonormalize,
    svd,
)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(("rows", "columns"), [(3, 1), (4, 2), (9, 5), (8, 8), (3, 6)])
def test_singular_vectors_and_values(rows, columns):
    x = draw(rows, columns) * np.logspace(0, -3, columns)
    u, s, v = (np.asarray(y, np.float64) for y in svd(jnp.asarray(x, jnp.float32)))
    np.testing.assert_allclose(u @ np.diag(s) @ v.T, x, atol=3e-6 * s[0])
    np.testing.assert_allclose(v.T @ v, np.eye(columns), atol=1e-5)
    expected = np.linalg.svd(x)[1]
    np.testing.assert_allclose(s[: len(expected)], expected, atol=1e-6 * s[0])
    np.testing.assert_allclose(s[len(expected) :], 0, atol=1e-6 * s[0])


@pytest.mark.parametrize("p", [2, 4])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_inverse_roots_are_those_of_the_matrix_with_its_ridge(p, rank):
    x = np.stack([draw(6, rank, seed=s) * 10.0**s for s in range(3)])
    x = x @ np.swapaxes(x, 1, 2)
    root = np.asarray(inverse_root(jnp.asarray(x, jnp.float32), p), np.float64)
    for matrix, found in zip(x, root, strict=True):
        values, vectors = np.linalg.eigh(matrix + 1e-6 * np.linalg.norm(matrix) * np.eye(6))
        span = matrix @ np.linalg.pinv(matrix)  # what lies outside is the noise of float32
        expected = vectors * values ** (-1 / p) @ vectors.T @ span
        np.testing.assert_allclose(found @ span, expected, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_array_equal(inverse_root(jnp.zeros((2, 3, 3)), p), 0)


def test_orthonormal_columns_are_those_of_qr_and_dependent_ones_are_zero():
    x = draw(7, 4)
    q, r = np.linalg.qr(x)
    found = orthonormalize(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, q * np.sign(np.diag(r)), atol=1e-5)
    twice = jnp.asarray(np.concatenate([x[:, :2], x[:, :1]], axis=1), jnp.float32)
    np.testing.assert_array_equal(orthonormalize(twice)[:, 2], 0)


def test_triangular_inverses():
    q = np.triu(0.3 * draw(9, 9)) + np.eye(9)
    np.testing.assert_allclose(
        invert_triangular(jnp.asarray(q, jnp.float32)), np.linalg.inv(q), rtol=1e-4, atol=1e-5
    )


def test_what_is_due_for_none_is_not_computed_and_each_gets_its_own():
    calls = []

    def double(x):
        jax.debug.callback(lambda: calls.append(1))
        return 2 * x

    @jax.jit
    def run(due, x):  # students and layers
        mapped = jax.vmap(jax.vmap(lambda d, x: compute_where(d, double, x, -x)))
        return mapped(due, x)

    x = jnp.arange(6.0).reshape(2, 3)
    due = jnp.zeros((2, 3), bool)
    np.testing.assert_array_equal(run(due, x), -x)
    jax.effects_barrier()
    assert not calls
    np.testing.assert_array_equal(run(due.at[1, 2].set(True), x), (-x).at[1, 2].set(10.0))
    jax.effects_barrier()
    assert calls
