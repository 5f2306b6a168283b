"""Every registered optimizer, and the documented example of a user's own, through the checks of
`subliminal_jax.testing`; and what single rules promise."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from docs.examples.rms_momentum import rms_momentum
from subliminal_jax import testing
from subliminal_jax.diagnostics.spectrum import spectrum_of_product, stable_rank
from subliminal_jax.errors import InputError
from subliminal_jax.testing.optimizers import (
    LAYERS,
    assert_same_point,
    make_gradients,
    make_parameters,
)
from subliminal_jax.training.checkpoints import Checkpoints
from subliminal_jax.training.optimizers import OPTIMIZERS, Entry, OptimizerSpec, make_optimizer
from subliminal_jax.training.optimizers.registry import _entries
from subliminal_jax.training.optimizers.stacking import restack, unstack

# Settings under which right can be told from wrong: the steps of prodigy and dog grow from a
# millionth of the parameters, sophia divides roundings of its momentum by 0.01 of the Hessian, and
# scion's balls are for models of some 1,000 dimensions.
TESTABLE = {
    "prodigy": "prodigy:estim_lr0=0.01",
    "dog": "dog:reps_rel=0.1",
    "sophia": "sophia:gamma=1",
    "scion": "scion:radius=3,table_radius=3",
}
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
TABLE = {**{name: (name, ()) for name in sorted(OPTIMIZERS)}, "example": (rms_momentum, RATES)}


def middle(name):
    grid = OptimizerSpec.parse(name).entry.grid
    return grid[len(grid) // 2]


# A rule in which a coordinate's gradient moves that coordinate alone knows nothing of layers; that
# it is one is what `test_kind_says_how_far_a_gradient_reaches` shows.
LOOKS_FURTHER = [
    name for name in TABLE if name not in OPTIMIZERS or OPTIMIZERS[name].kind != "elementwise"
]


@pytest.mark.parametrize("name", LOOKS_FURTHER)
def test_stacked_layers_are_trained_as_separate_ones(name):
    optimizer, rates = TABLE[name]
    testing.check_stacking(TESTABLE.get(name, optimizer), rates)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize(
    "check",
    [
        testing.check_schedules,
        testing.check_resume,
        testing.check_zero_gradients,
        testing.check_progress,
        testing.check_compilation,
    ],
)
def test_every_optimizer_is_sound(check, name):
    optimizer, rates = TABLE[name]
    if check is testing.check_schedules or name == "scion":
        optimizer = TESTABLE.get(name, optimizer)
    check(optimizer, rates)


def test_a_state_without_matrices_for_long_sides_is_kept():
    for name in ("soap", "kron", "shampoo"):
        testing.check_resume(f"{name}:max_dim=2")


def test_a_modified_rule_is_sound():
    for check in (testing.check_stacking, testing.check_resume, testing.check_zero_gradients):
        check("lookahead:cautious:clip_adaptive:centralized:momentum(every=2)", [0.3, 3.0, 10.0])


def test_a_spectral_penalty_is_sound_and_flattens():
    for check in (testing.check_stacking, testing.check_zero_gradients):
        check("flattened:sgd", [0.01, 0.1])
    keys = jax.random.split(jax.random.key(0), 2)
    # Products of one direction that is ten times as large as the others.
    sizes = jnp.diag(jnp.array([10.0, 1.0, 1.0]))
    a = jnp.linalg.qr(jax.random.normal(keys[0], (2, 8, 3)))[0] @ sizes
    b = jnp.swapaxes(jnp.linalg.qr(jax.random.normal(keys[1], (2, 6, 3)))[0], 1, 2)
    params = {"layers": {"q": {"a": a, "b": b}}}
    optimizer = make_optimizer("flattened:sgd(weight=1.0)", 0.1)
    state, zeros = optimizer.init(params), jax.tree.map(jnp.zeros_like, params)

    def find_rank(params):
        pair = params["layers"]["q"]
        return stable_rank(jax.vmap(spectrum_of_product)(pair["a"], pair["b"]).values)

    before = find_rank(params)
    for _ in range(100):
        updates, state = optimizer.update(zeros, state, params)
        params = optax.apply_updates(params, updates)
    assert (find_rank(params) > before + 0.1).all()


def test_all_checks_together():
    testing.check_optimizer("sgd")
    with pytest.raises(AssertionError, match="not finite"):
        testing.check_optimizer(dividing_by_a_norm, [0.1])


def counting_from_one(rate):
    schedule = rate if callable(rate) else lambda count: rate
    return optax.scale_by_schedule(lambda count: -schedule(count + 1))


def dividing_by_a_norm(rate):
    divide = optax.stateless(lambda g, p: jax.tree.map(lambda x: x / jnp.linalg.norm(x), g))
    return optax.chain(divide, optax.scale_by_learning_rate(rate))


def growing(rate):
    def update(updates, state, params=None):
        return updates, jnp.concatenate([state, state[:1]])

    grow = optax.GradientTransformation(lambda params: jnp.zeros(1), update)
    return optax.chain(grow, optax.scale_by_learning_rate(rate))


FAULTS = {
    testing.check_schedules: (counting_from_one, "mapped over rates, a schedule, 0.1: .*off"),
    testing.check_zero_gradients: (dividing_by_a_norm, "not finite after step 1, from zero"),
    testing.check_progress: (lambda rate: optax.sgd(lambda c: -0.1), "leave .* of the objective"),
    testing.check_compilation: (growing, "compiled 4 times, not once"),
}


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
@pytest.mark.parametrize("check", FAULTS)
def test_a_faulty_rule_fails_its_check(check):
    rule, message = FAULTS[check]
    with pytest.raises(AssertionError, match=message):
        check(rule, [0.1])


def test_a_rule_that_mixes_layers_fails_and_is_sound_once_it_is_lifted(monkeypatch):
    mixing = Entry(
        lambda rate: optax.chain(optax.scale_by_trust_ratio(), optax.sgd(rate)),
        "",
        "per_leaf",
        "",
        (0.1,),
    )
    monkeypatch.setitem(_entries, "mixing", mixing)
    with pytest.raises(AssertionError, match="mixing: stacked layers: .*'attn_norm'.* off"):
        testing.check_stacking("mixing")
    testing.check_stacking(mixing.build, [0.1])


def test_a_state_that_a_checkpoint_does_not_keep_fails(monkeypatch):
    monkeypatch.setattr(Checkpoints, "restore", lambda self, like: like)
    with pytest.raises(AssertionError, match="momentum: a resumed run ends elsewhere"):
        testing.check_resume("momentum")


@pytest.mark.parametrize("rates", [[], [0.1, 0.01], [0.0, 0.1], [float("nan")]])
def test_rates_that_cannot_be_tried_are_refused(rates):
    with pytest.raises(InputError, match="rates of rms_momentum: .*give positive ones"):
        testing.check_optimizer(rms_momentum, rates)


def test_layers_are_unstacked_in_their_order():
    params = make_parameters()
    split = unstack(params)
    for i in range(LAYERS):
        np.testing.assert_array_equal(split["blocks"]["q"][i], params["layers"]["q"][i])
    assert len(split["blocks"]["q"]) == LAYERS and "layers" not in split


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

    start = keep(make_parameters())
    stacked = [keep(make_gradients(t)) for t in range(2)]
    separate = [unstack(grads) for grads in stacked]
    ours = make_optimizer(OptimizerSpec.parse(name), rate)
    expected = restack(two_steps(rule, unstack(start), separate), start)
    assert_same_point(two_steps(ours, start, stacked), expected, name)
    with pytest.raises(AssertionError):
        assert_same_point(two_steps(rule, start, stacked), expected, name, rtol=0.05)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_kind_says_how_far_a_gradient_reaches(name):
    assert testing.measure_reach(name) == OPTIMIZERS[name].kind


def test_schedule_free_rules_alone_are_evaluated_elsewhere():
    elsewhere = {name for name, entry in OPTIMIZERS.items() if entry.evaluates_elsewhere}
    assert elsewhere == {"schedule_free_sgd", "schedule_free_adamw"}


def first_update(optimizer, gradients, params):
    """The updates of the first step, and the state after it, in one program."""

    @jax.jit
    def update(gradients, params):
        return optimizer.update(gradients, optimizer.init(params), params)

    return update(gradients, params)


def test_muon_orthogonalises_each_projection_of_each_layer_and_nothing_else():
    rate = 0.5
    optimizer = make_optimizer(OptimizerSpec("muon"), rate)
    params = make_parameters()
    updates, _ = first_update(optimizer, make_gradients(0), params)
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
    updates, _ = first_update(optimizer, params, params)
    assert all(float(jnp.abs(u).max()) > 0 for u in jax.tree.leaves(updates))


@pytest.mark.parametrize("name", ["lamb", "fromage"])
def test_the_floor_of_the_trust_ratio_moves_a_zero_leaf(name):
    zeros = {"layers": {"q": {"b": jnp.zeros((2, 3, 4))}}}
    grads = jax.tree.map(jnp.ones_like, zeros)
    optimizer = make_optimizer(OptimizerSpec.parse(f"{name}:min_rms=0.01"), 0.1)
    updates, _ = first_update(optimizer, grads, zeros)
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
    _, state = first_update(warm, grads, params)
    b1, b3 = math.log(0.9), math.log(0.9999)
    third = math.exp(b1 * b3 / (2 / 3 * b3 + 1 / 3 * b1))
    np.testing.assert_allclose(state[0].m2["vector"][0], 1 - third, rtol=1e-3)
    update_warm, update_cold = jax.jit(warm.update), jax.jit(cold.update)
    _, state = update_warm(grads, state, params)
    for _ in range(2):  # the third step and one beyond
        after, next_state = update_warm(grads, state, params)
        constant, _ = update_cold(grads, state, params)
        np.testing.assert_allclose(after["vector"], constant["vector"], rtol=1e-5)
        state = next_state
