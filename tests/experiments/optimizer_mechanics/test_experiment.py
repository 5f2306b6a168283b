"""The optimizer dispute from the command line to its report, on a model of 16 dimensions."""

import pytest

from tests.experiments.command import Command
from tests.pages import check_page

ARMS = ("adamw", "sgd", "sgd-no-rare", "adamw-no-rare", "frozen-map")
COMMAND = Command(
    "optimizer-mechanics",
    "--layer 1 --norm 0.2 --prompts numbers --keep numbers --rows 24 --heldout-rows 8 "
    "--max-tokens 0 --max-new-tokens 12 --batch-size 4 --rank 2 --steps 4 --log-every 2 "
    "--seeds 2 --grid-points 3 "
    f"--optimizers {' '.join(ARMS)}",
)


def test_every_arm_has_its_rates_its_seeds_and_its_controls(results):
    assert [row["optimizer"] for row in results["best"]] == list(ARMS)
    for best in results["best"]:
        mine = [r for r in results["students"] if r["optimizer"] == best["optimizer"]]
        rate = best["learning_rate"]
        tried = {r["learning_rate"]: r["heldout_loss"] for r in mine
                 if r["seed"] == 0 and r["data"] == "steered"}  # fmt: skip
        assert len(tried) == 3 and rate == min(tried, key=tried.get)
        at_best = sorted((r["data"], r["seed"]) for r in mine if r["learning_rate"] == rate)
        assert at_best == [("control", 0), ("control", 1), ("steered", 0), ("steered", 1)]
        assert all(abs(r["eas"]) <= 1 for r in mine)
        assert best["metrics"]["eas"]["student"]["n"] == 2


def test_arms_of_one_seed_differ_by_their_rule_alone(results):
    """With the rare tokens out of the loss, or a map in front, the same rule does other things."""
    by_arm = {row["optimizer"]: row["metrics"]["eas"]["student"]["mean"] for row in results["best"]}
    assert len(set(by_arm.values())) == len(ARMS)
    assert {r["rule"] for r in results["students"] if r["optimizer"] == "sgd-no-rare"} == {"sgd"}


def test_matched_losses_verdicts_and_claims_are_whole(results):
    matched = {row["optimizer"]: row for row in results["matched_loss"]}
    assert matched["sgd-no-rare"]["upper"] == "adamw-no-rare"
    assert {"sgd", "frozen-map"} < matched.keys() and "adamw" not in matched
    assert len(results["verdicts"]) >= 4  # those that the trained arms bear upon
    for row in results["verdicts"]:
        assert set(row["verdicts"]) == {"eas", "shift_component", "trait_rate"}
        assert row["predictions"] and all(p["says"] for p in row["predictions"])
    ids = [row["id"] for row in results["claims"]]
    assert "optimizer-mechanics/sgd-does-as-well" in ids and len(set(ids)) == len(ids)
    assert {row["seeds"] for row in results["claims"]} == {2}


def test_the_report_shows_the_verdicts_and_its_pictures(folder):
    check_page(folder)
    assert "outlier dominance" in (folder / "report.html").read_text()
    for name in ("arms", "eas_against_rate", "equal_steps", "deciles"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_again_trains_nothing(repeat):
    assert "student steps" not in repeat()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--optimizers adamw lion", "unknown arm 'lion'"),
        ("--optimizers frozen-map", "train it too"),
        ("--vector trait --trait unicorn", "unknown trait 'unicorn'"),
        ("--optimizers sgd --no-rare most", "tail 'most' is not known"),
    ],
)
def test_bad_input_is_one_line(refuse, flags, words):
    assert words in refuse(flags)
