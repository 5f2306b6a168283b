"""Reliability of vectors on planted propensities."""

import numpy as np
import pytest

from subliminal_jax.evaluation.reliability import (
    SHIFTS,
    SetReliability,
    cross_settings,
    measure_vector,
    summarise_sets,
)
from subliminal_jax.steering.propensity import MULTIPLIERS

X = np.array(MULTIPLIERS)
SETTINGS = ["baseline", "SYS_positive", "SYS_negative", "USER_positive", "USER_negative"]
VECTORS = [*SETTINGS, "mean", "random"]


def planted_set(strength, seed, rows=40):
    """A set whose vectors have slopes of mean `strength` in every setting; random ones have 0."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(rows, len(VECTORS)))
    noise -= noise.mean(axis=0)
    slopes = noise + strength * (np.array(VECTORS) != "random")
    by_setting = {
        name: (k + slopes[..., None] * X).astype(np.float32) for k, name in enumerate(SETTINGS)
    }
    is_first, is_yes = np.arange(rows) % 4 < 2, np.arange(rows) % 2 == 0
    plain = by_setting["baseline"]
    return SetReliability(
        **vars(measure_vector(plain[:, 0], MULTIPLIERS, is_first, is_yes)),
        random=measure_vector(plain[:, -1], MULTIPLIERS, is_first, is_yes),
        matrix=cross_settings(by_setting, VECTORS, MULTIPLIERS),
    )


def test_one_vector_has_the_planted_numbers():
    slopes = np.concatenate([np.full(30, 2.0), np.full(10, -1.0)])
    vector = measure_vector((slopes[:, None] * X).astype(np.float32), MULTIPLIERS)
    assert vector.steerability.mean == pytest.approx(1.25, abs=1e-5)
    assert vector.steerability.low < 1.25 < vector.steerability.high
    assert vector.anti_steerable.mean == pytest.approx(0.25)
    assert 0.05 < vector.anti_steerable.low < 0.25 < vector.anti_steerable.high < 0.5
    assert vector.rank == pytest.approx(0.5)
    assert vector.residual == pytest.approx(0, abs=1e-6)
    assert vector.quantiles[0] == pytest.approx(-1) and vector.quantiles[-1] == pytest.approx(2)
    assert vector.decomposition.explained_share.mean == pytest.approx(0, abs=1e-6)


def test_a_bias_that_is_all_there_is_explains_everything():
    is_first = np.arange(20) % 2 == 0
    slopes = np.where(is_first, 1.0, -1.0)
    vector = measure_vector((slopes[:, None] * X).astype(np.float32), MULTIPLIERS, is_first)
    share = vector.decomposition.explained_share
    assert share.mean == pytest.approx(1) and share.low == pytest.approx(1)


def test_a_leaning_to_a_letter_is_no_steering_when_letters_weigh_the_same():
    is_first = np.arange(20) < 15
    slopes = np.where(is_first, 1.0, -1.0) + 0.25
    m = (slopes[:, None] * X).astype(np.float32)
    vector = measure_vector(m, MULTIPLIERS, is_first)
    assert vector.steerability.mean == pytest.approx(0.75, abs=1e-6)
    assert vector.balanced == pytest.approx(0.25, abs=1e-6)
    assert measure_vector(m, MULTIPLIERS).balanced is None
    assert measure_vector(m[:15], MULTIPLIERS, is_first[:15]).balanced is None


def test_the_matrix_has_settings_in_rows_and_vectors_in_columns():
    matrix = planted_set(1.5, 0).matrix
    assert np.shape(matrix.steerability) == (5, 7)
    assert matrix.steerability_in("USER_negative", "baseline") == pytest.approx(1.5, abs=1e-5)
    assert matrix.steerability_in("SYS_positive", "random") == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(matrix.relative, 1, atol=1e-5)
    gap = np.abs(np.arange(5)[:, None] - np.arange(5))
    np.testing.assert_allclose(matrix.gap, gap, atol=1e-6)


def test_over_sets_unshifted_and_shifted_steerability_agree():
    strengths = (0.1, 0.5, 1, 2, 3, 4)
    summary = summarise_sets([planted_set(strength, k) for k, strength in enumerate(strengths)])
    assert [(s.vector, s.setting) for s in summary.shifts] == list(SHIFTS)
    for shift in summary.shifts:
        assert shift.correlation.mean == pytest.approx(1)
        assert shift.ratio_of_means == pytest.approx(1, abs=1e-5)
        assert shift.negative == 0
    assert summary.pooled.n == 24
    assert summary.steerability.mean == pytest.approx(10.6 / 6, abs=1e-5)
    assert summary.against_random.interval.low > 0
    assert summary.range == pytest.approx([0.1, 4], abs=1e-5)
