"""Packed batches train what padded ones do, in less room; shapes serve all students and steps."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.compilation import count_compilations
from subliminal_jax.models.steered import steer
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training import layout as layouts
from subliminal_jax.training.adapters import LoRA, Vector
from subliminal_jax.training.arms import Arm, TrainConfig, distinct_orders
from subliminal_jax.training.batch import Batch, stack_rows
from subliminal_jax.training.guards import Guard
from subliminal_jax.training.layout import Layout, fit_rows, lay_out, place_rows, plan_layout
from subliminal_jax.training.losses import token_losses
from subliminal_jax.training.objectives import KL
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep
from tests.training.tiny import CFG, TIME, base, close, rows

BASE = base()
LONG = 2 * TIME
VECTOR = np.linspace(-1, 1, CFG.dim, dtype=np.float32)


def stretched(n: int, seed: int, time: int = LONG) -> Batch:
    """`rows` in arrays of `time`, with a weight on a first token, which none may use."""
    batch = rows(n, seed)
    wide = [
        jnp.pad(leaf, ((0, 0), (0, time - TIME)), constant_values=fill)
        for leaf, fill in zip(batch[:3], (0, -1, 0), strict=True)
    ]
    return Batch(*wide)._replace(loss_mask=wide[2].at[:, 0].set(1))


DATA = {"a": stretched(16, 1), "b": stretched(16, 2)}
PLAN = TrainConfig(steps=4, batch_size=8, adapter=LoRA(rank=2, alpha=4.0), log_every=2)
ARMS = (
    Arm(OptimizerSpec.parse("adamw"), 1e-2, 0, "a"),
    Arm(OptimizerSpec.parse("sgd"), 0.3, 1, "b"),
    Arm(OptimizerSpec.parse("sophia:update_interval=2"), 1e-2, 0, "b"),
)


def test_rows_are_placed_side_by_side_and_fill_what_they_can():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 13, (50, 16))
    row, start = place_rows(lengths, 13)
    for i in range(len(lengths)):
        taken = np.zeros((16, 13), int)
        for j in range(16):
            taken[row[i, j], start[i, j] : start[i, j] + lengths[i, j]] += 1
        assert taken.max() == 1 and taken.sum() == lengths[i].sum()
        used = row[i].max() + 1
        assert taken[:used].any(axis=1).all() and not taken[used:].any()
        # Best fit decreasing needs at most 11/9 of the best, and 4.
        assert used <= 11 / 9 * -(-lengths[i].sum() // 13) + 4


def test_a_packed_batch_holds_the_rows_and_no_first_token_is_predicted():
    batch = stretched(5, 3)
    lengths = np.sum(np.asarray(batch.positions) >= 0, axis=1)
    row, start = place_rows(lengths[None], LONG)
    count = int(row.max()) + 1
    layout = Layout(*map(jnp.asarray, (row[0], start[0])), count, LONG, LONG, 5 * LONG)
    packed = lay_out(batch, layout)
    assert packed.tokens.shape == (count, LONG)
    for i, n in enumerate(lengths):
        place = row[0, i], slice(start[0, i], start[0, i] + n)
        for name in ("tokens", "positions"):
            np.testing.assert_array_equal(getattr(packed, name)[place], getattr(batch, name)[i, :n])
        np.testing.assert_array_equal(packed.segment_ids[place], i + 1)
        np.testing.assert_array_equal(packed.loss_mask[place][1:], batch.loss_mask[i, 1:n])
        assert packed.loss_mask[place][0] == 0 < batch.loss_mask[i, 0]
    empty = np.asarray(packed.segment_ids) == 0
    assert empty.sum() == count * LONG - lengths.sum()
    assert (np.asarray(packed.positions)[empty] == -1).all()
    assert not np.asarray(packed.loss_mask)[empty].any()
    assert lay_out(batch, replace(layout, row=None, start=None)) is batch


def test_losses_of_joined_rows_are_those_of_the_rows():
    batch = rows(6, 4)
    most = TIME - 1
    losses, weights = token_losses(BASE, batch, CFG, max_targets=most)
    for groups in (1, 2, 3):
        predicts = np.asarray(weights != 0).reshape(groups, -1)
        total = int(predicts.sum(axis=1).max())
        joined_losses, kept = token_losses(
            BASE, batch, CFG, max_targets=most, total_targets=total, groups=groups
        )
        assert joined_losses.shape == kept.shape == (groups, total)
        for i, chosen in enumerate(predicts):
            expected = np.asarray(losses).reshape(groups, -1)[i][chosen]
            np.testing.assert_allclose(
                np.asarray(joined_losses)[i][: chosen.sum()], expected, rtol=1e-5
            )
            assert not np.asarray(kept)[i][chosen.sum() :].any()


def make_sweep(packs: bool, monkeypatch, **changes) -> Sweep:
    monkeypatch.setattr(layouts, "MAX_PACKED_WORK", 0.9 if packs else 0.0)
    config = replace(PLAN, **{k: changes.pop(k) for k in list(changes) if hasattr(PLAN, k)})
    arms = changes.pop("arms", ARMS)
    return Sweep(BASE, CFG, arms, DATA, config, **changes)


def trained(packs: bool, monkeypatch, **changes):
    """(sweep, metrics of both logged steps, students)."""
    sweep = make_sweep(packs, monkeypatch, **changes)
    state, metrics = sweep.init(), []
    for _ in range(2):
        state, logged = sweep.advance(state)
        metrics.append(logged)
    return sweep, metrics, sweep.students(state)


TEACHERS = {
    name: Teacher(steer(jnp.asarray(s * VECTOR), 0)) for name, s in (("a", 1.0), ("b", -0.5))
}
CASES = {
    "cross-entropy": {"arms": ARMS[:2]},
    "KL": {"arms": ARMS[:2], "objective": KL.from_teachers(TEACHERS)},
    "two parts": {"arms": ARMS[1:], "accumulation": 2},
    "inoculated": {
        "arms": ARMS[:1],
        "guard": Guard(inoculation=KL.from_teachers(TEACHERS).steerings),
        "adapter": Vector(layer=1),
    },
    "all at once": {"arms": ARMS[:2], "students_at_once": 2},
}


@pytest.fixture(scope="module")
def padded_run():
    """What `trained` gives of a case without packing; each is trained once."""

    @functools.cache
    def train(case):
        with pytest.MonkeyPatch.context() as patch:
            return trained(False, patch, **CASES[case])

    return train


@pytest.mark.parametrize("case", CASES)
def test_packed_students_are_the_padded_ones(case, padded_run, monkeypatch):
    """Whatever the objective, the optimizer (Sophia evaluates the loss itself) and the parts. Those
    that share a pass are held against the padded ones that go through one by one."""
    alone = "cross-entropy" if case == "all at once" else case
    padded, expected, students = padded_run(alone)
    packed, metrics, packed_students = trained(True, monkeypatch, **CASES[case])
    assert padded._inputs.layout.row is None and packed._inputs.layout.row is not None
    assert packed.padding_share < 0.5 < 0.6 < padded.padding_share
    for one, other in zip(metrics, expected, strict=True):
        np.testing.assert_allclose(one["batch_loss"], other["batch_loss"], rtol=1e-5)
        np.testing.assert_allclose(one["gradient_norm"], other["gradient_norm"], rtol=1e-4)
    close(packed_students, students, rtol=2e-3)


def test_the_share_of_padding_is_that_of_the_slots(monkeypatch):
    sweep = make_sweep(True, monkeypatch)
    layout, orders = sweep._inputs.layout, np.asarray(sweep._inputs.orders)
    tokens = [np.sum(np.asarray(DATA[n].positions) >= 0, axis=1) for n in sorted(DATA)]
    # Of all pairs of an order and a data set, whose shapes are the same.
    used = np.mean([n[order].sum(axis=-1).mean() for n in tokens for order in orders[:2]])
    assert sweep.padding_share == pytest.approx(1 - used / (layout.rows * layout.time), abs=1e-6)


def test_rows_stay_as_they_are_where_something_else_has_their_shape(monkeypatch):
    """A teacher with rows of its own, and rows that are packed already."""
    objective = KL.from_teachers(TEACHERS, DATA)
    assert make_sweep(True, monkeypatch, objective=objective)._inputs.layout.row is None
    packed = {
        k: v._replace(segment_ids=(v.positions >= 0).astype(jnp.int32)) for k, v in DATA.items()
    }
    sweep = Sweep(BASE, CFG, ARMS[1:2], packed, PLAN)
    assert sweep._inputs.layout.row is None
    sweep.advance(sweep.init())


def test_long_rows_are_packed_into_rows_of_their_own_length():
    """Short ones into those that take the least work; wide models have less of it in attention."""
    lengths = np.random.default_rng(0).integers(10, 101, (30, 16))
    for factor, longest in ((1, 100), (3, 300)):
        row, start, count, time = fit_rows(factor * lengths, longest, replace(CFG, mlp_dim=10_000))
        assert (time == longest) == (factor == 3)
        assert (start + factor * lengths).max() <= time and row.max() < count < 16


def test_full_rows_stay_as_they_are():
    full = rows(8, 5)._replace(
        positions=jnp.broadcast_to(jnp.arange(TIME, dtype=jnp.int32), (8, TIME))
    )
    sweep = Sweep(BASE, CFG, ARMS[:1], {"a": full}, replace(PLAN, batch_size=4))
    assert sweep._inputs.layout.row is None and sweep.padding_share == 0.0


def test_other_rates_and_data_sets_of_the_same_seeds_take_the_same_programs(monkeypatch):
    arms = ARMS[:2]
    sweep, _, _ = trained(True, monkeypatch, arms=arms)
    swapped = [replace(a, data="ab"["ba".index(a.data)], learning_rate=2e-3) for a in arms]
    with count_compilations() as compiled:
        other = sweep.replace_arms(swapped)
        other.advance(other.init())
    assert compiled.names == []
    seeds = [replace(a, seed=a.seed + 10) for a in arms]
    other, fresh = sweep.replace_arms(seeds), Sweep(BASE, CFG, seeds, DATA, PLAN)
    assert other._inputs.layout.rows >= fresh._inputs.layout.rows
    _, metrics = other.advance(other.init())
    _, expected = fresh.advance(fresh.init())
    np.testing.assert_allclose(metrics["batch_loss"], expected["batch_loss"], rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_plan_of_groups_fits_every_group(groups):
    orders, order_indices = distinct_orders(ARMS, 16, PLAN)
    sets = np.array([0, 1, 1])
    stacked = stack_rows([DATA["a"], DATA["b"]])
    layout, _ = plan_layout(stacked, orders, order_indices, sets, CFG, groups=groups)
    assert layout.rows % groups == 0 and layout.groups == groups
    most = 0
    for student, (data_set, index) in enumerate(zip(sets, order_indices, strict=True)):
        for step, chosen in enumerate(orders[index]):
            batch = jax.tree.map(lambda x, w=data_set, c=chosen: x[w, c], stacked)
            step_layout = jax.tree.map(lambda x, s=student, t=step: x[s, t], layout)
            predicted = np.asarray(lay_out(batch, step_layout).loss_mask) != 0
            assert predicted.sum() == (np.asarray(batch.loss_mask)[:, 1:] != 0).sum()
            assert predicted.sum(axis=1).max() <= layout.max_targets
            most = max(most, predicted.reshape(groups, -1).sum(axis=1).max())
    assert most <= layout.total_targets
