"""Arms, their grids and settings, and the maps that go from one run into another."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from subliminal_jax.errors import InputError
from subliminal_jax.experiments.optimizer_mechanics.analysis import by_seed
from subliminal_jax.experiments.optimizer_mechanics.claims import (
    AT_ADAMW,
    COMPARED,
    RESCUES,
    SPARED,
    claims,
)
from subliminal_jax.experiments.optimizer_mechanics.explanations import (
    EXPLANATIONS,
    explanations_of,
)
from subliminal_jax.experiments.optimizer_mechanics.students import (
    MechanicsSettings,
    adam_moments,
    given_moments,
    plans,
    weighted_rows,
)
from subliminal_jax.training.adapters import Full
from subliminal_jax.training.arms import Arm, group_arms
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.optimizers import OptimizerSpec, make_optimizer

ALL = plans((1, 64, 0))


def test_arms_are_told_apart_and_every_named_one_exists():
    names = [plan.name for plan in ALL]
    assert len(set(names)) == len(names)
    keys = [(plan.setting, OptimizerSpec.parse(plan.rule), plan.tokens) for plan in ALL]
    assert len(set(keys)) == len(keys)
    used = {plan.upper for plan in ALL} | {
        arm
        for explanation in EXPLANATIONS
        for prediction in explanation.predictions
        for arm in (*prediction.arms, *(a for pair in prediction.pairs for a in pair))
    }
    used |= {arm for _, _, _, *both in COMPARED for arm in both}
    used |= {arm for _, _, _, arms in RESCUES for arm in arms} | {row[-1] for row in SPARED}
    at_loss = {"adamw at sgd's loss", "sgd at that loss"}
    assert used - at_loss <= set(names)


def test_predictions_of_arms_that_were_not_trained_are_left_out():
    names = {"adamw", "sgd", "sgd-masked-1%", "rmsprop"}
    arms = {
        arm
        for explanation in explanations_of(names)
        for prediction in explanation.predictions
        for arm in (*prediction.arms, *(a for pair in prediction.pairs for a in pair))
    }
    assert arms == names
    assert explanations_of(
        {plan.name for plan in ALL} | {"adamw at sgd's loss", "sgd at that loss"}
    ) == [*EXPLANATIONS]


def test_grids_are_around_the_centre_or_as_given():
    settings = MechanicsSettings(
        optimizers=("adamw", "sgd", "sgd-masked-1%"), rates=("sgd-masked-1%=3,1",), grid_factor=10.0
    )
    grids = {plan.name: grid for plan, grid in settings.chosen().items()}
    centre = next(plan.rate for plan in ALL if plan.name == "sgd")
    np.testing.assert_allclose(grids["sgd"], centre * 10.0 ** np.arange(-2, 3), rtol=1e-2)
    assert grids["sgd-masked-1%"] == (1.0, 3.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"optimizers": ("adam",)}, "unknown arm 'adam'; there are adamw, "),
        ({"optimizers": ("sgd", "frozen-map")}, "made from the arm adamw"),
        ({"rates": ("sgd=fast",)}, "rates 'sgd=fast' cannot be read"),
        ({"grid_seeds": 4}, "grid_seeds between 1 and seeds"),
    ],
)
def test_bad_arms_are_refused(change, says):
    with pytest.raises(InputError, match=says):
        MechanicsSettings(**change).chosen()


def test_settings_change_one_thing_each():
    plain = MechanicsSettings(clip_norm=0.7)
    for setting, changed in (
        ("lora", {}), ("maps", {}), ("full", {"adapter": "full"}), ("clipped", {"clip": 0.7}),
        ("batch-64", {"batch_size": 64}), ("batch-full", {"batch_size": 300}),
    ):  # fmt: skip
        assert plain.in_setting(setting, 300) == replace(plain, **changed)


def test_rare_tokens_are_left_out_or_weighted_up_by_the_frequencies_of_both_data_sets():
    tokens = jnp.asarray([[0, 1, 1, 1, 2], [0, 1, 1, 2, 3]])
    mask = jnp.asarray([[0, 1, 1, 1, 1]] * 2, jnp.float32)
    batch = Batch(tokens, jnp.zeros_like(tokens), mask)
    config = MechanicsSettings(no_rare="frequent-1", rare_weighted="rare-1")
    rows = weighted_rows({"steered": batch, "control": batch}, config, 5)
    assert sorted(rows) == sorted(
        f"{name}{kind}"
        for name in ("steered", "control")
        for kind in ("", ", no-rare", ", rare-weighted")
    )
    np.testing.assert_array_equal(rows["steered"].loss_mask, mask)
    np.testing.assert_array_equal(rows["control, no-rare"].loss_mask, mask * (tokens == 1))
    up = np.asarray(rows["steered, rare-weighted"].loss_mask)
    for token in (1, 2, 3):  # each token's total weight is the same
        assert up[tokens == token].sum() == pytest.approx(8 / 3, rel=1e-5)


def test_maps_get_the_second_moment_of_adamw_of_the_same_seed_and_data():
    """Three Adam steps of six students; the map of each frozen student is its twin's."""
    adamw, rate, steps = OptimizerSpec.parse("adamw"), 0.1, 3
    arms = tuple(
        Arm(adamw, r, seed, data)
        for r in (rate, 0.2)
        for seed in (0, 1)
        for data in ("control", "steered")
    )
    gradients = {arm: jnp.arange(1.0, 4.0) * (i + 1) for i, arm in enumerate(arms)}
    made = make_optimizer(adamw, rate)
    params = {"vector": jnp.ones(3)}
    states = []
    for arm in arms:
        state = made.init(params)
        for _ in range(steps):
            _, state = made.update({"vector": gradients[arm]}, state, params)
        states.append(state)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    moments = adam_moments(group_arms(arms, Full()), arms, (stacked,), rate, steps)
    assert set(moments) == {(s, d) for s in (0, 1) for d in ("control", "steered")}

    specs = [OptimizerSpec.parse(t) for t in ("frozen_map", "adamw_masked")]
    pairs = [(seed, data) for data in ("steered", "control") for seed in (1, 0)]
    later = tuple(Arm(spec, 1.0, seed, data) for spec in specs for seed, data in pairs)
    groups = group_arms(later, Full())
    fresh = tuple(
        jax.tree.map(lambda *x: jnp.stack(x), *[make_optimizer(g.spec, 1.0).init(params)] * 4)
        for g in groups
    )
    after = given_moments(groups, later, fresh, moments)
    for group, old, new in zip(groups, fresh, after, strict=True):
        assert jax.tree.structure(old) == jax.tree.structure(new)
        got = optax.tree.get(new, "moment")["vector"]
        for row, member in zip(got, group.members, strict=True):
            twin = replace(later[member], optimizer=adamw, learning_rate=rate)
            # A constant gradient's second moment, corrected for its start, is its square.
            np.testing.assert_allclose(row, gradients[twin] ** 2, rtol=1e-4)


