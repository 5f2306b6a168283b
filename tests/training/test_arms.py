"""Learning rates, orders of the rows, and what is refused before anything is compiled."""

import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.models.steered import steer
from subliminal_jax.training.adapters import Vector
from subliminal_jax.training.arms import Arm, TrainConfig, row_orders
from subliminal_jax.training.batch import stack_rows
from subliminal_jax.training.objectives import KL, stack_steerings
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep
from tests.training.tiny import CFG, base, rows

ROWS = 12
BASE = base()
DATA = {"steered": rows(ROWS, 1), "control": rows(ROWS, 2), "mixed": rows(ROWS, 3)}
ARM = Arm(OptimizerSpec("sgd"), 0.1, 0, "control")


@pytest.mark.parametrize("warmup", [0.0, 0.25])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_rates_are_the_closed_forms(schedule, warmup):
    steps, peak = 12, 3e-3
    config = TrainConfig(steps=steps, batch_size=1, schedule=schedule, warmup=warmup, log_every=1)
    warm = int(warmup * steps)
    for count in range(steps):
        done = max(count - warm, 0) / (steps - warm)
        ramp = min(1.0, (count + 1) / (warm + 1))
        decay = {"constant": 1, "linear": 1 - done, "cosine": math.cos(math.pi * done / 2) ** 2}
        rate = config.rate(peak, jnp.asarray(count))
        assert float(rate) == pytest.approx(peak * ramp * decay[schedule], rel=1e-5)
        assert 0 < float(rate) <= peak * (1 + 1e-6)


def test_arms_of_a_seed_see_the_same_rows_and_other_seeds_others():
    seeds = [3, 0, 3, 2**32 - 1, 0]
    optimizers = ("sgd", "sgd", "adam", "sgd", "lion")
    arms = tuple(Arm(OptimizerSpec(o), 0.1, s, "x") for o, s in zip(optimizers, seeds, strict=True))
    config = TrainConfig(steps=5, batch_size=4, log_every=1)
    orders = row_orders(arms, 10, config)
    for i in range(len(seeds)):
        for k in range(i):
            assert np.array_equal(orders[i], orders[k]) == (seeds[i] == seeds[k])
        epochs = orders[i].reshape(2, 10)  # two passes over the rows
        np.testing.assert_array_equal(np.sort(epochs, axis=1), [range(10)] * 2)
        assert not np.array_equal(*epochs)


def test_an_arm_of_few_rows_sees_them_alone_and_those_of_more_rows_hold_them():
    config = TrainConfig(steps=9, batch_size=4, log_every=1)
    arms = {n: Arm(OptimizerSpec("sgd"), 0.1, 5, "x", rows=n) for n in (1, 3, 6, 20)}
    seen = {n: row_orders((arm,), 20, config)[0] for n, arm in arms.items()}
    sets = {n: set(order.ravel().tolist()) for n, order in seen.items()}
    assert {n: len(s) for n, s in sets.items()} == {1: 1, 3: 3, 6: 6, 20: 20}
    assert sets[1] < sets[3] < sets[6]
    counts = np.bincount(seen[6].ravel())
    np.testing.assert_array_equal(counts[counts > 0], [6] * 6)  # 36 draws in six whole passes
    other = row_orders((replace(arms[6], seed=6),), 20, config)
    assert set(other.ravel().tolist()) != sets[6]
    for n, message in ((0, "rows=0"), (21, "21 rows does not fit data of 20")):
        with pytest.raises(InputError, match=message):
            row_orders((replace(arms[6], rows=n),), 20, config)


SMALL = TrainConfig(steps=2, batch_size=4, log_every=1)
BAD_CONFIGS = [
    ({"steps": 0}, "steps=0 .*from 1"),
    ({"steps": 5, "log_every": 2}, "steps=5 must be a multiple of log_every=2"),
    ({"log_every": 0}, "log_every=0"),
    ({"batch_size": 0}, "batch_size=0"),
    ({"accumulation": 0}, "accumulation=0"),
    ({"accumulation": 3}, "batch_size=4 must be a multiple of accumulation=3"),
    ({"students_at_once": 0}, "students_at_once=0"),
    ({"warmup": 1.0}, "warmup=1.0 .*less than 1"),
    ({"warmup": -0.1}, "warmup=-0.1"),
    ({"clip": 0.0}, "clip=0.0 .*more than 0"),
    ({"clip": math.nan}, "clip=nan"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_CONFIGS)
def test_impossible_settings(changes, message):
    with pytest.raises(InputError, match=message):
        replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**32}, "seed=4294967296"),
        ({"rank": 0}, "rank=0 .*from 1"),
    ],
)
def test_impossible_arms(changes, message):
    with pytest.raises(InputError, match=message):
        replace(ARM, **changes)


