"""Presets and shared settings: every preset of every experiment makes a valid `Config`."""

import dataclasses

import pytest

from subliminal_jax.cli import experiments_folder, find_experiments, load_experiment, presets
from subliminal_jax.errors import InputError
from subliminal_jax.runs.settings import StudentSettings
from subliminal_jax.training.adapters import LoRA, Vector

EXPERIMENTS = find_experiments(experiments_folder())
WITHOUT_PRESETS = {"train-shipped-model", "optimizer-comparison"}
# Questions of this project, on the shipped world or on data of its teachers: no paper has settings.
OF_NO_PAPER = {"audit", "audit-benchmark", "steering-bridge"}


@pytest.mark.parametrize("name", sorted(EXPERIMENTS.keys() - WITHOUT_PRESETS))
def test_presets_name_fields_of_the_config_and_begin_with_the_toy(name, tmp_path):
    module = load_experiment(EXPERIMENTS[name])
    known = {field.name: field for field in dataclasses.fields(module.Config)}
    assert next(iter(presets(module))) == "toy"
    from_paper = any(preset.startswith("paper-") for preset in presets(module))
    assert from_paper != (name in OF_NO_PAPER)
    assert known["preset"].default == "toy"
    for preset, values in presets(module).items():
        assert values.keys() <= known.keys(), preset
        config = module.Config(**{"out": tmp_path, **values, "preset": preset})
        if isinstance(config, StudentSettings):
            # optimizer-mechanics has arms, which are more than optimizers of the registry.
            assert getattr(config, "chosen", config.learning_rates)()
            assert config.plan(0).steps == config.steps


# What trains by --objective kl, or compares the objectives; the others have to refuse it.
WITH_KL = {"distil-vectors", "objective", "optimizer-comparison", "trait-transmission"}


@pytest.mark.parametrize("name", sorted(EXPERIMENTS.keys() - WITH_KL))
def test_an_objective_that_would_be_ignored_is_refused(name, tmp_path):
    module = load_experiment(EXPERIMENTS[name])
    if "objective" not in {field.name for field in dataclasses.fields(module.Config)}:
        return
    with pytest.raises(InputError, match="objective kl is not for this experiment"):
        module.main(module.Config(out=tmp_path / "run", objective="kl"))
    assert not (tmp_path / "run").exists()


def test_grids_are_given_or_the_middle_of_the_defaults():
    settings = StudentSettings(optimizers=("adamw", "sgd"), rates=("sgd=0.3,0.1",), grid_points=3)
    grids = {spec.label: grid for spec, grid in settings.learning_rates().items()}
    assert grids == {"adamw": (3e-4, 1e-3, 3e-3), "sgd": (0.1, 0.3)}


@pytest.mark.parametrize("rates", ["sgd=", "sgd=-1", "sgd", "adamw=0.1"])
def test_rates_that_cannot_be_read_or_belong_to_no_arm_are_refused(rates):
    with pytest.raises(InputError):
        StudentSettings(optimizers=("sgd",), rates=(rates,)).learning_rates()


def test_the_adapter_is_what_the_flags_say():
    assert StudentSettings(adapter="vector").adapter_at(2) == Vector(2)
    lora = StudentSettings(adapter="lora", rank=4, alpha=2.0, adapter_layers=(0,)).adapter_at(2)
    assert lora == LoRA(4, 2.0, layers=(0,))
