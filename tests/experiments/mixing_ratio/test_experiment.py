"""`mixing-ratio` through the command line, on a model that writes number lists."""

import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "mixing-ratio",
    "--layer 0 --traits owl cat dog --tuning-traits fox --shares 0 0.125 0.25 0.5 1 --rows 24 "
    "--heldout-rows 8 --asked 4 --max-new-tokens 12 --steps 4 --log-every 4 --batch-size 8 "
    "--rank 2 --rates adamw=3e-4,1e-3 sgd=0.03",
)
TRAITS = ("owl", "cat", "dog")
SHARES = (0.125, 0.25, 0.5, 1.0)


def test_rates_are_chosen_on_a_mixture_of_another_trait(results):
    assert {row["data"] for row in results["tuning_students"]} == {"fox-50"}
    names = {f"{trait}-{100 * share:g}" for trait in TRAITS for share in (0.0, *SHARES)}
    for optimizer in ("adamw", "sgd"):
        rows = [row for row in results["students"] if row["optimizer"] == optimizer]
        assert {row["data"] for row in rows} == names and len(rows) == len(names)
        assert len({row["learning_rate"] for row in rows}) == 1
    tried = [r for r in results["tuning_students"] if r["optimizer"] == "adamw"]
    best = min(tried, key=lambda row: row["heldout_loss"])["learning_rate"]
    chosen = {r["learning_rate"] for r in results["students"] if r["optimizer"] == "adamw"}
    assert chosen == {best}


def test_each_student_is_held_against_that_of_the_same_clean_rows(results):
    students = {(row["optimizer"], row["data"]): row for row in results["students"]}
    for arm in results["arms"]:
        for trait in TRAITS:
            student = students[arm["optimizer"], f"{trait}-{100 * arm['share']:g}"]
            control = students[arm["optimizer"], f"{trait}-0"]
            assert student["seed"] == control["seed"]
            gain = arm["metrics"]["gain"]["by_data"][student["data"]]["interval"]["mean"]
            assert gain == pytest.approx(control["teacher_loss"] - student["teacher_loss"])
            place = results["references"].index(trait)
            eas = [row["eas"][place][0] for row in (student, control)]
            compared = arm["metrics"]["eas"]["by_data"][student["data"]]
            assert compared["interval"]["mean"] == pytest.approx(eas[0] - eas[1])
            assert student["train_loss"] != control["train_loss"]  # other rows


def test_a_student_of_teacher_rows_alone_is_judged_on_the_same_rows_by_both_losses(results):
    """Its held-out mixture is the teacher's rows; that of the others is not."""
    for row in results["students"]:
        same = row["teacher_loss"] == pytest.approx(row["heldout_loss"], rel=1e-5)
        assert same == row["data"].endswith("-100"), row["data"]


def test_claims_are_complete_and_the_page_shows_the_results(folder, results):
    expected = [
        f"mixing-ratio/{name}-{metric}"
        for metric in ("eas", "shift-component", "word-log-prob")
        for name in ("sharp-adamw", "proportional-adamw", "sharp-sgd", "proportional-sgd")
        + ("smaller-share-sgd",)
    ]
    assert [claim["id"] for claim in results["claims"]] == expected
    check_page(folder)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--shares 0 0.5 0.25 0.75 1", "give them ascending"),
        ("--shares 0 0.1 0.5 0.75 1", "0.25 is missing"),
        ("--shares 0 0.01 0.25 0.5 1", "0 and 0.01 are as many of --rows 24"),
        ("--shares 0 0.25 1", "--shares"),
        ("--traits unicorn", "unicorn"),
        ("--traits owl fox", "--tuning-traits fox is also reported"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
