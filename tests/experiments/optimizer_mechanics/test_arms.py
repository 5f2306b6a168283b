"""Arms, their grids and settings."""

from dataclasses import replace

import numpy as np
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.experiments.optimizer_mechanics.arms import MechanicsSettings, list_arms
from subliminal_jax.experiments.optimizer_mechanics.claims import BOUNDS, COMPARISONS
from subliminal_jax.experiments.optimizer_mechanics.experiment import EXPERIMENT
from subliminal_jax.experiments.optimizer_mechanics.explanations import (
    AT_ADAMW,
    AT_SGD,
    EXPLANATIONS,
    select_explanations,
)
from subliminal_jax.training.optimizers import OptimizerSpec

ALL = list_arms((1, 64, 0))


def test_arms_are_told_apart_and_every_named_one_exists():
    names = [arm.name for arm in ALL]
    assert len(set(names)) == len(names)
    keys = [(plan.setting, OptimizerSpec.parse(plan.rule), plan.tokens) for plan in ALL]
    assert len(set(keys)) == len(keys)
    used = {plan.upper for plan in ALL} | {
        arm
        for explanation in EXPLANATIONS
        for prediction in explanation.predictions
        for arm in (*prediction.arms, *(a for pair in prediction.pairs for a in pair))
    }
    used |= {arm for claim in COMPARISONS for arm in (claim.larger, claim.smaller)}
    used |= {arm for claim in BOUNDS for arm in (*claim.arms, claim.reference)}
    assert used - {AT_ADAMW, AT_SGD} <= set(names)


def test_predictions_of_arms_that_were_not_trained_are_left_out():
    names = {"adamw", "sgd", "sgd-masked-1%", "rmsprop"}
    arms = {
        arm
        for explanation in select_explanations(names)
        for prediction in explanation.predictions
        for arm in (*prediction.arms, *(a for pair in prediction.pairs for a in pair))
    }
    assert arms == names
    assert select_explanations({arm.name for arm in ALL} | {AT_ADAMW, AT_SGD}) == [*EXPLANATIONS]


def test_grids_are_around_the_centre_or_as_given():
    settings = MechanicsSettings(
        optimizers=("adamw", "sgd", "sgd-masked-1%"), rates=("sgd-masked-1%=3,1",), grid_factor=10.0
    )
    grids = {plan.name: grid for plan, grid in settings.choose_arms().items()}
    centre = next(plan.rate for plan in ALL if plan.name == "sgd")
    np.testing.assert_allclose(grids["sgd"], centre * 10.0 ** np.arange(-2, 3), rtol=1e-2)
    assert grids["sgd-masked-1%"] == (1.0, 3.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"optimizers": ("adam",)}, "unknown arm 'adam'; there are adamw, "),
        ({"optimizers": ("sgd", "frozen-map")}, "made from the arm adamw"),
        ({"rates": ("sgd=fast",)}, "rates 'sgd=fast' cannot be read"),
        ({"grid_seeds": 4}, "--grid-seeds 4 are more than --seeds 3"),
    ],
)
def test_bad_arms_are_refused(change, says):
    with pytest.raises(InputError, match=says):
        MechanicsSettings(**change).choose_arms()


def test_settings_change_one_thing_each():
    plain = MechanicsSettings(clip_norm=0.7)
    for setting, changed in (
        ("lora", {}), ("maps", {}), ("full", {"adapter": "full"}), ("clipped", {"clip": 0.7}),
        ("batch-64", {"batch_size": 64}), ("batch-full", {"batch_size": 300}),
    ):  # fmt: skip
        assert plain.specialise(setting, 300) == replace(plain, **changed)


@pytest.mark.parametrize("name", EXPERIMENT.presets)
def test_every_preset_names_arms_and_rates_that_there_are(name):
    EXPERIMENT.Config(**EXPERIMENT.presets[name]).check()
