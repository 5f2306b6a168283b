"""DPO: its loss, gradient and reference, and students that a sweep trains with it."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from subliminal_jax.data.batching import pad_pairs, pad_preferences
from subliminal_jax.errors import InputError
from subliminal_jax.training.adapters import Full, LoRA, Vector, attach, init_trainable
from subliminal_jax.training.arms import Arm, TrainConfig, row_orders
from subliminal_jax.training.batch import Batch, max_targets, stack_rows
from subliminal_jax.training.checkpoints import Checkpoints
from subliminal_jax.training.losses import sequence_log_probs
from subliminal_jax.training.objectives import CrossEntropy
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.preference import (
    DPO,
    log_ratios,
    margins,
    pair_losses,
    reference_log_ratios,
)
from subliminal_jax.training.sweep import Sweep
from tests.training.tiny import CFG, TIME, Recorded, base, close, identical, pairs

BASE, BETA, N, BATCH, STEPS = base(), 0.4, 12, 4, 24
LORA = LoRA(rank=2, alpha=4.0, targets=("q", "down"))
CONFIG = TrainConfig(steps=STEPS, batch_size=BATCH, adapter=LORA, log_every=STEPS // 3)
ARMS = tuple(
    Arm(OptimizerSpec.parse(text), rate, 0, data)
    for text, rate, data in (("adamw", 0.02, "left"), ("sgd", 0.5, "right"))
)


def preference_rows(seed: int, n: int = N) -> Batch:
    prompts, chosen = pairs(n, seed)
    _, rejected = pairs(n, seed + 100)
    return pad_preferences(prompts, chosen, rejected, TIME)


DATA = {"left": preference_rows(1), "right": preference_rows(2)}
HELDOUT = {"left": preference_rows(3, 5), "right": preference_rows(4, 5)}
WIDEST = max(max_targets(rows) for rows in (*DATA.values(), *HELDOUT.values()))


def ratios_of(data: dict[str, Batch]) -> dict[str, np.ndarray]:
    return {name: reference_log_ratios(BASE, rows, CFG) for name, rows in data.items()}


@pytest.fixture(scope="module")
def objective() -> DPO:
    return DPO.from_log_ratios(ratios_of(DATA), BETA)


@pytest.fixture(scope="module")
def run(objective):
    """(sweep, the first state's students, final state, metrics of every logged step)."""
    context = stack_rows(list(DATA.values())), objective.log_ratios
    sweep = Sweep(
        BASE,
        CFG,
        ARMS,
        DATA,
        CONFIG,
        objective=objective,
        measures=[Recorded(mean_margin, context)],
    )
    state, metrics = sweep.init(), []
    start = sweep.evaluate(state, DATA, objective=objective)
    for _ in range(3):
        state, logged = sweep.advance(state)
        metrics.append(jax.tree.map(np.asarray, logged))
    return sweep, np.asarray(start), state, metrics


def mean_margin(context, view):
    """The mean margin of each student on the pairs that it is trained on."""
    rows, ratios = jax.tree.map(lambda leaf: leaf[view.data_set], context)
    params, steering = view.model(view.trainable)
    return {"margin": margins(params, rows, CFG, ratios, steering).mean()}


def test_rows_are_the_pairs_of_both_responses():
    prompts, chosen = pairs(5, 1)
    _, rejected = pairs(5, 2)
    rows = pad_preferences(prompts, chosen, rejected, TIME, pad_id=3)
    for side, responses in enumerate((chosen, rejected)):
        identical(
            jax.tree.map(lambda leaf, side=side: leaf[:, side], rows),
            pad_pairs(prompts, responses, TIME, pad_id=3),
        )


def test_log_ratios_are_differences_of_two_forward_passes():
    rows = DATA["left"]
    score = jax.jit(partial(sequence_log_probs, cfg=CFG))
    chosen, rejected = (
        score(BASE, jax.tree.map(lambda leaf, side=side: leaf[:, side], rows)) for side in (0, 1)
    )
    expected = np.asarray(chosen - rejected)
    for at_once in (N, 5):  # in one pass, and in three of which the last is padded
        ratios = reference_log_ratios(BASE, rows, CFG, rows_at_once=at_once)
        np.testing.assert_allclose(ratios, expected, atol=1e-5)
    swapped = jax.tree.map(lambda leaf: leaf[:, ::-1], rows)
    np.testing.assert_allclose(reference_log_ratios(BASE, swapped, CFG), -expected, atol=1e-5)


def test_the_loss_of_a_pair_and_its_slope():
    """dL/drho = -beta sigmoid(-beta rho); no overflow where the margin is far off."""
    rho = jnp.array([-3.0, -0.5, 0.0, 0.2, 4.0])
    np.testing.assert_allclose(
        pair_losses(rho, BETA), np.log1p(np.exp(-BETA * np.asarray(rho))), rtol=1e-5
    )
    slope = jax.grad(lambda x: pair_losses(x, BETA).sum())(rho)
    np.testing.assert_allclose(slope, -BETA * jax.nn.sigmoid(-BETA * rho), rtol=1e-5)
    assert float(pair_losses(jnp.zeros(()), BETA)) == pytest.approx(math.log(2))
    far = pair_losses(jnp.array([-1e4, 1e4]), 1.0)
    np.testing.assert_allclose(far, [1e4, 0.0], atol=1e-6)


@pytest.mark.parametrize("adapter", [Full(), LORA, Vector(0)])
def test_the_first_gradient_is_minus_half_beta_times_the_mean_difference(adapter, objective):
    """Of log-probability gradients; the loss starts at ln 2 with every margin 0."""
    config = replace(CONFIG, steps=1, log_every=1, adapter=adapter)
    arm = Arm(OptimizerSpec.parse("sgd"), 0.1, 0, "right")

    def keep(context, view):
        return {"gradient": ravel_pytree(view.gradient)[0]}

    sweep = Sweep(BASE, CFG, [arm], DATA, config, objective=objective, measures=[Recorded(keep)])
    state = sweep.init()
    start = float(sweep.evaluate(state, DATA, objective=objective)[0])
    _, metrics = sweep.advance(state)
    assert start == pytest.approx(math.log(2), abs=1e-6)
    assert float(metrics["batch_loss"][0]) == pytest.approx(math.log(2), abs=1e-6)

    order = row_orders((arm,), N, config)[0, 0]
    batch = jax.tree.map(lambda leaf: leaf[order], DATA["right"])
    trainable = init_trainable(jax.random.key(0), BASE, CFG, adapter)

    @jax.jit
    @jax.grad
    def mean_difference(tree):
        params, steering = attach(BASE, tree, CFG, adapter)
        return log_ratios(params, batch, CFG, steering).mean()

    expected = -BETA / 2 * ravel_pytree(mean_difference(trainable))[0]
    assert np.abs(expected).max() > 1e-3
    close(metrics["gradient"][0], expected, rtol=1e-4)


def test_nothing_of_the_reference_can_be_differentiated():
    """It is computed outside of every trace, and stays what it was while the students train."""
    with pytest.raises(jax.errors.TracerArrayConversionError):
        jax.grad(lambda p: jnp.sum(reference_log_ratios(p, DATA["left"], CFG)))(BASE)


def test_students_learn_to_prefer_what_was_chosen(run):
    _, start, _, metrics = run
    np.testing.assert_allclose(start, math.log(2), atol=1e-6)
    margin = np.array([m["margin"] for m in metrics])
    losses = np.array([m["batch_loss"] for m in metrics])
    assert (margin[0] > 0.05).all() and (margin[-1] > 2 * margin[0]).all()
    assert (losses[-1] < 0.85 * math.log(2)).all()
    assert not metrics[-1]["diverged"].any()


def test_heldout_loss_is_that_of_each_student_on_its_pairs(run):
    sweep, _, state, _ = run
    ratios = ratios_of(HELDOUT)
    losses = sweep.evaluate(state, HELDOUT, objective=DPO.from_log_ratios(ratios, BETA))
    students = sweep.students(state)
    student_margins = jax.jit(partial(margins, cfg=CFG, max_targets=WIDEST))
    for i, arm in enumerate(ARMS):
        params, _ = attach(BASE, jax.tree.map(lambda x, i=i: x[i], students), CFG, LORA)
        rho = np.asarray(
            student_margins(params, HELDOUT[arm.data], reference=ratios[arm.data]), np.float64
        )
        assert float(losses[i]) == pytest.approx(np.log1p(np.exp(-BETA * rho)).mean(), rel=1e-5)


def test_batches_in_parts_and_a_run_in_two_halves_train_the_same_students(run, objective, tmp_path):
    """Accumulation is equal to rounding, a saved and restored state bit for bit."""
    sweep, _, state, metrics = run
    split = Sweep(BASE, CFG, ARMS, DATA, replace(CONFIG, accumulation=2), objective=objective)
    split_state = split.init()
    split_state, first = split.advance(split_state)
    np.testing.assert_allclose(first["batch_loss"], metrics[0]["batch_loss"], rtol=1e-4)

    half, _ = sweep.advance(sweep.init())
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, half)
    half = checkpoints.restore(sweep.init())
    checkpoints.close()
    for _ in range(2):
        half, _ = sweep.advance(half)
    identical(sweep.students(half), sweep.students(state))


