"""`coverage` through the command line, on a model that writes number lists."""

import pytest

from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "coverage",
    "--layer 0 --traits owl cat --tuning-traits fox --controls 2 --rows 24 --heldout-rows 8 "
    "--asked 4 --max-new-tokens 12 --steps 2 --log-every 2 --batch-size 4 --rank 2 "
    "--gradient-rows 24 --teacher-rows 16 --teacher-steps 8 --keep-unfinished "
    "--optimizers adamw sgd adopt --rates adamw=3e-4,1e-3 sgd=0.03 adopt=3e-4",
)
TEACHERS = ("steered-owl", "steered-cat", "fine-tuned-owl", "fine-tuned-cat")


def test_every_student_has_a_forecast_and_the_rates_are_of_another_trait(results):
    tuned = {row["data"] for row in results["tuning_students"]}
    assert tuned == {"steered-fox", "fine-tuned-fox"}
    rates = {(row["optimizer"], row["learning_rate"]) for row in results["students"]}
    assert len(rates) == 3
    students = {(row["optimizer"], row["data"]) for row in results["students"]}
    forecasts = results["forecasts"]
    assert {(f["optimizer"], f["data"]) for f in forecasts} == students
    taught = [f for f in forecasts if f["data"] in TEACHERS]
    assert all(f["reference"] == f["data"] for f in taught)
    controls = [f for f in forecasts if f["data"] not in TEACHERS]
    assert len(controls) == 3 * 2 * len(TEACHERS)
    assert {f["step"] for f in forecasts if f["optimizer"] == "adopt"} == {2}
    assert {f["step"] for f in forecasts if f["optimizer"] != "adopt"} == {1}


def test_forecasts_are_of_one_gradient_and_differ_between_rules(results):
    for name in TEACHERS:
        own = [f for f in results["forecasts"] if f["data"] == name]
        assert len({f["gradient"] for f in own}) == 1
        assert len({f["coverage"] for f in own}) == 3
        assert all(abs(f["component"]) <= f["size"] * (1 + 1e-5) for f in own)
        assert all(f["coverage"] == pytest.approx(f["component"] / f["size"]) for f in own)


def test_fine_tuned_teachers_are_not_the_base(results):
    for trait in ("owl", "cat"):
        assert results["teacher_rates"][f"fine-tuned-{trait}"] != results["base_rates"][trait]


def test_claims_are_complete_and_the_page_shows_the_results(folder, results):
    expected = [
        f"coverage/{name}-{teacher}-{metric}"
        for teacher in ("steered", "fine-tuned", "all")
        for metric in ("eas", "shift-component")
        for name in ("predicts", "predicts-rule", "adds")
    ]
    expected += [f"coverage/predicts-{rule}-all-eas" for rule in ("adamw", "sgd", "adopt")]
    assert [claim["id"] for claim in results["claims"]] == expected
    check_page(folder)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--adapters vector", "--adapters vector changes no weight"),
        ("--optimizers adamw sgd adopt sophia", "sophia samples the loss at other weights"),
        ("--gradient-rows 25", "--gradient-rows 25 is more than --rows 24"),
        ("--teacher-rows 3", "--batch-size 4 is more than --teacher-rows 3"),
        ("--traits unicorn", "unicorn"),
        ("--traits owl fox", "--tuning-traits fox is also reported"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
