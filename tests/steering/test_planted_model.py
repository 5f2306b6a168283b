"""A model that is linear in the multiplier, with slopes written into its head."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.models.spec import init_params
from subliminal_jax.steering.contrasts import Contrasts
from subliminal_jax.steering.propensity import MULTIPLIERS, local_steerability, propensities
from subliminal_jax.steering.slopes import anti_steerable, decompose_slopes, per_sample_slopes
from tests.tiny_configs import TINY

SIZE = 1024.0  # of the dimension that sets the norm: 1,000 times what the vector adds
IS_FIRST = np.tile([True, True, False, False], 6)
IS_YES = np.tile([True, False, True, False], 6)
REST = np.repeat(np.tile([2.0, -2.0], 3), 4)  # orthogonal to both
SLOPES = 1.0 + 0.6 * IS_FIRST - 0.9 * IS_YES + REST
OTHER = 40  # the token of every other answer
CFG = replace(TINY, vocab=48, mlp_dim=8, context=32, tied=False)


@pytest.fixture(scope="module")
def params():
    """Blocks that add nothing; the head reads dimension 1, into which the vector points. The norm
    is that of dimension 0 up to a millionth, so logits are linear in the multiplier."""
    tree = init_params(jax.random.key(0), CFG, std=0.2)
    layers = {
        name: jnp.zeros_like(leaf) if name in ("o", "down") else leaf
        for name, leaf in tree["layers"].items()
    }
    embed = tree["embed"].at[:, :2].set(jnp.array([SIZE, 0.0]))
    shrunk = SIZE / CFG.dim**0.5
    head = jnp.zeros_like(tree["lm_head"]).at[1, : len(SLOPES)].set(jnp.asarray(SLOPES) * shrunk)
    return {**tree, "layers": layers, "embed": embed, "lm_head": head}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, CFG.vocab, n).tolist() for n in rng.integers(1, 20, len(SLOPES))]
    return Contrasts(prompts, [[i] for i in range(len(SLOPES))], [[OTHER]] * len(SLOPES))


def test_slopes_share_and_decomposition_are_the_planted_ones(params, rows):
    vector = np.zeros((1, 1, CFG.dim), np.float32)
    vector[..., 1] = 1.0
    m = propensities(params, CFG, rows, vector, [1])[:, 0]
    slopes = per_sample_slopes(m, MULTIPLIERS)
    np.testing.assert_allclose(slopes.slope, SLOPES, atol=1e-5)
    np.testing.assert_allclose(slopes.residual, 0, atol=1e-5)
    assert anti_steerable(slopes.slope) == pytest.approx(0.5, abs=1e-5)
    parts = decompose_slopes(slopes.slope, IS_FIRST, IS_YES)
    assert parts.letter == pytest.approx(0.36 / 4, abs=1e-5)
    assert parts.yes_no == pytest.approx(0.81 / 4, abs=1e-5)
    assert parts.unexplained == pytest.approx(4.0, abs=1e-5)
    local = local_steerability(params, CFG, rows, vector, [1])
    np.testing.assert_allclose(local.slope[:, 0], SLOPES, atol=1e-5)
    np.testing.assert_allclose(local.curvature, 0, atol=1e-5)
