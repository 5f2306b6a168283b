"""Slopes, shares and decompositions of planted propensities, and the textbook's way to each."""

import numpy as np
import pytest
from scipy import stats

from subliminal_jax.errors import InputError
from subliminal_jax.steering.propensity import MULTIPLIERS
from subliminal_jax.steering.slopes import (
    anti_steerable,
    clearly_anti_steerable,
    decompose_slopes,
    linear_reach,
    per_sample_slopes,
    relative_steerability,
)

X = np.array(MULTIPLIERS)


@pytest.fixture(scope="module")
def planted():
    """(slopes, is A, is Yes) of 80 rows: 1 + 0.6 A - 0.9 Yes and a part that is orthogonal to both
    and to their product, so that every number is known in closed form."""
    letter = np.tile([True, True, False, False], 20)
    yes = np.tile([True, False, True, False], 20)
    rest = np.repeat(np.tile([2.0, -2.0], 10), 4)
    return 1.0 + 0.6 * letter - 0.9 * yes + rest, letter, yes


def test_planted_slopes_are_recovered(planted):
    slopes, _, _ = planted
    offsets = np.linspace(-3, 3, len(slopes))
    fit = per_sample_slopes(
        (offsets[:, None] + slopes[:, None] * X).astype(np.float32), MULTIPLIERS
    )
    np.testing.assert_allclose(fit.slope, slopes, atol=1e-5)
    np.testing.assert_allclose(fit.residual, 0, atol=1e-5)
    np.testing.assert_allclose(fit.rank, np.sign(slopes), atol=1e-12)


def test_planted_anti_steerable_share_is_recovered(planted):
    slopes, _, _ = planted
    # Of the four kinds 1.6-0.9, 1.6, 1-0.9 and 1, minus 2: all are negative; plus 2: none.
    assert anti_steerable(slopes) == 0.5
    assert anti_steerable(np.array([1.0, 0.0, -1.0, 2.0])) == 0.5


def test_noise_alone_makes_few_rows_clearly_anti_steerable():
    """The slope's t interval against that of scipy; rows without a slope count as often as they
    may by chance, and rows that fall clearly all count."""
    noise = np.random.default_rng(1).normal(size=(4000, len(X)))
    flags = clearly_anti_steerable(per_sample_slopes(noise, MULTIPLIERS), MULTIPLIERS)
    assert 0.018 < flags.mean() < 0.032  # 2.5% and three standard errors
    for row, clear in zip(noise[:200], flags[:200], strict=True):
        fit = stats.linregress(X, row)
        assert clear == (fit.slope + stats.t.ppf(0.975, len(X) - 2) * fit.stderr < 0)
    falling = per_sample_slopes(0.1 * noise[:50] - X, MULTIPLIERS)
    assert clearly_anti_steerable(falling, MULTIPLIERS).all()
    with pytest.raises(InputError, match="give 3"):
        clearly_anti_steerable(per_sample_slopes(noise[:1, :2], (0, 1)), (0, 1))


def test_planted_decomposition_is_recovered(planted):
    parts = decompose_slopes(*planted)
    assert parts.letter == pytest.approx(0.36 / 4, abs=1e-5)  # variance of a fair coin: 1/4
    assert parts.yes_no == pytest.approx(0.81 / 4, abs=1e-5)
    assert parts.unexplained == pytest.approx(4.0, abs=1e-5)
    assert parts.variance == pytest.approx(4.0 + 1.17 / 4, abs=1e-5)
    assert parts.explained_share == pytest.approx((1.17 / 4) / (4 + 1.17 / 4))


def test_without_letters_or_yes_nothing_is_explained_by_them(planted):
    slopes, letter, yes = planted
    alone = decompose_slopes(slopes, letter, None)
    assert alone.yes_no == 0 and alone.letter == pytest.approx(0.09)
    none = decompose_slopes(slopes, None, yes)
    assert none.letter == 0 and none.yes_no == pytest.approx(0.81 / 4)
    assert np.isnan(decompose_slopes(np.ones(4), letter[:4], None).explained_share)


def test_slopes_and_ranks_are_those_of_numpy_and_scipy():
    m = np.random.default_rng(0).normal(size=(6, 3, len(X)))
    fits = per_sample_slopes(m, MULTIPLIERS)
    for index in np.ndindex(6, 3):
        slope, offset = np.polyfit(X, m[index], 1)
        rest = m[index] - slope * X - offset
        assert fits.slope[index] == pytest.approx(slope, abs=1e-12)
        assert fits.residual[index] == pytest.approx(np.sqrt(np.mean(rest**2)), abs=1e-12)
        assert fits.rank[index] == pytest.approx(stats.spearmanr(X, m[index]).statistic, abs=1e-12)
    assert np.isnan(per_sample_slopes(np.zeros((1, len(X))), MULTIPLIERS).rank[0])


def test_the_mean_slope_is_the_slope_of_the_mean_curve():
    m = np.random.default_rng(1).normal(size=(9, len(X)))
    mean = per_sample_slopes(m, MULTIPLIERS).slope.mean()
    assert mean == pytest.approx(per_sample_slopes(m.mean(axis=0), MULTIPLIERS).slope)


def test_relative_steerability_divides_by_the_settings_own_vector():
    matrix = np.array([[2.0, 1.0], [0.1, 0.2]])
    relative = relative_steerability(matrix)
    np.testing.assert_allclose(relative[0], [1.0, 0.5])
    assert np.isnan(relative[1]).all()  # its own 0.2 is too small to divide by


def test_the_linear_regime_ends_where_the_curve_leaves_the_line():
    x = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
    slope = np.array([1.0, -3.0])
    m = slope[:, None] * np.array(x) * np.where(np.abs(x) > 1, 0.5, 1.0)
    assert linear_reach(m, x, slope) == 1.0
    assert linear_reach(m, x, -slope) == 0.0
    with pytest.raises(InputError, match="0 is needed"):
        linear_reach(m[:, :2], x[:2], slope)


@pytest.mark.parametrize(("x", "n"), [((1.0, 1.0), 2), ((1.0,), 1), ((0.0, 1.0), 3)])
def test_slopes_need_two_multipliers_and_their_propensities(x, n):
    with pytest.raises(InputError, match="at least two different"):
        per_sample_slopes(np.zeros((2, n)), x)
