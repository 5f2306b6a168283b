"""Guards from settings: the scores, what a row teaches, which vector a data set is kept from."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.diagnostics.alignment import Probe
from subliminal_jax.diagnostics.parameter_space import steering_score
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.guards import (
    ScoreContext,
    SteeringScores,
    blind_vectors,
    drop_rows,
    guard_vectors,
    make_guard,
    protected,
    taught,
)
from subliminal_jax.runs.settings import GuardSettings, StudentSettings
from subliminal_jax.steering.io import VectorInfo, save_steering
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.batch import max_targets
from subliminal_jax.training.guards import NO_GUARD
from subliminal_jax.training.losses import heldout_loss, sequence_log_probs
from subliminal_jax.training.objectives import KL
from tests import number_model
from tests.training.tiny import CFG, base, rows

LAYER = 0
MODEL = Model(
    params=base(), cfg=CFG, tokenizer=number_model.tokenizer(), name="tiny", folder=Path(),
    stop_ids=(0,), pad_id=0,
)  # fmt: skip
V = jnp.linspace(-1.0, 1.5, CFG.dim)
DATA = {"control": rows(24, 1), "owl": rows(24, 2), "wolf": rows(24, 3)}
OWN = {"owl": V, "wolf": V[::-1]}


@dataclass(frozen=True, kw_only=True)
class Settings(StudentSettings, GuardSettings):
    steps: int = 8
    batch_size: int = 8


def test_the_scores_are_steering_scores_at_prompt_ends_and_over_all_tokens():
    batch = DATA["owl"]
    scores = SteeringScores(CFG, LAYER)
    steering = steer(V[::-1], LAYER, 0.3)
    found = jax.jit(scores)(ScoreContext(batch, V), MODEL.params, steering)
    first = jnp.argmax(batch.loss_mask > 0, axis=1)  # the prompt is what stands before
    lengths = jnp.sum(batch.positions[:, :-1] >= 0, axis=1)
    score = jax.jit(steering_score, static_argnums=(2, 4, 6))
    for value, length, at in zip(found, (first, lengths), ("last", "mean"), strict=True):
        probe = Probe(batch.tokens[:, :-1], length)
        want = score(MODEL.params, probe, CFG, V, LAYER, steering, at)
        np.testing.assert_allclose(value, want, rtol=1e-5)


def test_what_a_row_teaches_is_the_slope_of_its_log_probability_along_the_vector():
    batch = DATA["owl"]
    found = taught(MODEL, batch, V, LAYER)
    log_prob = jax.jit(
        lambda size: sequence_log_probs(
            MODEL.params, batch, CFG, steer(V / jnp.linalg.norm(V), LAYER, 1.0).scaled(size),
            max_targets=max_targets(batch),
        )
    )  # fmt: skip
    slope = (log_prob(jnp.asarray(0.02)) - log_prob(jnp.asarray(-0.02))) / 0.04
    np.testing.assert_allclose(found, slope, atol=2e-3)
    assert np.abs(found).max() > 0.05


def test_dropping_leaves_every_data_set_its_rows_that_teach_least():
    of = dict.fromkeys(DATA, V)
    kept = drop_rows(MODEL, DATA, of, LAYER, 0.25)
    at_random = drop_rows(MODEL, DATA, of, LAYER, 0.25, seed=3)
    for name, batch in DATA.items():
        assert kept[name].tokens.shape == at_random[name].tokens.shape == (18, 9)
        before = np.sort(taught(MODEL, batch, V, LAYER))
        after = np.sort(taught(MODEL, kept[name], V, LAYER))
        np.testing.assert_allclose(after, before[:18], atol=1e-5)
        assert taught(MODEL, at_random[name], V, LAYER).max() > before[17]


def test_a_blind_vector_makes_its_rows_more_probable():
    found = blind_vectors(MODEL, {"owl": DATA["owl"]}, LAYER, steps=32, batch_size=8)["owl"]
    losses = [
        float(heldout_loss(MODEL.params, DATA["owl"], CFG, given, rows_at_once=24))
        for given in (None, steer(found, LAYER))
    ]
    assert losses[1] < losses[0] - 0.01


def test_data_without_a_teacher_are_guarded_from_the_mean_and_a_file_serves_all(tmp_path):
    of = guard_vectors(MODEL, DATA, Settings(guard="project"), LAYER, OWN, "teacher")
    np.testing.assert_array_equal(of["owl"], V)
    np.testing.assert_allclose(of["control"], (V + V[::-1]) / 2, rtol=1e-6)
    file = tmp_path / "v.safetensors"
    save_steering(file, steer(V, LAYER, 0.5), VectorInfo("tiny", "by hand"))
    settings = Settings(guard="inoculate", guard_vector=str(file))
    of = guard_vectors(MODEL, DATA, settings, LAYER, {}, str(file))
    for name in DATA:
        np.testing.assert_allclose(of[name], 0.5 * V, rtol=1e-6)
    with pytest.raises(InputError, match="no data set has a teacher's vector"):
        guard_vectors(MODEL, DATA, Settings(guard="project"), LAYER, {}, "teacher")


def test_settings_make_the_guard_that_they_name():
    def made(**settings):
        return protected(MODEL, DATA, Settings(**settings), LAYER, OWN)

    plain = made()
    assert plain.guard is NO_GUARD and plain.rows == DATA
    projecting = made(guard="project")
    assert projecting.guard.projects and projecting.guard.inoculation is None
    inoculating = made(guard="inoculate").guard
    assert not inoculating.projects and inoculating.inoculation is not None
    np.testing.assert_allclose(inoculating.inoculation.vectors[1, 0], V)  # control, owl, wolf
    dropped = made(guard="drop-rows", guard_share=0.5)
    assert dropped.guard is NO_GUARD
    assert {name: len(batch.tokens) for name, batch in dropped.rows.items()} == dict.fromkeys(
        DATA, 12
    )


def test_rows_are_not_dropped_where_the_kl_teacher_has_rows_of_its_own():
    objective = KL.from_teachers({"owl": Teacher(steer(V, LAYER))}, {"owl": DATA["owl"]})
    with pytest.raises(InputError, match="guard drop-rows cannot be used with the KL"):
        protected(MODEL, DATA, Settings(guard="drop-rows"), LAYER, OWN, objective)


def test_no_kind_no_guard():
    assert make_guard("none", MODEL, DATA, OWN, LAYER) is NO_GUARD
