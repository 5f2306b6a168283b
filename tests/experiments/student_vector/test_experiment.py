"""student-vector through the command line, on a model of 16 dimensions."""

import numpy as np
import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "student-vector",
    "--traits owl wolf --scale 0.2 --rows 24 --heldout-rows 8 --max-new-tokens 12 "
    "--max-tokens 0 --asked 3 --steps 4 --log-every 2 --batch-size 4 --rank 2 --seeds 2 "
    "--scales 0.6 2 --optimizers adamw --rates adamw=1e-3,3e-3",
)
SHAPE = (2, 2)  # seeds, traits


def test_students_of_every_teacher_stand_at_the_rate_that_heldout_loss_chose(results):
    students = [(r["data"], r["seed"], r["learning_rate"]) for r in results["students"]]
    best = results["learning_rate"]
    names = [f"{t}-{k}" for k in ("prompted", "projected", "subtracted") for t in ("owl", "wolf")]
    for seed in (0, 1):
        for name in ("owl-steered", "wolf-steered", "control"):
            assert {(name, seed, 1e-3), (name, seed, 3e-3)} <= set(students)
        for name in names:
            assert [s for s in students if s[:2] == (name, seed)] == [(name, seed, best)]
    assert results["kind"] == "steered"
    for kind in ("steered", "system-prompt", "projected", "subtracted", "control"):
        assert np.shape(results["final"][kind]["eas"]) == SHAPE
        assert results["teachers"][kind].keys() == {"owl", "wolf"}


def test_eas_has_every_step_and_block(results):
    keys = {(r["data"], r["step"], r["layer"]) for r in results["eas"]}
    assert keys == {(w, s, at) for w in ("student", "control") for s in (2, 4) for at in (0, 1)}
    end = [r for r in results["eas"] if (r["data"], r["step"], r["layer"]) == ("student", 4, 0)]
    assert end[0]["eas"]["low"] <= end[0]["eas"]["mean"] <= end[0]["eas"]["high"]


def test_rates_of_the_causal_tests_are_those_of_the_students(results):
    """Measured by other code than the students' rows, on the same weights read from disk."""
    for key, kind in (("student", "steered"), ("control", "control")):
        np.testing.assert_allclose(
            results["necessity"][key], results["final"][kind]["rate"], rtol=1e-4, atol=1e-8
        )
    for name in ("teacher", "student", "random"):
        rates = np.array(results["necessity"][f"{name}_replaced"])
        lost = np.array(results["necessity"]["student"]) - rates
        assert lost.shape == SHAPE
        assert results["replacements"][name]["lost"]["mean"] == pytest.approx(lost.mean())


def test_sufficiency_covers_ways_scales_and_sources(results):
    keys = ("read", "layers", "positions", "scale", "source")
    rows = {tuple(r[k] for k in keys) for r in results["sufficiency"]}
    assert len(rows) == len(results["sufficiency"]) == 2 * 2 * 2 * 2 * 3
    for row in results["sufficiency"]:
        assert row["gain"]["mean"] == pytest.approx(np.mean(row["values"]))


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
        ("--adapter vector", "choose lora or full"),
        ("--optimizers adamw sgd", "2 optimizers: name one optimizer"),
        ("--scales -1", "--scales -1.0"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
