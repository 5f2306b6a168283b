"""Cosines of means of planted gradients."""

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.experiments.objective.gradients import compare_directions

V = jnp.eye(4)[0]


def planted_gradients(noise: float, n: int = 8, seed: int = 0):
    """Soft gradients along (1, 1, 0, 0), hard ones the same with noise, F v twice the soft ones."""
    signal = np.tile([1.0, 1.0, 0.0, 0.0], (n, 1))
    hard = signal + noise * np.random.default_rng(seed).standard_normal(signal.shape)
    rows = {"soft": signal, "hard": hard, "fisher": 2 * signal}
    return {name: jnp.asarray(x) for name, x in rows.items()}


def test_cosines_are_exact_without_noise_and_rise_with_n_with_it():
    exact = compare_directions(planted_gradients(0.0), V)
    assert {n for _, n in exact} == {1, 2, 4, 8}
    for pair, value in (("hard-soft", 1.0), ("soft-fisher", 1.0), ("soft-v", 2**-0.5)):
        for n in (1, 8):
            assert exact[pair, n] == pytest.approx(value)
    noisy = compare_directions(planted_gradients(1.0, 1000), V)
    means = [value for (pair, _), value in noisy.items() if pair == "hard-soft"]
    assert means == sorted(means) and means[0] < 0.8 and means[-1] > 0.99
