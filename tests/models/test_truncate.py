"""The first blocks of a model."""

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import Capture, forward, hidden_states, unembed
from subliminal_jax.models.hub import load_model
from subliminal_jax.models.truncate import truncate_model


def test_its_hidden_states_are_those_inside_the_whole_model():
    model = load_model("shipped-small")
    tokens = jnp.asarray([[5, 9, 400, 7]])
    short = truncate_model(model, 2)
    cut = hidden_states(short.params, tokens, short.cfg, capture=Capture((1,)))
    whole = hidden_states(model.params, tokens, model.cfg, capture=Capture((1,)))
    np.testing.assert_allclose(cut.activations, whole.activations, atol=1e-5)
    logits, _ = forward(short.params, tokens, short.cfg)
    np.testing.assert_allclose(logits, unembed(short.params, cut.hidden, short.cfg), atol=1e-4)
    assert short.name == "shipped-small[:2]"
    for blocks in (0, 4):
        with pytest.raises(InputError, match="choose 1 to 3"):
            truncate_model(model, blocks)
