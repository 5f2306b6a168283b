"""Presets and shared settings: every preset of every experiment makes a valid `Config`."""

import ast
import dataclasses
from functools import cache
from pathlib import Path

import pytest

from subliminal_jax.cli import find_experiments, load_experiment, parse_config
from subliminal_jax.errors import InputError
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.settings import StudentSettings, TrainingSettings
from subliminal_jax.training.adapters import LoRA, Vector
from subliminal_jax.training.arms import Arm, row_orders

EXPERIMENTS = find_experiments()
# Questions of this project, on the shipped world or on data of its teachers: no paper has settings.
OWN_QUESTIONS = {
    "audit-benchmark",
    "coverage",
    "divergence-tokens",
    "forecast-benchmark",
    "mixing-ratio",
    "optimizer-atlas",
    "own-data",
    "steering-bridge",
    "teacher-choice",
}


@cache
def load(name: str) -> Experiment:
    return load_experiment(EXPERIMENTS[name])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_name_fields_of_the_config_and_begin_with_the_toy(name):
    experiment = load(name)
    assert experiment.name == name
    fields = {field.name for field in dataclasses.fields(experiment.Config)}
    assert next(iter(experiment.presets)) == "toy"
    from_paper = any(preset.startswith("paper-") for preset in experiment.presets)
    assert from_paper != (name in OWN_QUESTIONS)
    for preset, values in experiment.presets.items():
        assert values.keys() <= fields, preset
        config = parse_config(experiment, ["--preset", preset])
        assert config.preset == preset and str(config.out).startswith("runs/")
        if isinstance(config, TrainingSettings):
            assert config.learning_rates()
            assert config.plan(0).steps == config.steps


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_flags_change_a_preset(name):
    config = parse_config(load(name), ["--seed", "77", "--out", "elsewhere"])
    assert (config.seed, config.out, config.preset) == (77, Path("elsewhere"), "toy")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_unknown_preset_is_refused(name):
    with pytest.raises(InputError, match="unknown preset 'huge'; there are: toy"):
        parse_config(load(name), ["--preset", "huge"])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_flag_that_an_experiment_declares_is_read_in_its_folder(name):
    """A field that no code asks for would be a flag without effect."""
    config = load(name).Config
    folder = EXPERIMENTS[name].file.parent
    read = {
        node.attr
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    inherited = {
        field.name
        for base in config.__mro__[1:]
        if dataclasses.is_dataclass(base)
        and base.__module__.startswith(("subliminal_jax.runs", "subliminal_jax.audit"))
        for field in dataclasses.fields(base)
    }
    own = {field.name for field in dataclasses.fields(config)} - inherited
    assert own <= read


def test_runs_of_other_seeds_share_no_student():
    """Neither the order of the rows nor the start of a student's factors."""
    runs = [parse_config(load("own-data"), ["--data", "x", "--seed", s]) for s in ("0", "1", "2")]
    seeds = [seed for config in runs for seed in config.list_seeds()]
    assert seeds[:3] == [0, 1, 2] and len(set(seeds)) == len(seeds)
    arms = tuple(Arm("adamw", 0.1, seed, "x") for seed in seeds)
    orders = row_orders(arms, 50, runs[0].plan(0))
    assert len({order.tobytes() for order in orders}) == len(seeds)
    (largest,) = {*parse_config(load("own-data"), ["--data", "x", "--seeds", "1", "--seed",
                  str(2**31 - 1)]).list_seeds()}  # fmt: skip
    assert Arm("adamw", 0.1, largest, "x").seed == 2**31 - 1


def test_grids_are_given_or_the_middle_of_the_defaults():
    settings = StudentSettings(optimizers=("adamw", "sgd"), rates=("sgd=0.3,0.1",), grid_points=3)
    grids = {spec.label: grid for spec, grid in settings.learning_rates().items()}
    assert grids == {"adamw": (3e-4, 1e-3, 3e-3), "sgd": (0.1, 0.3)}


@pytest.mark.parametrize("rates", ["sgd=", "sgd=-1", "sgd", "adamw=0.1"])
def test_rates_that_cannot_be_read_or_belong_to_no_arm_are_refused(rates):
    with pytest.raises(InputError):
        StudentSettings(optimizers=("sgd",), rates=(rates,)).learning_rates()


def test_the_adapter_is_what_the_flags_say():
    assert StudentSettings(adapter="vector").make_adapter(2) == Vector(2)
    lora = StudentSettings(adapter="lora", rank=4, alpha=2.0, adapter_layers=(0,)).make_adapter(2)
    assert lora == LoRA(4, 2.0, layers=(0,))
