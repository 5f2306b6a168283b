"""Exponents of known growth, and what counts as worse than linear."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.growth import SIZES, Point, draw_growth, fit_exponent, make_document, setting

SIZES_OF_AXIS = (2, 4, 8, 16, 32)


def points(seconds: float, memory: float, noise: float = 0.0) -> list[Point]:
    """Of an axis along which seconds and memory grow with these exponents."""
    rng = np.random.default_rng(0)
    factors = np.exp(noise * rng.normal(size=(len(SIZES_OF_AXIS), 2)))
    return [
        Point(n, 0.01 * n**seconds * a, 0.02 * n**seconds, 3.0 * n**memory * b, 500.0, 1.0)
        for n, (a, b) in zip(SIZES_OF_AXIS, factors.tolist(), strict=True)
    ]


@given(st.floats(-1.0, 3.0), st.floats(1e-3, 1e3))
def test_the_exponent_of_a_power_is_found_in_any_unit(power, unit):
    sizes = np.array([3.0, 5.0, 20.0, 21.0])
    fitted = fit_exponent(sizes, unit * sizes**power)
    np.testing.assert_allclose(fitted, [power] * 4, atol=1e-6)


def test_the_interval_holds_the_exponent_in_nineteen_of_twenty_cases():
    sizes, rng = np.array([1.0, 2, 4, 8, 16]), np.random.default_rng(1)
    fitted = [fit_exponent(sizes, sizes * np.exp(0.2 * rng.normal(size=5))) for _ in range(1000)]
    share = np.mean([e.low <= 1 <= e.high for e in fitted])
    assert 0.93 < share < 0.97


@pytest.mark.parametrize(
    ("axis", "seconds", "memory", "reached"),
    [
        ("batch", 0.9, 1.0, True),
        ("batch", 1.3, 1.0, False),
        ("students", 1.0, 1.4, False),
        ("length", 1.8, 1.5, True),
        ("length", 2.3, 1.5, False),
    ],
)
def test_growth_beyond_what_is_allowed_misses_the_goal(axis, seconds, memory, reached):
    document = make_document(axis, points(seconds, memory, noise=0.01), {})
    assert document["goal"]["reached"] is reached


def test_each_axis_varies_alone_but_for_the_students_of_the_devices():
    for axis, sizes in SIZES.items():
        least, most = (setting(axis, size) for size in (sizes[0], sizes[-1]))
        differing = {key for key in least if least[key] != most[key]}
        assert differing == ({"devices", "students"} if axis == "devices" else {axis})


def test_the_picture_has_a_panel_for_every_axis():
    figure = draw_growth(
        [make_document(axis, points(1.0, 0.5), {}) for axis in ("batch", "depth", "students")]
    )
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["batch", "depth", "students"]
    assert "1.00 [1.00, 1.00]" in [text.get_text() for text in figure.axes[0].texts]
