"""A sweep against students trained by hand, one at a time, with dense weights and plain loops."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from subliminal_jax.compilation import count_compilations
from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import forward
from subliminal_jax.models.steered import steer
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.adapters import LoRA, Vector, init_trainable, pad_rank, unpad_rank
from subliminal_jax.training.arms import Arm, Room, TrainConfig, row_orders
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.objectives import KL
from subliminal_jax.training.optimizers import OptimizerSpec, make_optimizer
from subliminal_jax.training.placement import map_students
from subliminal_jax.training.sweep import Sweep
from tests.training.tiny import CFG, Recorded, base, close, identical, rows

RANK, ALPHA, ROWS, BATCH, STEPS = 3, 6.0, 12, 4, 6
NAN_TOKEN, NAN_ROW = 31, 2
CONFIG = TrainConfig(
    steps=STEPS,
    batch_size=BATCH,
    adapter=LoRA(rank=RANK, alpha=ALPHA, targets=("q", "down")),
    schedule="cosine",
    warmup=0.2,
    log_every=1,
)
FACTORS = [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * k / 5)) for k in (1, 2, 3, 4))]  # of the rate

# One token has no embedding; it stands in one row of one data set.
BASE = base()
BASE["embed"] = BASE["embed"].at[NAN_TOKEN].set(jnp.nan)
DATA = {"steered": rows(ROWS, 1), "control": rows(ROWS, 2)}
DATA["poisoned"] = DATA["control"]._replace(
    tokens=DATA["control"].tokens.at[NAN_ROW, 0].set(NAN_TOKEN)
)
HELDOUT = {name: rows(BATCH, seed) for name, seed in (("steered", 3), ("control", 4))}
HELDOUT["poisoned"] = HELDOUT["control"]


def arm(text: str, rate: float, seed: int, data: str, rank: int | None = None) -> Arm:
    return Arm(OptimizerSpec.parse(text), rate, seed, data, rank)


def measure(context, view):
    """Everything that a diagnostic sees, and the logits of the student that it is handed."""
    trees = {name: getattr(view, name) for name in ("trainable", "before", "gradient", "update")}
    params, _ = view.model(view.before)
    logits, _ = forward(params, context, CFG)
    return {name: ravel_pytree(tree)[0] for name, tree in trees.items()} | {
        "logits": logits,
        "data_set": view.data_set,
    }


def scale_of(arm: Arm) -> float:
    return ALPHA / (arm.rank or RANK)


def dense_loss(trainable, scale, batch: Batch):
    """Cross-entropy of a student whose LoRA update is added to its weights."""
    layers = dict(BASE["layers"])
    for name, factors in trainable["layers"].items():
        delta = jnp.einsum("lir,lro->lio", factors["a"], factors["b"])
        layers[name] = layers[name] + scale * delta
    logits, _ = forward({**BASE, "layers": layers}, batch.tokens[:, :-1], CFG)
    log_q = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_q, batch.tokens[:, 1:, None], axis=-1)[..., 0]
    weights = batch.loss_mask[:, 1:]
    return -jnp.sum(picked * weights) / jnp.sum(weights)


dense_loss_and_gradient = jax.jit(jax.value_and_grad(dense_loss))


def padded_loss_and_gradient(trainable, arm: Arm, batch: Batch):
    """`dense_loss_and_gradient` of any rank, in one program."""
    padded = pad_rank(trainable, RANK)
    loss, gradient = dense_loss_and_gradient(padded, scale_of(arm), batch)
    return loss, unpad_rank(gradient, trainable)


def batch_of(arm: Arm, step: int) -> Batch:
    order = row_orders((arm,), ROWS, CONFIG)[0]
    return jax.tree.map(lambda leaf: leaf[order[step]], DATA[arm.data])


def train_by_hand(arm: Arm):
    """(losses, gradient norms, evaluation parameters) of one student, its rank unpadded."""
    adapter = replace(CONFIG.adapter, rank=arm.rank or RANK)
    trainable = init_trainable(jax.random.key(arm.seed), BASE, CFG, adapter)
    rates = arm.learning_rate * jnp.asarray(FACTORS, jnp.float32)
    optimizer = make_optimizer(arm.optimizer, lambda count: rates[count], total_steps=STEPS)

    @jax.jit
    def step(trainable, state, gradient, loss, batch):
        def obj_fn(trainable):
            return dense_loss(trainable, scale_of(arm), batch)

        update, state = optimizer.update(gradient, state, trainable, value=loss, obj_fn=obj_fn)
        return optax.apply_updates(trainable, update), state

    state, losses, norms = jax.jit(optimizer.init)(trainable), [], []
    for t in range(STEPS):
        batch = batch_of(arm, t)
        loss, gradient = padded_loss_and_gradient(trainable, arm, batch)
        losses.append(float(loss))
        norms.append(float(optax.tree.norm(gradient)))
        trainable, state = step(trainable, state, gradient, loss, batch)
    return np.array(losses), np.array(norms), optimizer.eval_params(trainable, state)


def student(stacked, i: int):
    return jax.tree.map(lambda leaf: leaf[i], stacked)


def unravel(flat, like):
    return ravel_pytree(like)[1](flat)


class Run:
    """A sweep taken to its end: students after each logged step, and metrics."""

    def __init__(self, sweep: Sweep):
        self.sweep, self.state = sweep, sweep.init()
        self.students, self.metrics = [sweep.students(self.state)], []
        for _ in range(sweep.config.steps // sweep.config.log_every):
            self.state, metrics = sweep.advance(self.state)
            self.metrics.append(metrics)
            self.students.append(sweep.students(self.state))
        self.diverged_at = sweep.diverged_at(self.state).tolist()


# -- every student is the one that is trained alone -----------------------------------------

ZOO = (
    arm("adamw", 1e-2, 0, "steered", rank=2),
    arm("schedule_free_adamw", 1e-2, 0, "control"),
    arm("adafactor", 1e-2, 1, "steered", rank=2),
    arm("sophia:update_interval=2", 1e-2, 2, "steered", rank=2),
    arm("muon", 1e-2, 0, "control"),
    arm("adamw", 3e-3, 1, "control", rank=2),
)


@pytest.fixture(scope="module")
def zoo():
    return Run(Sweep(BASE, CFG, ZOO, DATA, replace(CONFIG, log_every=3, students_at_once=6)))


@pytest.mark.parametrize("i", range(len(ZOO)), ids=[a.optimizer.name for a in ZOO])
def test_a_student_is_the_one_trained_by_hand(zoo, i):
    """Whatever its optimizer, rank and place among the arms."""
    losses, norms, expected = train_by_hand(ZOO[i])
    trained = student(zoo.students[-1], i)
    start = student(zoo.students[0], i)
    close(unpad_rank(start, expected), train_start(ZOO[i]), rtol=1e-6)
    moved, by_hand = (
        jax.tree.map(jnp.subtract, tree, unpad_rank(start, tree))
        for tree in (unpad_rank(trained, expected), expected)
    )
    close(moved, by_hand, rtol=2e-3)
    assert not any(leaf.any() for leaf in jax.tree.leaves(padding(trained, expected)))
    for k, metrics in enumerate(zoo.metrics):
        steps = slice(3 * k, 3 * k + 3)
        np.testing.assert_allclose(metrics["batch_loss"][i], losses[steps].mean(), rtol=1e-5)
        np.testing.assert_allclose(metrics["gradient_norm"][i], norms[steps][-1], rtol=1e-3)


def train_start(arm: Arm):
    adapter = replace(CONFIG.adapter, rank=arm.rank or RANK)
    return init_trainable(jax.random.key(arm.seed), BASE, CFG, adapter)


def padding(tree, like):
    """What `tree` holds beyond the rank of `like`."""
    return jax.tree.map(jnp.subtract, tree, pad_rank(unpad_rank(tree, like), RANK))


# -- what is measured, how students are grouped, and what the programs serve ------------------

TRIO = (
    arm("adamw", 1e-2, 0, "steered", rank=2),
    arm("sgd", 0.3, 1, "control"),
    arm("adamw", 3e-3, 1, "control", rank=2),
)
OTHERS = (
    arm("adamw", 2e-3, 2, "control", rank=2),
    arm("sgd", 0.1, 0, "steered"),
    arm("adamw", 1e-2, 4, "steered", rank=2),
)
PROBE = rows(2, 5).tokens


MEASURES = (Recorded(measure, PROBE),)


def make(arms, measures=MEASURES, **changes) -> Sweep:
    config = replace(CONFIG, **changes)
    return Sweep(BASE, CFG, arms, DATA, config, measures=measures)


def test_students_of_mixed_ranks_are_scaled_by_their_own():
    plain, stabilised = (
        make(TRIO, adapter=replace(CONFIG.adapter, rslora=rslora))._scales
        for rslora in (False, True)
    )
    ranks = np.array([TRIO[i].rank or RANK for g in make(TRIO).groups for i in g.members])
    np.testing.assert_allclose(plain, ALPHA / ranks, rtol=1e-6)
    np.testing.assert_allclose(stabilised, ALPHA / np.sqrt(ranks), rtol=1e-6)


@pytest.fixture(scope="module")
def trio():
    with count_compilations() as compiled:
        run = Run(make(TRIO))
    assert compiled.count("_advance_fn") == compiled.count("_init_fn") == 1
    return run


def test_measure_sees_the_gradient_and_the_update_of_the_last_step(trio):
    for t, metrics in enumerate(trio.metrics):
        for i, a in enumerate(TRIO):
            like = student(trio.students[0], i)
            seen = {
                name: unravel(metrics[name][i], like)
                for name in ("trainable", "before", "gradient", "update")
            }
            identical(seen["before"], student(trio.students[t], i))
            identical(seen["trainable"], student(trio.students[t + 1], i))
            after = jax.tree.map(jnp.add, seen["before"], seen["update"])
            close(after, seen["trainable"], rtol=1e-6)
            loss, gradient = padded_loss_and_gradient(seen["before"], a, batch_of(a, t))
            assert float(metrics["batch_loss"][i]) == pytest.approx(float(loss), rel=1e-5)
            close(seen["gradient"], gradient, rtol=1e-4)
            norm = float(optax.tree.norm(gradient))
            assert float(metrics["gradient_norm"][i]) == pytest.approx(norm, rel=1e-4)
            if a.optimizer.name == "sgd":
                step = jax.tree.map(lambda g, t=t, a=a: -a.learning_rate * FACTORS[t] * g, gradient)
                close(seen["update"], step, rtol=1e-4)
            small = unpad_rank(like, train_start(a))
            for tree in seen.values():
                assert not any(leaf.any() for leaf in jax.tree.leaves(padding(tree, small)))


def test_measure_gets_the_model_of_its_student_and_its_data_set(trio):
    first = trio.metrics[0]
    assert [trio.sweep.names[int(k)] for k in first["data_set"]] == [a.data for a in TRIO]
    logits, _ = jax.jit(forward, static_argnums=2)(BASE, PROBE, CFG)  # b starts at zero
    for i in range(3):
        np.testing.assert_allclose(first["logits"][i], logits, atol=1e-5)
        assert np.abs(trio.metrics[-1]["logits"][i] - logits).max() > 1e-2


def test_students_are_measured_before_their_first_step_by_the_same_program(trio):
    with count_compilations() as compiled:
        state, metrics = trio.sweep.measure(trio.sweep.init())
        start = trio.sweep.init()
    assert compiled.names == []
    identical(state, start)
    assert np.isnan(metrics["batch_loss"]).all() and not np.any(metrics["gradient_norm"])
    assert not np.any(metrics["gradient"]) and not np.any(metrics["update"])
    logits, _ = jax.jit(forward, static_argnums=2)(BASE, PROBE, CFG)
    for i in range(3):
        np.testing.assert_allclose(metrics["logits"][i], logits, atol=1e-5)


def test_other_arms_take_no_compilation_and_are_those_of_a_fresh_sweep(trio):
    with count_compilations() as compiled:
        served = Run(trio.sweep.replace_arms(OTHERS))
    assert compiled.names == []
    fresh = Run(make(OTHERS, measures=(), students_at_once=2))
    close(served.students[-1], fresh.students[-1], rtol=1e-4)
    for metrics, expected in zip(served.metrics, fresh.metrics, strict=True):
        close(metrics["batch_loss"], expected["batch_loss"])
    assert trio.sweep.arms == TRIO and served.sweep.arms == OTHERS


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_sweep_with_room_trains_other_numbers_of_students_and_steps(trio, at_once):
    """By its programs, as alone, whichever optimizers are idle; the first wave has one student and
    two steps."""
    muon = arm("muon", 1e-2, 3, "control")
    room = Room((TRIO[0], muon, *TRIO[:2], *OTHERS), STEPS)
    longer = replace(CONFIG, students_at_once=at_once)
    plan = replace(longer, steps=2)
    sweep = Sweep(BASE, CFG, (muon,), DATA, plan, measures=MEASURES, room=room)
    first = Run(sweep)
    first.sweep.evaluate(first.state, HELDOUT)
    alone = Run(Sweep(BASE, CFG, (muon,), DATA, plan, measures=MEASURES))
    close(first.students, alone.students, rtol=1e-4)
    with count_compilations() as compiled:
        run = Run(sweep.replace_arms(TRIO, longer))
        losses = run.sweep.evaluate(run.state, HELDOUT)
    assert set(compiled.names) <= {"_select"}  # of the arms from among the slots
    close(run.students, trio.students, rtol=1e-4)
    close(losses, trio.sweep.evaluate(trio.state, HELDOUT))
    for metrics, expected in zip(run.metrics, trio.metrics, strict=True):
        for name in ("batch_loss", "gradient_norm", "logits"):
            close(metrics[name], expected[name], rtol=1e-4)
    assert run.diverged_at == [0, 0, 0]


@pytest.mark.parametrize(
    ("at_once", "passes"), [(1, 2), (2, 1), (3, 1), (9, 1)], ids=["1", "2", "3", "more"]
)
def test_idle_students_take_no_pass(at_once, passes):
    calls = []

    def double(shared, x):
        return jax.pure_callback(count, x, x, vmap_method="expand_dims")

    def count(x):
        calls.append(np.size(x))
        return 2 * np.asarray(x)

    busy = jnp.array([False, True, False, False, True])
    x = jnp.arange(5, dtype=jnp.float32)
    out = jax.jit(lambda x: map_students(double, None, x, at_once=at_once, busy=busy))(x)
    assert out.tolist() == [0, 2, 0, 0, 8] and calls == passes * [min(at_once, 5)]


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_pass_that_may_be_idle_is_traced_once(at_once):
    traced = []

    def double(shared, x):
        traced.append(x)
        return 2 * x

    run = lambda x: map_students(double, None, x, at_once=at_once, busy=x > 1)  # noqa: E731
    assert jax.jit(run)(jnp.arange(3.0)).tolist() == [0, 0, 4] and len(traced) == 1


def test_a_sweep_of_one_arm_with_its_batches_in_two_parts_trains_the_same_student(trio):
    """Without the other arms' larger rank; the parts have unequal numbers of predicted tokens."""
    order = row_orders(TRIO[:1], ROWS, CONFIG)[0, 0]
    predicted = np.asarray(DATA["steered"].loss_mask)[order].sum(axis=1)
    assert predicted[:2].sum() != predicted[2:].sum()
    alone = Run(make(TRIO[:1], measures=(), accumulation=2))
    trained = student(alone.students[-1], 0)
    assert alone.sweep.rank == 2 < trio.sweep.rank
    close(trained, unpad_rank(student(trio.students[-1], 0), trained), rtol=1e-4)
    for metrics, expected in zip(alone.metrics, trio.metrics, strict=True):
        close(metrics["batch_loss"][0], expected["batch_loss"][0])


