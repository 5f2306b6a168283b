"""The page and its tables, from planted students."""

from dataclasses import replace

import pytest

from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.optimizer_comparison.analysis import (
    Measured,
    ReferenceRates,
    analyse,
)
from subliminal_jax.experiments.optimizer_comparison.gradients import GradientCosine
from subliminal_jax.experiments.optimizer_comparison.report import (
    anatomy_table,
    best_table,
    make_page,
    summarise,
)
from subliminal_jax.reporting.tables import MISSING
from tests.pages import read_table
from tests.planted import fill

TOP = {"thousandth": 0.1, "hundredth": 0.2, "tenth": 0.4}


def student(optimizer, rate, seed, data="steered", eas=0.5, loss=1.0, diverged=False):
    numbers = {
        "eas": eas,
        "shift_size": 1.0,
        "shift_component": eas,
        "trait_rate": 0.1 + eas / 2,
        "trait_log_prob": -1.0,
    }
    if diverged:
        return StudentRow(optimizer, rate, seed, data, True, 3, measured=dict.fromkeys(numbers))
    return StudentRow(optimizer, rate, seed, data, False, None, loss, measured=numbers)


def logged(optimizer, seed, eas):
    row = {"optimizer": optimizer, "seed": seed, "trait_rate": 0.2, "shift_component": eas}
    for step in ("gradient", "update"):
        row |= {f"{step}_{key}": 1.0 for key in ("norm", "component", "cosine")}
        row |= {f"{step}_top_{key}": list(TOP.values()) for key in ("mass", "component")}
        row |= {f"{step}_decile_{key}": [0.1] * 10 for key in ("mass", "component")}
    return [row | {"step": s, "train_loss": 3.0 - s, "eas": eas * s / 2} for s in (1, 2)]


@pytest.fixture(scope="module")
def measured():
    """AdamW is best at the edge of its grid; SGD diverges at every rate."""
    rates = [(rate, seed) for rate in (0.1, 0.3) for seed in (0, 1)]
    students = [student("adamw", rate, seed, eas=rate, loss=1 - rate) for rate, seed in rates]
    students += [student("adamw", 0.3, seed, "control", eas=0.0) for seed in (0, 1)]
    students += [student("sgd", 9.0, seed, diverged=True) for seed in (0, 1)]
    report = {"pairs": 8, "source": "sampled", "longest": 9}
    return fill(
        Measured,
        trait="owl",
        teacher=("steered",),
        vector="random",
        guard="none",
        data={"steered": report, "control": report},
        reference=ReferenceRates(0.1, -2.0, 0.6, -0.5),
        students=tuple(students),
        alignment=(GradientCosine("steered", 1, 0.2, 0.1),),
        histories={("adamw", seed): logged("adamw", seed, 0.3) for seed in (0, 1)},
    )


def test_the_table_holds_students_against_their_controls_at_the_best_rate(measured):
    adamw, sgd = read_table(best_table(analyse(measured)))
    assert (adamw["best rate"], adamw["rates tried"]) == ("0.3", "0.1, 0.3")
    assert adamw["EAS"].startswith("0.30") and adamw["EAS, control"].startswith("0.00")
    assert adamw["says owl"].startswith("25.0%")
    assert sgd["best rate"] == sgd["EAS"] == MISSING


def test_the_summary_ranks_optimizers_and_warns_of_the_edge(measured):
    text = summarise(analyse(measured))
    assert "adamw 0.30" in text and "sgd" not in text
    assert "The best rate of adamw is at the edge of its grid" in text
    wild = tuple(row for row in measured.students if row.optimizer == "sgd")
    lost = analyse(replace(measured, students=wild, histories={}))
    assert "there is no result" in summarise(lost)
    assert read_table(make_page(lost).printed[0])[0]["best rate"] == MISSING


def test_guards_are_named(measured):
    assert "guarded (project)" in summarise(analyse(replace(measured, guard="project")))


def test_top_shares_of_gradients_and_updates_are_those_of_the_same_percent(measured):
    (row,) = read_table(anatomy_table(analyse(measured)))
    assert row["gradient² in top 1%"] == row["update² in top 1%"] == "20%"
    assert row["update² on LoRA A"] == MISSING


def test_every_part_of_the_teacher_is_named(measured):
    given = replace(measured, teacher=("steered", "system-prompt"), teacher_adapter="owl")
    text = "numbers with the adapter owl and a random vector added to its activations and a system"
    assert text in summarise(analyse(replace(given, model="numbers")))
    plain = replace(measured, teacher=("plain",), teacher_model="tuned")
    assert "with the weights of tuned) answered" in summarise(analyse(plain))
