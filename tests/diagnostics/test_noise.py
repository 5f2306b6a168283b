import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from subliminal_jax.diagnostics.noise import (
    excess_kurtosis,
    gradient_moments,
    hill_index,
    merge,
    moments,
    noise_scale,
    noise_summary,
    sign_agreement,
    signal_to_noise,
    simple_noise_scale,
)
from subliminal_jax.training.batch import Batch


def test_kurtosis_of_known_distributions():
    rng = np.random.default_rng(0)
    n = 200_000
    samples = {
        0.0: rng.normal(size=n),
        -1.2: rng.uniform(size=n),
        3.0: rng.laplace(size=n),
    }
    for want, x in samples.items():
        x = jnp.asarray(x, jnp.float32)
        got = float(excess_kurtosis(x))
        assert got == pytest.approx(want, abs=0.15)
        assert got == pytest.approx(stats.kurtosis(np.asarray(x, np.float64)), abs=1e-3)
        assert float(excess_kurtosis(1e-20 * x + 3e-20)) == pytest.approx(got, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.8, 1.5, 3.0])
def test_hill_index_finds_the_exponent_of_pareto_tails(alpha):
    rng = np.random.default_rng(1)
    x = (rng.pareto(alpha, 100_000) + 1.0) * rng.choice([-1, 1], 100_000)
    got = float(hill_index(jnp.asarray(1e-12 * x, jnp.float32)))
    assert got == pytest.approx(alpha, rel=4 / np.sqrt(1000))  # standard error alpha / sqrt(k)


def test_hill_index_is_larger_for_lighter_tails_and_undefined_without_one():
    rng = np.random.default_rng(2)
    normal = jnp.asarray(rng.normal(size=10_000), jnp.float32)
    assert float(hill_index(normal)) > 5
    assert np.isnan(hill_index(jnp.zeros(1000)))
    assert np.isnan(hill_index(jnp.ones(1)))
    assert np.isinf(hill_index(jnp.ones(1000)))


@given(seed=st.integers(0, 1000), cut=st.sampled_from([1, 6]))
def test_moments_merge_to_those_of_all(seed, cut):
    g = 1e-3 * np.random.default_rng(seed).normal(size=(12, 9)) + 1.0
    g[:, 0] = 0
    whole = moments(jnp.asarray(g, jnp.float32))
    parts = merge(*(moments(jnp.asarray(part, jnp.float32)) for part in (g[:cut], g[cut:])))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-7)
    deviation = ((g - g.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(parts.deviation, deviation, rtol=1e-2)


@pytest.mark.parametrize("at_once", [1, 5])
def test_streamed_moments_are_those_of_the_per_example_gradients(at_once):
    tokens = jax.random.randint(jax.random.key(0), (10, 6), 0, 8)
    data = Batch(tokens, tokens, (tokens > 2).astype(jnp.float32))
    start = {"b": jnp.linspace(-1.0, 1.0, 8), "a": jnp.ones(())}

    def loss(t, b):
        return jnp.sum(jnp.sin(t["b"][b.tokens] * t["a"]) * b.loss_mask, axis=1) ** 2

    streamed = jax.jit(lambda t: gradient_moments(loss, t, data, at_once))(start)
    jacobian = jax.jacrev(lambda t: loss(t, data))(start)
    want = moments(jnp.concatenate([jacobian["a"][:, None], jacobian["b"]], axis=1))
    for a, b in zip(streamed, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="does not divide the 10 rows"):
        gradient_moments(loss, start, data, 3)


def planted(examples: int, seed: int = 0) -> tuple[jnp.ndarray, np.ndarray, np.ndarray]:
    """Gradients of a known mean and standard deviation by coordinate."""
    rng = np.random.default_rng(seed)
    mean, deviation = rng.normal(size=200), rng.uniform(0.5, 4.0, 200)
    g = mean + deviation * rng.normal(size=(examples, 200))
    return jnp.asarray(g, jnp.float32), mean, deviation


def test_signal_to_noise_of_a_planted_mean():
    g, mean, deviation = planted(20_000)
    snr = signal_to_noise(moments(g))
    np.testing.assert_allclose(snr, np.abs(mean) / deviation, atol=0.03)
    np.testing.assert_allclose(signal_to_noise(moments(1e-9 * g)), snr, rtol=1e-4)
    noise = g[:400] - jnp.asarray(mean, jnp.float32)[None]
    assert float(jnp.median(signal_to_noise(moments(noise)))) * 20 == pytest.approx(0.67, abs=0.2)
    same = moments(jnp.ones((4, 2)) * jnp.array([[0.0, 2.0]]))
    np.testing.assert_array_equal(signal_to_noise(same), [0, np.inf])


def test_noise_scale_of_a_planted_covariance_at_any_two_batch_sizes():
    _, mean, deviation = planted(2)
    signal, noise = (mean**2).sum(), (deviation**2).sum()
    estimates = jax.vmap(lambda seed: jnp.stack(_noise(mean, deviation, seed)))(jnp.arange(200))
    got_signal, got_noise = np.asarray(estimates).mean(axis=0)
    assert got_signal == pytest.approx(signal, rel=0.05)
    assert got_noise == pytest.approx(noise, rel=0.02)
    exact = simple_noise_scale(
        jnp.float32(signal + noise / 8), jnp.float32(signal + noise / 100), 8, 100
    )
    assert float(exact.scale) == pytest.approx(noise / signal, rel=1e-3)


def _noise(mean, deviation, seed):
    z = jax.random.normal(jax.random.key(seed), (30, 200))
    g = jnp.asarray(mean, jnp.float32)[None] + jnp.asarray(deviation, jnp.float32)[None] * z
    return noise_scale(moments(g))


def test_sign_agreement_is_that_of_pairs():
    rng = np.random.default_rng(4)
    g = rng.normal(size=(7, 50)) + 0.5
    g[rng.random(g.shape) < 0.1] = 0
    signs = np.sign(g)
    pairs = [signs[i] * signs[j] for i in range(7) for j in range(7) if i != j]
    got = sign_agreement(moments(jnp.asarray(g, jnp.float32)))
    np.testing.assert_allclose(got, np.mean(pairs, axis=0), atol=1e-5)


def test_sign_agreement_has_no_floor_and_tops_at_one():
    g = jax.random.normal(jax.random.key(0), (4, 20_000))
    assert abs(float(sign_agreement(moments(g)).mean())) < 0.015
    np.testing.assert_allclose(sign_agreement(moments(jnp.abs(g))), np.ones(20_000))


def test_summary_says_the_same_as_its_parts():
    g, *_ = planted(50)
    m = moments(g)
    out = jax.jit(noise_summary)(m)
    np.testing.assert_allclose(out["noise_scale"], noise_scale(m).scale, rtol=1e-4)
    np.testing.assert_allclose(out["excess_kurtosis"], excess_kurtosis(g.mean(axis=0)), atol=1e-4)
    np.testing.assert_allclose(
        out["signal_to_noise_quantiles"],
        np.quantile(signal_to_noise(m), [0.1, 0.5, 0.9, 0.99]),
        rtol=1e-4,
    )
    assert out["sign_agreement_weighted"] > out["sign_agreement"]
