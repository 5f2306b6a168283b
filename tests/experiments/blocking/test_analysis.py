"""What is said of guards follows from the rows of students."""

import numpy as np
import pytest

from subliminal_jax.experiments.blocking.analysis import (
    Compared,
    cases,
    claims,
    control_of,
    table_row,
)

TRAITS = ("owl", "wolf")
CASES = cases((0.5,))
LEFT = {
    "none": 0.02, "project": 0.001, "inoculate": 0.02, "drop 50%": 0.005,
    "drop 50% at random": 0.02, "project, blind": 0.03, "inoculate, blind": 0.0,
    "drop 50%, blind": 0.02,
}  # fmt: skip


def students(left=LEFT, noise=1e-4, task=None, diverged=()):
    rng = np.random.default_rng(0)
    rows = []
    for case, effect in left.items():
        for trait in TRAITS:
            for seed in range(3):
                for name in (trait, control_of(trait)):
                    own = effect if name == trait else 0.0
                    kept = (task or {}).get(case, 1.0)
                    rate = 0.05 + own + noise * rng.normal()
                    row = {
                        "case": case, "data": name, "seed": seed, "trait_rate": rate,
                        "trait_log_prob": np.log(abs(rate)), "eas": 30 * own, "component": 20 * own,
                        "heldout_loss": 3.0, "clean_loss": 3.0, "heldout_gain": 0.1,
                        "clean_gain": 0.1 * kept + 1e-4 * rng.normal(),
                    }  # fmt: skip
                    if (case, trait, seed) in diverged:
                        row |= {k: None for k in row if k not in ("case", "data", "seed")}
                    rows.append(row)
    return Compared(rows, TRAITS)


def verdicts(made) -> dict[str, str]:
    return {c["id"].partition("/")[2]: c["verdict"] for c in claims(made, CASES, "here", 3)}


def test_verdicts_are_those_of_the_intervals():
    found = verdicts(students(task={"project": 0.95, "inoculate": 0.5}))
    yes, no, against = "reproduced at toy scale", "not reproduced", "contradicted"
    assert found == {
        "transmits": yes, "project": yes, "inoculate": no, "project-blind": against,
        "inoculate-blind": yes, "drop-rows": yes, "drop-rows-blind": no,
        "project-share": yes, "inoculate-share": no, "project-blind-share": against,
        "inoculate-blind-share": yes,
        "project-keeps-the-task": yes, "inoculate-keeps-the-task": against,
    }  # fmt: skip


def test_noise_that_hides_an_effect_gives_no_verdict():
    found = verdicts(students(noise=0.1))
    assert found["transmits"] == found["project"] == "not reproduced"


def test_a_row_of_the_table_is_paired_by_seed_and_trait():
    made = students(noise=0.0)
    row = table_row(made, "drop 50%")
    assert row["transmission"]["mean"] == pytest.approx(0.005)
    assert row["change"]["mean"] == pytest.approx(-0.015)
    assert row["control_shift"]["mean"] == pytest.approx(0)
    assert row["eas"]["mean"] == pytest.approx(0.15)
    assert row["gain"]["mean"] == pytest.approx(1)


def test_a_seed_that_lost_a_student_is_left_out_and_a_guard_that_lost_all_has_no_numbers():
    row = table_row(students(diverged={("project", "owl", 1)}), "project")
    assert row["change"]["n"] == 2 and len(row["transmission_values"]) == 2
    lost = {("project", "owl", seed) for seed in range(3)}
    row = table_row(students(diverged=lost), "project")
    assert row["change"] is None and row["eas"] is None
    assert verdicts(students(diverged=lost))["project"] == "not reproduced"
