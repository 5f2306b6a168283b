import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.errors import InputError
from subliminal_jax.models.steered import edit, steer
from subliminal_jax.steering.activations import mean_activations
from subliminal_jax.steering.vectors import (
    component,
    mean_difference,
    random_vector,
)

seeds = st.integers(0, 2**31 - 1)


@given(seed=seeds, norm=st.floats(1e-3, 1e3))
def test_random_vector_has_its_norm(seed, norm):
    v = random_vector(jax.random.key(seed), 24, norm)
    assert float(jnp.linalg.norm(v)) == pytest.approx(norm, rel=1e-5)


def test_random_vectors_point_everywhere():
    keys = jax.random.split(jax.random.key(1), 4000)
    v = jax.vmap(lambda key: random_vector(key, 8, 1.0))(keys)
    np.testing.assert_allclose(v.mean(axis=0), np.zeros(8), atol=0.03)
    np.testing.assert_allclose(v.T @ v / len(keys), np.eye(8) / 8, atol=0.015)


def test_steering_shifts_the_mean_activation_by_its_vector(params, cfg, prompts):
    teacher = steer(random_vector(jax.random.key(0), cfg.dim, 0.7), 1)
    shift = mean_activations(
        params, cfg, prompts, (0, 1), position="mean", steering=teacher
    ) - mean_activations(params, cfg, prompts, (0, 1), position="mean")
    np.testing.assert_allclose(shift[0], np.zeros(cfg.dim), atol=1e-6)
    np.testing.assert_allclose(shift[1], teacher.vectors[0], atol=1e-5)


def test_mean_difference_is_the_mean_of_paired_rows_and_changes_sign(params, cfg, prompts):
    prefixed = [[1, 5, 2, *p][: cfg.context] for p in prompts]
    layers = (0, 2)
    difference = mean_difference(params, cfg, prefixed, prompts, layers, batch_size=4)
    means = [mean_activations(params, cfg, rows, layers) for rows in (prefixed, prompts)]
    assert np.abs(difference).min() > 0
    np.testing.assert_allclose(difference, means[0] - means[1], rtol=1e-4, atol=1e-6)
    back = mean_difference(params, cfg, prompts, prefixed, layers, batch_size=4)
    np.testing.assert_allclose(back, -difference, rtol=1e-5, atol=1e-7)
    nothing = mean_difference(params, cfg, prompts, prompts[::-1], layers, batch_size=4)
    np.testing.assert_allclose(nothing, np.zeros_like(nothing), atol=1e-5)
    with pytest.raises(InputError, match="11 and 10 prompts"):
        mean_difference(params, cfg, prompts, prompts[1:], layers)


@given(seed=seeds, a=st.floats(-10, 10), b=st.floats(-10, 10))
def test_component_is_linear_in_what_is_measured_and_blind_to_the_length_of_v(seed, a, b):
    x, y, v = jax.random.normal(jax.random.key(seed), (3, 10))
    want = a * component(x, v) + b * component(y, v)
    np.testing.assert_allclose(component(a * x + b * y, 7.0 * v), want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(component(3.0 * v, v), 3.0 * jnp.linalg.norm(v), rtol=1e-5)
    assert component(x, jnp.zeros(10)) == 0


def test_an_operation_without_an_edit_raises():
    rotation = steer(jnp.ones((4,)), 0)
    object.__setattr__(rotation, "operation", "rotate")  # past the type checker of the tests
    with pytest.raises(ValueError, match="steering operation 'rotate' has no edit"):
        edit(jnp.zeros((1, 2, 4)), rotation.vectors[0], rotation, None)
