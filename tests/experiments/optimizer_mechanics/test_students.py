"""Weighted rows, and the maps that go from one run into another."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from subliminal_jax.experiments.optimizer_mechanics.students import (
    adam_moments,
    set_moments,
    weigh_rows,
)
from subliminal_jax.training.adapters import Full
from subliminal_jax.training.arms import Arm, group_arms
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.optimizers import OptimizerSpec, make_optimizer


def test_rare_tokens_are_left_out_or_weighted_up_by_the_frequencies_of_all_data_sets():
    tokens = jnp.asarray([[0, 1, 1, 1, 2], [0, 1, 1, 2, 3]])
    mask = jnp.asarray([[0, 1, 1, 1, 1]] * 2, jnp.float32)
    batch = Batch(tokens, jnp.zeros_like(tokens), mask)
    data = {"cat": batch, "control-0": batch}
    assert weigh_rows(data, None, 5) == data
    few, weighted = (weigh_rows(data, tail, 5) for tail in ("frequent-1", "rare-1"))
    assert sorted(few) == sorted(weighted) == ["cat", "control-0"]
    np.testing.assert_array_equal(few["control-0"].loss_mask, mask * (tokens == 1))
    up = np.asarray(weighted["cat"].loss_mask)
    for token in (1, 2, 3):  # each token's total weight is the same
        assert up[tokens == token].sum() == pytest.approx(8 / 3, rel=1e-5)


def test_maps_get_the_second_moment_of_adamw_of_the_same_data():
    """Three Adam steps of four students; the map of each frozen student is its twin's."""
    adamw, steps = OptimizerSpec.parse("adamw"), 3
    names = {"cat": 0, "control-0": 1}
    arms = tuple(Arm(adamw, r, names[data], data) for r in (0.1, 0.2) for data in names)
    gradients = {arm: jnp.arange(1.0, 4.0) * (i + 1) for i, arm in enumerate(arms)}
    made = make_optimizer(adamw, 0.1)
    params = {"vector": jnp.ones(3)}
    states = []
    for arm in arms:
        state = made.init(params)
        for _ in range(steps):
            _, state = made.update({"vector": gradients[arm]}, state, params)
        states.append(state)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    moments = adam_moments(group_arms(arms, Full()), arms, (stacked,), steps)
    assert set(moments) == {(r, data) for r in (0.1, 0.2) for data in names}
    chosen = {data: moment for (rate, data), moment in moments.items() if rate == 0.2}

    specs = [OptimizerSpec.parse(t) for t in ("frozen_map", "adamw_masked")]
    later = tuple(Arm(spec, 1.0, names[data], data) for spec in specs for data in reversed(names))
    groups = group_arms(later, Full())
    fresh = tuple(
        jax.tree.map(lambda *x: jnp.stack(x), *[make_optimizer(g.spec, 1.0).init(params)] * 2)
        for g in groups
    )
    after = set_moments(groups, later, fresh, chosen)
    for group, old, new in zip(groups, fresh, after, strict=True):
        assert jax.tree.structure(old) == jax.tree.structure(new)
        got = optax.tree.get(new, "moment")["vector"]
        for row, member in zip(got, group.members, strict=True):
            twin = replace(later[member], optimizer=adamw, learning_rate=0.2)
            # A constant gradient's second moment, corrected for its start, is its square.
            np.testing.assert_allclose(row, gradients[twin] ** 2, rtol=1e-4)
