import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subliminal_jax.diagnostics.alignment import (
    Probe,
    activation_shift,
    eas,
    make_probe,
    mean_activation,
    probe_activations,
    relative_component,
    relative_size,
)
from subliminal_jax.models.steered import steer
from subliminal_jax.steering.activations import mean_activations, pad_prompts
from subliminal_jax.testing import alignment as checks
from subliminal_jax.testing import check_alignment_measures, check_steering
from subliminal_jax.testing.strategies import probes, vectors
from subliminal_jax.training.adapters import attach, init_trainable, merge

LAYER, LAYERS = 1, (0, 1, 2)


@given(data=st.data())
def test_the_base_plus_the_vector_has_taken_all_of_it(params, cfg, data):
    check_steering(params, cfg, data.draw(probes(cfg)), data.draw(vectors(cfg.dim, 0.1, 10)), LAYER)


def test_a_layer_above_makes_something_else_of_the_vector(params, cfg, probe, vector):
    shift = jax.jit(
        lambda p: activation_shift(
            p, probe, mean_activation(p, probe, cfg, LAYERS), cfg, LAYERS, steer(vector, LAYER)
        )
    )(params)
    assert 0 < abs(eas(shift, vector)[2]) < 0.999


def test_steering_that_is_half_of_what_was_asked_fails_the_check(
    params, cfg, probe, vector, monkeypatch
):
    monkeypatch.setattr(checks, "steer", lambda v, layer: steer(v, layer, scale=0.5))
    with pytest.raises(AssertionError, match="scale 0.5, last position: size: 0.25 apart"):
        check_steering(params, cfg, probe, vector, LAYER)


@given(
    shift=vectors(12, 1e-2, 1e2),
    vector=vectors(12, 1e-2, 1e2),
    a=st.floats(1e-4, 1e4),
    b=st.floats(1e-4, 1e4),
)
def test_eas_sees_directions_and_relative_size_sees_lengths(shift, vector, a, b):
    check_alignment_measures(shift, vector, a, b)


@pytest.mark.parametrize("at", ["last", "mean"])
@pytest.mark.parametrize("steered", [False, True])
def test_packed_and_padded_prompts_are_read_as_in_extraction(params, cfg, vector, at, steered):
    """Neither padding is seen nor another prompt of the same row."""
    rng = np.random.default_rng(4)
    prompts = [rng.integers(0, cfg.vocab, n).tolist() for n in (3, 16, 5, 2, 4, 1, 8)]
    probe = make_probe(prompts, cfg)
    assert probe.packed is not None and len(probe.tokens) < 4
    tokens, lengths = pad_prompts(prompts, cfg)
    tokens = np.pad(tokens, ((0, 0), (0, 20 - tokens.shape[1])))
    real = np.arange(20)[None] < lengths[:, None]
    padded = Probe(jnp.asarray(np.where(real, tokens, 9)), jnp.asarray(lengths))
    steering = steer(vector, LAYER) if steered else None
    expected = mean_activations(params, cfg, prompts, LAYERS, position=at, steering=steering)
    for one in (probe, padded):
        found = jax.jit(lambda p: mean_activation(params, p, cfg, LAYERS, steering, at))(one)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        each = probe_activations(params, one, cfg, LAYERS, steering, at)
        assert each.shape == (3, 7, cfg.dim)
        np.testing.assert_allclose(each.mean(axis=1), expected, rtol=1e-4, atol=1e-5)
        alone = mean_activations(params, cfg, prompts[4:5], LAYERS, position=at, steering=steering)
        np.testing.assert_allclose(each[:, 4], alone, rtol=1e-4, atol=1e-5)


def test_prompts_of_one_length_stay_rows(cfg):
    assert make_probe([[1, 2, 3]] * 4, cfg).packed is None


def test_students_mapped_together_equal_each_alone(params, cfg, probe, vector, adapter, trainable):
    base = jax.jit(lambda p: mean_activation(p, probe, cfg, LAYERS))(params)

    @jax.jit
    def shift_of(tree):
        student, steering = attach(params, tree, cfg, adapter)
        return activation_shift(student, probe, base, cfg, LAYERS, steering)

    trees = jax.tree.map(lambda x: jnp.stack([x, 0.3 * x, 0 * x]), trainable)
    shifts = jax.jit(jax.vmap(shift_of))(trees)
    for i in range(3):
        alone = shift_of(jax.tree.map(lambda x, i=i: x[i], trees))
        np.testing.assert_allclose(shifts[i], alone, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(shifts[2], np.zeros_like(shifts[2]), atol=1e-5)
    merged = merge(attach(params, trainable, cfg, adapter)[0])
    other = activation_shift(merged, probe, base, cfg, LAYERS)
    np.testing.assert_allclose(shifts[0], other, rtol=1e-3, atol=1e-5)


def test_a_student_that_has_not_moved_has_no_direction(params, cfg, probe, vector, adapter):
    base = jax.jit(lambda p: mean_activation(p, probe, cfg, LAYERS))(params)
    start = init_trainable(jax.random.key(0), params, cfg, adapter)
    student, _ = attach(params, start, cfg, adapter)
    shift = activation_shift(student, probe, base, cfg, LAYERS)
    assert np.asarray(relative_size(shift, vector)).max() < 1e-5
    np.testing.assert_array_equal(eas(jnp.zeros((3, 12)), vector), np.zeros(3))
    np.testing.assert_array_equal(relative_component(jnp.ones((3, 12)), 0 * vector), np.zeros(3))
