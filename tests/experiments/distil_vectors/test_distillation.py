import numpy as np
import pytest

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.experiments.distil_vectors.distillation import (
    answer_distribution,
    compare_answers,
    measure_losses,
    total_variation,
    variation_among,
)
from subliminal_jax.models.hub import load_model
from subliminal_jax.runs.waves import Trained
from subliminal_jax.training.adapters import LoRA
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.sweep import Sweep


def test_answers_are_a_distribution_with_the_rest_last():
    rates = np.array([[0.2, 0.3], [0.0, 0.0], [0.6, 0.4000001]])
    p = answer_distribution(rates)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_allclose(p[:2], [[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    assert p[2, 2] == 0


def test_total_variation_is_a_distance_and_the_largest_difference_of_an_event():
    rng = np.random.default_rng(0)
    p, q, r = rng.dirichlet(np.ones(5), size=(3, 20))
    d = total_variation(p, q)
    np.testing.assert_allclose(d, total_variation(q, p))
    assert (d <= total_variation(p, r) + total_variation(r, q) + 1e-12).all()
    events = (np.arange(32)[:, None] >> np.arange(5)) & 1
    np.testing.assert_allclose(d, ((p - q) @ events.T).max(axis=1))
    assert total_variation(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1


def test_controls_are_compared_with_the_others_only():
    p = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    np.testing.assert_allclose(variation_among(p), [0.75, 0.75, 0.5])


def test_answers_of_a_student_are_held_against_all_controls():
    student, *controls = (
        StudentRow("adamw", 0.1, 0, name, diverged=False, measured={"word_rate": [rate]})
        for name, rate in (("cat", 0.9), ("control-0", 0.1), ("control-1", 0.3))
    )
    by_draw = {row.data: row for row in controls}
    both = compare_answers(student, by_draw)
    assert both is not None and both.student == pytest.approx((0.8 + 0.6) / 2)
    assert both.controls == pytest.approx({"control-0": 0.2, "control-1": 0.2})
    one = compare_answers(student, {"control-0": controls[0]})
    assert one is not None and one.student == pytest.approx(0.8) and one.controls == {}
    assert compare_answers(student, {}) is None


def test_losses_on_all_data_sets_are_those_of_other_code_on_their_own(model):
    loaded = load_model(model)
    rng = np.random.default_rng(0)
    rows = {
        name: pad_pairs(
            rng.integers(0, loaded.cfg.vocab, (8, 4)).tolist(),
            rng.integers(0, loaded.cfg.vocab, (8, 3)).tolist(),
            8,
            pad_id=loaded.pad_id,
        )
        for name in ("a", "b")
    }
    plan = TrainConfig(steps=4, batch_size=4, adapter=LoRA(2, 4.0), log_every=4)
    sweep = Sweep(
        loaded.params, loaded.cfg, [Arm("adamw", 0.05, 0, name) for name in ("b", "a")], rows, plan
    )
    state, _ = sweep.advance(sweep.init())
    expected = np.asarray(sweep.evaluate(state, rows))
    trained = Trained([], sweep, state)
    of_b, of_a = measure_losses(trained, [0, 1], loaded, rows)
    np.testing.assert_allclose([of_b["b"], of_a["a"]], expected, rtol=1e-5)
    assert measure_losses(trained, [1], loaded, rows) == [pytest.approx(of_a)]
    assert of_a["b"] != pytest.approx(of_b["b"])
