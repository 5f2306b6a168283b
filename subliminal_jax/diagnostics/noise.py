"""Tails and noise of gradients: how heavy, how much of them is signal, how far examples agree.

Statistics over examples are taken from `Moments`, which can be accumulated a few examples at a
time: per-example gradients of a whole data set need not be held at once.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from subliminal_jax.training.batch import Batch

Tree = Any


class Moments(NamedTuple):
    """Sums over examples, by coordinate of the gradient.

    `deviation` is the sum of squared deviations from the mean; `signs` the sum of the signs, and
    `nonzero` the number of gradients that are not zero.
    """

    examples: Float[Array, ""]
    mean: Float[Array, " coordinates"]
    deviation: Float[Array, " coordinates"]
    signs: Float[Array, " coordinates"]
    nonzero: Float[Array, " coordinates"]


def moments(gradients: Float[Array, "examples coordinates"]) -> Moments:
    """The moments of stacked per-example gradients."""
    g = gradients.astype(jnp.float32)
    mean = g.mean(axis=0)
    return Moments(
        examples=jnp.asarray(g.shape[0], jnp.float32),
        mean=mean,
        deviation=jnp.sum((g - mean[None]) ** 2, axis=0),
        signs=jnp.sum(jnp.sign(g), axis=0),
        nonzero=jnp.sum(g != 0, axis=0).astype(jnp.float32),
    )


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both sets of examples together, without cancellation (Chan et al. 1983)."""
    both = a.examples + b.examples
    apart = b.mean - a.mean
    return Moments(
        examples=both,
        mean=a.mean + apart * (b.examples / both),
        deviation=a.deviation + b.deviation + apart**2 * (a.examples * b.examples / both),
        signs=a.signs + b.signs,
        nonzero=a.nonzero + b.nonzero,
    )


def gradient_moments(
    loss: Callable[[Tree, Batch], Float[Array, " batch"]],
    trainable: Tree,
    data: Batch,
    at_once: int = 1,
) -> Moments:
    """The moments of the gradients of each row's loss, `at_once` rows held at a time.

    `loss` gives one value an example. `at_once` must divide the number of rows.
    """
    rows = data.tokens.shape[0]
    if rows % at_once:
        raise ValueError(f"at_once={at_once} does not divide the {rows} rows")

    def gradient(row: Batch) -> Float[Array, " coordinates"]:
        single = jax.tree.map(lambda x: x[None], row)
        return ravel_pytree(jax.grad(lambda t: loss(t, single)[0])(trainable))[0]

    def add(so_far: Moments, chunk: Batch) -> tuple[Moments, None]:
        return merge(so_far, moments(jax.vmap(gradient)(chunk))), None

    size = ravel_pytree(trainable)[0].size
    empty = Moments(jnp.zeros(()), *(jnp.zeros(size) for _ in Moments._fields[1:]))
    chunks = jax.tree.map(lambda x: x.reshape(-1, at_once, *x.shape[1:]), data)
    return jax.lax.scan(add, empty, chunks)[0]


def excess_kurtosis(x: Float[Array, " coordinates"]) -> Float[Array, ""]:
    """Fourth standardised moment minus 3: 0 for a normal, larger for heavier tails.

    Taken in units of the standard deviation, since fourth powers of gradients underflow. NaN where
    all coordinates are equal.
    """
    x = _scaled(x.astype(jnp.float32))
    x = x - x.mean()
    return jnp.mean((x / jnp.sqrt(jnp.mean(x**2))) ** 4) - 3.0


def hill_index(x: Float[Array, " coordinates"], top: float = 0.01) -> Float[Array, ""]:
    """The tail index α of P(|x| > t) ~ t^-α by Hill (1975), from the `top` fraction of |x|.

    1/α is the mean over the k largest of log(|x|_(i) / |x|_(k+1)). Below 2 the variance of such a
    tail is infinite; a normal's grows slowly with the size of the sample. Infinite where the
    largest are all equal; NaN where no more than k coordinates are not zero, or k + 1 exceeds their
    number.
    """
    k = max(math.ceil(top * x.size), 1)
    if k >= x.size:
        return jnp.full((), jnp.nan)
    largest = jnp.sort(jnp.abs(x))[-(k + 1) :]
    ratios = jnp.log(largest[1:]) - jnp.log(largest[0])
    return jnp.where(largest[0] > 0, 1.0 / jnp.mean(ratios), jnp.nan)