def test_heldout_loss_is_that_of_each_student_on_its_data(trio):
    losses = trio.sweep.evaluate(trio.state, HELDOUT)
    for i, a in enumerate(TRIO):
        trainable = student(trio.students[-1], i)
        expected, _ = dense_loss_and_gradient(trainable, scale_of(a), HELDOUT[a.data])
        assert float(losses[i]) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(InputError, match="no held-out rows of data 'control'"):
        trio.sweep.evaluate(trio.state, {"steered": HELDOUT["steered"]})


def test_map_students_hands_over_each_student_in_the_order_of_the_arms(trio):
    run = trio.sweep.map_students(lambda argument, params, steering: params["layers"]["q"].merge())
    merged = run(trio.state, None)
    for i, a in enumerate(TRIO):
        q = student(trio.students[-1], i)["layers"]["q"]
        delta = scale_of(a) * np.einsum("lir,lro->lio", q["a"], q["b"])
        close(merged[i], BASE["layers"]["q"] + delta)


# -- divergence -----------------------------------------------------------------------------


def assert_others_identical(run: Run, expected: Run, frozen: int):
    for i in range(len(TRIO)):
        if i != frozen:
            identical(student(run.students, i), student(expected.students, i))
            identical(student(run.metrics, i), student(expected.metrics, i))


