"""Guards: what they take out of training, exactly, and that they leave the rest alone."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from subliminal_jax.diagnostics.alignment import make_probe
from subliminal_jax.diagnostics.parameter_space import score_gradient, steering_score
from subliminal_jax.errors import InputError
from subliminal_jax.models.steered import combine_steerings, steer
from subliminal_jax.training.adapters import LoRA, Vector
from subliminal_jax.training.arms import Arm, TrainConfig, row_orders
from subliminal_jax.training.guards import Guard, project_out, select_rows
from subliminal_jax.training.losses import heldout_loss
from subliminal_jax.training.objectives import KL, stack_steerings
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep
from tests.training.tiny import CFG, Recorded, base, close, identical, rows

BASE = base()
LAYER = 0
DATA = {"control": rows(12, 1), "steered": rows(12, 2)}
V = jnp.linspace(-1.0, 1.5, CFG.dim)
PROBE = make_probe([[3, 4, 5], [6, 7], [8, 9, 10, 11]], CFG)
CONFIG = TrainConfig(steps=4, batch_size=4, adapter=LoRA(rank=2, alpha=4.0), log_every=1)
ADAM = OptimizerSpec("adamw")


def scores(context, params, steering):
    """The steering score at the prompts' last token and over all their tokens."""
    probe, vector = context
    return jnp.stack(
        [steering_score(params, probe, CFG, vector, LAYER, steering, at) for at in ("last", "mean")]
    )


def each(n: int, tree):
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * n), tree)


PROJECT = Guard(scores=scores, context=each(2, (PROBE, V)))
STEERINGS = (steer(V, LAYER, 0.0), steer(V, LAYER, 0.7))
INOCULATE = Guard(inoculation=stack_steerings(STEERINGS))


