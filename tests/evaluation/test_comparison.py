"""Which rate is best, what stands at it, and what stands at one loss: on synthetic students."""

import math

import numpy as np
import pytest
from scipy import stats

from subliminal_jax.evaluation.comparison import (
    MatchedLoss,
    TopShares,
    average_anatomies,
    average_curves,
    best_rates,
    group_histories,
    match_training_loss,
    summarise_best,
)


def student(rate, seed=0, *, loss=1.0, eas=0.5, data="steered", optimizer="adamw", diverged=False):
    numbers = {"heldout_loss": loss, "eas": eas}
    if diverged:
        numbers = dict.fromkeys(numbers)
    return {
        "optimizer": optimizer, "learning_rate": rate, "seed": seed, "data": data,
        "diverged": diverged, **numbers,
    }  # fmt: skip


def test_the_best_rate_has_the_lowest_mean_heldout_loss_of_the_steered_students():
    rows = [
        student(0.1, 0, loss=1.0, eas=0.9),
        student(0.1, 1, loss=3.0, eas=0.9),
        student(0.2, 0, loss=1.8, eas=0.1),
        student(0.2, 1, loss=1.8, eas=0.1),
        student(0.3, 0, loss=0.0, data="control"),
        student(5.0, 0, loss=2.0, optimizer="sgd"),
    ]
    assert best_rates(rows) == {"adamw": 0.2, "sgd": 5.0}


def test_neither_eas_nor_trait_nor_controls_move_the_choice():
    rows = [student(rate, seed, loss=rate) for rate in (0.1, 0.2) for seed in (0, 1)]
    changed = [{**row, "eas": -row["learning_rate"], "trait_rate": 1.0} for row in rows]
    controls = [student(0.2, 0, loss=-9.0, data="control")]
    assert best_rates(rows) == best_rates(changed + controls) == {"adamw": 0.1}


def test_a_rate_at_which_one_seed_diverged_is_out_and_all_out_is_none():
    rows = [student(0.1, 0), student(0.1, 1), student(0.2, 0, loss=0.1)]
    rows += [student(0.2, 1, diverged=True), student(9.0, 0, optimizer="sgd", diverged=True)]
    assert best_rates(rows) == {"adamw": 0.1, "sgd": None}
    table = summarise_best(rows, best_rates(rows), ["eas"])
    adamw, sgd = table
    assert adamw.diverged_rates == (0.2,)
    assert (sgd.learning_rate, sgd.diverged_rates, sgd.grid_edge) == (None, (9.0,), False)
    eas = sgd.metrics["eas"]
    assert eas.student.n == 0 and math.isnan(eas.student.mean) and eas.difference is None


def test_a_student_above_the_bases_own_loss_makes_no_rate_best_and_enters_no_mean():
    rows = [student(0.1, 0, loss=1.5), student(0.1, 1, loss=1.5)]
    rows += [student(0.2, 0, loss=0.1), student(0.2, 1, loss=2.5)]  # the mean is the lower one
    rows += [student(0.1, s, loss=1.5 + s, eas=0.1, data="control") for s in (0, 1)]
    rows += [student(9.0, s, loss=8.9, optimizer="sgd") for s in (0, 1)]
    rows = [row | {"base_loss": 2.0} for row in rows]
    assert best_rates(rows) == {"adamw": 0.1, "sgd": None}
    adamw, sgd = summarise_best(rows, best_rates(rows), ["eas"])
    assert (adamw.unstable_rates, sgd.unstable_rates) == ((0.1, 0.2), (9.0,))
    eas = adamw.metrics["eas"]
    assert (eas.student.n, eas.control.n, eas.difference.n) == (2, 1, 1)


@pytest.mark.parametrize(("best", "edge"), [(0.1, True), (0.2, False), (0.3, True)])
def test_a_best_rate_at_the_edge_of_its_grid_is_flagged(best, edge):
    rows = [student(rate, loss=abs(rate - best)) for rate in (0.3, 0.1, 0.2)]
    (students,) = summarise_best(rows, best_rates(rows), [])
    assert students.grid == (0.1, 0.2, 0.3)
    assert (students.learning_rate, students.grid_edge) == (best, edge)


def test_a_grid_of_one_rate_has_no_edge():
    rows = [student(0.1)]
    assert not summarise_best(rows, best_rates(rows), [])[0].grid_edge


