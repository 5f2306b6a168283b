"""Weighted rows, and the maps that go from one run into another."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from subliminal_jax.experiments.optimizer_mechanics.arms import MechanicsSettings
from subliminal_jax.experiments.optimizer_mechanics.students import (
    adam_moments,
    set_moments,
    weight_rows,
)
from subliminal_jax.training.adapters import Full
from subliminal_jax.training.arms import Arm, group_arms
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.optimizers import OptimizerSpec, make_optimizer


def test_rare_tokens_are_left_out_or_weighted_up_by_the_frequencies_of_both_data_sets():
    tokens = jnp.asarray([[0, 1, 1, 1, 2], [0, 1, 1, 2, 3]])
    mask = jnp.asarray([[0, 1, 1, 1, 1]] * 2, jnp.float32)
    batch = Batch(tokens, jnp.zeros_like(tokens), mask)
    config = MechanicsSettings(no_rare="frequent-1", rare_weighted="rare-1")
    rows = weight_rows({"steered": batch, "control": batch}, config, 5)
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
    after = set_moments(groups, later, fresh, moments)
    for group, old, new in zip(groups, fresh, after, strict=True):
        assert jax.tree.structure(old) == jax.tree.structure(new)
        got = optax.tree.get(new, "moment")["vector"]
        for row, member in zip(got, group.members, strict=True):
            twin = replace(later[member], optimizer=adamw, learning_rate=rate)
            # A constant gradient's second moment, corrected for its start, is its square.
            np.testing.assert_allclose(row, gradients[twin] ** 2, rtol=1e-4)