def test_an_infinite_rate_freezes_its_student_and_no_other(trio):
    infinite = replace(TRIO[1], learning_rate=3e38)
    run = Run(trio.sweep.replace_arms((TRIO[0], infinite, TRIO[2])))
    assert run.diverged_at == [0, 1, 0]
    assert [m["diverged"].tolist() for m in run.metrics] == [[False, True, False]] * STEPS
    assert not run.metrics[-1]["update"][1].any()
    identical(student(run.students[-1], 1), student(run.students[0], 1))
    assert_others_identical(run, trio, frozen=1)


def test_a_loss_that_is_nan_marks_the_step_and_keeps_what_was_sound(trio):
    """The student's data is the control but for one row, which has no finite loss."""
    run = Run(trio.sweep.replace_arms((TRIO[0], replace(TRIO[1], data="poisoned"), TRIO[2])))
    order = row_orders((TRIO[1],), ROWS, CONFIG)[0]
    step = 1 + int((order == NAN_ROW).any(axis=1).argmax())
    assert step > 1  # the test would show little otherwise: take another seed
    assert run.diverged_at == [0, step, 0]
    losses = [float(m["batch_loss"][1]) for m in run.metrics]
    assert not math.isfinite(losses[step - 1])
    sound = [float(m["batch_loss"][1]) for m in trio.metrics[: step - 1]]
    assert losses[: step - 1] == sound
    for k, students in enumerate(run.students):
        identical(student(students, 1), student(trio.students[min(k, step - 1)], 1))
    assert_others_identical(run, trio, frozen=1)


