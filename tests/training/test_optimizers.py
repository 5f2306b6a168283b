"""Every registered optimizer over one mixed tree: matrices, LoRA factors, a table, norm gains."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from subliminal_jax.training.optimizers import (
    OPTIMIZERS,
    OptimizerSpec,
    make_optimizer,
)

NAMES = sorted(OPTIMIZERS)
# Settings under which right can be told from wrong: the steps of prodigy and dog grow from a
# millionth of the parameters, and sophia divides roundings of its momentum by 0.01 of the Hessian.
TESTABLE = {
    "prodigy": "prodigy:estim_lr0=0.01",
    "dog": "dog:reps_rel=0.1",
    "sophia": "sophia:gamma=1",
}
L, STEPS = 3, 4


@functools.cache
def tree():
    """Parameters around 0.1 in size, LoRA's b at zero; small enough to compile fast."""
    shapes = {
        "embed": (7, 4),
        "layers": {
            "q": (L, 4, 6),
            "attn_norm": (L, 4),
            "up": {"a": (L, 4, 2), "b": (L, 2, 5)},
        },
        "final_norm": (4,),
    }
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(jax.random.key(0), len(leaves))
    params = treedef.unflatten(
        [0.1 * jax.random.normal(k, s) for k, s in zip(keys, leaves, strict=True)]
    )
    params["layers"]["up"]["b"] = jnp.zeros((L, 2, 5))
    return params


