"""The optimizer dispute from the command line to its report, on a model of 16 dimensions."""

import pytest

from tests.experiments.command import Command
from tests.pages import check_page

ARMS = ("adamw", "sgd", "sgd-no-rare", "frozen-map")
COMMAND = Command(
    "optimizer-mechanics",
    "--layer 0 --traits cat dog --tuning-traits owl --controls 2 --rows 24 --heldout-rows 8 "
    "--asked 4 --max-new-tokens 12 --batch-size 4 --rank 2 --steps 4 --log-every 2 --extensions 0 "
    f"--rates adamw=1e-3 sgd=3e-3 sgd-no-rare=3e-3 frozen-map=1e-3 --optimizers {' '.join(ARMS)}",
)


def test_every_arm_has_its_rate_from_the_tuning_vector_and_its_students(results):
    choices = {choice["optimizer"]: choice for choice in results["choices"]}
    assert [row["optimizer"] for row in results["best"]] == list(choices) == list(ARMS)
    assert {row["data"] for row in results["tuning_students"]} == {"owl"}
    for arm, choice in choices.items():
        tried = {
            r["learning_rate"]: r["heldout_loss"]
            for r in results["tuning_students"]
            if r["optimizer"] == arm
        }
        assert len(tried) == 3 and choice["rate"] is not None
        assert choice["rate"] == min(tried, key=tried.get)
        mine = [r for r in results["students"] if r["optimizer"] == arm]
        assert {r["data"] for r in mine} == {"cat", "dog", "control-0", "control-1"}
        assert {r["learning_rate"] for r in mine} == {choice["rate"]}
        assert len({r["seed"] for r in mine}) == 4


def test_arms_of_one_seed_differ_by_their_rule_alone(results):
    """With the rare tokens out of the loss, or a map in front, the same rule does other things."""
    eas = {r["optimizer"]: r["eas"] for r in results["students"] if r["data"] == "cat"}
    assert len({str(values) for values in eas.values()}) == len(ARMS)
    assert {r["rule"] for r in results["students"] if r["optimizer"] == "sgd-no-rare"} == {"sgd"}


def test_verdicts_and_claims_are_whole(results):
    assert len(results["verdicts"]) >= 3  # those that the trained arms bear upon
    for row in results["verdicts"]:
        assert set(row["verdicts"]) == {"eas", "shift_component", "trait_log_prob"}
        assert row["predictions"] and all(p["says"] for p in row["predictions"])
    ids = [row["id"] for row in results["claims"]]
    assert "optimizer-mechanics/sgd-does-as-well" in ids and len(set(ids)) == len(ids)
    assert {row["seeds"] for row in results["claims"]} == {2}


def test_the_report_shows_the_verdicts_and_its_pictures(folder):
    check_page(folder)
    assert "outlier dominance" in (folder / "report.html").read_text()
    for name in ("arms", "equal_steps", "deciles"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_again_trains_nothing(repeat):
    assert "student steps" not in repeat()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--optimizers adamw lion", "unknown arm 'lion'"),
        ("--optimizers frozen-map", "train it too"),
        ("--traits unicorn", "unicorn"),
        ("--tuning-traits cat", "cat"),
        ("--optimizers sgd --no-rare most --rates sgd=1", "tail 'most' is not known"),
    ],
)
def test_bad_input_is_one_line(refuse, flags, words):
    assert words in refuse(flags)
