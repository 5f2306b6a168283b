"""Intervals and tests for small numbers of seeds, for rates and for paired arms.

NaN is never dropped silently. `nan_policy` "raise" (the default) raises InputError for one; "omit"
leaves it out, and `Interval.n` counts what remains. A diverged student has NaN: omitting it
estimates a mean over the students that trained, not over all, so the caller decides.

Where the data admit no interval (one seed, say) its ends are NaN, written to JSON as null.

Every function raises InputError for a `level` outside (0, 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import scipy
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation import hall
from subliminal_jax.serialization import LEFT_OUT

NanPolicy = Literal["raise", "omit"]
RESAMPLES = 9999  # of bootstraps and permutation tests; their random seed is 0

Values = Float[np.ndarray, " _"] | Sequence[float | int | None]


@dataclass(frozen=True)
class Interval:
    """An estimate from `n` values with its two-sided interval [low, high] at `level`.

    `skewness` is that of the values, where the method allows for it; else 0. `degrees` are the
    degrees of freedom of a t interval, where they are not n - 1. `unclipped` are the ends that the
    method gave, where [low, high] is cut to the range of the quantity (`metric_ranges`).

    Written as in `f"{interval:+.2f}"`, "+0.50 [0.41, 0.59]": the format is the mean's, and without
    its sign the ends'. Ends that are NaN are written as "none"; where the mean is NaN, the whole is
    "undefined".
    """

    mean: float
    low: float
    high: float
    n: int
    level: float
    method: str
    skewness: float = 0.0
    degrees: float | None = None
    unclipped: tuple[float, float] | None = field(default=None, metadata=LEFT_OUT)

    @property
    def excludes_zero(self) -> bool:
        """Whether both ends lie on the same side of zero."""
        return self.low > 0 or self.high < 0

    @property
    def ends(self) -> str:
        """Its ends with two digits, as in "[0.41, 0.59]"."""
        return self.format_ends(".2f")

    def format_ends(self, spec: str) -> str:
        """Its ends in brackets, each in the format `spec`; "none" for one that is NaN."""
        low, high = (
            "none" if math.isnan(x) else _format_number(x, spec) for x in (self.low, self.high)
        )
        return f"[{low}, {high}]"

    def __format__(self, spec: str) -> str:
        if math.isnan(self.mean):
            return "undefined"
        return f"{_format_number(self.mean, spec)} {self.format_ends(spec.removeprefix('+'))}"

    def __sub__(self, constant: float) -> "Interval":
        """The interval of the estimated quantity minus a constant, such as its value by chance."""
        low, high = self.low - constant, self.high - constant
        ends = self.unclipped and (self.unclipped[0] - constant, self.unclipped[1] - constant)
        return replace(self, mean=self.mean - constant, low=low, high=high, unclipped=ends)

    def __mul__(self, factor: float) -> "Interval":
        """The interval of `factor` times the estimated quantity."""
        low, high = sorted((factor * self.low, factor * self.high))
        skewness = self.skewness if factor > 0 else -self.skewness
        mean, ends = factor * self.mean, None
        if self.unclipped is not None:
            first, second = sorted(factor * end for end in self.unclipped)
            ends = first, second
        return replace(self, mean=mean, low=low, high=high, skewness=skewness, unclipped=ends)

    __rmul__ = __mul__

    def __neg__(self) -> "Interval":
        return self * -1.0


def _format_number(x: float, spec: str) -> str:
    """`x` in the format `spec`; what rounds to zero has no minus sign."""
    sign = spec[:1] if spec[:1] in ("+", "-", " ") else ""
    return format(x, f"{sign}z{spec.removeprefix(sign)}") if spec else str(x)


@dataclass(frozen=True)
class PairedDifference:
    """Mean of treated - control over pairs, with two tests of "no difference"."""

    interval: Interval
    p_t: float
    p_permutation: float


def mean_interval(
    values: Values, level: float = 0.95, *, nan_policy: NanPolicy = "raise"
) -> Interval:
    """Mean of independent values, over seeds say, with Student's t interval.

    With one value the ends are NaN; with none the mean is NaN too.
    """
    x = _clean(values, nan_policy)
    mean, low, high = _t_interval(x, _check_level(level))
    return Interval(mean, low, high, x.size, level, "t")


def bootstrap_interval(
    values: Values,
    level: float = 0.95,
    *,
    resamples: int = RESAMPLES,
    nan_policy: NanPolicy = "raise",
) -> Interval:
    """Mean of independent values with the bias-corrected, accelerated bootstrap interval.

    With few values (under 10, say) it is too narrow: prefer `mean_interval` for a mean over seeds.

    Source: Efron, "Better bootstrap confidence intervals", 1987.
    """
    x = _clean(values, nan_policy)
    _check_level(level)
    estimate = float(x.mean()) if x.size else math.nan
    if x.size < 2:
        return Interval(estimate, math.nan, math.nan, x.size, level, "bootstrap BCa")
    if np.ptp(x) == 0:  # each resample is the sample: BCa would divide by zero
        return Interval(estimate, estimate, estimate, x.size, level, "bootstrap BCa")
    low, high = scipy.stats.bootstrap(
        (x,),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(estimate, float(low), float(high), x.size, level, "bootstrap BCa")


def rate_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """A rate of independent trials with Wilson's score interval, valid at rates of 0 and 1 too.

    Answers to one question, or of one student, are not independent: use `shares.share_interval`
    over questions or students.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    _check_level(level)
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes in {n} trials: give 0 <= successes <= trials")
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, level, "Wilson")
    ends = scipy.stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(successes / n, float(ends.low), float(ends.high), n, level, "Wilson")