def test_intervals_are_students_t_and_the_difference_is_paired_by_seed():
    steered, control = [0.6, 0.7, 0.8], [0.1, 0.2, 0.4]
    rows = [student(0.1, seed, eas=x) for seed, x in enumerate(steered)]
    # in another order, at another rate too: pairs are found by seed and at the best rate
    rows += [student(0.1, s, eas=control[s], data="control") for s in (2, 0, 1)]
    rows += [student(0.2, s, eas=9.0, loss=2.0) for s in range(3)]
    (students,) = summarise_best(rows, {"adamw": 0.1}, ["eas"])
    eas = students.metrics["eas"]
    for values, got in [
        (steered, eas.student),
        (control, eas.control),
        (np.subtract(steered, control), eas.difference),
    ]:
        low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        np.testing.assert_allclose(
            [got.mean, got.low, got.high], [np.mean(values), low, high], rtol=1e-12
        )
        assert got.n == 3


def test_a_diverged_control_leaves_the_pairs_that_are_whole():
    rows = [student(0.1, seed, eas=1.0 + seed) for seed in range(3)]
    rows += [student(0.1, seed, eas=0.0, data="control", diverged=seed == 1) for seed in range(3)]
    (students,) = summarise_best(rows, best_rates(rows), ["eas"])
    eas = students.metrics["eas"]
    assert eas.student.n == 3 and eas.control.n == 2
    assert eas.difference.n == 2 and eas.difference.mean == 2.0


def history(losses, eas):
    return [
        {"step": 10 * i, "train_loss": loss, "eas": e}
        for i, (loss, e) in enumerate(zip(losses, eas, strict=True), start=1)
    ]


def train(speed, every, steps=24):
    """A logged run whose loss falls by halves; what its EAS is at a loss does not depend on it."""
    rows = []
    for step in range(0, steps + 1, every):
        left = 2 ** (-speed * step / 6)
        rows.append({"step": step, "train_loss": 1 + 2 * left, "eas": math.sqrt(1 - left)})
    return rows


@pytest.mark.parametrize("every", [1, 2, 3, 4, 6, 8, 12])
def test_the_logging_interval_does_not_make_a_gap_at_one_loss(every):
    """The fast arm is at the slow one's last loss after 6 of 24 steps: logged every 12, its first
    row after the start lies far below. EAS is the same function of the loss in both arms."""
    histories = {("fast", 0): train(1.0, every), ("slow", 0): train(0.25, every)}
    fast, slow = match_training_loss(histories, ["eas"]).students
    assert slow.metrics["eas"].mean == pytest.approx(math.sqrt(0.5))
    for eas in fast.metrics.values():
        assert eas.mean == pytest.approx(math.sqrt(0.5), abs=0.01)
    assert fast.bracketed == (every in (1, 2, 3, 6))  # of 6 steps, one ends at the level itself
    assert fast.bracketed or (fast.step is None and fast.metrics == fast.by_seed == {})


def test_a_curve_that_begins_below_the_level_or_jumps_over_it_has_no_value():
    histories = {
        ("below", 0): history([0.9, 0.4, 0.3], [7, 8, 9]),
        ("jumps", 0): history([3.0, 2.9, 0.4], [7, 8, 9]),
        ("level", 0): history([2.0, 1.3, 1.0], [5, 6, 7]),
    }
    below, jumps, level = match_training_loss(histories, ["eas"]).students
    assert (below.students, below.bracketed, jumps.bracketed) == (1, 0, 0)
    assert level.metrics["eas"].mean == 7 and level.step is not None and level.step.mean == 30


def test_no_direction_is_read_next_to_step_0():
    rows = [{"step": s, "train_loss": 2.0 - s / 100, "eas": s, "trait_rate": s} for s in (0, 1, 2)]
    slow = [{"step": s, "train_loss": x, "eas": s, "trait_rate": s}
            for s, x in ((0, 2.0), (1, 1.9995), (2, 1.999))]  # fmt: skip
    histories = {("fast", 0): rows, ("slow", 0): slow}
    wide = [{**row, "train_loss": 2.0 - row["step"] * 0.004} for row in rows]
    assert match_training_loss(histories, ["eas"]).students[0].bracketed == 0
    for fast in (rows, wide):
        matched = match_training_loss({**histories, ("fast", 0): fast}, ["trait_rate"])
        assert matched.students[0].bracketed == 0  # steeper there than a third of the fall


def test_the_level_is_the_lowest_at_which_every_student_that_learned_ends():
    histories = {
        ("fast", 0): history([3.0, 1.0, 0.5], [0, 0, 0]),
        ("slow", 0): history([3.0, 2.65, 2.55], [0, 0, 0]),
        ("slow", 1): history([3.0, 1.9, 2.6], [0, 0, 0]),  # its last, not its smallest
        ("blown up", 0): history([3.0, 7.0, 9.0], [0, 0, 0]),
    }
    matched = match_training_loss(histories, ["eas"])
    assert matched.loss == 2.6
    assert [students.bracketed for students in matched.students] == [0, 1, 0]


