"""Numbers that are not finite: an error that names the cause, on every path; never tokens."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.draw import draw
from subliminal_jax.models.finite import find_cause
from subliminal_jax.models.forward import forward
from subliminal_jax.models.hub import Model
from subliminal_jax.models.linear import LoraWeight
from subliminal_jax.models.sampling import SamplingConfig, generate
from subliminal_jax.models.steered import Steering, steer, unit
from subliminal_jax.steering.activations import mean_activations, residual_norm
from subliminal_jax.steering.contrasts import Contrasts
from subliminal_jax.steering.propensity import answer_activations, local_steerability, propensities
from subliminal_jax.training.log_probs import response_log_probs
from tests.models import families
from tests.models.families import noisy_params

CFG = replace(families.LLAMA, layers=2)
PARAMS = noisy_params(CFG)
PROMPT = [1, 2, 3, 4, 5]
ADDED = jnp.ones((CFG.dim,))
CONTRASTS = Contrasts([PROMPT[:4]], [[7]], [[8]])


def scaled(name: str, layer: int, factor: float, dtype=jnp.float16):
    """The parameters in `dtype`, with one layer's weight multiplied."""
    layers = {**PARAMS["layers"]}
    layers[name] = layers[name].at[layer].multiply(factor)
    return jax.tree.map(lambda x: x.astype(dtype), {**PARAMS, "layers": layers})


# The down projection overflows for all tokens; layer 0 stays sound.
OVERFLOW = scaled("down", 1, 3e4)


def sample(params, steering=None, prompt=PROMPT, reference=None, **sampling):
    settings = SamplingConfig(**{"max_new_tokens": 4, "temperature": 0.0} | sampling)
    return generate(
        params, [prompt], CFG, 0, settings, steering, batch_size=2, reference_params=reference
    )


def score(params, steering=None):
    model = Model(params, CFG, None, "tiny", Path(), (), 0)
    return response_log_probs(model, [PROMPT], [[[7], [9]]], steering=steering)


