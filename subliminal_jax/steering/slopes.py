"""Steerability from propensities: slopes, their linearity, and a decomposition of their variance.

After Tan et al. (2024, arXiv 2407.12404), sections 3 and 4, and their code. Plain numbers in and
out; no model is involved.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float

from subliminal_jax.errors import InputError

MIN_SELF_STEERABILITY = 0.25  # ratios to less are NaN, as in the paper's code
CONFIDENCE = 0.95  # of the interval of a row's slope
LINEARITY_TOLERANCE = 0.1  # relative root-mean-square error up to which a curve counts as linear


class Slopes(NamedTuple):
    """The least-squares slope of each row's propensity over the multipliers (logits a multiplier),
    the root mean square of the residuals, and the rank correlation of propensity and multiplier
    (NaN where the propensity is constant)."""

    slope: Float[np.ndarray, "*rows"]
    residual: Float[np.ndarray, "*rows"]
    rank: Float[np.ndarray, "*rows"]


def per_sample_slopes(
    propensities: Float[np.ndarray, "*rows multipliers"], multipliers: Sequence[float]
) -> Slopes:
    """Per-sample steerability, the slope of `numpy.polyfit(multipliers, propensity, 1)`, for all
    rows at once; in float64.

    Raises InputError for fewer than two different multipliers, or another number of propensities.
    """
    x = np.asarray(multipliers, float)
    m = np.asarray(propensities, float)
    if len(set(x.tolist())) < 2 or m.shape[-1] != len(x):
        raise InputError(
            f"a slope over the multipliers {tuple(multipliers)} of {m.shape[-1]} propensities: "
            "give as many of both, and at least two different ones"
        )
    centred = x - x.mean()
    slope = (m - m.mean(axis=-1, keepdims=True)) @ centred / (centred @ centred)
    line = m.mean(axis=-1, keepdims=True) + slope[..., None] * centred
    residual = np.sqrt(np.mean((m - line) ** 2, axis=-1))
    ranks = scipy.stats.rankdata(m, axis=-1)
    ranks = ranks - ranks.mean(axis=-1, keepdims=True)
    order = scipy.stats.rankdata(x) - np.mean(scipy.stats.rankdata(x))
    spread = np.sqrt((ranks**2).sum(axis=-1) * (order @ order))
    with np.errstate(invalid="ignore", divide="ignore"):
        rank = np.where(spread > 0, ranks @ order / np.where(spread > 0, spread, 1.0), np.nan)
    return Slopes(slope, residual, rank)


def anti_steerable(slopes: Float[np.ndarray, "*batch rows"]) -> Float[np.ndarray, "*batch"] | float:
    """The share of rows whose slope is not positive: the vector works backwards or not at all."""
    return 1.0 - np.mean(np.asarray(slopes) > 0, axis=-1)


def clearly_anti_steerable(
    slopes: Slopes, multipliers: Sequence[float]
) -> Bool[np.ndarray, "*rows"]:
    """Rows whose 95% t interval of the slope over the multipliers lies below zero.

    If no row were anti-steerable and the residuals were normal noise, 2.5% of the rows at most
    would count. Raises InputError for fewer than three multipliers.
    """
    x = np.asarray(multipliers, float)
    n = len(x)
    if n < 3:
        raise InputError(
            f"an interval of a slope over the multipliers {tuple(multipliers)}: give 3"
        )
    # The residual is a root mean square; the line takes two degrees of freedom.
    error = slopes.residual * np.sqrt(n / (n - 2)) / np.sqrt(((x - x.mean()) ** 2).sum())
    return slopes.slope < -scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 2) * error


class Decomposition(NamedTuple):
    """The variance of per-sample slopes and its parts, which sum to it: the one explained by the
    letter of the matching answer, the one that Yes or No adds, and the rest."""

    variance: float
    letter: float
    yes_no: float
    unexplained: float

    @property
    def explained_share(self) -> float:
        """The share of the variance that both biases explain; NaN where there is no variance."""
        if self.variance == 0:
            return float("nan")
        return (self.letter + self.yes_no) / self.variance


def decompose_slopes(
    slopes: Float[np.ndarray, " rows"],
    is_first: Bool[np.ndarray, " rows"] | None,
    is_yes: Bool[np.ndarray, " rows"] | None,
) -> Decomposition:
    """Bias decomposition by least squares within a data set (the paper's code):
    Var(s) - Var(residual of s ~ is_first), then what adding is_yes explains beyond it.

    `is_first`: the matching answer is (A); `is_yes`: it says Yes. None where answers have no letter
    or say neither.
    """
    s = np.asarray(slopes, float)
    variance = float(s.var())
    columns = [np.ones_like(s)]
    explained = [0.0, 0.0]
    for i, column in enumerate((is_first, is_yes)):
        if column is not None:
            columns.append(np.asarray(column, float))
        design = np.stack(columns, axis=1)
        rest = s - design @ np.linalg.lstsq(design, s, rcond=None)[0]
        explained[i] = variance - float(rest.var())
    letter, both = explained
    return Decomposition(variance, letter, both - letter, variance - both)


def relative_steerability(
    matrix: Float[np.ndarray, "settings settings"],
) -> Float[np.ndarray, "settings settings"]:
    """s(v_A, D_B) / |s(v_B, D_B)| with D_B in the rows and v_A in the columns; NaN in rows with
    s(v_B, D_B) <= MIN_SELF_STEERABILITY, as in the paper's code."""
    self_steerability = np.diag(matrix).astype(float)
    divisor = np.where(self_steerability > MIN_SELF_STEERABILITY, self_steerability, np.nan)
    return np.asarray(matrix, float) / divisor[:, None]


def linear_reach(
    propensities: Float[np.ndarray, "rows multipliers"],
    multipliers: Sequence[float],
    slope: Float[np.ndarray, " rows"],
) -> float:
    """The largest |multiplier| up to which the line of the `slope` at zero predicts the change of
    the propensity: there and at all smaller ones the relative root-mean-square error over rows is
    at most LINEARITY_TOLERANCE. 0 where it is at none.

    Raises InputError where the multipliers lack 0.
    """
    x = np.asarray(multipliers, float)
    if 0.0 not in x:
        raise InputError(f"multipliers {tuple(multipliers)}: 0 is needed, to measure changes from")
    m = np.asarray(propensities, float)
    change = m - m[:, np.flatnonzero(x == 0)[:1]]
    error = np.sqrt(np.mean((change - np.asarray(slope)[:, None] * x) ** 2, axis=0))
    size = np.sqrt(np.mean(change**2, axis=0))
    reach = 0.0
    for distance in np.unique(np.abs(x[x != 0])):
        columns = np.abs(x) == distance
        if np.any(error[columns] > LINEARITY_TOLERANCE * size[columns]):
            break
        reach = float(distance)
    return reach
