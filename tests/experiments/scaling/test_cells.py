"""Cells of a scaling study, and the gap between two optimizers in them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.experiments.scaling.analysis import cell_results, claims, students_of, trends
from subliminal_jax.experiments.scaling.cells import Cell, of_factor, one_factor_at_a_time

BASE = Cell("small", 0, 8, 1.4, 0, "all")
PAIR = ("adamw", "sgd")


def test_each_cell_differs_from_the_base_in_one_factor_and_is_there_once():
    levels = {"rank": (2, 8, 32), "norm": (0.5,), "tail": ("frequent-4",), "blocks": (2,)}
    cells = one_factor_at_a_time(BASE, levels)
    assert cells[0] == BASE and len(cells) == len(set(cells)) == 6
    assert [c.rank for c in of_factor(cells, BASE, "rank")] == [2, 8, 32]
    assert [c.label("blocks") for c in of_factor(cells, BASE, "blocks")] == ["2", "all"]
    assert [c.tail for c in of_factor(cells, BASE, "tail")] == ["all", "frequent-4"]
    assert len({c.world for c in cells}) == 2
    with pytest.raises(InputError, match="colour"):
        one_factor_at_a_time(BASE, {"colour": (1,)})


def test_a_plane_holds_every_combination_of_two_factors():
    cells = one_factor_at_a_time(BASE, {"rank": (2, 32), "norm": (0.5, 2.8)}, ("rank", "norm"))
    found = {(c.rank, c.norm) for c in cells}
    assert found == {(r, n) for r in (2, 8, 32) for n in (0.5, 1.4, 2.8)} and len(cells) == 9


def test_a_cells_data_and_control_are_weighted_alike():
    tail = replace(BASE, tail="rare-1")
    assert (BASE.data, BASE.control) == ("norm-1.4", "control")
    assert (tail.data, tail.control) == ("norm-1.4+rare-1", "control+1.4+rare-1")
    assert replace(tail, norm=2.0).control != tail.control


def student(optimizer, rate, seed, eas, loss, data="norm-1.4", step=None, rank=8, train_loss=1.0):
    row = {
        "optimizer": optimizer, "learning_rate": rate, "seed": seed, "data": data, "rank": rank,
        "diverged": False, "eas": [[0.0, eas]], "shift_component": [[0.0, eas / 2]],
        "train_loss": train_loss,
    }  # fmt: skip
    return row | ({"heldout_loss": loss} if step is None else {"step": step})


def result(eas, cell=BASE, slow=0.0):
    """A cell in which `eas[optimizer][seed]` is found at the better of two rates. SGD reaches the
    training loss of AdamW's 4th step at its 8th, where its EAS is `slow` below AdamW's then."""
    rows, logged = [], []
    for optimizer, values in eas.items():
        for seed, value in enumerate(values):
            rows.append(student(optimizer, 0.1, seed, value, 3.0, rank=cell.rank))
            rows.append(student(optimizer, 0.9, seed, 0.99, 3.5, rank=cell.rank))
            rows.append(student(optimizer, 0.1, seed, 0.0, 3.2, "control", rank=cell.rank))
            steps = ((4, 2.0, 0.4), (8, 1.0, 0.8)) if optimizer == "adamw" else (
                (4, 3.0, 0.0), (8, 2.0, 0.4 - slow))  # fmt: skip
            logged += [
                student(optimizer, 0.1, seed, at, 0, step=step, rank=cell.rank, train_loss=loss)
                for step, loss, at in steps
            ]
    at = (0, 1, 4.0, 2.0)
    return cell_results(
        cell, students_of(cell, rows, *at), students_of(cell, logged, *at), PAIR, 0.5
    )


def test_the_gap_is_taken_at_the_best_rates_seed_by_seed_and_at_one_loss():
    found = result({"adamw": (0.8, 0.7, 0.9), "sgd": (0.3, 0.4, 0.2)}, slow=0.1)
    best = {row["optimizer"]: row for row in found["best"]}
    assert best["adamw"]["learning_rate"] == 0.1  # by held-out loss, though the other's EAS is 0.99
    assert best["adamw"]["reaches"] and not best["sgd"]["reaches"]
    assert best["adamw"]["gain"]["mean"] == pytest.approx(0.5)
    assert found["gap"]["equal_steps"]["values"] == pytest.approx([0.5, 0.3, 0.7])
    assert found["gap"]["matched_loss"]["values"] == pytest.approx([0.1] * 3)


def test_students_of_other_ranks_are_not_the_cells():
    rows = [student("adamw", 0.1, 0, 0.5, 3.0, rank=2), student("adamw", 0.1, 0, 0.6, 3.0)]
    assert [r["eas"] for r in students_of(BASE, rows, 0, 1, 4.0, 2.0)] == [0.6]


def test_the_trend_is_the_slope_for_a_doubling_and_claims_follow_from_the_gaps():
    cells = {}
    for rank, gap in ((2, 0.1), (8, 0.3), (32, 0.5)):
        cell = replace(BASE, rank=rank)
        adamw = (0.9, 0.91, 0.89)
        cells[cell] = result({"adamw": adamw, "sgd": [x - gap for x in adamw]}, cell)
    sizes = {("rank", cell): cell.rank for cell in cells}
    slopes = {row["gap"]: row["slope"] for row in trends(cells, BASE, sizes)}
    assert slopes["equal_steps"]["mean"] == pytest.approx(0.1)
    assert slopes["matched_loss"]["mean"] == pytest.approx(0.0, abs=1e-12)
    made = {c["id"].removeprefix("scaling/"): c for c in claims(cells, BASE, PAIR, 3)}
    assert made["gap"]["verdict"] == "reproduced at toy scale"
    assert "gap-shipped" not in made
    large = replace(BASE, model="shipped")
    cells[large] = result({"adamw": (0.3, 0.31), "sgd": (0.8, 0.82)}, large)
    other = {c["id"]: c for c in claims(cells, BASE, PAIR, 3)}["scaling/gap-shipped"]
    assert other["verdict"] == "contradicted" and other["setting"].startswith("shipped,")
    assert made["gap-at-matched-loss"]["verdict"] == "not reproduced"
    assert made["plain-sgd"]["verdict"] == "reproduced at toy scale"
    assert made["every-rank"]["verdict"] == "reproduced at toy scale"
    assert made["inverted-u"]["verdict"] == "not reproduced"
    assert not any(key.startswith("tail") for key in made)


def test_an_optimizer_that_diverged_leaves_no_gap_and_no_verdict_in_its_favour():
    rows = [student("adamw", 0.1, s, 0.8, 3.0) for s in (0, 1)]
    rows += [
        student("sgd", 0.1, s, 0.8, None)
        | {"diverged": True, "eas": None, "shift_component": None, "train_loss": None}
        for s in (0, 1)
    ]
    found = cell_results(BASE, students_of(BASE, rows, 0, 1, 4.0, 2.0), [], PAIR, 0.5)
    assert found["gap"] == {"equal_steps": None, "matched_loss": None}
    sgd = found["best"][1]
    assert sgd["learning_rate"] is None and not sgd["reaches"]
    made = claims({BASE: found}, BASE, PAIR, 2)
    assert {c["verdict"] for c in made} == {"not reproduced"}


def test_a_gap_needs_a_pair_of_seeds():
    found = result({"adamw": (0.8,), "sgd": (0.2,)})
    assert found["gap"]["equal_steps"]["mean"] == pytest.approx(0.6)
    assert math.isnan(found["gap"]["equal_steps"]["low"])
    assert np.isfinite(found["gap"]["equal_steps"]["values"]).all()