def tree(seed: int, lead: tuple[int, ...] = ()):
    shapes = {"layers": {"q": {"a": (2, 5, 3), "b": (2, 3, 4)}}, "vector": (7,)}
    keys = iter(jax.random.split(jax.random.key(seed), 3))
    return jax.tree.map(
        lambda shape: jax.random.normal(next(keys), (*lead, *shape)),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def dots(directions, update):
    flat = jax.vmap(lambda g: ravel_pytree(g)[0])(directions)
    return flat @ ravel_pytree(update)[0]


@jax.jit
def project(update, directions):
    rule = project_out()
    return rule.update(update, rule.init(update), directions=directions)[0]


# -- the transformation ---------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e15])
def test_what_is_left_is_orthogonal_to_every_direction_and_the_rest_stays(scale):
    update = tree(0)
    directions = jax.tree.map(lambda g: scale * g, tree(1, (3,)))
    left = project(update, directions)
    unit = jax.tree.map(lambda g: g / scale, directions)
    np.testing.assert_allclose(dots(unit, left), 0, atol=1e-5)
    taken = ravel_pytree(jax.tree.map(jnp.subtract, update, left))[0]
    span = np.asarray(jax.vmap(lambda g: ravel_pytree(g)[0])(unit))
    inside = span.T @ np.linalg.lstsq(span.T, np.asarray(taken), rcond=None)[0]
    np.testing.assert_allclose(taken, inside, atol=1e-4)
    close(project(left, directions), left, rtol=1e-5)


def test_zero_and_repeated_directions_count_for_nothing():
    update, one = tree(0), tree(1, (1,))
    padded = jax.tree.map(lambda g: jnp.concatenate([g, 0 * g, -2 * g]), one)
    close(project(update, padded), project(update, one), rtol=1e-5)
    identical(project(update, jax.tree.map(jnp.zeros_like, one)), update)


def test_it_makes_no_difference_how_layers_are_stacked():
    def apart(tree, axis):
        layers = [jax.tree.map(lambda x, i=i: jnp.take(x, i, axis), tree["layers"]) for i in (0, 1)]
        return {"first": layers[0], "second": layers[1], "vector": tree["vector"]}

    update, directions = tree(0), tree(1, (2,))
    projected = project(apart(update, 0), apart(directions, 1))
    close(projected, apart(project(update, directions), 0), rtol=1e-5)


def test_it_goes_after_an_optimizer_in_a_chain_of_optax():
    rule = optax.chain(optax.adam(0.1), project_out())
    weights, directions = tree(2), tree(1, (1,))
    update, state = rule.update(tree(0), rule.init(weights), weights, directions=directions)
    np.testing.assert_allclose(dots(directions, update), 0, atol=1e-5)
    update, _ = rule.update(tree(3), state, weights, directions=tree(4, (1,)))
    np.testing.assert_allclose(dots(tree(4, (1,)), update), 0, atol=1e-5)


# -- in a sweep -----------------------------------------------------------------------------


def seen(context, view):
    """The score's change along the update, and the update's and the gradient's components."""
    gradients = [
        score_gradient(view.model, view.before, PROBE, CFG, V, LAYER, at) for at in ("last", "mean")
    ]
    change = jnp.stack([optax.tree.vdot(g, view.update) for g in gradients])
    size = optax.tree.norm(view.update) * jnp.stack([optax.tree.norm(g) for g in gradients])
    return {"change": change / size, "update_norm": optax.tree.norm(view.update)}


SEEN = (Recorded(seen),)


def trained(guard: Guard | None, config=CONFIG, arms=None, measures=SEEN, **more):
    arms = arms or [Arm(ADAM, 1e-2, 0, "steered"), Arm(ADAM, 3e-3, 1, "control")]
    options = {} if guard is None else {"guard": guard}
    sweep = Sweep(BASE, CFG, arms, DATA, config, measures=measures, **options, **more)
    state, metrics = sweep.init(), []
    for _ in range(config.steps // config.log_every):
        state, m = sweep.advance(state)
        metrics.append(jax.tree.map(np.asarray, m))
    return sweep, state, metrics


@pytest.fixture(scope="module")
def unguarded():
    return trained(None)


@pytest.fixture(scope="module")
def projected():
    return trained(PROJECT)


def test_no_projected_update_changes_a_score_to_first_order(unguarded, projected):
    for metrics in unguarded[2]:
        assert np.abs(metrics["change"]).max(axis=1).min() > 1e-3
    for metrics in projected[2]:
        assert np.abs(metrics["change"]).max() < 1e-5
        assert (metrics["update_norm"] > 0).all()


def test_a_students_guard_is_that_of_its_data_set(unguarded):
    """The control's vector is zero: it is trained as without a guard, whoever is beside it."""
    probes = each(2, PROBE)
    guard = Guard(scores=scores, context=(probes, jnp.stack([0 * V, V])))
    sweep, state, _ = trained(guard, measures=())
    students, expected = sweep.students(state), unguarded[0].students(unguarded[1])
    close(*(jax.tree.map(lambda x: x[1], t) for t in (students, expected)), rtol=1e-4)
    moved = jax.tree.map(lambda a, b: jnp.abs(a[0] - b[0]).max(), students, expected)
    assert max(jax.tree.leaves(moved)) > 1e-4


def test_a_vector_student_takes_up_nothing_of_a_vector_that_is_projected_out():
    config = replace(CONFIG, adapter=Vector(LAYER))
    arms = [Arm(ADAM, 0.1, 0, "steered")]
    sweep, state, _ = trained(PROJECT, config, arms, measures=())
    vector = sweep.students(state)["vector"][0]
    assert float(jnp.linalg.norm(vector)) > 0.1
    cosine = vector @ V / jnp.linalg.norm(V) / jnp.linalg.norm(vector)
    assert abs(float(cosine)) < 1e-5


def test_an_inoculated_student_trains_with_the_vector_and_is_evaluated_without_it():
    config = replace(CONFIG, adapter=Vector(1))
    arms = (Arm(ADAM, 0.1, 0, "steered"),)
    sweep, state, metrics = trained(INOCULATE, config, arms, measures=())
    order = row_orders(arms, 12, config)[0, 0]
    batch = jax.tree.map(lambda leaf: leaf[order], DATA["steered"])
    with_it = heldout_loss(BASE, batch, CFG, STEERINGS[1], rows_at_once=4)
    np.testing.assert_allclose(metrics[0]["batch_loss"][0], with_it, rtol=1e-5)
    own = steer(sweep.students(state)["vector"][0], 1)
    without = heldout_loss(BASE, DATA["steered"], CFG, own, rows_at_once=4)
    np.testing.assert_allclose(sweep.evaluate(state, DATA)[0], without, rtol=1e-5)


@pytest.mark.parametrize("adapter", [CONFIG.adapter, Vector(LAYER)], ids=["lora", "vector"])
def test_nothing_is_left_to_learn_of_a_teacher_whose_vector_is_given(adapter):
    """KL to the steered teacher: with the guard the loss and every step are zero."""
    config = replace(CONFIG, adapter=adapter)
    arms = [
        Arm(OptimizerSpec("sgd"), 0.1, 0, "steered"),
        Arm(OptimizerSpec("sgd"), 0.1, 0, "control"),
    ]
    objective = KL(("control", "steered"), stack_steerings(STEERINGS))
    sweep, state, metrics = trained(INOCULATE, config, arms, measures=(), objective=objective)
    assert max(np.abs(m["batch_loss"]).max() for m in metrics) < 1e-6
    moved = jax.tree.map(jnp.subtract, sweep.students(state), sweep.students(sweep.init()))
    assert float(optax.tree.norm(moved)) < 1e-6
    _, _, unguarded = trained(None, config, arms, measures=(), objective=objective)
    assert unguarded[0]["batch_loss"][0] > 1e-3


def test_a_guard_that_does_not_fit_is_refused():
    one = Guard(inoculation=stack_steerings(STEERINGS[:1]))
    with pytest.raises(InputError, match=r"vectors for \[1\] data sets; give one each for control"):
        trained(one)
    average = [Arm(OptimizerSpec("schedule_free_sgd"), 0.1, 0, "steered")]
    with pytest.raises(InputError, match="schedule_free_sgd evaluates an average"):
        trained(PROJECT, arms=average)


# -- rows -----------------------------------------------------------------------------------


def test_the_rows_that_teach_most_are_dropped_or_as_many_at_random():
    taught = np.array([3.0, -1.0, 9.0, 0.0, 5.0, 2.0, 1.0, 4.0, 8.0, 7.0])
    assert select_rows(taught, 0.3).tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert select_rows(taught, 0.0).tolist() == list(range(10))
    at_random = select_rows(taught, 0.3, seed=1)
    assert len(set(at_random.tolist())) == 7 and (np.diff(at_random) > 0).all()
    assert at_random.tolist() == select_rows(-taught, 0.3, seed=1).tolist()
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="guard share"):
            select_rows(taught, share)


# -- two steerings together -----------------------------------------------------------------


def test_two_steerings_together_add_what_both_add():
    a, b = steer(V, 0, 0.5), steer(V[::-1], 1, 2.0)
    both = combine_steerings(combine_steerings(a, b), steer(V, 1, -1.0))
    assert both is not None and both.layers == (0, 1)
    np.testing.assert_allclose(both.vectors, jnp.stack([0.5 * V, 2 * V[::-1] - V]), rtol=1e-6)
    assert (
        combine_steerings(a, None) is a
        and combine_steerings(None, b) is b
        and combine_steerings(None, None) is None
    )
    with pytest.raises(ValueError, match="combined"):
        combine_steerings(a, steer(V, 0, operation="project_out"))
