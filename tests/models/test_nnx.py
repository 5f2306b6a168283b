"""A Flax module of one of our models is that model, and trains in a Flax user's loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from subliminal_jax.models.forward import Capture, forward
from subliminal_jax.models.nnx import from_nnx, to_nnx
from subliminal_jax.models.steered import steer
from tests import number_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return number_model.load(tmp_path_factory.mktemp("models") / "numbers")


TOKENS = jnp.arange(5, 25).reshape(2, 10)


def test_the_module_computes_what_forward_does(model):
    steering, capture = steer(jnp.ones(model.cfg.dim), 1), Capture((0, 1))
    logits, kept = to_nnx(model)(TOKENS, steering, capture)
    expected, activations = forward(model.params, TOKENS, model.cfg, steering, capture=capture)
    np.testing.assert_array_equal(logits, expected)
    np.testing.assert_array_equal(kept, activations)


def test_parameters_survive_the_round_trip(model):
    jax.tree.map(np.testing.assert_array_equal, from_nnx(to_nnx(model), model).params, model.params)


def test_a_training_step_of_flax_moves_the_copy_alone(model):
    decoder = to_nnx(model)
    optimizer = nnx.Optimizer(decoder, optax.sgd(0.1), wrt=nnx.Param)
    before = jax.tree.map(np.array, model.params)

    def loss(decoder):
        logits, _ = decoder(TOKENS[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, TOKENS[:, 1:]).mean()

    @nnx.jit
    def step(decoder, optimizer):
        value, gradients = nnx.value_and_grad(loss)(decoder)
        optimizer.update(decoder, gradients)
        return value

    first, second = step(decoder, optimizer), step(decoder, optimizer)
    assert second < first
    jax.tree.map(np.testing.assert_array_equal, model.params, before)
    trained = from_nnx(decoder, model)
    logits, _ = forward(trained.params, TOKENS, model.cfg)
    np.testing.assert_allclose(logits, decoder(TOKENS)[0], atol=1e-6)


def test_a_decoder_of_another_model_is_refused(model, tmp_path):
    other = number_model.config(context=64)
    decoder = to_nnx(model)
    decoder.cfg = other
    with pytest.raises(ValueError, match="not the configuration of"):
        from_nnx(decoder, model)
