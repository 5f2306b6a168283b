"""Diagnostics of a model in bfloat16 against the same numbers in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.diagnostics.activation_gradients import (
    CompletionLoss,
    example_components,
    example_gradients,
    token_gradients,
)
from subliminal_jax.diagnostics.alignment import activation_shift, eas, mean_activation
from subliminal_jax.diagnostics.parameter_space import per_example_components, score_gradient
from subliminal_jax.models.steered import steer
from subliminal_jax.steering.vectors import component
from subliminal_jax.training.adapters import attach

LAYER = 1
# Of the largest component, at 12 dimensions; 0.01 in the shipped model (jvp, vjp, 32 rows, layer 1)
COMPONENT_ERROR = 0.1
COSINE_ERROR = 0.01


@pytest.fixture(scope="module")
def models(params):
    """(bfloat16, float32), the same numbers."""
    narrow = jax.tree.map(lambda w: w.astype(jnp.bfloat16), params)
    return narrow, jax.tree.map(lambda w: w.astype(jnp.float32), narrow)


def both(f, models):
    """`f` of either model; float32 in either case."""
    found = [jax.jit(f)(params) for params in models]
    assert [x.dtype for x in found] == [jnp.float32, jnp.float32]
    return [np.asarray(x) for x in found]


def close_components(narrow, wide):
    assert np.abs(wide).max() > 1e-3
    assert np.abs(narrow - wide).max() < COMPONENT_ERROR * np.abs(wide).max()


def cosine(a, b):
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_components_of_examples_and_of_tokens(models, cfg, batch, vector):
    loss = CompletionLoss(cfg)
    of_examples = both(lambda p: example_components(loss, p, batch, vector, LAYER), models)
    close_components(*of_examples)
    gradients = both(lambda p: token_gradients(loss, p, batch, LAYER), models)
    close_components(*(np.asarray(component(jnp.asarray(g), vector)) for g in gradients))


def test_components_in_the_parameters(models, cfg, batch, probe, vector, adapter, trainable):
    def components(params):
        def student(tree):
            return attach(params, tree, cfg, adapter)

        def loss(tree, batch):
            return CompletionLoss(cfg)(student(tree)[0], batch, steer(jnp.zeros(cfg.dim), LAYER))

        direction = score_gradient(student, trainable, probe, cfg, vector, LAYER)
        assert {x.dtype for x in jax.tree.leaves(direction)} == {jnp.dtype(jnp.float32)}
        return per_example_components(loss, trainable, batch, direction)

    close_components(*both(components, models))


def test_cosine_of_the_mean_gradient(models, cfg, batch, vector):
    loss = CompletionLoss(cfg)
    gradients = both(lambda p: example_gradients(loss, p, batch, LAYER), models)
    narrow, wide = (cosine(-g.mean(axis=0), np.asarray(vector)) for g in gradients)
    assert abs(narrow - wide) < COSINE_ERROR


def test_eas(models, cfg, probe, vector, adapter, trainable):
    def alignment(params):
        student, steering = attach(params, trainable, cfg, adapter)
        layers = tuple(range(cfg.layers))
        base = mean_activation(params, probe, cfg, layers)
        return eas(activation_shift(student, probe, base, cfg, layers, steering), vector)

    narrow, wide = both(alignment, models)
    assert np.abs(wide).max() > 0.05
    assert np.abs(narrow - wide).max() < COSINE_ERROR
