"""`steering-bridge` through the command line, on a model that writes number lists."""

import numpy as np
import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "steering-bridge",
    "--layer 0 --traits owl cat --tuning-traits fox --controls 2 --rows 24 --heldout-rows 8 "
    "--asked 4 --max-new-tokens 12 --steps 2 --log-every 2 --batch-size 4 --rank 2 "
    "--rates adamw=3e-4,1e-3",
)
TRAITS, CONTROLS = ("owl", "cat"), ("control-0", "control-1")


def test_the_rate_is_chosen_on_a_trait_that_is_not_reported(results):
    tuning = results["tuning_students"]
    assert {row["data"] for row in tuning} == {"fox"}
    best = min(tuning, key=lambda row: row["heldout_loss"])["learning_rate"]
    assert {row["learning_rate"] for row in results["students"]} == {best}
    assert {row["data"] for row in results["students"]} == {*TRAITS, *CONTROLS}


def test_students_are_compared_with_all_controls(results):
    for measure in ("preference", "steerability", "anti_steerable"):
        compared = results["differences"][measure]["by_data"]
        for trait in TRAITS:
            controls = [results["control_effects"][draw][trait][measure] for draw in CONTROLS]
            student = results["student_effects"][trait][measure]
            assert compared[trait]["interval"]["mean"] == pytest.approx(student - np.mean(controls))
    for trait in TRAITS:  # trained at all: neither the base's preference nor a control's
        preference = results["student_effects"][trait]["preference"]
        others = [results["control_effects"][draw][trait]["preference"] for draw in CONTROLS]
        assert preference not in (results["base"][trait]["preference"], *others)


def test_claims_are_complete_and_the_page_shows_the_results(folder, results):
    assert [claim["id"] for claim in results["claims"]] == [
        "steering-bridge/preference",
        "steering-bridge/steerability",
        "steering-bridge/steerability-predicts",
        "steering-bridge/reliability-predicts",
    ]
    check_page(folder)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--adapters vector", "--adapters vector"),
        ("--optimizers adamw sgd", "--optimizers adamw sgd: name one"),
        ("--traits unicorn", "unicorn"),
        ("--traits owl fox", "--tuning-traits fox is also reported"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
