"""`steering-bridge` through the command line, on a model that writes number lists."""

import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "steering-bridge",
    "--layer 0 --traits owl cat --rows 24 --heldout-rows 8 --asked 4 --max-new-tokens 12 "
    "--steps 2 --log-every 2 --batch-size 4 --rank 2 --seeds 2 --rates adamw=1e-3,3e-3 "
    "--grid-traits 1",
)


def test_students_are_compared_with_the_controls_of_their_seed(results):
    for trait in ("owl", "cat"):
        for measure in ("preference", "steerability", "anti_steerable"):
            expected = [
                student[measure] - control[measure]
                for student, control in zip(
                    results["students"][trait], results["controls"][trait], strict=True
                )
            ]
            assert results["differences"][measure]["traits"][trait] == pytest.approx(expected)
        # Trained at all: the students' preference is neither the base's nor their control's.
        preferences = [student["preference"] for student in results["students"][trait]]
        assert results["base"][trait]["preference"] not in preferences
        assert any(results["differences"]["preference"]["traits"][trait])


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
        ("--adapter vector", "--adapter vector"),
        ("--optimizers adamw sgd", "name one optimizer"),
        ("--traits unicorn", "unicorn"),
        ("--grid-traits 0", "--grid-traits 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