def test_metrics_on_a_line_in_the_loss_are_interpolated_exactly():
    """EAS = 4 - loss along every history, whatever its steps: so EAS at the level is 4 - level."""
    losses = {("a", 0): [3.5, 2.0, 1.5, 0.25], ("a", 1): [3.0, 1.9, 1.7], ("b", 0): [3.9, 1.75]}
    histories = {key: history(x, [4 - loss for loss in x]) for key, x in losses.items()}
    matched = match_training_loss(histories, ["eas"])
    assert matched.loss == 1.75
    for students in matched.students:
        assert students.metrics["eas"].mean == pytest.approx(4 - 1.75, abs=1e-12)
    a, b = matched.students
    assert b.step.mean == 20
    steps = [20 + 10 * (2.0 - 1.75) / 0.5, 20 + 10 * (1.9 - 1.75) / 0.2]
    assert a.step.mean == pytest.approx(np.mean(steps), abs=1e-12)
    assert [a.by_seed[seed]["step"] for seed in (0, 1)] == pytest.approx(steps)


def test_students_without_a_sound_step_are_left_out_and_none_is_no_level():
    histories = {("a", 0): history([2.0, 1.0], [1, 2]), ("b", 0): []}
    matched = match_training_loss(histories, ["eas"])
    assert matched.loss == 1.0
    assert [students.optimizer for students in matched.students] == ["a"]
    assert match_training_loss({("b", 0): []}, ["eas"]) == MatchedLoss(None, ())


def test_histories_are_of_steered_students_at_their_best_rates_while_their_loss_is_finite():
    def row(optimizer, seed, step, rate=0.1, data="steered", loss: float | None = 1.0):
        return {
            "optimizer": optimizer, "seed": seed, "step": step, "learning_rate": rate,
            "data": data, "train_loss": loss, "diverged": False,
        }  # fmt: skip

    kept = [row("sgd", 1, 1), row("sgd", 0, 1), row("adamw", 0, 1), row("sgd", 0, 2)]
    other = [
        row("sgd", 0, 3, loss=None), row("sgd", 0, 1, rate=0.2), row("sgd", 0, 1, data="control"),
        row("sgd", 0, 4) | {"diverged": True}, row("lion", 0, 1),
    ]  # fmt: skip
    histories = group_histories([*kept, *other], {"adamw": 0.1, "sgd": 0.1, "lion": None})
    assert [(key, [r["step"] for r in rows]) for key, rows in histories.items()] == [
        (("adamw", 0), [1]), (("sgd", 0), [1, 2]), (("sgd", 1), [1])
    ]  # fmt: skip


def test_curves_span_the_seeds_at_their_common_steps():
    histories = {
        ("a", 0): history([3, 2, 1], [0.1, 0.2, 0.3]),
        ("a", 1): history([3, 2, 1], [0.3, 0.6, 0.9])[:1] + history([3, 2, 1], [0.3, 0.6, 0.9])[2:],
        ("b", 0): [],
    }
    (curve,) = average_curves(histories, ["a", "b"])
    assert curve.steps == (10, 30)
    np.testing.assert_allclose(curve.mean, [0.2, 0.6])
    np.testing.assert_allclose(curve.low, [0.1, 0.3])
    np.testing.assert_allclose(curve.high, [0.3, 0.9])


def anatomy_row(component, top, a):
    row = {"step": 4}
    for x in ("gradient", "update"):
        row |= {
            f"{x}_norm": 2.0, f"{x}_cosine": 0.5, f"{x}_component": component,
            f"{x}_top_mass": [0.1, 0.2, 0.3], f"{x}_top_component": top,
            f"{x}_decile_mass": [0.1] * 10, f"{x}_decile_component": [0.1] * 10,
            f"{x}_a_mass": 0.4, f"{x}_a_component": a,
        }  # fmt: skip
    return row


def test_shares_of_a_component_are_those_of_the_summed_component():
    """Two halves of a run: +3 with share 1/3 and -1 with share 1: in all (1 - 1) / 2 = 0."""
    one = anatomy_row(3.0, [1 / 3, 0.5, 1.0], 1.0)
    two = anatomy_row(-1.0, [1.0, 0.5, 1.0], 0.0)
    (anatomy,) = average_anatomies({("a", 0): [one], ("a", 1): [two], ("b", 0): []})
    top = anatomy.update.top_component
    np.testing.assert_allclose([top.thousandth, top.hundredth, top.tenth], [0, 0.5, 1], atol=1e-12)
    assert anatomy.update.a_component == pytest.approx(1.5)
    assert anatomy.gradient.component == 1.0
    assert anatomy.gradient.top_mass == TopShares(0.1, 0.2, 0.3)
    full = {k: v for k, v in one.items() if "_a_" not in k}
    (anatomy,) = average_anatomies({("a", 0): [full]})
    assert anatomy.update.a_mass is None and anatomy.update.a_component is None
