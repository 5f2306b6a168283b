import numpy as np
import pytest

from subliminal_jax.experiments.distil_vectors.distillation import (
    answer_distribution,
    compare_kinds,
    total_variation,
    variation_among,
)


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
    assert np.isnan(variation_among(p[:1])).all()


def test_a_difference_of_sets_covers_the_truth_and_sees_vectors_as_a_source_of_noise():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        a, b = (
            m + rng.normal(size=(1, n)) + 0.1 * rng.normal(size=(4, n))
            for m, n in ((1, 12), (0, 9))
        )
        x = compare_kinds(a, b)
        assert x.low <= x.mean <= x.high
        inside += x.low <= 1 <= x.high
    assert 0.92 <= inside / 300 <= 0.98
    same = compare_kinds(np.ones((3, 2)), np.zeros((3, 4)))
    assert same.low == same.high == 1 == pytest.approx(same.mean)
