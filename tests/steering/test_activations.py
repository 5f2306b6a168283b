import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.compilation import count_compilations
from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import Capture, forward
from subliminal_jax.steering.activations import (
    mean_activations,
    pad_prompts,
    residual_norm,
)

LAYERS = (2, 0)  # results keep the order that was asked for


ALONE = (0, 2, 4)  # the prompts of 17, 41 and 2 tokens


@pytest.fixture(scope="module")
def one_by_one(params, cfg, prompts):
    """The activations [layer, time, dim] of some prompts, each alone and unpadded."""
    alone = jax.jit(lambda tokens: forward(params, tokens, cfg, capture=Capture(LAYERS))[1][:, 0])
    return [np.asarray(alone(jnp.array([prompts[i]]))) for i in ALONE]


@pytest.mark.parametrize("position", ["last", "mean", 1, -2])
def test_batched_reading_equals_one_prompt_at_a_time(params, cfg, prompts, one_by_one, position):
    def read(h):
        if position == "mean":
            return h.mean(axis=1)
        return h[:, -1 if position == "last" else position]

    for i, h in zip(ALONE, one_by_one, strict=True):
        mean = mean_activations(params, cfg, [prompts[i]], LAYERS, position=position)
        np.testing.assert_allclose(mean, read(h), rtol=1e-4, atol=1e-5)
    some = [prompts[i] for i in ALONE]
    mean = mean_activations(params, cfg, some, LAYERS, position=position, batch_size=2)
    expected = np.mean([read(h) for h in one_by_one], axis=0)
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)


def test_mean_is_that_of_the_rows_whatever_the_batch(params, cfg, prompts):
    rows = np.stack([mean_activations(params, cfg, [p], LAYERS) for p in prompts])
    mean = mean_activations(params, cfg, prompts, LAYERS, batch_size=4)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_residual_norm_is_the_typical_token_and_blind_to_one_huge_one(
    params, cfg, prompts, one_by_one
):
    want = np.mean([np.median(np.linalg.norm(h, axis=-1), axis=1) for h in one_by_one], axis=0)
    got = residual_norm(params, cfg, [prompts[i] for i in ALONE], LAYERS, batch_size=2)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    sink = {**params, "embed": params["embed"].at[7].mul(1e3)}
    prefixed = [[7, *(t if t != 7 else 8 for t in p)][: cfg.context] for p in prompts if len(p) > 8]
    plain = [[6, *p[1:]] for p in prefixed]
    with_sink = residual_norm(sink, cfg, prefixed, (0,))
    without = residual_norm(params, cfg, plain, (0,))
    np.testing.assert_allclose(with_sink, without, rtol=0.3)


def test_one_program_a_width(params, cfg, prompts):
    short = [p for p in prompts if len(p) <= 16]
    with count_compilations() as compiled:
        mean_activations(params, cfg, short, (1,), batch_size=2)
        mean_activations(params, cfg, short[::-1][1:], (1,), batch_size=2)
    assert compiled.count("_read") == 1


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "no prompts"),
        ([[1], []], "prompt 1 is empty"),
        ([[1] * 49], "49 tokens"),
        ([[31]], "outside 0 to 30"),
    ],
)
def test_bad_prompts_are_refused(cfg, prompts, message):
    with pytest.raises(InputError, match=message):
        pad_prompts(prompts, cfg)


def test_bad_positions_and_layers_are_refused(params, cfg):
    with pytest.raises(InputError, match="position 2 is outside prompt 1, which has 2 tokens"):
        mean_activations(params, cfg, [[1, 2, 3], [1, 2]], (0,), position=2)
    with pytest.raises(InputError, match="layer 3 is out of range"):
        mean_activations(params, cfg, [[1]], (3,))
    with pytest.raises(InputError, match="no layer"):
        mean_activations(params, cfg, [[1]], ())
