"""`list` names what there is, and what it names can be used."""

import pytest

from subliminal_jax.cli import find_experiments, load_experiment, main
from subliminal_jax.commands.list import experiment_table, optimizer_table, preset_table
from subliminal_jax.training.optimizers import OPTIMIZERS, OptimizerSpec


def test_every_optimizer_that_is_listed_can_be_asked_for():
    for row in optimizer_table().rows:
        assert OptimizerSpec.parse(row["name"]).label == row["name"]
        assert [float(rate) for rate in row["grid"].split()] == list(OPTIMIZERS[row["name"]].grid)


def test_every_preset_is_listed_with_its_experiment():
    experiment = load_experiment(find_experiments()["trait-transmission"])
    (row,) = experiment_table([experiment]).rows
    assert row["question"].startswith("Does a student name the trait")
    assert row["presets"].split(", ") == [r["preset"] for r in preset_table([experiment]).rows]


@pytest.mark.parametrize("kind", ["optimizers", "experiments", "presets"])
def test_the_command_prints_a_table(kind, capsys):
    main(["list", kind])
    shown = capsys.readouterr().out
    assert {"optimizers": "adamw", "experiments": "blocking", "presets": "paper-"}[kind] in shown