def noise(seed, scale=0.3):
    keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(tree())))
    leaves, treedef = jax.tree.flatten(tree())
    drawn = [scale * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return treedef.unflatten(drawn)


def objective(params, coupling=0.02):
    """A quadratic whose Hessian couples the coordinates of a leaf; its minimum is off 0."""
    total = 0.0
    for i, x in enumerate(jax.tree.leaves(params)):
        curvature = 0.3 + jnp.linspace(0, 1, x.size).reshape(x.shape)
        error = x - 0.1 * jnp.cos(i + jnp.arange(x.size)).reshape(x.shape)
        total += 0.5 * jnp.sum(curvature * error**2) + coupling * jnp.sum(error) ** 2
    return total


gradient = jax.jit(jax.grad(objective))
# For sophia: its random signs are other ones in another tree, but on a diagonal they do not matter.
uncoupled = functools.partial(objective, coupling=0.0)


def unstacked(params):
    """The same parameters, one leaf a layer, under a root that is not "layers"."""
    split = {k: v for k, v in params.items() if k != "layers"}
    split["blocks"] = jax.tree.map(tuple, params["layers"])
    return split


def restacked(split):
    params = {k: v for k, v in split.items() if k != "blocks"}
    is_layers = lambda x: isinstance(x, tuple)  # noqa: E731
    params["layers"] = jax.tree.map(jnp.stack, split["blocks"], is_leaf=is_layers)
    return params


@functools.cache
def step(name):
    """One compiled step, (params, state, grads, rate) -> (params, state), with donated inputs."""

    def run(params, state, grads, rate):
        optimizer = make_optimizer(OptimizerSpec.parse(name), rate, total_steps=10)
        extra = {"value": 0.0, "grad": grads, "key": jax.random.key(0), "obj_fn": uncoupled}
        updates, state = optimizer.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    return jax.jit(run, donate_argnums=(0, 1))


def fresh(name, params=None):
    """(params, state) whose buffers may be donated."""
    params = jax.tree.map(jnp.copy, tree() if params is None else params)
    init = make_optimizer(OptimizerSpec.parse(name), 0.1, total_steps=10).init
    return params, jax.jit(init)(params)


def middle(name):
    grid = OptimizerSpec.parse(name).entry.grid
    return grid[len(grid) // 2]


def trajectory(name, rates):
    """Parameters after each step, gradients being the quadratic's with noise."""
    params, state = fresh(name)
    points = []
    for t, rate in enumerate(rates):
        grads = jax.tree.map(jnp.add, gradient(params), noise(t))
        params, state = step(name)(params, state, grads, jnp.float32(rate))
        points.append(jax.tree.map(np.asarray, params))
    return points


def assert_close(actual, expected, start, rtol=1e-5):
    """Equality of two points, in units of the way from `start`."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e, s in zip(*map(jax.tree.leaves, (actual, expected, start)), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=rtol * np.abs(e - s).max() + 1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_stacked_equals_unstacked(name):
    name, rate = TESTABLE.get(name, name), middle(name)

    def run(split, state, grads):
        optimizer = make_optimizer(OptimizerSpec.parse(name), rate, total_steps=10)
        obj_fn = lambda s: uncoupled(restacked(s))  # noqa: E731
        updates, state = optimizer.update(grads, state, split, obj_fn=obj_fn)
        return optax.apply_updates(split, updates), state

    split = unstacked(tree())
    state = make_optimizer(OptimizerSpec.parse(name), rate, total_steps=10).init(split)
    run = jax.jit(run)
    for t, expected in enumerate(trajectory(name, [rate] * STEPS)):
        grads = jax.tree.map(jnp.add, gradient(restacked(split)), noise(t))
        split, state = run(split, state, unstacked(grads))
        assert_close(expected, restacked(split), tree())
    moved = optax.tree.norm(optax.tree.sub(expected, tree()))
    assert float(moved) > 1e-3 * float(optax.tree.norm(tree()))


OPTAX = {
    "adafactor": lambda lr: optax.adafactor(
        lr, min_dim_size_to_factor=2, multiply_by_parameter_scale=False
    ),
    "adafactor:multiply_by_parameter_scale=true": lambda lr: optax.adafactor(
        lr, min_dim_size_to_factor=2
    ),
    "lamb:min_rms=0": optax.lamb,
    "fromage:min_rms=0": lambda lr: optax.fromage(lr, min_norm=0.0),
    "novograd": optax.novograd,
    "sm3:eps=1e-8": optax.sm3,
    "muon:optax_form=true": lambda lr: optax.contrib.muon(lr, consistent_rms=0.2),
}


@pytest.mark.parametrize("name", OPTAX)
def test_lifted_rules_are_optax_on_separate_layers_and_not_on_stacked_ones(name):
    rate = middle(name)
    rule = OPTAX[name](rate)

    def keep(params):
        # Muon of optax would orthogonalise the embedding's table as well: compare without it.
        return {k: v for k, v in params.items() if k != "embed" or not name.startswith("muon")}

    @functools.partial(jax.jit, static_argnums=0)
    def two_steps(optimizer, params, gradients):
        state = optimizer.init(params)
        for grads in gradients:
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return params

    stacked = [keep(noise(t)) for t in range(2)]
    separate = [unstacked(grads) for grads in stacked]
    ours = make_optimizer(OptimizerSpec.parse(name), rate)
    expected = restacked(two_steps(rule, unstacked(keep(tree())), separate))
    assert_close(two_steps(ours, keep(tree()), stacked), expected, keep(tree()))
    with pytest.raises(AssertionError):
        assert_close(two_steps(rule, keep(tree()), stacked), expected, keep(tree()), rtol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_kind_says_how_far_a_gradient_reaches(name):
    """One gradient's coordinate (layer 1 of q, row 2, column 3) is changed: what moves?"""
    hot = noise(0)
    hot["layers"]["q"] = hot["layers"]["q"].at[1, 2, 3].multiply(-100.0)
    ends = []
    for first in (noise(0), hot):
        params, state = fresh(name)
        for grads in (noise(7), first, *[noise(1)] * 12):
            params, state = step(name)(params, state, grads, jnp.float32(middle(name)))
        ends.append(params)
    moved = jax.tree.map(lambda a, b: np.asarray(a != b), *ends)
    q = moved["layers"]["q"][1]
    assert q[2, 3]
    in_coordinate, in_layer = 1, int(q.sum())
    everywhere = sum(int(x.sum()) for x in jax.tree.leaves(moved))
    reach = {
        "elementwise": everywhere == in_coordinate,
        "per_leaf": everywhere == in_layer > in_coordinate,
        "global": everywhere > in_layer,
    }
    assert reach[OPTIMIZERS[name].kind], (in_layer, everywhere)


@pytest.mark.parametrize("name", NAMES)
def test_zero_parameters_and_gradients_stay_finite(name):
    zeros = jax.tree.map(jnp.zeros_like, tree())
    params, state = fresh(name, zeros)
    for t in range(4):  # all zero, then LoRA's first step (a has no gradient), then a zero rate
        grads = zeros if t < 2 else noise(t)
        grads["layers"]["up"]["a"] = jnp.zeros_like(grads["layers"]["up"]["a"])
        rate = jnp.float32(0.0 if t in (0, 3) else middle(name))
        params, state = step(name)(params, state, grads, rate)
        assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((params, state)))
    assert float(jnp.abs(params["layers"]["up"]["b"]).max()) > 0


@pytest.mark.parametrize("name", NAMES)
def test_students_mapped_over_rates_equal_each_alone_with_and_without_schedule(name):
    """Under vmap, a traced rate and a schedule that closes over it, against plain rates."""
    rates, name = OPTIMIZERS[name].grid[1:4], TESTABLE.get(name, name)
    grads, factors = [noise(t) for t in range(3)], np.array([0.5, 1.0, 0.25], np.float32)

    def student(rate):
        ends = []
        for rate_or_schedule in (rate, lambda count: rate * jnp.asarray(factors)[count]):
            optimizer = make_optimizer(OptimizerSpec.parse(name), rate_or_schedule, total_steps=10)
            params, state = tree(), optimizer.init(tree())
            for g in grads:
                updates, state = optimizer.update(g, state, params, obj_fn=uncoupled)
                params = optax.apply_updates(params, updates)
            ends.append(params)
        return ends

    mapped = jax.jit(jax.vmap(student))(jnp.asarray(rates))
    for i, rate in enumerate(rates):
        for end, scale in zip(mapped, (np.ones_like(factors), factors), strict=True):
            params, state = fresh(name)
            for g, f in zip(grads, scale, strict=True):
                params, state = step(name)(params, state, g, jnp.float32(rate * f))
            assert_close(jax.tree.map(lambda x, i=i: x[i], end), params, tree())


@pytest.mark.parametrize("name", NAMES)
def test_reduces_a_noisy_quadratic_at_the_middle_of_its_grid_compiled_once(name):
    params, state = fresh(name)
    for t in range(200):
        grads = jax.tree.map(jnp.add, gradient(params), noise(t, 0.02))
        params, state = step(name)(params, state, grads, jnp.float32(middle(name)))
    end = make_optimizer(OptimizerSpec(name), 0.1).eval_params(params, state)
    assert (end is params) != name.startswith("schedule_free")
    assert float(objective(end)) < 0.7 * float(objective(tree()))
    assert step(name)._cache_size() == 1
    assert not any(x.weak_type for x in jax.tree.leaves(state))
    before, after = (params, state), step(name)(params, state, grads, jnp.float32(0.1))
    assert all(x.is_deleted() for x in jax.tree.leaves(before[0]))  # donated, and used
    assert not any(x.is_deleted() for x in jax.tree.leaves((after, grads)))


def test_states_survive_a_checkpoint(tmp_path):
    import orbax.checkpoint as ocp

    states = {name: fresh(name)[1] for name in NAMES}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "states", states)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "states", states)
    assert jax.tree.structure(restored) == jax.tree.structure(states)
    jax.tree.map(np.testing.assert_array_equal, restored, states)


