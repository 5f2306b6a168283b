"""Vectors of contrastive activations with planted directions."""

import jax
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.steering.contrastive import contrastive_vectors, match_norms, rescale

ROWS, DIM = 200, 12


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def planted():
    """Activations of two layers: noise of either answer, and a direction of each layer between."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(2, DIM))
    shared = rng.normal(size=(ROWS, 1, 2, DIM))
    h = shared + 0.1 * rng.normal(size=(ROWS, 2, 2, DIM))
    h[:, 0] += directions
    return h.astype(np.float32), directions


def test_the_mean_is_that_of_the_differences(planted):
    h, _ = planted
    expected = (h[:, 0].astype(float) - h[:, 1]).mean(axis=0)
    np.testing.assert_allclose(contrastive_vectors(h), expected, atol=1e-6)


@pytest.mark.parametrize("method", ["mean", "pca", "logistic"])
def test_every_method_finds_the_planted_direction(planted, method):
    h, directions = planted
    vectors = contrastive_vectors(h, method)
    for vector, wanted in zip(vectors, directions, strict=True):
        assert cosine(vector, wanted) > 0.8


@pytest.mark.parametrize("method", ["pca", "logistic", "random"])
def test_all_have_the_norm_of_the_mean(planted, method):
    h, _ = planted
    norms = np.linalg.norm(contrastive_vectors(h, method), axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(contrastive_vectors(h), axis=1), rtol=1e-5)


def test_random_directions_depend_on_key_and_layer(planted):
    h, _ = planted
    a, b = (contrastive_vectors(h, "random", key=jax.random.key(k)) for k in (0, 1))
    assert abs(cosine(a[0], b[0])) < 0.95 and abs(cosine(a[0], a[1])) < 0.95
    np.testing.assert_array_equal(a, contrastive_vectors(h, "random", key=jax.random.key(0)))


def test_vectors_of_settings_get_the_baselines_norm_and_a_mean():
    rng = np.random.default_rng(1)
    vectors = {name: rng.normal(size=(1, DIM)) * k for k, name in enumerate("abc", start=1)}
    matched = match_norms(vectors, "b")
    assert list(matched) == ["a", "b", "c", "mean"]
    np.testing.assert_allclose(matched["b"], vectors["b"])
    for v in matched.values():
        assert np.linalg.norm(v) == pytest.approx(np.linalg.norm(vectors["b"]))
    assert cosine(matched["mean"][0], sum(vectors.values())[0]) == pytest.approx(1.0)
    assert not rescale(np.zeros((1, DIM)), vectors["b"]).any()


def test_bad_input_is_refused(planted):
    h, _ = planted
    for broken in (h[:0], np.full_like(h[:2], np.inf)):
        with pytest.raises(InputError, match="at least one, all finite"):
            contrastive_vectors(broken)
