"""Rotary frequencies against their definitions, in plain Python."""

import math

import numpy as np
import pytest

from subliminal_jax.models.attention import frequencies
from subliminal_jax.models.rope import Rope

HEAD_DIM = 64


def plain(theta):
    return [theta ** (-2 * i / HEAD_DIM) for i in range(HEAD_DIM // 2)]


def rescale_llama3(f, rope):
    """One frequency by its wavelength: short ones stay, long ones are divided, and those between
    are a mixture."""
    wavelength = 2 * math.pi / f
    longest, shortest = (
        rope.original_context / rope.low_freq_factor,
        rope.original_context / rope.high_freq_factor,
    )
    if wavelength < shortest:
        return f
    if wavelength > longest:
        return f / rope.factor
    share = (rope.original_context / wavelength - rope.low_freq_factor) / (
        rope.high_freq_factor - rope.low_freq_factor
    )
    return share * f + (1 - share) * f / rope.factor


def test_the_default_ones():
    np.testing.assert_allclose(frequencies(Rope(theta=10_000.0), HEAD_DIM), plain(1e4), rtol=1e-5)


def test_linear_ones_are_all_divided():
    rope = Rope(theta=10_000.0, kind="linear", factor=4.0)
    divided = [f / 4.0 for f in plain(1e4)]
    np.testing.assert_allclose(frequencies(rope, HEAD_DIM), divided, rtol=1e-5)


@pytest.mark.parametrize("context", [512, 8192])
def test_those_of_llama_3(context):
    rope = Rope(theta=500_000.0, kind="llama3", factor=8.0, original_context=context)
    expected = np.array([rescale_llama3(f, rope) for f in plain(5e5)])
    kept, divided = expected == plain(5e5), expected == np.array(plain(5e5)) / 8.0
    assert kept.any() and divided.any() and not (kept | divided).all()  # all three kinds
    np.testing.assert_allclose(frequencies(rope, HEAD_DIM), expected, rtol=1e-5)