# -- clipping, number formats, distillation ---------------------------------------------------


def test_clipping_bounds_the_norm_of_float32_students_of_a_bfloat16_base(trio):
    """Off by default; a bound on the norm keeps the direction. The base's rounding shows little."""
    assert CONFIG.clip is None
    bound, a = 0.05, TRIO[1]
    low = jax.tree.map(lambda w: w.astype(jnp.bfloat16), BASE)
    config = replace(CONFIG, clip=bound)
    run = Run(Sweep(low, CFG, [a], DATA, config, measures=MEASURES))
    for leaf in jax.tree.leaves((run.state, run.students[-1])):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    for t, metrics in enumerate(run.metrics):
        before, gradient = (
            unravel(metrics[name][0], student(run.students[0], 0))
            for name in ("before", "gradient")
        )
        loss, expected = dense_loss_and_gradient(before, scale_of(a), batch_of(a, t))
        assert float(metrics["batch_loss"][0]) == pytest.approx(float(loss), rel=2e-2)
        norm = float(optax.tree.norm(expected))
        assert bound < float(metrics["gradient_norm"][0]) == pytest.approx(norm, rel=5e-2)
        assert float(optax.tree.norm(gradient)) == pytest.approx(bound, rel=1e-4)
        cosine = optax.tree.vdot(gradient, expected) / (bound * norm)
        assert float(cosine) > 0.99


