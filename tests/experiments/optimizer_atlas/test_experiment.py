"""`optimizer-atlas` from the command line to its page, on a model of 16 dimensions."""

import pytest

from subliminal_jax.experiments.optimizer_atlas.config import EIGHT, TWELVE
from subliminal_jax.experiments.optimizer_atlas.rules import RULES, list_settings
from subliminal_jax.training.optimizers import OptimizerSpec
from tests.experiments.command import Command
from tests.pages import check_page

COMMAND = Command(
    "optimizer-atlas",
    "--layer 0 --traits cat dog --tuning-traits owl --controls 1 --rules adamw normalized_sgd "
    "--screen-steps 2 --lengths 1 3 --rows 16 --heldout-rows 8 --asked 4 --max-new-tokens 12 "
    "--batch-size 4 --rank 2 --extensions 0 --most-cost 1e6",
)


def test_the_atlas_names_rules_as_the_registry_does():
    for name, rule in RULES.items():
        settings = list_settings(name)
        assert settings[0] == name == OptimizerSpec.parse(name).label
        assert len({OptimizerSpec.parse(label).identity for label in settings}) == len(settings)
        assert len(settings) == (2 if rule.variant else 1)
        assert all(OptimizerSpec.parse(label).entry.grid for label in settings)
    assert {*TWELVE, *EIGHT} <= RULES.keys()


def test_settings_are_chosen_by_the_held_out_loss_alone(results):
    assert all("eas" not in row for row in results["tuning_students"])
    assert {row["data"] for row in results["tuning_students"]} == {"owl"}
    for chosen in results["chosen"]:
        tried = [
            row
            for row in results["tuning_students"]
            if row["optimizer"] in list_settings(chosen["rule"])
        ]
        best = min(tried, key=lambda row: row["heldout_loss"])
        assert chosen["setting"] == best["optimizer"] and chosen["rate"] == best["learning_rate"]


def test_every_rule_and_length_has_its_students(results):
    data = ("cat", "dog", "control-0")
    trained = {(row["rule"], row["steps"], row["data"]) for row in results["students"]}
    assert trained == {
        (rule, steps, name)
        for rule in ("adamw", "normalized_sgd")
        for steps in (1, 3)
        for name in data
    } | {("adamw", steps, "owl") for steps in (1, 3)}


def test_the_log_keeps_what_the_rules_cost(results):
    assert results["costs"]["adamw"] == 1
    assert results["costs"]["normalized_sgd"] != 1 and not results["left_out"]


def test_every_stage_was_timed(folder, results):
    assert {*results["seconds"]} == {"data and vectors", "costs of rules", "screen", "report"}
    assert all(seconds > 0 for seconds in results["seconds"].values())


def test_spectra_are_those_of_the_students(results):
    (adamw,) = (r for r in results["results"] if r["rule"] == "adamw")
    rows = [
        row
        for row in results["students"]
        if (row["rule"], row["steps"]) == ("adamw", 3) and row["data"] in ("cat", "dog")
    ]
    values = [x for row in rows for layer in row["effective_rank"] for x in layer]
    assert adamw["best"]["spectrum"]["effective_rank"]["mean"] == pytest.approx(
        sum(values) / len(values), rel=1e-6
    )
    assert min(values) >= 1 and max(values) <= 2 + 1e-6


def test_the_page_holds_the_results(folder):
    check_page(folder)


def test_the_same_command_again_neither_samples_nor_trains(repeat):
    said = repeat()
    assert "sampling" not in said and "steps" not in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--rules adamw adam", "adam"),
        ("--rules sgd muon", "--rules needs adamw"),
        ("--lengths 4 2", "ascending"),
        ("--further-ranks 2", "--further-ranks 2"),
        ("--tuning-traits cat", "cat"),
    ],
)
def test_bad_input_is_refused_in_one_line(refuse, flags, words):
    assert words in refuse(flags)
