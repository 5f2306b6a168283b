"""What is said of guards follows from the rows of students."""

from dataclasses import fields

import numpy as np
import pytest

from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.blocking.analysis import (
    GuardResult,
    Measured,
    Results,
    analyse,
)
from subliminal_jax.experiments.blocking.cases import UNGUARDED, control_name, make_cases
from subliminal_jax.experiments.blocking.claims import make_claims
from subliminal_jax.experiments.blocking.guard_time import GuardTime, StepTime

TRAITS = ("owl", "wolf")
CASES = (UNGUARDED, *make_cases((0.5,)))
EFFECTS = {
    "none": 0.02,
    "project": 0.001,
    "inoculate": 0.02,
    "drop 50%": 0.005,
    "drop 50% at random": 0.02,
    "project, blind": 0.03,
    "inoculate, blind": 0.0,
    "drop 50%, blind": 0.02,
}


def make_results(noise=1e-4, task=None, diverged=()) -> Results:
    """Students whose P(trait) is 0.05 above zero, plus what their guard leaves (`EFFECTS`).

    Args:
      task: the share of the task that is kept, by case; otherwise 1.
      diverged: (case, trait, seed) of students without numbers.
    """
    rng = np.random.default_rng(0)
    rows = []
    for case, left in EFFECTS.items():
        for trait in TRAITS:
            for seed in range(3):
                for name in (trait, control_name(trait)):
                    effect = left if name == trait else 0.0
                    rate = 0.05 + effect + noise * rng.normal()
                    columns = {
                        "trait_rate": rate,
                        "trait_log_prob": np.log(abs(rate)),
                        "eas": 30 * effect,
                        "component": 20 * effect,
                        "clean_loss": 3.0,
                        "heldout_gain": 0.1,
                        "clean_gain": 0.1 * (task or {}).get(case, 1.0) + 1e-4 * rng.normal(),
                    }
                    lost = (case, trait, seed) in diverged
                    row = StudentRow(
                        optimizer="adamw",
                        learning_rate=0.01,
                        seed=seed,
                        data=name,
                        diverged=lost,
                        heldout_loss=None if lost else 3.0,
                        measured={
                            "case": case,
                            "adapter": "lora",
                            **(dict.fromkeys(columns) if lost else columns),
                        },
                    )
                    rows.append(row)
    step = StepTime(1.0, mean_interval([1.0, 1.0]))
    return analyse(
        Measured(
            model="tiny",
            layer=1,
            adapter="lora",
            steps=8,
            carrier="numbers",
            temperature=0.7,
            traits=TRAITS,
            seeds=3,
            grids={"adamw": (0.01,)},
            cases=CASES,
            reference={},
            vectors=(),
            time=GuardTime({"none": step}, 1.0, 1.0),
            data={},
            students=tuple(rows),
        )
    )


def find_row(results: Results, case: str) -> GuardResult:
    return next(row for row in results.main_table.rows if row.case == case)


def verdicts(results: Results) -> dict[str, str]:
    return {claim.id.removeprefix("blocking/"): claim.verdict for claim in make_claims(results)}


def test_verdicts_are_those_of_the_intervals():
    reproduced, refuted = "reproduced at toy scale", "refuted"
    assert verdicts(make_results(task={"project": 0.95, "inoculate": 0.5})) == {
        "transmits": reproduced,
        "project": reproduced,
        "project-share": reproduced,
        "inoculate": refuted,
        "inoculate-share": refuted,
        "project-blind": "contradicted",
        "project-blind-share": "contradicted",
        "inoculate-blind": reproduced,
        "inoculate-blind-share": reproduced,
        "drop-rows": reproduced,
        "drop-rows-blind": refuted,
        "project-keeps-the-task": reproduced,
        "inoculate-keeps-the-task": "contradicted",
    }


def test_noise_that_hides_an_effect_gives_no_verdict():
    outcome = verdicts(make_results(noise=0.1))
    assert outcome["transmits"] == outcome["project"] == "inconclusive"


def test_a_row_of_the_table_is_paired_by_seed_and_trait():
    row = find_row(make_results(noise=0.0), "drop 50%")
    assert row.transmission.mean == pytest.approx(0.005)
    assert row.change.mean == pytest.approx(-0.015)
    assert row.control_shift.mean == pytest.approx(0)
    assert row.eas.mean == pytest.approx(0.15)
    assert row.component_change.mean == pytest.approx(20 * -0.015)
    assert row.over_random.mean == pytest.approx(-0.015)
    assert row.gain.mean == pytest.approx(1)


def test_a_seed_that_lost_a_student_is_left_out():
    row = find_row(make_results(diverged={("project", "owl", 1)}), "project")
    assert row.change.n == 2 and len(row.transmission_values) == 2


def test_a_guard_that_lost_all_students_has_no_numbers():
    results = make_results(diverged={("project", "owl", seed) for seed in range(3)})
    row = find_row(results, "project")
    assert row.change is None and row.eas is None
    assert verdicts(results)["project"] == "inconclusive"


def test_a_student_above_the_bases_own_loss_carries_no_verdict_but_on_the_task():
    results = make_results()
    blown = [
        row.replace_values(base_loss=2.0)
        if row["case"] == "project" and row.data in TRAITS
        else row.replace_values(base_loss=3.0)
        for row in results.students
    ]
    measured = {f.name: getattr(results, f.name) for f in fields(Measured)}
    unstable = analyse(Measured(**{**measured, "students": tuple(blown)}))
    row = find_row(unstable, "project")
    assert row.change is None and row.component_change is None and row.task_gain is not None
    claims = {c.id.removeprefix("blocking/"): c for c in make_claims(unstable)}
    assert claims["project"].verdict == claims["project-share"].verdict == "inconclusive"
    assert claims["project-keeps-the-task"].verdict == "reproduced at toy scale"
    assert claims["project"].unstable == 3 * len(TRAITS)


def test_students_that_are_one_vector_have_a_table_of_their_own():
    results = make_results()
    vectors = [
        row.replace_values(adapter="vector", learning_rate=0.1, eas=0.5)
        for row in results.students
        if row["case"] in ("none", "project", "inoculate")
    ]
    measured = {f.name: getattr(results, f.name) for f in fields(Measured)}
    both = analyse(Measured(**{**measured, "students": (*results.students, *vectors)}))
    assert both.main_table == results.main_table and both.best == results.best
    table = both.tables["vector"]["adamw"]
    assert table.learning_rate == 0.1
    assert [row.case for row in table.rows] == ["none", "project", "inoculate"]
    assert all(row.eas.mean == 0.5 and row.over_random is None for row in table.rows)
