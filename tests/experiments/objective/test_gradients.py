"""Cosines of means of planted gradients."""

import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.experiments.objective.gradients import compare_directions

V = jnp.eye(4)[0]


def planted_gradients(noise: float, n: int = 24):
    """Soft gradients along (1, 1, 0, 0), hard ones the same with noise, F v twice the soft ones."""
    signal = np.tile([1.0, 1.0, 0.0, 0.0], (n, 1))
    hard = signal + noise * np.random.default_rng(0).standard_normal(signal.shape)
    rows = {"soft": signal, "hard": hard, "fisher": 2 * signal}
    return {name: jnp.asarray(x) for name, x in rows.items()}


def test_cosines_are_exact_without_noise_and_rise_with_n_with_it():
    rows = compare_directions("t", planted_gradients(0.0), V, draws=3)
    exact = {(row.pair, row.n): row for row in rows}
    assert {n for _, n in exact} == {1, 2, 4, 8}
    for pair, value in (("hard-soft", 1.0), ("soft-fisher", 1.0), ("soft-v", 2**-0.5)):
        for n in (1, 8):
            assert exact[pair, n].values == pytest.approx((value,) * 3)
    rows = compare_directions("t", planted_gradients(1.0, 3000), V, draws=3)
    means = [row.cosine.mean for row in rows if row.pair == "hard-soft"]
    assert means == sorted(means) and means[0] < 0.8 and means[-1] > 0.99