def test_muon_orthogonalises_each_projection_of_each_layer_and_nothing_else():
    rate = 0.5
    optimizer = make_optimizer(OptimizerSpec("muon"), rate)
    updates, _ = optimizer.update(noise(0), optimizer.init(tree()), tree())
    up = updates["layers"]["up"]
    for stack in (updates["layers"]["q"], up["a"], up["b"]):
        singular = np.linalg.svd(stack, compute_uv=False)  # [L, min(rows, columns)]
        assert np.all(np.abs(singular / (rate * 0.2 * max(stack.shape[1:]) ** 0.5) - 1) < 0.35)
    for other in (updates["embed"], updates["final_norm"], updates["layers"]["attn_norm"]):
        first = np.abs(other)  # Adam's first step has one size for all coordinates
        np.testing.assert_allclose(first, first.max(), rtol=1e-4)


@pytest.mark.parametrize(
    "params", [{"vector": jnp.ones(5)}, {"layers": {"q": jnp.ones((2, 3, 4))}}]
)
def test_muon_serves_trees_without_one_of_its_parts(params):
    optimizer = make_optimizer(OptimizerSpec("muon"), 0.1)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert all(float(jnp.abs(u).max()) > 0 for u in jax.tree.leaves(updates))


@pytest.mark.parametrize("name", ["lamb", "fromage"])
def test_the_floor_of_the_trust_ratio_moves_a_zero_leaf(name):
    zeros = {"layers": {"q": {"b": jnp.zeros((2, 3, 4))}}}
    grads = jax.tree.map(jnp.ones_like, zeros)
    optimizer = make_optimizer(OptimizerSpec.parse(f"{name}:min_rms=0.01"), 0.1)
    updates, _ = optimizer.update(grads, optimizer.init(zeros), zeros)
    np.testing.assert_allclose(updates["layers"]["q"]["b"], -0.1 * 0.01, rtol=0.01)


def test_sophia_asks_for_the_loss_and_finds_a_diagonal_hessian_exactly():
    optimizer = make_optimizer(OptimizerSpec("sophia"), 0.1)
    params = {"layers": {"q": jnp.ones((2, 3, 4))}}
    curvature = 1.0 + jnp.arange(24.0).reshape(2, 3, 4)
    obj_fn = lambda p: 0.5 * jnp.sum(curvature * p["layers"]["q"] ** 2)  # noqa: E731
    _, state = optimizer.update(params, optimizer.init(params), params, obj_fn=obj_fn)
    np.testing.assert_allclose(state[0].hessian["layers"]["q"], 0.01 * curvature, rtol=1e-5)
    with pytest.raises(TypeError, match="obj_fn"):
        optimizer.update(params, optimizer.init(params), params)


def test_ademamix_warms_up_over_the_given_steps():
    """The weight of the slow momentum rises to its value at total_steps, and stays there."""
    params, grads = {"vector": jnp.ones(4)}, {"vector": jnp.arange(1.0, 5.0)}
    warm = make_optimizer(OptimizerSpec("ademamix"), 0.1, total_steps=3)
    cold = make_optimizer(OptimizerSpec("ademamix"), 0.1)
    _, state = warm.update(grads, warm.init(params), params)
    b1, b3 = math.log(0.9), math.log(0.9999)
    third = math.exp(b1 * b3 / (2 / 3 * b3 + 1 / 3 * b1))
    np.testing.assert_allclose(state[0].m2["vector"][0], 1 - third, rtol=1e-3)
    _, state = warm.update(grads, state, params)
    for _ in range(2):  # the third step and one beyond
        after, next_state = warm.update(grads, state, params)
        constant, _ = cold.update(grads, state, params)
        np.testing.assert_allclose(after["vector"], constant["vector"], rtol=1e-5)
        state = next_state