def paired_difference(
    treated: Values,
    control: Values,
    level: float = 0.95,
    *,
    nan_policy: NanPolicy = "raise",
) -> PairedDifference:
    """Mean of treated - control over pairs that share a seed.

    The interval is Student's t on the differences. `p_t` tests their mean against 0 by the same t;
    `p_permutation` by flipping signs, which assumes only that a difference is as likely as its
    negative: over all 2^n flips if these are at most `RESAMPLES`, else over a sample of them.
    With n pairs it cannot be smaller than 2^(1-n): 3 seeds never give less than 0.25.

    With "omit", a pair is left out when either side is NaN.
    """
    a, b = np.asarray(treated, float), np.asarray(control, float)
    if a.shape != b.shape:
        raise InputError(f"{a.size} treated and {b.size} control values cannot be paired")
    d = _clean(a - b, nan_policy)
    mean, low, high = _t_interval(d, _check_level(level))
    interval = Interval(mean, low, high, d.size, level, "paired t")
    if d.size < 2:
        return PairedDifference(interval, math.nan, math.nan)
    spread = d.std(ddof=1)
    if spread == 0:
        p_t = 1.0 if mean == 0 else 0.0
    else:
        p_t = float(2 * scipy.stats.t.sf(abs(mean) / (spread / math.sqrt(d.size)), d.size - 1))
    permutation = scipy.stats.permutation_test(
        (d,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return PairedDifference(interval, p_t, float(permutation.pvalue))


def crossed_interval(
    values: Float[np.ndarray, "seeds vectors"],
    level: float = 0.95,
    *,
    nan_policy: NanPolicy = "raise",
) -> Interval:
    """Mean of a table whose rows and columns are both drawn (seeds, and vectors or traits).

    Two-way random effects, one value a cell: the variance of the mean is estimated by (MSR + MSC -
    MSE) / (rows columns), or by MSR or MSC alone where that is more, with Satterthwaite's degrees
    of freedom; and the ends allow for the skewness of the vectors' means over seeds, as those of
    `over_vectors.vector_interval` do. Where all the variance is along seeds it equals Student's t
    over them, where it is along vectors Hall's over them. What it covers, by shape of the effect,
    is printed by `python -m tests.evaluation.coverage`.

    Args:
      values: for a paired comparison the differences, treated - control. With "omit", a row with
        any NaN is left out whole.

    Returns:
      The interval; its `n` is the number of columns. An axis of length 1 is held fixed: the
      interval is Student's t over the other, and does not generalise to another vector (or seed).
      With a single value the ends are NaN.

    Source: Hall, "On the removal of skewness by transformation", 1992; Searle, Casella and
    McCulloch, "Variance Components", 1992, chapter 4; Satterthwaite, "An approximate distribution
    of estimates of variance components", 1946.
    """
    _check_level(level)
    x = _whole_rows(values, nan_policy, "rows")
    r, c = x.shape
    mean = float(x.mean()) if x.size else math.nan
    if min(r, c) < 2:
        _, low, high = _t_interval(x.ravel(), level)
        return Interval(mean, low, high, x.size, level, "t")
    row_means, column_means = x.mean(axis=1), x.mean(axis=0)
    residuals = x - row_means[:, None] - column_means[None] + mean
    degrees = np.array([r - 1, c - 1, (r - 1) * (c - 1)])
    row_sum, column_sum = ((row_means - mean) ** 2).sum(), ((column_means - mean) ** 2).sum()
    sums = np.array([c * row_sum, r * column_sum, (residuals**2).sum()])
    row_square, column_square, residual_square = mean_squares = sums / degrees
    variance = float(max(row_square + column_square - residual_square, row_square, column_square))
    if variance == 0:
        return Interval(mean, mean, mean, c, level, "two-way t")
    degrees_of_freedom = variance**2 / float((mean_squares**2 / degrees).sum())
    degrees_of_freedom = min(max(degrees_of_freedom, min(r, c) - 1), x.size - 1)
    # What seeds have in common is taken as symmetric, so the whole is less skewed than vectors are.
    skewness = hall.estimate_skewness(column_means) * float(column_square / variance) ** 1.5
    error = math.sqrt(variance / x.size)
    low, high = hall.find_ends(mean, error, skewness, c, degrees_of_freedom, level)
    return Interval(mean, low, high, c, level, "two-way t", skewness, degrees_of_freedom)


def auc_interval(
    positive: Values, negative: Values, level: float = 0.95, *, nan_policy: NanPolicy = "raise"
) -> Interval:
    """Area under the ROC curve: P(a positive scores above a negative), with ties counted as half.

    The interval is DeLong's, symmetric in the logit and so inside [0, 1]. Where the estimated
    variance is zero, as for two sets that do not overlap, it is Newcombe's score interval (method
    5), and `method` says so. `n` counts both sets.

    Source: DeLong, DeLong and Clarke-Pearson, 1988; Newcombe, "Confidence intervals for an effect
    size measure based on the Mann-Whitney statistic. Part 2", 2006.
    """
    _check_level(level)
    x, y = _clean(positive, nan_policy), _clean(negative, nan_policy)
    m, n = x.size, y.size
    if m == 0 or n == 0:
        return Interval(math.nan, math.nan, math.nan, m + n, level, "DeLong")
    # The share of negatives below each positive, and of positives above each negative, from ranks.
    ranks = scipy.stats.rankdata(np.concatenate([x, y]))
    above = (ranks[:m] - scipy.stats.rankdata(x)) / n
    below = 1 - (ranks[m:] - scipy.stats.rankdata(y)) / m
    auc = float(above.mean())
    z = float(scipy.stats.norm.ppf((1 + level) / 2))
    variance = above.var(ddof=1) / m + below.var(ddof=1) / n if min(m, n) > 1 else 0.0
    if variance == 0 or auc in (0.0, 1.0):
        low, high = _newcombe_auc(auc, m, n, z)
        return Interval(auc, low, high, m + n, level, "Newcombe")
    half = z * math.sqrt(variance) / (auc * (1 - auc))
    low, high = scipy.special.expit(scipy.special.logit(auc) + np.array([-half, half]))
    return Interval(auc, float(low), float(high), m + n, level, "DeLong")


def spearman_interval(
    x: Values, y: Values, level: float = 0.95, *, nan_policy: NanPolicy = "raise"
) -> Interval:
    """Spearman's rank correlation of pairs; the interval is on Fisher's scale, with the variance
    (1 + r^2 / 2) / (n - 3).

    A constant side has no correlation (NaN); fewer than 5 pairs have no interval. With "omit", a
    pair is left out when either side is NaN.

    Source: Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and
    Spearman correlations", 2000.
    """
    _check_level(level)
    a, b = np.asarray(x, float), np.asarray(y, float)
    if a.shape != b.shape:
        raise InputError(f"{a.size} and {b.size} values cannot be paired")
    n = _clean(a + b, nan_policy).size
    complete = ~np.isnan(a + b)
    a, b = a[complete], b[complete]
    if n < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Interval(math.nan, math.nan, math.nan, n, level, "Bonett-Wright")
    r = float(scipy.stats.spearmanr(a, b).statistic)
    if n < 5:
        return Interval(r, math.nan, math.nan, n, level, "Bonett-Wright")
    half = float(scipy.stats.norm.ppf((1 + level) / 2)) * math.sqrt((1 + r * r / 2) / (n - 3))
    largest = 1 - 12 / (n * (n * n - 1))  # at 1 the scale is infinite
    fisher_z = math.atanh(min(max(r, -largest), largest))
    low, high = np.tanh(fisher_z + np.array([-half, half]))
    return Interval(r, min(float(low), r), max(float(high), r), n, level, "Bonett-Wright")


def _newcombe_auc(auc: float, m: int, n: int, z: float) -> tuple[float, float]:
    k = (m + n) / 2 - 1

    def excess(a: float) -> float:
        variance = a * (1 - a) * (1 + k * (1 - a) / (2 - a) + k * a / (1 + a)) / (m * n)
        return (auc - a) ** 2 - z * z * variance

    edge = 1e-12  # at an auc of 0 or 1 the auc itself is a second root, to be skipped
    low = 0.0 if auc == 0 else float(scipy.optimize.brentq(excess, edge, min(auc, 1 - edge)))
    high = 1.0 if auc == 1 else float(scipy.optimize.brentq(excess, max(auc, edge), 1 - edge))
    return low, high


def _t_interval(x: Float[np.ndarray, " n"], level: float) -> tuple[float, float, float]:
    if x.size == 0:
        return math.nan, math.nan, math.nan
    mean = float(x.mean())
    if x.size == 1:
        return mean, math.nan, math.nan
    half = float(scipy.stats.t.ppf((1 + level) / 2, x.size - 1) * x.std(ddof=1) / math.sqrt(x.size))
    return mean, mean - half, mean + half


def _clean(values: Values, nan_policy: NanPolicy) -> Float[np.ndarray, " n"]:
    x = np.asarray(values, float)  # None, as JSON writes it, becomes NaN
    missing = np.isnan(x)
    if nan_policy == "raise" and missing.any():
        raise InputError(
            f"{int(missing.sum())} of {x.size} values are NaN (the first at index "
            f"{int(np.flatnonzero(missing)[0])}); nan_policy='omit' leaves them out"
        )
    return x[~missing]


def _whole_rows(
    values: Float[np.ndarray, "rows columns"], nan_policy: NanPolicy, name: str
) -> Float[np.ndarray, "whole columns"]:
    broken = np.isnan(values).any(axis=1)
    if nan_policy == "raise" and broken.any():
        raise InputError(f"NaN in the values of {name} {np.flatnonzero(broken).tolist()}")
    return values[~broken]


def _check_level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"level is {level}; give a share between 0 and 1, such as 0.95")
    return level