def signal_to_noise(m: Moments) -> Float[Array, " coordinates"]:
    """|mean| / standard deviation over examples, by coordinate; 0 for a gradient that is zero.

    Of N examples of pure noise it is |z| / sqrt(N), z standard normal: median 0.67 / sqrt(N).
    Infinite where every example has the same gradient.
    """
    deviation = jnp.sqrt(m.deviation / jnp.maximum(m.examples - 1.0, 1.0))
    return jnp.where(m.mean == 0, 0.0, jnp.abs(m.mean) / deviation)


def sign_agreement(m: Moments) -> Float[Array, " coordinates"]:
    """How far examples agree in sign: the mean over pairs of distinct ones of s_i s_j.

    1 where all agree, 0 in expectation where signs are independent coin flips, whatever the number
    of examples. Zero gradients have sign 0.
    """
    pairs = jnp.maximum(m.examples * (m.examples - 1.0), 1.0)
    return (m.signs**2 - m.nonzero) / pairs


class NoiseScale(NamedTuple):
    """`signal` estimates |G|², `noise` tr(Σ), `scale` = noise / signal, in examples.

    Signal and noise are unbiased, their ratio is not: average the two over steps, then divide.
    A signal that is not positive says that it is lost in the noise.
    """

    signal: Float[Array, "*n"]
    noise: Float[Array, "*n"]

    @property
    def scale(self) -> Float[Array, "*n"]:
        return self.noise / self.signal


def simple_noise_scale(
    small_squared_norm: Float[Array, "*n"],
    big_squared_norm: Float[Array, "*n"],
    small: int | Float[Array, ""],
    big: int | Float[Array, ""],
) -> NoiseScale:
    """The simple noise scale from the squared norms of mean gradients at two batch sizes.

    Source: "An Empirical Model of Large-Batch Training", McCandlish et al. 2018, appendix A.1.
    """
    signal = (big * big_squared_norm - small * small_squared_norm) / (big - small)
    noise = (small_squared_norm - big_squared_norm) / (1.0 / small - 1.0 / big)
    return NoiseScale(signal, noise)


def noise_scale(m: Moments) -> NoiseScale:
    """The simple noise scale, with single examples as the small batch and all as the big one."""
    big = jnp.sum(m.mean**2)
    return simple_noise_scale(jnp.sum(m.deviation) / m.examples + big, big, 1, m.examples)


def noise_summary(
    m: Moments, quantiles: tuple[float, ...] = (0.1, 0.5, 0.9, 0.99)
) -> dict[str, Array]:
    """Scalars of one gradient's tails and noise, and quantiles of the signal-to-noise ratio.

    Kurtosis, tail index (largest 1%) and quantiles are over the coordinates of the mean gradient;
    the sign agreement is their mean, plain and weighted by |mean gradient|.
    """
    agreement, size = sign_agreement(m), jnp.abs(_scaled(m.mean))
    scale = noise_scale(m)
    return {
        "excess_kurtosis": excess_kurtosis(m.mean),
        "hill_index": hill_index(m.mean),
        "signal_to_noise_quantiles": jnp.quantile(signal_to_noise(m), jnp.array(quantiles)),
        "sign_agreement": agreement.mean(),
        "sign_agreement_weighted": jnp.sum(agreement * size) / jnp.sum(size),
        "signal": scale.signal,
        "noise": scale.noise,
        "noise_scale": scale.scale,
    }


def _scaled(x: Float[Array, " coordinates"]) -> Float[Array, " coordinates"]:
    """`x` in units of its largest coordinate, so that its powers do not underflow."""
    largest = jnp.max(jnp.abs(x))
    return x / jnp.where(largest == 0, 1.0, largest)