def test_traits_are_held_against_the_control_of_the_same_seed():
    def row(data, seed, trait, rate=0.1, diverged=False):
        return {
            "optimizer": "sgd", "learning_rate": rate, "seed": seed, "data": data,
            "diverged": diverged, "eas": 0.5 + seed, "shift_component": 0.1, "trait_rate": trait,
        }  # fmt: skip

    rows = [row("steered", 0, 0.3), row("control", 0, 0.1), row("steered", 1, 0.9),
            row("control", 1, 0.0, diverged=True), row("steered", 0, 0.8, rate=0.2)]  # fmt: skip
    values = by_seed(rows, {"sgd": 0.1})
    assert values["trait_rate"] == {"sgd": {0: pytest.approx(0.2)}}
    assert values["eas"] == {"sgd": {0: 0.5, 1: 1.5}}


def planted(**means):
    """Three seeds of each arm in each metric, 0.01 apart and 0.001 off, so that means decide."""
    off = np.array([[0.0, 0.001, -0.001], [0.001, 0.0, -0.001]])
    values = {
        arm.replace("_", "-"): dict(enumerate(mean + np.array([0, 0.01, 0.02]) + off[i % 2]))
        for i, (arm, mean) in enumerate(means.items())
    }
    metrics = dict.fromkeys(("eas", "shift_component", "trait_rate"), values)
    return {row["id"].split("/")[1]: row for row in claims(metrics, (), 3, "a-model")}


@pytest.mark.parametrize(
    ("momentum", "rmsprop", "rescue", "as_adamw"),
    [
        (0.1, 0.4, "reproduced at toy scale", "reproduced at toy scale"),
        (0.4, 0.1, "contradicted", "contradicted"),
    ],
)
def test_a_rescue_is_decided_by_half_of_the_gap(momentum, rmsprop, rescue, as_adamw):
    """Both arms are above SGD and below AdamW, clear of zero: that alone is neither."""
    found = planted(adamw=0.5, sgd=0.0, momentum=momentum, rmsprop=rmsprop)
    assert found["momentum"]["verdict"] == found["momentum-eas"]["verdict"] == rescue
    assert found["rmsprop-as-adamw"]["verdict"] == as_adamw
    assert found["rmsprop"]["verdict"] == "reproduced at toy scale"
    assert found["adamw-over-sgd"]["setting"].startswith("a-model, ")


def test_without_a_gap_nothing_is_rescued_or_not():
    found = planted(adamw=0.0, sgd=0.0, momentum=0.5, rmsprop=0.5)
    assert found["momentum"]["verdict"] == found["rmsprop-as-adamw"]["verdict"] == "not reproduced"


def test_claims_at_one_loss_come_from_the_table_of_matched_losses():
    d = {"mean": 0.2, "low": 0.1, "high": 0.3, "n": 3, "level": 0.95, "method": "paired t"}
    metrics = ("eas", "shift_component", "trait_rate")
    row = {"optimizer": "sgd", **{f"{metric}_difference": d for metric in metrics}}
    found = claims({metric: {} for metric in metrics}, [row], 3, "a-model")
    assert [r["id"].split("/")[1] for r in found] == ["matched-loss", "matched-loss-eas"]
    assert all(r["verdict"] == "reproduced at toy scale" for r in found)
    assert all(AT_ADAMW in r["number"] and "no controls" in r["setting"] for r in found)
