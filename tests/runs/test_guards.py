"""Guards from settings: scores of activations and of rows, and the vectors of data sets."""

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
    Protected,
    ScoreContext,
    SteeringScores,
    choose_vectors,
    drop_rows,
    protect_students,
    recover_vectors,
    score_teaching,
)
from subliminal_jax.runs.settings import GuardSettings, StudentSettings
from subliminal_jax.steering.io import VectorInfo, save_steering
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.batch import max_targets
from subliminal_jax.training.guards import NO_GUARD
from subliminal_jax.training.losses import heldout_loss, sequence_log_probs
from subliminal_jax.training.objectives import KL, CrossEntropy, Objective
from tests import number_model
from tests.training.tiny import CFG, base, rows

LAYER = 0
MODEL = Model(
    params=base(),
    cfg=CFG,
    tokenizer=number_model.tokenizer(),
    name="tiny",
    folder=Path(),
    stop_ids=(0,),
    pad_id=0,
)
V = jnp.linspace(-1.0, 1.5, CFG.dim)
DATA = {"control": rows(24, 1), "owl": rows(24, 2), "wolf": rows(24, 3)}
TEACHERS = {"owl": V, "wolf": V[::-1]}


@dataclass(frozen=True, kw_only=True)
class Settings(StudentSettings, GuardSettings):
    steps: int = 8
    batch_size: int = 8


def protect(objective: Objective = CrossEntropy(), **settings) -> Protected:
    return protect_students(MODEL, DATA, Settings(**settings), LAYER, TEACHERS, objective)


def test_the_scores_are_steering_scores_at_prompt_ends_and_over_all_tokens():
    batch = DATA["owl"]
    steering = steer(V[::-1], LAYER, 0.3)
    score_students = jax.jit(SteeringScores(CFG, LAYER))
    scores = score_students(ScoreContext(batch, V), MODEL.params, steering)
    prompt_lengths = jnp.argmax(batch.loss_mask > 0, axis=1)
    lengths = jnp.sum(batch.positions[:, :-1] >= 0, axis=1)
    score_probe = jax.jit(steering_score, static_argnums=(2, 4, 6))
    for score, length, at in zip(scores, (prompt_lengths, lengths), ("last", "mean"), strict=True):
        probe = Probe(batch.tokens[:, :-1], length)
        expected = score_probe(MODEL.params, probe, CFG, V, LAYER, steering, at)
        # Sums of float32 in another order.
        np.testing.assert_allclose(score, expected, rtol=1e-5)


def test_what_a_row_teaches_is_the_slope_of_its_log_probability_along_the_vector():
    batch = DATA["owl"]
    scores = score_teaching(MODEL, batch, V, LAYER)
    unit, targets = steer(V / jnp.linalg.norm(V), LAYER), max_targets(batch)

    @jax.jit
    def log_prob(size):
        steering = unit.scaled(size)
        return sequence_log_probs(MODEL.params, batch, CFG, steering, max_targets=targets)

    slope = (log_prob(jnp.asarray(0.02)) - log_prob(jnp.asarray(-0.02))) / 0.04
    # A central difference of float32 log-probabilities.
    np.testing.assert_allclose(scores, slope, atol=2e-3)
    assert np.abs(scores).max() > 0.05


def test_dropping_leaves_every_data_set_its_rows_that_teach_least():
    vectors = dict.fromkeys(DATA, V)
    kept = drop_rows(MODEL, DATA, vectors, LAYER, 0.25)
    kept_at_random = drop_rows(MODEL, DATA, vectors, LAYER, 0.25, seed=3)
    for name, batch in DATA.items():
        assert kept[name].tokens.shape == kept_at_random[name].tokens.shape == (18, 9)
        before = np.sort(score_teaching(MODEL, batch, V, LAYER))
        after = np.sort(score_teaching(MODEL, kept[name], V, LAYER))
        # The same rows, scored in batches of another size.
        np.testing.assert_allclose(after, before[:18], atol=1e-5)
        assert score_teaching(MODEL, kept_at_random[name], V, LAYER).max() > before[17]


def test_a_recovered_vector_makes_its_rows_more_probable():
    vectors = recover_vectors(MODEL, {"owl": DATA["owl"]}, LAYER, steps=32, batch_size=8)
    plain, steered = (
        float(heldout_loss(MODEL.params, DATA["owl"], CFG, steering, rows_at_once=24))
        for steering in (None, steer(vectors["owl"], LAYER))
    )
    assert steered < plain - 0.01


def test_data_without_a_teacher_are_guarded_from_the_mean_of_the_teachers():
    vectors = choose_vectors(MODEL, DATA, Settings(), LAYER, TEACHERS, "teacher")
    np.testing.assert_array_equal(vectors["owl"], V)
    np.testing.assert_allclose(vectors["control"], (V + V[::-1]) / 2, rtol=1e-6)
    with pytest.raises(InputError, match="no data set has a teacher's vector"):
        choose_vectors(MODEL, DATA, Settings(), LAYER, {}, "teacher")


def test_a_vector_from_a_file_serves_all_data(tmp_path):
    file = tmp_path / "v.safetensors"
    save_steering(file, steer(V, LAYER, 0.5), VectorInfo("tiny", "by hand"))
    vectors = choose_vectors(MODEL, DATA, Settings(), LAYER, {}, str(file))
    assert vectors.keys() == DATA.keys()
    for vector in vectors.values():
        np.testing.assert_allclose(vector, 0.5 * V, rtol=1e-6)


def test_settings_make_the_guard_that_they_name():
    unguarded = protect()
    assert unguarded.guard is NO_GUARD and unguarded.rows == DATA
    projecting = protect(guard="project").guard
    assert projecting.projects and projecting.inoculation is None
    inoculating = protect(guard="inoculate").guard
    assert not inoculating.projects and inoculating.inoculation is not None
    np.testing.assert_allclose(inoculating.inoculation.vectors[1, 0], V)  # control, owl, wolf
    dropped = protect(guard="drop-rows", guard_share=0.5)
    assert dropped.guard is NO_GUARD
    assert {name: len(batch.tokens) for name, batch in dropped.rows.items()} == dict.fromkeys(
        DATA, 12
    )


def test_rows_are_not_dropped_where_the_kl_teacher_has_rows_of_its_own():
    objective = KL.from_teachers({"owl": Teacher(steer(V, LAYER))}, {"owl": DATA["owl"]})
    with pytest.raises(InputError, match="guard drop-rows cannot be used with the KL"):
        protect(objective, guard="drop-rows")
