"""List experiments, presets or optimizers.

subliminal-jax list optimizers
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

from subliminal_jax.reporting.tables import Column, Table, print_table, wide_console
from subliminal_jax.runs.experiment import Experiment, Experiments
from subliminal_jax.training.optimizers import describe


@dataclass(frozen=True)
class Config:
    """What to list.

    Attributes:
      kind: experiments, their presets, or optimizers with their default learning rates.
    """

    kind: tyro.conf.Positional[Literal["experiments", "presets", "optimizers"]] = "experiments"


def main(config: Config, experiments: Experiments) -> None:
    """Print the table."""
    if config.kind == "optimizers":
        table = optimizer_table()
    else:
        loaded = [load() for load in experiments.values()]
        make_table = experiment_table if config.kind == "experiments" else preset_table
        table = make_table(loaded)
    print_table(table, wide_console())


def experiment_table(experiments: Sequence[Experiment]) -> Table:
    """One row for each experiment, with the first line of its docstring."""
    rows = [
        {"name": e.name, "question": e.question, "presets": ", ".join(e.presets)}
        for e in experiments
    ]
    columns = [
        Column("name", "experiment"),
        Column("question", "question"),
        Column("presets", "presets"),
    ]
    return Table("Experiments", columns, rows)


def preset_table(experiments: Sequence[Experiment]) -> Table:
    """One row for each preset of each experiment, with its settings."""
    rows = [
        {
            "name": e.name,
            "preset": preset,
            "settings": ", ".join(f"{key}={value}" for key, value in values.items()) or "defaults",
        }
        for e in experiments
        for preset, values in e.presets.items()
    ]
    columns = [
        Column("name", "experiment"),
        Column("preset", "--preset"),
        Column("settings", "settings"),
    ]
    return Table("Presets", columns, rows)


def optimizer_table() -> Table:
    """One row for each optimizer of the registry."""
    columns = [
        Column("name", "optimizer"),
        Column("kind", "kind"),
        Column("defaults", "hyper-parameters"),
        Column("grid", "default rates"),
        Column("paper", "paper"),
    ]
    return Table("Optimizers", columns, describe())