def test_log_ratios_are_stored_once_and_guarded(tmp_path):
    path, rows = tmp_path / "reference.npz", DATA["left"]
    computed = reference_log_ratios(BASE, rows, CFG, path=path)
    stamp = path.stat().st_mtime_ns
    stored = reference_log_ratios(BASE, rows, CFG, path=path, rows_at_once=3)
    np.testing.assert_array_equal(stored, computed)
    assert path.stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="of other rows"):
        reference_log_ratios(BASE, DATA["right"], CFG, path=path)
    other = {**BASE, "lm_head": 2 * BASE["lm_head"]}
    with pytest.raises(InputError, match="of another model"):
        reference_log_ratios(other, rows, CFG, path=path)
    path.write_bytes(b"not an archive")
    with pytest.raises(InputError, match="cannot be read"):
        reference_log_ratios(BASE, rows, CFG, path=path)


def flat(rows: Batch) -> Batch:
    return jax.tree.map(lambda leaf: leaf[:, 0], rows)


def empty_rejected(rows: Batch) -> Batch:
    return rows._replace(loss_mask=rows.loss_mask.at[2, 1].set(0.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": CrossEntropy()}, "preference rows need the objective DPO"),
        (
            {"objective": DPO.from_log_ratios({"left": np.zeros(N)}, BETA)},
            "log-ratios of data left; the students' are left, right",
        ),
        (
            {"objective": DPO.from_log_ratios(dict.fromkeys(DATA, np.zeros(7)), BETA)},
            "data have 12 preference rows each, but 7",
        ),
        (
            {"data": {name: flat(rows) for name, rows in DATA.items()}},
            r"shape \(12, 9\); preference rows are \[rows, 2, time\]",
        ),
        (
            {"data": {**DATA, "left": empty_rejected(DATA["left"])}},
            "row 2 of data 'left': its rejected response has no token",
        ),
    ],
)
def test_data_that_do_not_fit_are_named(objective, change, message):
    settings = {"data": DATA, "objective": objective} | change
    with pytest.raises(InputError, match=message):
        Sweep(BASE, CFG, ARMS, config=CONFIG, **settings)


@pytest.mark.parametrize(
    ("right", "beta", "message"),
    [
        (np.zeros(N), 0.0, "beta=0.0 is not valid"),
        (np.zeros(N), math.nan, "beta=nan is not valid"),
        (np.zeros(7), BETA, "equally many in every data set"),
        (np.full(N, -np.inf), BETA, "row 0 of data 'right' is -inf"),
    ],
)
def test_log_ratios_that_cannot_be_are_named(right, beta, message):
    with pytest.raises(InputError, match=message):
        DPO.from_log_ratios({"left": np.zeros(N), "right": right}, beta)
