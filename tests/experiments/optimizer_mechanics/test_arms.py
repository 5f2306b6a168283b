"""Arms, their grids and settings."""

from dataclasses import replace

import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.experiments.optimizer_mechanics.arms import MechanicsSettings, list_arms
from subliminal_jax.experiments.optimizer_mechanics.claims import BOUNDS, COMPARISONS
from subliminal_jax.experiments.optimizer_mechanics.experiment import EXPERIMENT
from subliminal_jax.experiments.optimizer_mechanics.explanations import (
    EXPLANATIONS,
    select_explanations,
)
from subliminal_jax.training.adapters import Full
from subliminal_jax.training.optimizers import OptimizerSpec

ALL = list_arms((1, 64, 0))


def test_arms_are_told_apart_and_every_named_one_exists():
    names = [arm.name for arm in ALL]
    assert len(set(names)) == len(names)
    keys = [(plan.setting, OptimizerSpec.parse(plan.rule)) for plan in ALL]
    assert len(set(keys)) == len(keys)
    used = {plan.upper for plan in ALL} | {
        arm
        for explanation in EXPLANATIONS
        for prediction in explanation.predictions
        for arm in (*prediction.arms, *(a for pair in prediction.pairs for a in pair))
    }
    used |= {arm for claim in COMPARISONS for arm in (claim.larger, claim.smaller)}
    used |= {arm for claim in BOUNDS for arm in (*claim.arms, claim.reference)}
    assert used <= set(names)


def test_predictions_of_arms_that_were_not_trained_are_left_out():
    names = {"adamw", "sgd", "sgd-masked-1%", "rmsprop"}
    arms = {
        arm
        for explanation in select_explanations(names)
        for prediction in explanation.predictions
        for arm in (*prediction.arms, *(a for pair in prediction.pairs for a in pair))
    }
    assert arms == names
    assert select_explanations({arm.name for arm in ALL}) == [*EXPLANATIONS]


def test_a_search_begins_at_the_arms_own_rate_or_where_it_is_told():
    settings = EXPERIMENT.Config(
        optimizers=("adamw", "sgd", "sgd-masked-1%"), rates=("sgd-masked-1%=3,1,9",)
    )
    plans = {plan.name: plan for plan in settings.choose_arms()}
    assert plans["sgd"] == next(plan for plan in ALL if plan.name == "sgd")
    assert plans["sgd-masked-1%"].rate == 3.0


def test_the_released_forms_and_their_deviations_are_arms_of_their_own():
    rules = {plan.name: OptimizerSpec.parse(plan.rule).label for plan in ALL}
    assert "decay=0.99" in rules["rmsprop"] and rules["rmsprop-decay-0.9"] == "rmsprop"
    assert "frozen=false" in rules["adamw-bottom-zeroed"].lower()
    for name in ("frozen-map-flat-rest", "frozen-map-zero-bottom"):
        assert "live_mean" not in rules[name]
    assert "live_mean" in rules["frozen-map-flat-live-rest"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"optimizers": ("adam",)}, "unknown arm 'adam'; there are adamw, "),
        ({"optimizers": ("sgd", "frozen-map")}, "made from the arm adamw"),
        ({"rates": ("sgd=fast",)}, "rates 'sgd=fast' cannot be read"),
        ({"log_every": 7}, "--log-every 7"),
    ],
)
def test_bad_arms_are_refused(change, says):
    with pytest.raises(InputError, match=says):
        MechanicsSettings.check_group(EXPERIMENT.Config(**change))


def test_settings_change_one_thing_each():
    settings = EXPERIMENT.Config(clip_norm=0.7, rows=300)
    plain = settings.specialise("lora")
    assert (plain.schedule, plain.warmup, plain.clip) == ("cosine", 0.1, None)
    for setting, changed in (
        ("maps", {}), ("no-rare", {}), ("full", {"adapter": Full()}), ("clipped", {"clip": 0.7}),
        ("batch-64", {"batch_size": 64}), ("batch-full", {"batch_size": 300}),
    ):  # fmt: skip
        assert settings.specialise(setting) == replace(plain, **changed)
    assert settings.weigh_tokens("no-rare") == "frequent-64"
    assert settings.weigh_tokens("lora") is None


@pytest.mark.parametrize("name", EXPERIMENT.presets)
def test_every_preset_names_arms_and_rates_that_there_are(name):
    config = EXPERIMENT.Config(**EXPERIMENT.presets[name])
    config.check()
    MechanicsSettings.check_group(config)
