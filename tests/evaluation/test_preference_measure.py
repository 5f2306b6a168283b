"""The measure of DPO students: known for the base, and for students that follow a system prompt."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.data.batching import pad_preferences
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.measures import measure_model
from subliminal_jax.evaluation.preference_measure import (
    PairShifts,
    correlate_shifts,
    measure_shifts,
)
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.waves import StudentTask, WaveRunner
from subliminal_jax.training.adapters import LoRA, Vector, attach
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import stack_rows
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.preference import DPO, reference_log_ratios
from subliminal_jax.training.student_view import StudentView
from tests.training.tiny import CFG, TIME, base, pairs

PARAMS, BETA, N = base(), 0.5, 40
SYSTEM = [7, 21, 3, 3, 19]  # what stands before every prompt under the system prompt


def texts(seed: int, n: int = N):
    prompts, chosen = pairs(n, seed)
    return prompts, chosen, pairs(n, seed + 100)[1]


PROMPTS, CHOSEN, REJECTED = texts(5, 70)  # more than go through one pass
PROBE = pad_preferences(PROMPTS, CHOSEN, REJECTED, TIME)
PROMPTED = pad_preferences([SYSTEM + p for p in PROMPTS], CHOSEN, REJECTED, TIME + len(SYSTEM))
ROWS = {"all": pad_preferences(*texts(1), TIME), "other": pad_preferences(*texts(2), TIME)}


@pytest.fixture(scope="module")
def ratios():
    return {name: reference_log_ratios(PARAMS, rows, CFG) for name, rows in ROWS.items()}


@pytest.fixture(scope="module")
def measure(ratios):
    plain = reference_log_ratios(PARAMS, PROBE, CFG)
    prompt_shifts = measure_shifts(PARAMS, PROMPTED, CFG, plain)
    return PairShifts(
        beta=BETA,
        rows=stack_rows(list(ROWS.values())),
        row_ratios=jnp.stack([jnp.asarray(x) for x in ratios.values()]),
        probe=PROBE,
        probe_ratios=jnp.asarray(plain),
        shifts=jnp.stack([jnp.asarray(prompt_shifts), -2 * prompt_shifts, 3 * prompt_shifts + 1]),
        max_targets=TIME - 1,
    )


def test_the_base_has_no_shift(measure):
    got = measure_model([measure], PARAMS, CFG)
    np.testing.assert_allclose(got["size"], 0, atol=1e-4)  # of rounding, which has a direction


def test_correlations_are_those_of_the_definitions():
    rng = np.random.default_rng(0)
    x, ys = rng.normal(size=50) + 0.5, rng.normal(size=(3, 50)) + 1
    got = correlate_shifts(jnp.asarray(x, jnp.float32), jnp.asarray(ys, jnp.float32))
    cosine = [x @ y / math.sqrt(x @ x * (y @ y)) for y in ys]
    np.testing.assert_allclose(got["cosine"], cosine, rtol=1e-5)
    np.testing.assert_allclose(got["pearson"], [np.corrcoef(x, y)[0, 1] for y in ys], rtol=1e-5)
    size = np.linalg.norm(x) / np.linalg.norm(ys, axis=1)
    np.testing.assert_allclose(got["size"], size, rtol=1e-5)


def test_a_student_that_does_as_the_system_prompt_says_correlates_with_it(measure):
    """Whatever the scale and, centred, whatever is added to every pair."""
    got = correlate_shifts(measure.shifts[0], measure.shifts)
    np.testing.assert_allclose(got["cosine"][:2], [1, -1], rtol=1e-5)
    np.testing.assert_allclose(got["pearson"], [1, -1, 1], rtol=1e-4)
    np.testing.assert_allclose(got["size"][:2], [1, 0.5], rtol=1e-5)
    assert float(got["cosine"][2]) < 0.999


def test_a_student_is_measured_on_the_pairs_of_its_own_data(measure, ratios):
    adapter = Vector(0)
    vector = {"vector": jnp.linspace(-1.0, 1.0, CFG.dim)}

    def model(trainable):
        return attach(PARAMS, trainable, CFG, adapter)

    @jax.jit
    def measured(which):
        return measure.measure_student(StudentView(*[vector] * 4, data_set=which, model=model), CFG)

    for which, name in enumerate(ROWS):
        got = measured(jnp.asarray(which, jnp.int32))
        rho = measure_shifts(PARAMS, ROWS[name], CFG, ratios[name], steer(vector["vector"], 0))
        assert rho.std() > 0.1
        np.testing.assert_allclose(got["margin"], rho.mean(), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(got["accuracy"], (rho > 0).mean())
        np.testing.assert_allclose(
            got["train_loss"], np.log1p(np.exp(-BETA * rho)).mean(), rtol=1e-4
        )


def test_final_rows_hold_the_held_out_dpo_loss_and_what_was_measured(measure, ratios, tmp_path):
    plan = TrainConfig(
        steps=8, batch_size=10, adapter=LoRA(rank=2, targets=("q", "down")), log_every=4
    )
    model = Model(PARAMS, CFG, None, "tiny", tmp_path, (), 0)  # no tokenizer: nothing is read
    objective = DPO.from_log_ratios(ratios, BETA)
    with RunFolder.open(tmp_path / "run", {}) as run:
        with pytest.raises(InputError, match="preference rows need the objective DPO"):
            WaveRunner(run, model, plan, StudentTask(ROWS, ROWS, objective))
        task = StudentTask(ROWS, ROWS, objective, {"heldout_loss": objective})
        runner = WaveRunner(run, model, plan, task, [measure])
        adamw = OptimizerSpec.parse("adamw")
        arms = [Arm(adamw, rate, 0, "all") for rate in (0.03, 0.0)]
        moved, still = runner.run_arms("students", arms)
        logged = [json.loads(line) for line in (run.path / "metrics.jsonl").open()]
    for row in (moved, still):
        assert {*(c.name for c in measure.columns), "heldout_loss"} <= row.keys() and not row[
            "diverged"
        ]
        assert row["heldout_loss"] == pytest.approx(row["train_loss"], rel=1e-4)  # equal rows
    assert still["train_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert moved["train_loss"] < 0.9 * math.log(2) and moved["margin"] > 0
    assert moved["size"][0] > 0.01 and len(moved["cosine"]) == 3
    assert [row["step"] for row in logged] == [0, 0, 4, 4, 8, 8]
    assert logged[-2]["margin"] == moved["margin"]
    for row in logged[:2]:  # before training
        assert row["train_loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert row["batch_loss"] is None and row["gradient_norm"] == 0
    assert moved["base_loss"] == still["base_loss"] == pytest.approx(math.log(2), abs=1e-5)