PATHS = {
    "greedy": sample,
    "sampled": lambda params: sample(params, temperature=1.0, top_p=0.9, top_k=20),
    "scored": score,
    "mean": lambda params: mean_activations(params, CFG, [PROMPT], [1], position="mean"),
    "norm": lambda params: residual_norm(params, CFG, [PROMPT], [0, 1]),
    "propensity": lambda params: propensities(
        params, CFG, CONTRASTS, np.ones((1, 1, CFG.dim), np.float32), [0], (0.0, 1.0)
    ),
    "slope": lambda params: local_steerability(
        params, CFG, CONTRASTS, np.ones((1, 1, CFG.dim), np.float32), [0]
    ),
    "answers": lambda params: answer_activations(params, CFG, CONTRASTS, [1]),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_float16_model_that_overflows_is_refused_with_its_layer(path):
    assert not np.isfinite(forward(OVERFLOW, jnp.asarray([PROMPT]), CFG)[0]).all()  # the premise
    with pytest.raises(
        InputError, match=r"not finite: that begins in layer 1 \(from 0, of 2\)"
    ) as e:
        path(OVERFLOW)
    assert "float16 ends at 6.55e+04" in str(e.value)
    assert str(e.value).endswith('load the model with dtype="float32" (--dtype float32)')
    assert "\n" not in str(e.value)


def test_what_lies_below_the_overflow_is_read_as_ever():
    sound = jax.tree.map(lambda x: x.astype(jnp.float16), PARAMS)
    vectors = [mean_activations(p, CFG, [PROMPT], [0]) for p in (OVERFLOW, sound)]
    np.testing.assert_array_equal(*vectors)


def test_a_token_that_overflows_only_once_it_is_fed_back_is_found():
    first = int(sample(PARAMS).tokens[0, 0])  # the prompt does not hold it
    assert first not in PROMPT
    params = {**PARAMS, "embed": PARAMS["embed"].at[first].set(2e20)}
    with pytest.raises(InputError, match="new token 1 of prompt 0 .* in layer 0 .* token 5 of 6"):
        sample(params)


@pytest.mark.parametrize("name", ["k", "q", "gate"])
def test_every_projection_that_overflows_shows(name):
    """An infinite key alone would get the weight 0 and go unseen."""
    params = scaled(name, 0, 1e4)
    params["layers"]["attn_norm"] = params["layers"]["attn_norm"].at[0].multiply(1e3)
    params["layers"]["mlp_norm"] = params["layers"]["mlp_norm"].at[0].multiply(1e3)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    with pytest.raises(InputError, match="begins in layer 0"):
        sample(params)


def nan_lora(params):
    base = params["layers"]["q"]
    a, b = jnp.zeros((2, CFG.dim, 2)), jnp.zeros((2, 2, base.shape[-1]))
    weight = LoraWeight(base, a.at[1, 0, 0].set(jnp.nan), b, jnp.ones((2,)))
    return {**params, "layers": {**params["layers"], "q": weight}}


WEIGHTS = {
    "a layer's": (
        {**PARAMS, "layers": {**PARAMS["layers"], "up": PARAMS["layers"]["up"].at[1].set(jnp.nan)}},
        r"the weight up of layer 1 \(from 0\) is not \(float32\)",
    ),
    "the head's": (
        {**PARAMS, "lm_head": PARAMS["lm_head"].at[3, 5].set(-jnp.inf)},
        "the weight lm_head is not",
    ),
    "an adapter's": (nan_lora(PARAMS), r"the weight q.a of layer 1 \(from 0\) is not"),
}


@pytest.mark.parametrize(("params", "message"), WEIGHTS.values(), ids=WEIGHTS)
def test_a_weight_that_is_not_finite_is_named(params, message):
    with pytest.raises(InputError, match=message):
        sample(params)


STEERINGS = {
    "overflows float32": (steer(ADDED, 0, 1e30), "norm 5.66e[+]30 that begins in layer 1"),
    "infinite scale": (
        steer(ADDED, 0).replace(scale=jnp.asarray(jnp.inf)),
        "steering vector or its scale is not",
    ),
    "NaN": (steer(ADDED.at[3].set(jnp.nan), 0), "steering vector or its scale is not"),
    "at the last layer": (steer(ADDED, 1, 1e30), "begins in the final norm"),
    "too long to project": (
        Steering(1e25 * ADDED[None], jnp.ones(()), (0,), "project_out"),
        "begins in layer 0",
    ),
    "too short to project": (
        Steering(1e-30 * ADDED[None], jnp.ones(()), (0,), "project_out"),
        "begins in layer 0",
    ),
}


@pytest.mark.parametrize(("steering", "message"), STEERINGS.values(), ids=STEERINGS)
def test_a_steering_beyond_the_number_format_is_refused(steering, message):
    with pytest.raises(InputError, match=message):
        score(PARAMS, steering)


def test_a_steering_of_generated_tokens_alone_shows_with_the_second():
    with pytest.raises(
        InputError, match="new token 1 of prompt 0 .* in layer 1 .* at token 5 of 6"
    ):
        sample(PARAMS, steer(ADDED, 0, 1e30), steer_positions="generated")


def test_a_base_that_is_not_finite_is_told_from_its_student():
    replaced = Steering(ADDED[None], jnp.ones(()), (1,), "replace")
    with pytest.raises(InputError, match="the weight up of layer 1 .* of the base model is not"):
        sample(PARAMS, replaced, reference=WEIGHTS["a layer's"][0])


def test_directions_are_unit_or_nan_and_zero_stays_zero():
    lengths = jnp.asarray([0.0, 1e-30, 1e-15, 1.0, 1e15, 1e25])
    norms = jnp.linalg.norm(unit(lengths[:, None] * ADDED[None]), axis=-1)
    np.testing.assert_allclose(norms, [0, np.nan, 1, 1, 1, np.nan], rtol=1e-5)


def test_a_finite_model_has_no_cause():
    assert "not in a pass over its tokens alone" in find_cause(PARAMS, CFG, PROMPT)


@pytest.mark.parametrize("temperature", [1e-46, 1e-39, -1.0, -0.5, np.nan, np.inf, -np.inf, 1e39])
def test_temperatures_that_float32_does_not_have_are_refused(temperature):
    with pytest.raises(InputError, match="temperature=.* give a finite number from .*, or 0"):
        SamplingConfig(4, temperature=temperature)


def test_at_the_ends_of_temperature_and_top_p_the_likeliest_or_any_token_is_drawn():
    logits = jax.random.normal(jax.random.key(0), (64, 40))
    uniforms = jax.random.uniform(jax.random.key(1), (64, 2))
    for extreme in (
        {"temperature": jnp.asarray(1.2e-38)},
        {"temperature": jnp.asarray(1e-30)},
        {"top_p": 1e-46},
        {"top_p": 1e-30},
        {"top_k": 1},
    ):
        np.testing.assert_array_equal(
            draw(logits, uniforms, **extreme), draw(logits, uniforms, greedy=True)
        )
    for nothing_cut in ({"top_p": 1 - 1e-9}, {"top_p": 1.0}, {"top_k": 1000}):
        np.testing.assert_array_equal(draw(logits, uniforms, **nothing_cut), draw(logits, uniforms))
    flat = draw(logits, uniforms, jnp.asarray(3e38))
    np.testing.assert_array_equal(flat, draw(jnp.zeros_like(logits), uniforms))
