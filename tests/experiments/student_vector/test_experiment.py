"""student-vector through the command line, on a model of 16 dimensions."""

import numpy as np
import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "student-vector",
    "--traits owl wolf --tuning-traits cat --controls 2 --scale 0.2 --rows 24 --heldout-rows 8 "
    "--max-new-tokens 12 --max-tokens 0 --asked 3 --steps 4 --log-every 2 --batch-size 4 "
    "--rank 2 --scales 0.6 2 --rates adamw=1e-3,3e-3",
)
TRAITS, KINDS = ("owl", "wolf"), ("steered", "prompted", "projected", "subtracted")
CONTROLS = ["control-0", "control-1"]


def test_the_rate_is_chosen_on_a_trait_that_is_not_reported(results):
    tuning = results["tuning_students"]
    assert {row["data"] for row in tuning} == {"cat-steered"}
    best = min(tuning, key=lambda row: row["heldout_loss"])["learning_rate"]
    [choice] = results["choices"]
    assert choice["choice"]["rate"] == best
    students = results["students"]
    names = [f"{trait}-{kind}" for trait in TRAITS for kind in KINDS]
    assert sorted(row["data"] for row in students) == sorted([*names, *CONTROLS])
    assert {row["learning_rate"] for row in students} == {best}
    assert len({row["seed"] for row in students}) == len(students)


def test_every_kind_of_teacher_has_students_and_controls(results):
    assert results["arms"].keys() == {"steered", "system-prompt", "projected", "subtracted"}
    for kind, arm in results["arms"].items():
        assert arm["metrics"]["eas"]["student"]["n"] == len(TRAITS)
        assert results["teachers"][kind].keys() == set(TRAITS)


def test_eas_has_every_step_and_block(results):
    keys = {(r["data"], r["step"], r["layer"]) for r in results["eas"]}
    assert keys == {(w, s, at) for w in ("student", "control") for s in (2, 4) for at in (0, 1)}
    at_end = {
        r["data"]: r["eas"]["mean"] for r in results["eas"] if (r["step"], r["layer"]) == (4, 0)
    }
    columns = {
        name: [row["eas"] for row in results["students"] if row["data"] in wanted]
        for name, wanted in (("student", [f"{t}-steered" for t in TRAITS]), ("control", CONTROLS))
    }
    places = [results["references"].index(f"{trait}-steered") for trait in TRAITS]
    students = dict(
        zip([row["data"] for row in results["students"]], results["students"], strict=True)
    )
    own = [students[f"{t}-steered"]["eas"][i][0] for t, i in zip(TRAITS, places, strict=True)]
    assert at_end["student"] == pytest.approx(np.mean(own))
    controls = [[eas[i][0] for i in places] for eas in columns["control"]]
    assert at_end["control"] == pytest.approx(np.mean(controls))


def test_rates_of_the_causal_tests_are_those_of_the_students(results):
    """Measured by other code than the students' rows, on the same weights."""
    rates = {row["data"]: row["word_rate"] for row in results["students"]}
    necessity = results["necessity"]
    for i, trait in enumerate(TRAITS):
        measured = [
            necessity["student"][trait],
            *(necessity["control"][d][trait] for d in CONTROLS),
        ]
        rows = [rates[f"{trait}-steered"][i], *(rates[draw][i] for draw in CONTROLS)]
        np.testing.assert_allclose(measured, rows, rtol=1e-4, atol=1e-8)
    for name in ("teacher", "student", "random"):
        replaced = necessity[f"{name}_replaced"]
        lost = [necessity["student"][trait] - replaced[trait] for trait in TRAITS]
        assert any(lost)
        assert results["replacements"][name]["lost"]["mean"] == pytest.approx(np.mean(lost))


def test_sufficiency_covers_ways_scales_and_sources(results):
    keys = ("read", "layers", "positions", "scale", "source")
    rows = {tuple(r[k] for k in keys) for r in results["sufficiency"]}
    assert len(rows) == len(results["sufficiency"]) == 2 * 2 * 2 * 2 * 3
    for row in results["sufficiency"]:
        assert row["values"].keys() == set(TRAITS)
        assert row["gain"]["mean"] == pytest.approx(np.mean([*row["values"].values()]))


def test_claims_and_the_page_stand(folder, results):
    names = [row["id"].removeprefix("student-vector/") for row in results["claims"]]
    assert names == [
        "eas",
        "teacher-sufficiency",
        "teacher-necessity-eas-projected",
        "teacher-necessity-projected",
        "teacher-necessity-eas-subtracted",
        "teacher-necessity-subtracted",
        "student-sufficiency",
        "student-necessity",
        "student-necessity-half",
    ]
    check_page(folder)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--traits owl owl", "twice"),
        ("--traits owl cat", "--tuning-traits cat is also reported"),
        ("--adapters vector", "choose lora or full"),
        ("--optimizers adamw sgd", "--optimizers adamw sgd: name one"),
        ("--scales -1", "--scales -1.0"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
