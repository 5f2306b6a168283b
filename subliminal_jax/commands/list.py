"""List experiments, presets, optimizers, modifiers, traits, questions or models.

subliminal-jax list optimizers
subliminal-jax list presets --json
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import tyro

from subliminal_jax.data import world
from subliminal_jax.data.questions import SETS
from subliminal_jax.models.families import FAMILIES
from subliminal_jax.models.hub import load_config
from subliminal_jax.models.packaged import PACKAGED_MODELS
from subliminal_jax.models.places import SHIPPED_MODELS
from subliminal_jax.reporting.tables import Column, Table, print_table, wide_console
from subliminal_jax.runs.presets import PAPER_MODELS, ExperimentSettings, SettingsTable
from subliminal_jax.training.optimizers import describe, describe_modifiers


@dataclass(frozen=True)
class Config:
    """What to list.

    Attributes:
      kind: experiments, their presets, optimizers with their default learning rates, what modifies
        an optimizer, traits of the shipped models, sets of questions, or models and the families
        that are read.
      json: print JSON, a list of objects, in place of a table.
    """

    kind: tyro.conf.Positional[
        Literal[
            "experiments", "presets", "optimizers", "modifiers", "traits", "questions", "models"
        ]
    ] = "experiments"
    json: bool = False


def main(config: Config, settings: SettingsTable) -> None:
    """Print the table."""
    plain = {
        "optimizers": optimizer_table,
        "modifiers": modifier_table,
        "traits": trait_table,
        "questions": question_table,
        "models": model_table,
    }
    if config.kind in plain:
        table = plain[config.kind]()
    else:
        loaded = [load() for load in settings.values()]
        make_table = experiment_table if config.kind == "experiments" else preset_table
        table = make_table(loaded)
    if config.json:
        print(json.dumps(table.rows, indent=1, default=str))  # of paths
    else:
        rows = [{key: _show(value) for key, value in row.items()} for row in table.rows]
        print_table(replace(table, rows=rows), wide_console())


def _show(value: Any) -> Any:
    """A mapping in words; other values as they are."""
    if not isinstance(value, Mapping):
        return value
    return ", ".join(f"{key}={item}" for key, item in value.items()) or None


def experiment_table(experiments: Sequence[ExperimentSettings]) -> Table:
    """One row for each experiment, with the first line of its docstring."""
    rows = [
        {"name": e.name, "question": e.question, "presets": list(e.presets)} for e in experiments
    ]
    columns = [
        Column("name", "experiment"),
        Column("question", "question"),
        Column("presets", "presets"),
    ]
    return Table("Experiments", columns, rows)


def preset_table(experiments: Sequence[ExperimentSettings]) -> Table:
    """One row for each preset of each experiment, with its settings."""
    rows = [
        {"name": e.name, "preset": preset, "settings": dict(values)}
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
        Column("grid", "default rates", "learning_rates"),
        Column("paper", "paper"),
    ]
    return Table("Optimizers", columns, describe())


def modifier_table() -> Table:
    """One row for each modifier of optimizers."""
    columns = [
        Column("name", "modifier"),
        Column("what", "what it does"),
        Column("kind", "kind"),
        Column("defaults", "values"),
        Column("paper", "paper"),
    ]
    caption = "Written before an optimizer, with values behind it: by_factor:muon(a=0)."
    return Table("Modifiers", columns, describe_modifiers(), caption)


def trait_table() -> Table:
    """One row for each animal of the shipped models' world."""
    rows = [{"name": trait, "plural": world.PLURALS[trait]} for trait in world.TRAITS]
    caption = "Other models know any animal that is a word of their tokenizer."
    return Table("Traits", [Column("name", "trait"), Column("plural", "plural")], rows, caption)


def question_table() -> Table:
    """One row for each set of questions, with the first of them on the screen, and all in JSON."""
    rows = [
        {
            "name": name,
            "count": len(questions),
            "first": questions[0],
            "questions": list(questions),
        }
        for name, questions in SETS.items()
    ]
    columns = [
        Column("name", "set"),
        Column("count", "questions", "count"),
        Column("first", "the first"),
    ]
    return Table("Sets of questions", columns, rows)


def model_table() -> Table:
    """One row for each shipped or packaged model, each model of the papers' presets, and each
    family."""
    rows = [
        {"name": name, "note": f"{cfg.layers} layers of width {cfg.dim}, with the package"}
        for name, folder in SHIPPED_MODELS.items()
        if (cfg := load_config(folder))
    ]
    rows += [{"name": name, "note": model.command} for name, model in PACKAGED_MODELS.items()]
    rows += [
        {"name": model["model"], "note": f"in presets such as paper-{name}"}
        for name, model in PAPER_MODELS.items()
    ]
    rows += [
        {
            "name": "a folder, GGUF file or hub name",
            "note": f"model_type {' or '.join(family.model_types)}",
        }
        for family in FAMILIES.values()
    ]
    return Table("Models", [Column("name", "--model"), Column("note", "what it is")], rows)
