"""A LoRA projection acts as one matrix, merged or not, and merges only where nothing is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.models.linear import LoraWeight, linear, merging_pays

RANK = 2


def weight(width_in: int, width_out: int, dtype=jnp.float32) -> LoraWeight:
    keys = jax.random.split(jax.random.key(0), 3)
    base = jax.random.normal(keys[0], (width_in, width_out), dtype)
    a = jax.random.normal(keys[1], (width_in, RANK))
    b = jax.random.normal(keys[2], (RANK, width_out))
    return LoraWeight(base, a, b, jnp.asarray(0.5))


# Narrow with many tokens, narrow with few, and wide for this rank: the first is merged.
@pytest.mark.parametrize(
    ("tokens", "widths", "merged"),
    [((3, 20), (24, 40), True), ((2, 3), (24, 40), False), ((3, 90), (96, 250), False)],
)
def test_values_and_gradients_are_those_of_one_dense_matrix(tokens, widths, merged):
    w = weight(*widths)
    assert merging_pays(tokens[0] * tokens[1], w) == merged
    x = jax.random.normal(jax.random.key(1), (*tokens, widths[0]))
    target = jax.random.normal(jax.random.key(2), (*tokens, widths[1]))

    def by_linear(x, a, b):
        y = linear(x, LoraWeight(w.base, a, b, w.scale))
        assert y.shape == target.shape
        return jnp.sum(y * target), y

    def dense(x, a, b):
        y = jnp.einsum("...i,io->...o", x, w.base + w.scale * a @ b)
        return jnp.sum(y * target), y

    ours, expected = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2), has_aux=True))(x, w.a, w.b)
        for f in (by_linear, dense)
    )
    for one, other in zip(*map(jax.tree.leaves, (ours, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * float(jnp.abs(other).max()))


def test_an_update_below_the_resolution_of_a_bfloat16_base_is_not_lost():
    a = jnp.zeros((4, RANK)).at[0].set(1e-3)
    w = LoraWeight(jnp.ones((4, 4), jnp.bfloat16), a, jnp.ones((RANK, 4)), jnp.asarray(1.0))
    x = jnp.tile(jnp.asarray([1.0, -1.0, 1.0, -1.0], jnp.bfloat16), (8, 1))
    assert merging_pays(len(x), w)  # by its sizes
    assert (w.merge() == w.base).all()  # 1 + 2e-3 rounds to 1
    y = np.asarray(linear(x, w), np.float32)  # of which the base gives 0
    np.testing.assert_allclose(y, RANK * 1e-3, rtol=0.01)


def test_without_lora_a_projection_is_a_product():
    w = weight(5, 7).base
    x = jax.random.normal(jax.random.key(3), (2, 3, 5))
    np.testing.assert_allclose(linear(x, w), jnp.einsum("bti,io->bto", x, w), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(linear(x[0, 0], w), x[0, 0] @ w, rtol=1e-5, atol=1e-5)
