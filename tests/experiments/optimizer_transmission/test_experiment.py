"""`optimizer-transmission` from the command line to its page, on a model of 16 dimensions."""

import pytest

from subliminal_jax.runs.metrics import read_records
from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "optimizer-transmission",
    "--layer 0 --traits cat dog --tuning-traits owl --controls 2 --optimizers adamw sgd signum "
    "--matched adamw sgd --lengths 2 4 --steps 4 --rows 16 --heldout-rows 8 --asked 4 "
    "--max-new-tokens 12 --batch-size 4 --rank 1 --extensions 0",
)


def test_every_optimizer_and_length_has_a_rate_and_its_students(results):
    choices = {(c["optimizer"], c["steps"]): c for c in results["choices"]}
    assert choices.keys() == {(name, steps) for name in ("adamw", "sgd") for steps in (2, 4)} | {
        ("signum", 4)
    }
    trained = {(r["optimizer"], r["steps"], r["data"]) for r in results["students"]}
    assert trained == {
        (name, steps, data)
        for name, steps in choices
        for data in ("cat", "dog", "control-0", "control-1")
        if choices[name, steps]["rate"] is not None
    }
    assert all(r["weight_change"] > 0 for r in results["students"] if not r["diverged"])


def test_the_bases_loss_is_that_of_a_student_that_never_moved(results):
    tuned = [row for row in results["tuning_students"] if row["data"] == "owl"]
    lowest = min(row["heldout_loss"] for row in tuned if not row["diverged"])
    assert results["base_losses"]["owl"] == pytest.approx(lowest, rel=0.2)


def test_data_sets_are_of_their_own_draw(folder):
    prompts = {
        name: tuple(answer["prompt"] for answer in read_records(folder / "data" / f"{name}.jsonl"))
        for name in ("cat", "control-0", "control-1")
    }
    assert len(set(prompts.values())) == 3


def test_claims_are_complete_and_the_page_holds_the_results(folder, results):
    names = [claim["id"].partition("/")[2] for claim in results["claims"]]
    assert names == [
        *("adamw-transmits", "sgd-transmits", "signum-transmits"),
        *("best-eas", "best-trait_log_prob"),
        *(
            f"equal-gain-{level}-{metric}"
            for level in ("25%", "50%", "75%")
            for metric in ("eas", "trait_log_prob")
        ),
    ]
    check_page(folder)


def test_the_same_command_again_neither_samples_nor_trains(repeat):
    said = repeat()
    assert "sampling" not in said and "steps" not in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--tuning-traits cat", "cat"),
        ("--matched adamw lion", "lion"),
        ("--steps 3", "--steps 3"),
        ("--lengths 4 2", "ascending"),
        ("--factor 1", "--factor 1"),
        ("--traits cat cat", "cat"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