def test_distillation_finds_the_teachers_vector_and_a_control_finds_none():
    """KL to a steered teacher; the teacher's own rows are the students' with longer padding."""
    vector = jnp.linspace(-0.5, 1.0, CFG.dim)
    data = {name: DATA[name] for name in ("control", "steered")}
    longer = {
        name: Batch(
            *(
                jnp.pad(leaf, ((0, 0), (0, 2)), constant_values=empty)
                for leaf, empty in zip(batch[:3], (0, -1, 0), strict=True)
            )
        )
        for name, batch in data.items()
    }
    teachers = {"control": Teacher(), "steered": Teacher(steer(vector, 0))}
    objective = KL.from_teachers(teachers, longer)
    arms = (arm("adam", 0.1, 0, "steered"), arm("sgd", 0.1, 0, "control"))
    config = TrainConfig(
        steps=200, batch_size=6, adapter=Vector(0), log_every=100, schedule="linear"
    )
    run = Run(Sweep(BASE, CFG, arms, data, config, objective=objective))
    trained, control = run.students[-1]["vector"]
    cosine = float(trained @ vector / jnp.linalg.norm(trained) / jnp.linalg.norm(vector))
    assert cosine > 0.99
    assert float(jnp.linalg.norm(control)) < 1e-4
    assert float(run.metrics[-1]["batch_loss"][0]) < float(run.metrics[0]["batch_loss"][0])
    assert abs(float(run.metrics[-1]["batch_loss"][1])) < 1e-6
    fit, control_fit = run.sweep.evaluate(run.state, data, objective)  # by their names: not swapped
    assert 0 < float(fit) < 0.1 * float(run.metrics[0]["batch_loss"][0])
    assert abs(float(control_fit)) < 1e-6
    with pytest.raises(InputError, match="teachers of data steered; .*are control, steered"):
        run.sweep.evaluate(run.state, data, KL.from_teachers({"steered": Teacher()}))
