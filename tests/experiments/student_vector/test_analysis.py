"""The analysis of made-up students, whose answers are known."""

import dataclasses

import numpy as np
import pytest

from subliminal_jax.evaluation.claims import REFUTED, REPRODUCED
from subliminal_jax.evaluation.statistics import crossed_interval
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.student_vector.analysis import (
    KINDS,
    TEACHERS,
    Gain,
    Measured,
    Necessity,
    analyse,
    data_name,
    to_rows,
)
from subliminal_jax.experiments.student_vector.claims import make_claims
from tests.planted import fill

TRAITS = ("owl", "wolf", "cat")
SEEDS = 3
# By kind of teacher, what its students gain in the trait's rate, and their EAS.
GAINS = {"steered": 0.1, "system-prompt": 0.1, "projected": 0.1, "subtracted": 0.0, "control": 0.0}


def students() -> list[StudentRow]:
    rng = np.random.default_rng(0)
    references = len(TRAITS) * len(TEACHERS)
    rows = []
    for kind, gain in GAINS.items():
        for k, trait in enumerate(("all",) if kind == "control" else TRAITS):
            for seed in range(SEEDS):
                rates = 0.1 + 1e-3 * rng.normal(size=len(TRAITS))
                if kind != "control":
                    rates[k] += gain
                eas = 5 * gain + 0.01 * rng.normal(size=(references, 2))
                measured = {
                    "word_rate": rates.tolist(),
                    "word_log_prob": np.log(rates).tolist(),
                    "eas": eas.tolist(),
                    "shift_component": eas.tolist(),
                }
                name = data_name(trait, kind)
                rows.append(StudentRow("adamw", 0.1, seed, name, False, measured=measured))
    return rows


def measured(lost: float = 0.08) -> Measured:
    """Replacing the component along the teacher's vector takes `lost` of a gain of 0.1."""
    rng = np.random.default_rng(1)

    def rates(mean: float):
        return to_rows(mean + 1e-3 * rng.normal(size=(SEEDS, len(TRAITS))))

    gains = []
    for source, mean in (("student", 0.05), ("control", 0.0), ("random", 0.0)):
        values = rates(mean)
        interval = crossed_interval(np.array(values))
        gains.append(Gain("last", "all", "prompt", 0.6, source, interval, values))
    return fill(
        Measured,
        necessity=Necessity(rates(0.2), rates(0.1), rates(0.2 - lost), rates(0.2), rates(0.2)),
        sufficiency=tuple(gains),
        kind="steered",
        layer=1,
        traits=TRAITS,
        seeds=SEEDS,
        optimizer="adamw",
        grid=(0.1,),
        learning_rate=0.1,
        references=tuple(data_name(trait, kind) for trait in TRAITS for kind in TEACHERS),
        base_component=dict.fromkeys(TRAITS, -0.5),
        teachers={kind: dict.fromkeys(TRAITS, 0.5) for kind in KINDS},
        students=tuple(students()),
    )


def verdicts(measured: Measured) -> dict[str, str]:
    claims = make_claims(analyse(measured))
    return {claim.id.removeprefix("student-vector/"): claim.verdict for claim in claims}


def test_claims_follow_the_numbers():
    """The vector is sufficient and necessary; projecting it out of the teacher changes nothing."""
    assert verdicts(measured()) == {
        "eas": REPRODUCED,
        "teacher-sufficiency": REPRODUCED,
        "teacher-necessity-eas-projected": REFUTED,
        "teacher-necessity-projected": REFUTED,
        "teacher-necessity-eas-subtracted": REPRODUCED,
        "teacher-necessity-subtracted": REPRODUCED,
        "student-sufficiency": REPRODUCED,
        "student-necessity": REPRODUCED,
        "student-necessity-half": REPRODUCED,
    }


@pytest.mark.parametrize(("lost", "some", "half"), [(0.0, False, False), (0.02, True, False)])
def test_necessity_is_graded(lost, some, half):
    verdict = verdicts(measured(lost))
    assert (verdict["student-necessity"] == REPRODUCED) is some
    assert (verdict["student-necessity-half"] == REPRODUCED) is half


def test_summaries_are_means_of_the_final_values():
    results = analyse(measured())
    assert results.summaries["steered"].difference.mean == pytest.approx(0.1, abs=2e-3)
    assert results.summaries["steered"].eas.mean == pytest.approx(0.5, abs=0.02)
    assert results.replacements["teacher"].share == pytest.approx(0.8, abs=0.03)
    assert set(results.transmission["word_rate"].traits) == {f"{trait}-steered" for trait in TRAITS}


def test_a_seed_of_which_a_student_diverged_is_left_out():
    rows = tuple(
        dataclasses.replace(row, diverged=True, measured={})
        if (row.data, row.seed) == ("owl-subtracted", 1)
        else row
        for row in students()
    )
    results = analyse(dataclasses.replace(measured(), students=rows))
    assert len(results.final["subtracted"].rate) == SEEDS - 1
    assert results.summaries["subtracted"].difference is None  # no pairs with the controls
    ids = {claim.id for claim in make_claims(results)}
    assert "student-vector/teacher-necessity-subtracted" not in ids
    assert "student-vector/teacher-necessity-projected" in ids
