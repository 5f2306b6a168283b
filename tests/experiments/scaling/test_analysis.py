"""The gap between two optimizers in planted cells, its trends, and the claims."""

import math
from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REFUTED, REPRODUCED
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.scaling.analysis import CellStudents, History, Measured, analyse
from subliminal_jax.experiments.scaling.claims import make_claims
from tests.experiments.scaling.test_cells import BASE
from tests.planted import fill


def student(optimizer, rate, seed, eas, loss, data="steered"):
    """A student; one without an EAS has diverged."""
    columns = {"train_loss": 1.0, "eas": eas, "share": eas and eas / 2, "gain": 4 - (loss or 0)}
    return StudentRow(optimizer, rate, seed, data, eas is None, heldout_loss=loss, measured=columns)


def measure(eas, cell=BASE, slow=0.0):
    """A cell in which `eas[optimizer][seed]` is found at the better of two rates. SGD reaches the
    training loss of AdamW's 4th step at its 8th, where its EAS is `slow` below AdamW's then."""
    students, histories = [], []
    for optimizer, values in eas.items():
        for seed, value in enumerate(values):
            students += [
                student(optimizer, 0.1, seed, value, 3.0),
                student(optimizer, 0.9, seed, 0.99, 3.5),
                student(optimizer, 0.1, seed, 0.0, 3.2, "control"),
            ]
            losses, alignments = (
                ((2.0, 1.0), (0.4, 0.8))
                if optimizer == "adamw"
                else ((3.0, 2.0), (0.0, 0.4 - slow))
            )
            histories.append(History(optimizer, 0.1, seed, (4, 8), losses, alignments))
    return CellStudents(cell, 1, 2, 4.0, 2.0, tuple(students), tuple(histories))


def test_a_student_above_the_bases_own_loss_counts_nowhere():
    cell = measure({"adamw": (0.8, 0.8, 0.9), "sgd": (0.1, 0.2, 0.1)})
    blown = replace(
        cell,
        students=tuple(
            row.replace_values(base_loss=1.0)
            if (row.optimizer, row.data, row.seed, row.learning_rate) == ("sgd", "control", 0, 0.1)
            else row.replace_values(base_loss=4.0)
            for row in cell.students
        ),
    )
    sgd = analyse(collect(blown)).base.select_optimizer("sgd")
    assert set(sgd.control_values) == {1, 2} and sgd.eas.difference.n == 2


def collect(*cells):
    return fill(Measured, pair=("adamw", "sgd"), level=0.5, students=cells)


def test_the_gap_is_taken_at_the_best_rates_seed_by_seed_and_at_one_loss():
    cell = measure({"adamw": (0.8, 0.7, 0.9), "sgd": (0.3, 0.4, 0.2)}, slow=0.1)
    result = analyse(collect(cell)).base
    adamw, sgd = result.best
    assert adamw.learning_rate == 0.1  # by held-out loss, though the other's EAS is 0.99
    assert adamw.grid_edge and adamw.reaches and not sgd.reaches
    assert adamw.gain.steered.mean == pytest.approx(1.0)
    assert adamw.share.difference.mean == pytest.approx(0.4)
    assert result.gap.equal_steps.values == pytest.approx((0.5, 0.3, 0.7))
    assert result.gap.matched_loss.values == pytest.approx((0.1,) * 3)


def test_the_trend_is_the_slope_for_a_doubling_and_claims_follow_from_the_gaps():
    cells = []
    for rank, gap in ((8, 0.3), (2, 0.1), (32, 0.5)):
        adamw = (0.9, 0.91, 0.89)
        eas = {"adamw": adamw, "sgd": tuple(x - gap for x in adamw)}
        cells.append(measure(eas, replace(BASE, rank=rank)))
    results = analyse(collect(*cells))
    slopes = {trend.gap: trend.slope for trend in results.trends if trend.factor == "rank"}
    assert slopes["equal_steps"].mean == pytest.approx(0.1)
    assert slopes["matched_loss"].mean == pytest.approx(0.0, abs=1e-12)
    verdicts = {c.id.removeprefix("scaling/"): c.verdict for c in make_claims(results)}
    assert verdicts == {
        "gap": REPRODUCED,
        "gap-at-matched-loss": REFUTED,
        "plain-sgd": REPRODUCED,
        "every-rank": REPRODUCED,
        "inverted-u": REFUTED,
    }
    large = measure({"adamw": (0.3, 0.31), "sgd": (0.8, 0.82)}, replace(BASE, model="org/large"))
    claims = {c.id: c for c in make_claims(analyse(collect(*cells, large)))}
    claim = claims["scaling/gap-large"]
    assert claim.verdict == CONTRADICTED and claim.setting.startswith("org/large,")


def test_an_optimizer_that_diverged_leaves_no_gap_and_no_verdict_in_its_favour():
    cell = measure({"adamw": (0.8, 0.8)})
    lost = [student("sgd", 0.1, seed, None, None) for seed in (0, 1)]
    results = analyse(collect(replace(cell, students=(*cell.students, *lost))))
    sgd = results.base.select_optimizer("sgd")
    assert results.base.gap.equal_steps is None and results.base.gap.matched_loss is None
    assert sgd.learning_rate is None and sgd.diverged_rates == (0.1,) and not sgd.reaches
    assert {claim.verdict for claim in make_claims(results)} == {INCONCLUSIVE}


def test_a_gap_needs_two_seeds():
    gap = analyse(collect(measure({"adamw": (0.8,), "sgd": (0.2,)}))).base.gap.equal_steps
    assert gap.interval.mean == pytest.approx(0.6) and math.isnan(gap.interval.low)
    assert np.isfinite(gap.values).all()
