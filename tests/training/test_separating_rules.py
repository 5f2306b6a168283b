"""The rules that tell explanations apart, each against numpy or a rule that it must equal."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from subliminal_jax.training.optimizers import OptimizerSpec, make_optimizer
from subliminal_jax.training.optimizers.rotations import random_rotation
from subliminal_jax.training.optimizers.separating import largest, scales

L, D, R, F = 3, 6, 2, 5
SHAPES = {
    "layers": {
        name: {"a": (L, rows, R), "b": (L, R, columns)}
        for name, rows, columns in (("q", D, D), ("gate", D, F), ("up", D, F), ("down", F, D))
    }
}


def tree(seed, scale=1.0):
    leaves, treedef = jax.tree.flatten(SHAPES, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return treedef.unflatten(
        [scale * jax.random.normal(k, s) for k, s in zip(keys, leaves, strict=True)]
    )


def flat(x):
    return np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(x)])


def updates(name, steps=1, rate=1.0, moment=None):
    """The updates of some steps on the gradients tree(1), tree(2), ..., params staying put."""
    optimizer = make_optimizer(OptimizerSpec.parse(name), rate)
    params = tree(0)
    state = optimizer.init(params)
    if moment is not None:
        state = optax.tree.set(state, moment=moment)
    seen = []
    for t in range(steps):
        u, state = optimizer.update(tree(t + 1), state, params)
        seen.append(flat(u))
    return seen


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
def test_masking_clipping_and_keeping_the_largest_coordinates(share):
    g = flat(tree(1))
    count = max(round(share * g.size), 1)
    order = np.argsort(-np.abs(g))
    top, limit = np.zeros(g.size, bool), np.abs(g)[order[count]]
    top[order[:count]] = True
    np.testing.assert_array_equal(flat(largest(tree(1), share)), top)
    np.testing.assert_array_equal(updates(f"top_masked:sgd(share={share})")[0], -g * ~top)
    np.testing.assert_array_equal(updates(f"top_only:sgd(share={share})")[0], -g * top)
    clipped = updates(f"top_clipped:sgd(share={share})")[0]
    np.testing.assert_array_equal(clipped, -np.clip(g, -limit, limit))


def test_no_coordinate_is_largest_among_equals_or_at_share_zero():
    assert not flat(largest(jax.tree.map(jnp.ones_like, tree(0)), 0.5)).any()
    np.testing.assert_array_equal(updates("top_masked:sgd(share=0)"), updates("sgd"))


def test_a_living_map_is_adam_and_a_frozen_one_of_ones_is_sgd():
    np.testing.assert_allclose(updates("living_map", 3), updates("adam", 3), rtol=1e-5)
    np.testing.assert_allclose(updates("frozen_map:eps=1e-30", 3), updates("sgd", 3), rtol=1e-6)
    smoothed = updates("frozen_map:eps=1e-30,b1=0.9", 2)[1]
    g1, g2 = flat(tree(1)), flat(tree(2))
    np.testing.assert_allclose(smoothed, -(0.09 * g1 + 0.1 * g2) / 0.19, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("in_root", "eps"), [(True, 1e-8), (False, 1e-8), (True, 0.3)])
def test_the_frozen_map_scales_by_the_given_moment(in_root, eps):
    moment = jax.tree.map(jnp.square, tree(5, 1e-3))
    v = flat(moment)
    s = 1 / np.sqrt(v + eps) if in_root else 1 / (np.sqrt(v) + eps)
    name = f"frozen_map:eps={eps},eps_in_root={str(in_root).lower()}"
    for t, u in enumerate(updates(name, 2, moment=moment)):
        np.testing.assert_allclose(u, -s * flat(tree(t + 1)), rtol=1e-5)


def test_the_plain_map_without_a_level_below_its_bottom():
    moment = jax.tree.map(jnp.square, tree(5))
    s, low = 1 / np.sqrt(flat(moment) + 1e-8), flat(largest(moment, 0.1))
    assert s[low].max() < s[~low].min()
    zero = scales(
        moment,
        eps=1e-8,
        eps_in_root=True,
        bottom=0.1,
        flat_rest=False,
        flat_bottom=False,
        zero_bottom=True,
        live_mean=False,
    )
    np.testing.assert_allclose(flat(zero), np.where(low, 0, s), rtol=1e-5)


@pytest.mark.parametrize("live_mean", [False, True])
def test_the_level_of_a_map_counts_coordinates_without_a_gradient_unless_told(live_mean):
    moment = tree(5)
    for factors in moment["layers"].values():  # as at LoRA's first step
        factors["a"], factors["b"] = 0 * factors["a"], factors["b"] ** 2
    level = scales(
        moment,
        eps=1e-8,
        eps_in_root=False,
        bottom=0.0,
        flat_rest=True,
        flat_bottom=False,
        zero_bottom=False,
        live_mean=live_mean,
    )
    logs = -np.log(np.sqrt(np.maximum(flat(moment), 0)) + 1e-8)
    expected = np.exp(logs[flat(moment) > 0].mean() if live_mean else logs.mean())
    np.testing.assert_allclose(flat(level), expected, rtol=1e-4)


def test_masked_adamw_leaves_the_given_coordinates_or_sets_them_to_zero():
    moment = jax.tree.map(jnp.square, tree(5))
    held = flat(largest(moment, 0.1))
    free, zeroed = (
        updates(f"adamw_masked:zeroed={z}", moment=moment)[0] for z in ("false", "true")
    )
    adamw = updates("adamw")[0]
    np.testing.assert_array_equal(free, np.where(held, 0, adamw))
    np.testing.assert_array_equal(zeroed, np.where(held, -flat(tree(0)), adamw))
    np.testing.assert_array_equal(updates("adamw_masked", 2), updates("adamw", 2))


def test_random_rotations_are_orthogonal_and_without_a_preferred_direction():
    R = np.asarray(random_rotation(jax.random.key(0), (300, 7, 7)), np.float64)
    np.testing.assert_allclose(R @ R.swapaxes(1, 2), np.broadcast_to(np.eye(7), R.shape), atol=1e-5)
    # Entries of a uniform one have mean 0 and second moment 1/n; of 300, to within 5 deviations.
    assert np.abs(R.mean(axis=0)).max() < 5 * (1 / 7 / 300) ** 0.5
    assert np.abs((R**2).mean(axis=0) - 1 / 7).max() < 5 * (2 / 49 / 300) ** 0.5
    assert 0.3 < (np.linalg.det(R) > 0).mean() < 0.7


@pytest.mark.parametrize("flags", ["", ",mlp_only=true", ",per_layer=true"])
def test_sgd_is_the_same_in_every_basis_and_adam_is_not(flags):
    values = f"(seed=3{flags})"
    sgd = updates(f"rotated:sgd{values}", 2)
    np.testing.assert_allclose(sgd, updates("sgd", 2), rtol=1e-4, atol=1e-5)
    turned, plain = updates(f"rotated:adamw{values}", 2), updates("adamw", 2)
    assert np.abs(turned[1] - plain[1]).max() > 0.1
    # Adam's first step has the same length in every basis: one a coordinate.
    np.testing.assert_allclose(np.linalg.norm(turned[0]), np.linalg.norm(plain[0]), rtol=1e-4)


def test_rotated_adam_is_adam_on_rotated_parameters():
    """A run on R' x with the loss f(R (R' x)) ends where the rotated rule's run on x does."""
    target = tree(7)

    def loss(x):
        return 0.5 * sum(
            jnp.sum((i + 1.0) * (a - b) ** 2 * jnp.linspace(0.1, 1, a.size).reshape(a.shape))
            for i, (a, b) in enumerate(
                zip(jax.tree.leaves(x), jax.tree.leaves(target), strict=True)
            )
        )

    ours = make_optimizer(OptimizerSpec.parse("rotated:adamw(mlp_only=true,per_layer=true)"), 0.1)
    state = ours.init(tree(0))
    turns = state.rotations

    def turn(x, back):
        layers = {k: dict(v) for k, v in x["layers"].items()}
        for name, factor in (("gate", "a"), ("up", "a"), ("down", "b")):
            Q = turns[f"{L} layers of {D}"]
            Q = jnp.swapaxes(Q, 1, 2) if back else Q
            y = layers[name][factor]
            layers[name][factor] = (
                jnp.einsum("lij,ljr->lir", Q, y)
                if factor == "a"
                else jnp.einsum("lij,lrj->lri", Q, y)
            )
        return {"layers": layers}

    adam = optax.adam(0.1)
    x, y = tree(0), turn(tree(0), back=False)
    inner = adam.init(y)
    for _ in range(4):
        u, state = ours.update(jax.grad(loss)(x), state, x)
        x = optax.apply_updates(x, u)
        u, inner = adam.update(jax.grad(lambda y: loss(turn(y, back=True)))(y), inner)
        y = optax.apply_updates(y, u)
    np.testing.assert_allclose(flat(x), flat(turn(y, back=True)), rtol=1e-3, atol=1e-4)


def test_rows_have_unit_length_and_factors_their_own_rates():
    optimizer = make_optimizer(OptimizerSpec("normalized_sgd_per_row"), 2.0)
    params = {**tree(0), "embed": jnp.ones((4, 3)), "final_norm": jnp.ones(5)}
    grads = {**tree(1), "embed": 2 + jnp.ones((4, 3)), "final_norm": jnp.arange(5.0)}
    u, _ = optimizer.update(grads, optimizer.init(params), params)
    for leaf in jax.tree.leaves(u["layers"]):
        np.testing.assert_allclose(jnp.linalg.norm(leaf, axis=1), 2.0, rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(u["embed"], axis=1), 2.0, rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(u["final_norm"]), 2.0, rtol=1e-5)
    is_a = flat(
        {
            "layers": {
                k: {"a": jnp.ones_like(v["a"]), "b": jnp.zeros_like(v["b"])}
                for k, v in tree(0)["layers"].items()
            }
        }
    )
    rates = np.where(is_a, 16.0, 0.5)
    for rule in ("sgd", "adamw"):
        expected = updates(rule)[0] * rates
        np.testing.assert_allclose(updates(f"by_factor:{rule}(a=16,b=0.5)")[0], expected, rtol=1e-6)
