"""Coverage against what it is by definition: products that are made, gradients through the factors,
and the steering score itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from subliminal_jax.diagnostics.coverage import (
    first_update,
    gradient_alignment,
    measure_coverage,
    pull_back,
    steering_displacement,
    weight_displacement,
    weight_gradient,
)
from subliminal_jax.diagnostics.parameter_space import steering_score
from subliminal_jax.errors import InputError
from subliminal_jax.training.adapters import Full, LoRA, Vector, attach, init_trainable, merge
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.losses import mean_loss, token_losses
from subliminal_jax.training.sweep import Sweep

LAYER = 1
LORA = LoRA(rank=2, alpha=6.0, targets=("q", "down"), layers=(1,))


@pytest.fixture(scope="module")
def gradient(params, cfg, batch):
    return weight_gradient(params, cfg, batch, rows_at_once=2)


@pytest.fixture(scope="module")
def displacement(params, cfg, probe, vector):
    return steering_displacement(params, probe, cfg, vector, LAYER)


@pytest.fixture(scope="module")
def start(params, cfg):
    return init_trainable(jax.random.key(3), params, cfg, LORA)


def weights_of(params, trainable, cfg, adapter):
    return merge(attach(params, trainable, cfg, adapter)[0])


def perturb(tree, seed, size=0.1):
    flat, unravel = ravel_pytree(tree)
    return unravel(size * jax.random.normal(jax.random.key(seed), flat.shape))


def test_the_gradient_of_parts_is_that_of_the_whole(params, cfg, batch, gradient):
    def loss(params):
        return mean_loss(*token_losses(params, batch, cfg, None))

    value, whole = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(gradient.loss, value, rtol=1e-5)
    np.testing.assert_allclose(
        ravel_pytree(gradient.gradient)[0], ravel_pytree(whole)[0], rtol=1e-3, atol=1e-6
    )


def test_at_its_start_lora_has_a_gradient_in_b_alone(params, cfg, batch, gradient, start):
    pulled = pull_back(gradient.gradient, start, params, cfg, LORA)

    def loss(trainable):
        student, _ = attach(params, trainable, cfg, LORA)
        return mean_loss(*token_losses(student, batch, cfg, None))

    direct = jax.jit(jax.grad(loss))(start)
    for name in LORA.targets:
        assert not np.any(pulled["layers"][name]["a"])
        assert np.any(pulled["layers"][name]["b"])
    np.testing.assert_allclose(
        ravel_pytree(pulled)[0], ravel_pytree(direct)[0], rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("moved", [False, True], ids=["start", "later"])
def test_a_change_of_factors_is_that_of_the_products(params, cfg, displacement, start, moved):
    """At the start, where b is zero, and at a point where it is not."""
    if moved:
        start = jax.tree.map(jnp.add, start, perturb(start, 1))
    update = perturb(start, 2)
    covered = measure_coverage(start, update, displacement, LORA)
    before, after = (
        weights_of(params, t, cfg, LORA) for t in (start, jax.tree.map(jnp.add, start, update))
    )
    change, goal = (
        np.concatenate([np.ravel(tree["layers"][name][1]) for name in LORA.targets])
        for tree in (weight_displacement(after, before), displacement)
    )
    np.testing.assert_allclose(covered.size, np.linalg.norm(change), rtol=1e-3)
    np.testing.assert_allclose(
        covered.component, change @ goal / np.linalg.norm(goal), rtol=1e-2, atol=1e-4
    )
    np.testing.assert_allclose(covered.cosine, covered.component / covered.size, rtol=1e-5)


def test_a_small_step_moves_the_steering_score_by_its_component(
    params, cfg, probe, vector, displacement, gradient, start
):
    """<dW, grad S> is what S gains, and the component is it over |grad S|, under both adapters."""
    score = jax.jit(lambda p: steering_score(p, probe, cfg, vector, LAYER))
    for adapter, begin in ((LORA, start), (Full(), params)):
        pulled = pull_back(gradient.gradient, begin, params, cfg, adapter)
        update, step = first_update("adamw", 1e-4, begin, pulled, gradient.loss)
        assert step == 1
        covered = measure_coverage(begin, update, displacement, adapter)
        kept = displacement
        if adapter is LORA:
            kept = [displacement["layers"][name][1] for name in LORA.targets]
        after = weights_of(params, jax.tree.map(jnp.add, begin, update), cfg, adapter)
        gained = score(after) - score(params)
        length = np.linalg.norm(ravel_pytree(kept)[0])
        np.testing.assert_allclose(gained, covered.component * length, rtol=0.05, atol=2e-5)


def test_of_plain_sgd_on_all_weights_coverage_is_the_alignment_of_the_gradient(
    params, displacement, gradient
):
    aligned = gradient_alignment(gradient.gradient, displacement, Full(), params)
    for rate in (1e-3, 0.5):
        update, _ = first_update("sgd", rate, params, gradient.gradient, gradient.loss)
        covered = measure_coverage(params, update, displacement, Full())
        np.testing.assert_allclose(covered.cosine, aligned, rtol=1e-3)
        size = rate * np.linalg.norm(ravel_pytree(gradient.gradient)[0])
        np.testing.assert_allclose(covered.size, size, rtol=1e-3)


def test_a_student_that_steps_onto_its_teacher_covers_all_of_the_displacement(params, cfg, start):
    update = perturb(start, 5)
    taught = weights_of(params, jax.tree.map(jnp.add, start, update), cfg, LORA)
    covered = measure_coverage(start, update, weight_displacement(taught, params), LORA)
    np.testing.assert_allclose(covered.cosine, 1.0, rtol=1e-3)
    np.testing.assert_allclose(covered.component, covered.size, rtol=1e-3)


def test_it_is_the_update_that_a_students_first_step_makes(params, cfg, batch, gradient):
    """In a sweep whose batch is all of the rows, from the start that the seed draws."""
    rules = {"adamw": 1e-3, "muon": 1e-2, "sgd": 0.3}
    arms = [Arm(rule, rate, 7, "rows") for rule, rate in rules.items()]
    plan = TrainConfig(steps=1, batch_size=len(batch.tokens), adapter=LORA, log_every=1)
    sweep = Sweep(params, cfg, arms, {"rows": batch}, plan)
    begun = sweep.init()
    start = init_trainable(jax.random.key(7), params, cfg, LORA)
    pulled = pull_back(gradient.gradient, start, params, cfg, LORA)
    ended, _ = sweep.advance(begun)
    after = sweep.students(ended)
    for i, (rule, rate) in enumerate(rules.items()):
        update, _ = first_update(rule, rate, start, pulled, gradient.loss)
        expected = ravel_pytree(jax.tree.map(jnp.add, start, update))[0]
        student = ravel_pytree(jax.tree.map(lambda x, i=i: x[i], after))[0]
        moved = float(jnp.abs(expected - ravel_pytree(start)[0]).max())
        np.testing.assert_allclose(student, expected, atol=0.02 * moved, err_msg=rule)


def test_a_rule_that_only_looks_at_first_moves_at_its_second_step(params, cfg, gradient, start):
    pulled = pull_back(gradient.gradient, start, params, cfg, LORA)
    for name, step in (("soap", 2), ("adopt", 2), ("signum", 1)):
        found = first_update(name, 1e-3, start, pulled, gradient.loss)
        assert found.step == step, name
        for target in LORA.targets:
            assert not np.any(found.update["layers"][target]["a"])
            assert np.any(found.update["layers"][target]["b"])


def test_what_has_no_coverage_is_refused(params, cfg, gradient, start):
    zero = jax.tree.map(jnp.zeros_like, start)
    with pytest.raises(InputError, match="samples the loss at other weights"):
        first_update("sophia", 1e-3, start, zero, 1.0)
    with pytest.raises(InputError, match="has not moved after 4 steps"):
        first_update("sgd", 1e-3, start, zero, 1.0)
    vector = init_trainable(jax.random.key(0), params, cfg, Vector(LAYER))
    with pytest.raises(InputError, match="a vector changes no weight"):
        pull_back(gradient.gradient, vector, params, cfg, Vector(LAYER))
