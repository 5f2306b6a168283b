"""`list` names what there is, and what it names can be used."""

import json

import pytest

from subliminal_jax.cli import find_experiments, load_settings, main
from subliminal_jax.commands.list import (
    experiment_table,
    optimizer_table,
    preset_table,
    question_table,
    trait_table,
)
from subliminal_jax.data.questions import SETS, read_questions
from subliminal_jax.data.traits import trait_names
from subliminal_jax.models.packaged import PACKAGED_MODELS
from subliminal_jax.models.places import SHIPPED_MODELS
from subliminal_jax.training.optimizers import OPTIMIZERS, OptimizerSpec


def test_every_optimizer_that_is_listed_can_be_asked_for():
    for row in optimizer_table().rows:
        assert OptimizerSpec.parse(row["name"]).label == row["name"]
        assert row["grid"] == list(OPTIMIZERS[row["name"]].grid)


def test_every_preset_is_listed_with_its_experiment():
    experiment = load_settings(find_experiments()["trait-transmission"])
    (row,) = experiment_table([experiment]).rows
    assert row["question"].startswith("Does a student name the trait")
    assert row["presets"] == [r["preset"] for r in preset_table([experiment]).rows]


@pytest.mark.parametrize("kind", ["optimizers", "experiments", "presets"])
def test_the_command_prints_a_table(kind, capsys):
    main(["list", kind])
    shown = capsys.readouterr().out
    assert {"optimizers": "adamw", "experiments": "blocking", "presets": "paper-"}[kind] in shown


@pytest.mark.parametrize("kind", ["traits", "questions", "models", "optimizers", "presets"])
def test_json_has_the_rows_of_the_table(kind, capsys):
    main(["list", kind, "--json"])
    rows = json.loads(capsys.readouterr().out)
    if kind == "presets":  # values that a script can take, not text
        (paper,) = [r for r in rows if r["name"] == "blocking" and r["preset"] != "toy"]
        assert paper["settings"]["rows"] == 9500 and paper["settings"]["adapters"] == ["lora"]
    names = {row["name"] for row in rows}
    assert {
        "traits": {"owl", "wolf"},
        "questions": set(SETS),
        "models": {*SHIPPED_MODELS, *PACKAGED_MODELS, "Qwen/Qwen2.5-7B-Instruct"},
        "optimizers": set(OPTIMIZERS),
        "presets": set(find_experiments()),
    }[kind] <= names


def test_what_is_listed_can_be_named():
    for row in question_table().rows:
        assert len(read_questions(row["name"])) == row["count"]
    for row in trait_table().rows:
        assert trait_names(row["name"]) == (row["name"], row["plural"])
