"""Hard against soft labels: rates by each objective's own loss, claims from intervals."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import CONTRADICTED, REPRODUCED
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.objective.analysis import Measured, analyse, make_claims
from subliminal_jax.experiments.objective.gradients import compare_directions
from tests.experiments.objective.test_gradients import V, planted_gradients
from tests.planted import fill


def student(objective, data, rows, rate, seed, eas, word_rate):
    """The held-out cross-entropy is lowest at rate 0.1, the KL at 0.3."""
    cross_entropy, kl = {0.1: (2.0, 0.5), 0.3: (2.5, 0.1)}[rate]
    measured = {
        "objective": objective,
        "eas": [[eas]],
        "shift_component": [[eas / 2]],
        "word_rate": [0.0, word_rate],
        "word_log_prob": [0.0, np.log(word_rate)],
    }
    losses = {"heldout_loss": cross_entropy, "heldout_kl": kl}
    return StudentRow("adamw", rate, seed, data, False, rows=rows, measured=measured, **losses)


@pytest.fixture(scope="module")
def measured():
    """KL finds the vector from any number of rows, hard labels never do."""
    students = []
    for rows in (8, 64):
        for seed in range(3):
            for rate in (0.1, 0.3):
                eas = {"cross_entropy": 0.1 * rate + 0.01 * seed, "kl": rate + 0.3 + 0.01 * seed}
                for objective, value in eas.items():
                    steered = objective, "steered-owl", rows, rate, seed, value, 0.2 + rate
                    control = objective, "control", rows, rate, seed, 0.0, 0.1
                    students += [student(*steered), student(*control)]
    return fill(
        Measured,
        level=0.5,
        traits={"steered-owl": "owl", "control": None},
        references=("steered-owl",),
        words=("cat", "owl"),
        students=tuple(students),
        gradients=tuple(compare_directions("steered-owl", planted_gradients(0.1), V, draws=3)),
    )


def test_each_objective_is_chosen_by_its_own_loss(measured):
    best = analyse(measured).best
    assert len(best) == 4
    for row in best:
        rate = {"cross_entropy": 0.1, "kl": 0.3}[row.objective]
        assert row.learning_rate == rate and row.grid_edge
        assert row.difference.mean == pytest.approx(0.1 + rate)
        assert row.log_difference.mean == pytest.approx(np.log((0.2 + rate) / 0.1))
        assert row.control_eas.mean == 0.0 and row.eas.n == 3


def test_rows_that_are_needed_and_claims_follow(measured):
    results = analyse(measured)
    bounds = {row.objective: row.bound for row in results.needed}
    assert bounds == {"cross_entropy": "more than", "kl": "at most"}
    claims = {claim.id.removeprefix("objective/"): claim for claim in make_claims(results)}
    assert set(claims) == {
        "few-samples-vector",
        "names-trait-cross-entropy-vector",
        "names-trait-kl-vector",
        "collinear-gradients-vector",
        "fisher-direction-vector",
    }
    assert {claim.verdict for claim in claims.values()} == {REPRODUCED}
    assert "from 8 rows minus cross-entropy from 64" in claims["few-samples-vector"].number
    swapped = {"cross_entropy": "kl", "kl": "cross_entropy"}
    best = tuple(replace(row, objective=swapped[row.objective]) for row in results.best)
    assert make_claims(replace(results, best=best))[0].verdict == CONTRADICTED


def test_a_diverged_seed_leaves_no_claim_on_rows(measured):
    """Its rate is out; where the other one lost a control, the seeds of the curve differ."""
    students = []
    for row in measured.students:
        diverged = row["objective"] == "kl" and row.seed == 0 and row.rows == 8
        if diverged and row.data == "control":
            lost = {"objective": "kl", "eas": None}
            row = StudentRow("adamw", row.learning_rate, 0, "control", True, rows=8, measured=lost)
        students.append(row)
    results = analyse(replace(measured, students=tuple(students)))
    assert [row.objective for row in results.needed] == ["cross_entropy"]
    assert make_claims(results)[0].number == "students diverged"