def sweep(arms=(ARM,), data=DATA, config=SMALL, **options):
    return Sweep(BASE, CFG, arms, data, config, **options)


def changed(**leaves):
    return {**DATA, "control": DATA["control"]._replace(**leaves)}


def kl(names=("control", "mixed", "steered"), batch=None):
    steerings = stack_steerings([steer(jnp.zeros((CFG.dim,)), 0)] * len(names))
    return KL(names, steerings, batch)


def own_rows(tokens=None, mask=None):
    """Rows of a teacher, the first predicted token of one of them, or its mask, changed."""
    batch = stack_rows([DATA[name] for name in sorted(DATA)])
    k = int(np.argmax(np.asarray(batch.loss_mask[1, 3]) > 0))
    if tokens is not None:
        batch = batch._replace(tokens=batch.tokens.at[1, 3, k].set(tokens))
    if mask is not None:
        batch = batch._replace(loss_mask=batch.loss_mask.at[1, 3, k].set(mask))
    return batch


BAD_SWEEPS = {
    "no arms": (lambda: sweep(arms=()), "at least one arm"),
    "no such data": (lambda: sweep([replace(ARM, data="clean")]), "'clean'; there are control"),
    "rank without LoRA": (
        lambda: sweep([replace(ARM, rank=2)], config=replace(SMALL, adapter=Vector(0))),
        "rank=2, but .*not LoRA",
    ),
    "shapes": (lambda: sweep(data=DATA | {"steered": rows(5)}), "same shape; got .*\\(5, 9\\)"),
    "packed and not": (
        lambda: sweep(data=changed(segment_ids=DATA["control"].tokens)),
        "packed .*or none",
    ),
    "too few rows": (
        lambda: sweep(config=replace(SMALL, batch_size=16)),
        "batch_size=16 .*\\(12 rows\\)",
    ),
    "nothing to predict": (
        lambda: sweep(data=changed(loss_mask=jnp.zeros((ROWS, 9)).at[:, 0].set(1))),
        "'control' holds no token to predict",
    ),
    "token outside": (
        lambda: sweep(data=changed(tokens=DATA["control"].tokens.at[0, 0].set(32))),
        "'control' holds token 32, .*0 to 31",
    ),
    "negative token": (
        lambda: sweep(data=changed(tokens=DATA["control"].tokens.at[0, 0].set(-1))),
        "token -1",
    ),
    "layer": (lambda: sweep(config=replace(SMALL, adapter=Vector(2))).init(), "layer 2 .*0 to 1"),
    "teachers": (
        lambda: sweep(objective=kl(("control", "mixed"))),
        "teachers of data control, mixed; .*steered",
    ),
    "teacher's shape": (
        lambda: sweep(objective=kl(batch=stack_rows([DATA["control"]] * 2))),
        "must be the same",
    ),
    "teacher's tokens": (
        lambda: sweep(objective=kl(batch=own_rows(tokens=0))),
        "row 3 of data 'mixed'",
    ),
    "teacher's number of tokens": (
        lambda: sweep(objective=kl(batch=own_rows(mask=0))),
        "row 3 of data 'mixed': .*tokens",
    ),
    "other optimizer": (
        lambda: sweep().replace_arms([replace(ARM, optimizer=OptimizerSpec("adam"))]),
        "same optimizers and ranks",
    ),
    "other number": (lambda: sweep().replace_arms([ARM] * 2), "same optimizers and ranks"),
    "other data": (lambda: sweep().replace_arms([replace(ARM, data="x")]), "'x'; there are"),
    "more steps": (
        lambda: (s := sweep()).replace_arms([ARM], replace(s.config, steps=1000, log_every=1)),
        "room for .* steps, not for 1000",
    ),
    "other plan": (
        lambda: (s := sweep()).replace_arms([ARM], replace(s.config, warmup=0.5)),
        "the same plan but for steps",
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD_SWEEPS.values(), ids=BAD_SWEEPS)
def test_bad_input_is_one_clear_line(make, message):
    with pytest.raises(InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
