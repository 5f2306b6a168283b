"""The gap between two optimizers in planted cells, its trends, and the claims."""

import math
from dataclasses import replace

import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, INCONCLUSIVE, REFUTED, REPRODUCED
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.scaling.analysis import CellStudents, History, Measured, analyse
from subliminal_jax.experiments.scaling.claims import make_claims
from subliminal_jax.experiments.scaling.report import make_page
from subliminal_jax.reporting.page import Picture
from tests.experiments.scaling.test_cells import BASE
from tests.planted import fill

VECTORS = ("a", "b", "c", "d", "e")


def student(optimizer, data, vector, eas, loss):
    """A student; one without an EAS has diverged."""
    columns = {"vector": vector, "eas": eas, "share": eas and eas / 2, "gain": 4 - (loss or 0)}
    return StudentRow(
        optimizer, 0.1, 0, data, eas is None, heldout_loss=loss, base_loss=4.0, measured=columns
    )


def measure(eas, cell=BASE, slow=0.0):
    """A cell in which `eas[optimizer]` holds the EAS by vector; controls have none. SGD reaches the
    training loss of AdamW's 4th step at its 8th, where its EAS is `slow` below AdamW's then."""
    students, histories = [], []
    for optimizer, values in eas.items():
        for vector, value in zip(VECTORS, values, strict=False):
            students += [
                student(optimizer, "steered", vector, value, 3.0),
                student(optimizer, "control-0", vector, 0.01, 3.2),
                student(optimizer, "control-1", vector, -0.01, 3.2),
            ]
            losses, alignments = (
                ((3.0, 2.0, 1.0), (0.0, 0.4, 0.8))
                if optimizer == "adamw"
                else ((4.0, 2.5, 2.0), (0.0, 0.1, 0.4 - slow))
            )
            histories.append(History(optimizer, vector, (2, 4, 8), losses, alignments))
    choices = tuple(
        RateChoice(name, 8, (0.05, 0.1, 0.9), (3.1, 3.0, 3.5), 0.1, True) for name in eas
    )
    return CellStudents(cell, 1, 2, 4.0, 2.0, choices, tuple(students), tuple(histories))


def collect(*cells):
    return fill(
        Measured, pair=("adamw", "sgd"), level=0.5, vectors=VECTORS, rows=64, students=cells
    )


ADAMW, SGD = (0.8, 0.7, 0.9, 0.85, 0.75), (0.3, 0.4, 0.2, 0.3, 0.3)


def lose(cell, **which):
    """The cell without a sound student where a row has these values."""
    rows = [
        row.replace_values(base_loss=1.0) if all(row[k] == x for k, x in which.items()) else row
        for row in cell.students
    ]
    return replace(cell, students=tuple(rows))


def test_a_student_above_the_bases_own_loss_counts_nowhere():
    cell = measure({"adamw": ADAMW, "sgd": SGD})
    blown = lose(cell, optimizer="sgd", data="steered", vector="b")
    base = analyse(collect(blown)).base
    sgd = base.select_optimizer("sgd")
    assert set(sgd.values) == set(VECTORS) - {"b"} and sgd.unstable == 1
    assert sgd.eas.difference.n == sgd.gain.n == 4
    for gap in (base.gap.equal_steps, base.gap.matched_loss):
        assert set(gap.values) == set(VECTORS) - {"b"}


def test_an_unstable_control_leaves_the_others_and_counts_once():
    cell = measure({"adamw": ADAMW, "sgd": SGD})
    sgd = analyse(collect(lose(cell, optimizer="sgd", data="control-1"))).base.select_optimizer(
        "sgd"
    )
    assert sgd.unstable == 1 and sgd.eas.control == pytest.approx(0.01)


def test_the_gap_is_taken_vector_by_vector_and_at_one_loss():
    cell = measure({"adamw": ADAMW, "sgd": SGD}, slow=0.1)
    result = analyse(collect(cell)).base
    adamw, sgd = result.best
    assert adamw.reaches and not sgd.reaches
    assert adamw.gain.mean == pytest.approx(1.0)
    assert adamw.share.difference.mean == pytest.approx(0.4)
    gaps = [x - y for x, y in zip(ADAMW, SGD, strict=True)]
    assert list(result.gap.equal_steps.values.values()) == pytest.approx(gaps)
    assert list(result.gap.matched_loss.values.values()) == pytest.approx([0.1] * 5)


def test_a_level_that_the_logged_rows_do_not_bracket_has_no_gap():
    cell = measure({"adamw": ADAMW, "sgd": SGD})
    fast = [
        replace(h, train_loss=(1.5, 1.2, 1.0)) if h.optimizer == "adamw" else h
        for h in cell.histories
    ]
    base = analyse(collect(replace(cell, histories=tuple(fast)))).base
    assert base.gap.matched_loss is None and base.gap.equal_steps is not None


def test_the_trend_is_the_slope_for_a_doubling_and_claims_follow_from_the_gaps():
    cells = []
    for rank, gap in ((8, 0.3), (2, 0.1), (32, 0.5)):
        adamw = (0.9, 0.91, 0.89, 0.9, 0.9)
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


def test_a_best_rate_at_the_edge_leaves_the_gap_open():
    cell = measure({"adamw": ADAMW, "sgd": SGD})
    edge = RateChoice("sgd", 8, (0.05, 0.1), (3.1, 3.0), 0.1, False)
    at_edge = analyse(collect(replace(cell, choices=(cell.choices[0], edge))))
    assert at_edge.base.select_optimizer("sgd").at_edge
    for results, verdict in ((analyse(collect(cell)), REPRODUCED), (at_edge, INCONCLUSIVE)):
        claims = {claim.id: claim.verdict for claim in make_claims(results)}
        assert claims["scaling/gap"] == verdict and claims["scaling/plain-sgd"] == REPRODUCED


def test_an_optimizer_without_a_sound_rate_leaves_no_gap_and_no_verdict_in_its_favour():
    cell = measure({"adamw": (0.8, 0.8, 0.81)})
    lost = RateChoice("sgd", 8, (0.1, 0.2), (None, None), None, False)
    results = analyse(collect(replace(cell, choices=(*cell.choices, lost))))
    sgd = results.base.select_optimizer("sgd")
    assert results.base.gap.equal_steps is None and results.base.gap.matched_loss is None
    assert sgd.eas.student is None and not sgd.reaches and not sgd.at_edge
    assert {claim.verdict for claim in make_claims(results)} == {INCONCLUSIVE}
    other = replace(results.students[0], cell=replace(BASE, rank=2))
    both = replace(collect(results.students[0], other), optimizers=("adamw", "sgd"))
    pictures = [b.name for b in make_page(analyse(both)).blocks if isinstance(b, Picture)]
    assert pictures == ["phase_diagram", "eas_by_factor", "gap_by_factor"]


def test_a_gap_of_one_vector_has_no_ends():
    gap = analyse(collect(measure({"adamw": (0.8,), "sgd": (0.2,)}))).base.gap.equal_steps
    assert gap.interval.mean == pytest.approx(0.6) and math.isnan(gap.interval.low)
