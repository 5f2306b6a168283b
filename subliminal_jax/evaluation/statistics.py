"""Intervals and tests for small numbers of seeds, for rates and for paired arms.

What is not a number is never dropped silently. Every function takes `nan_policy`: "raise" (the
default) treats one as bad input; "omit" leaves it out, and `Interval.n` says what remained. A
student that diverged has no number: leaving it out answers "how do those that trained differ?",
which is another question than "how do all differ?". So omitting is for the caller to choose.

Where the data admit no interval (one seed, say) its ends are NaN, written to JSON as null.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import optimize, special, stats

from subliminal_jax.errors import InputError

NanPolicy = Literal["raise", "omit"]
Values = Float[np.ndarray, " _"] | Sequence[float | int | None]


@dataclass(frozen=True)
class Interval:
    """An estimate from `n` values with its two-sided interval [low, high] at `level`.

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
        return replace(self, mean=self.mean - constant, low=low, high=high)

    def __mul__(self, factor: float) -> "Interval":
        """The interval of `factor` times the estimated quantity."""
        low, high = sorted((factor * self.low, factor * self.high))
        return replace(self, mean=factor * self.mean, low=low, high=high)

    __rmul__ = __mul__

    def __neg__(self) -> "Interval":
        return self * -1.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def mean_interval(
    values: Values, level: float = 0.95, *, nan_policy: NanPolicy = "raise"
) -> Interval:
    """Mean of independent values, over seeds say, with Student's t interval.

    With one value the ends are NaN; with none the mean is NaN too.
    """
    x = _clean(values, nan_policy)
    mean, low, high = _t_interval(x, _checked(level))
    return Interval(mean, low, high, x.size, level, "t")


def bootstrap_interval(
    values: Values,
    statistic: Callable[..., Any] = np.mean,
    level: float = 0.95,
    *,
    resamples: int = 9999,
    seed: int = 0,
    nan_policy: NanPolicy = "raise",
) -> Interval:
    """A statistic of independent values with its bias-corrected, accelerated bootstrap interval.

    With few values (under 10, say) it is too narrow: prefer `mean_interval` for a mean over seeds.

    Args:
      statistic: from an array to numbers along the keyword argument `axis`.

    Source: Efron, "Better bootstrap confidence intervals", 1987.
    """
    x = _clean(values, nan_policy)
    _checked(level)
    estimate = float(statistic(x, axis=0)) if x.size else math.nan
    if x.size < 2:
        return Interval(estimate, math.nan, math.nan, x.size, level, "bootstrap BCa")
    if np.ptp(x) == 0:  # each resample is the sample: BCa would divide by zero
        return Interval(estimate, estimate, estimate, x.size, level, "bootstrap BCa")
    low, high = stats.bootstrap(
        (x,),
        statistic,
        confidence_level=level,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(estimate, float(low), float(high), x.size, level, "bootstrap BCa")


def rate_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """A rate with Wilson's score interval; right also at rates of 0 and 1.

    It holds for independent trials. Answers to the same question, or of the same student, are not:
    use `hierarchical_bootstrap` over seeds and questions.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    _checked(level)
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes in {n} trials: give 0 <= successes <= trials")
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, level, "Wilson")
    ends = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    return Interval(successes / n, float(ends.low), float(ends.high), n, level, "Wilson")


def paired_difference(
    treated: Values,
    control: Values,
    level: float = 0.95,
    *,
    resamples: int = 9999,
    seed: int = 0,
    nan_policy: NanPolicy = "raise",
) -> PairedDifference:
    """Treated minus control over pairs that share a seed.

    The interval is Student's t on the differences. `p_t` tests their mean against 0 by the same t;
    `p_permutation` by flipping signs, which assumes only that a difference is as likely as its
    negative: over all 2^n flips if these are at most `resamples`, else over a sample of them.
    With n pairs it cannot be smaller than 2^(1-n): 3 seeds never give less than 0.25.

    With "omit", a pair is left out when either side is NaN.
    """
    a, b = np.asarray(treated, float), np.asarray(control, float)
    if a.shape != b.shape:
        raise InputError(f"{a.size} treated and {b.size} control values cannot be paired")
    d = _clean(a - b, nan_policy)
    mean, low, high = _t_interval(d, _checked(level))
    interval = Interval(mean, low, high, d.size, level, "paired t")
    if d.size < 2:
        return PairedDifference(interval, math.nan, math.nan)
    spread = d.std(ddof=1)
    if spread == 0:
        p_t = 1.0 if mean == 0 else 0.0
    else:
        p_t = float(2 * stats.t.sf(abs(mean) / (spread / math.sqrt(d.size)), d.size - 1))
    permutation = stats.permutation_test(
        (d,),
        np.mean,
        permutation_type="samples",
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    return PairedDifference(interval, p_t, float(permutation.pvalue))


def crossed_interval(
    values: Float[np.ndarray, "rows columns"],
    level: float = 0.95,
    *,
    nan_policy: NanPolicy = "raise",
) -> Interval:
    """Mean of a table whose rows and columns are both drawn (seeds and traits), with a t interval.

    Two-way random effects, one value a cell: the variance of the mean is estimated by (MSR + MSC -
    MSE) / (rows columns), or by MSR or MSC alone where that is more, with Satterthwaite's degrees
    of freedom. Where one axis does all the varying it is Student's t over that axis. Unlike a
    crossed bootstrap, which with 3 seeds covers 71% to 90% in place of 95%, it holds for few rows
    and columns (93% to 99% over the layouts in tests/evaluation/test_crossed_interval.py).

    Args:
      values: for a paired comparison the differences, treated - control. With "omit", a row with
        any NaN is left out whole.

    Returns:
      The interval; its `n` is the number of rows. An axis of one is held fixed: the interval is
      Student's t over the other, and says nothing of another trait (or seed); with one value in
      all the ends are NaN.

    Source: Searle, Casella and McCulloch, "Variance Components", 1992, chapter 4; Satterthwaite,
    "An approximate distribution of estimates of variance components", 1946.
    """
    _checked(level)
    x = _whole_rows(values, nan_policy, "rows")
    r, c = x.shape
    mean = float(x.mean()) if x.size else math.nan
    if min(r, c) < 2:
        _, low, high = _t_interval(x.ravel(), level)
        return Interval(mean, low, high, r, level, "t")
    rows, columns = x.mean(axis=1), x.mean(axis=0)
    rest = x - rows[:, None] - columns[None] + mean
    degrees = np.array([r - 1, c - 1, (r - 1) * (c - 1)])
    sums = np.array([c * ((rows - mean) ** 2).sum(), r * ((columns - mean) ** 2).sum(),
                     (rest**2).sum()])  # fmt: skip
    of_rows, of_columns, of_rest = squares = sums / degrees
    variance = max(of_rows + of_columns - of_rest, of_rows, of_columns)
    if variance == 0:
        return Interval(mean, mean, mean, r, level, "two-way t")
    free = variance**2 / float((squares**2 / degrees).sum())
    free = min(max(free, min(r, c) - 1), x.size - 1)
    half = float(stats.t.ppf((1 + level) / 2, free)) * math.sqrt(variance / x.size)
    return Interval(mean, mean - half, mean + half, r, level, "two-way t")


def hierarchical_bootstrap(
    values: Float[np.ndarray, "seeds questions"],
    level: float = 0.95,
    *,
    design: Literal["crossed", "nested"] = "crossed",
    resamples: int = 9999,
    seed: int = 0,
    nan_policy: NanPolicy = "raise",
) -> Interval:
    """Mean over seeds and questions, with a percentile interval that resamples both.

    "crossed": every seed answered the same questions, so a resample draws seeds and, once for all
    of them, questions. "nested": each seed had questions of its own, drawn anew for each. Treating
    the first as the second makes the interval too narrow. For a paired comparison give the
    differences, treated - control. With few seeds the interval is too narrow (a bootstrap over n
    values has a variance (n - 1) / n of the right one, and no heavier tails): `crossed_interval`
    is for those.

    Args:
      values: a number for each seed and question, such as the share of answers with the trait.
        With "omit", a seed with any NaN is left out whole.

    Returns:
      The interval; its `n` is the number of seeds.

    Source: Owen, "The pigeonhole bootstrap", 2007 (crossed); Davison and Hinkley, "Bootstrap
    Methods and their Application", 1997, section 3.8 (nested).
    """
    _checked(level)
    x = _whole_rows(values, nan_policy, "seeds")
    s, q = x.shape
    method = f"{design} bootstrap"
    if x.size == 0:
        return Interval(math.nan, math.nan, math.nan, s, level, method)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for i in range(resamples):
        seeds = rng.integers(s, size=(s,))
        if design == "crossed":
            means[i] = x[np.ix_(seeds, rng.integers(q, size=q))].mean()
        else:
            means[i] = x[seeds.reshape(-1, 1), rng.integers(q, size=(s, q))].mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(x.mean()), float(low), float(high), s, level, method)


def auc_interval(
    positive: Values, negative: Values, level: float = 0.95, *, nan_policy: NanPolicy = "raise"
) -> Interval:
    """Area under the ROC curve: the chance that a positive scores above a negative; ties are half.

    The interval is DeLong's, symmetric in the logit and so inside [0, 1]. Where the two sets do not
    overlap, or the estimated variance is zero otherwise, DeLong's has no width; there it is
    Newcombe's score interval (method 5), and `method` says so. `n` counts both sets.

    Source: DeLong, DeLong and Clarke-Pearson, 1988; Newcombe, "Confidence intervals for an effect
    size measure based on the Mann-Whitney statistic. Part 2", 2006.
    """
    _checked(level)
    x, y = _clean(positive, nan_policy), _clean(negative, nan_policy)
    m, n = x.size, y.size
    if m == 0 or n == 0:
        return Interval(math.nan, math.nan, math.nan, m + n, level, "DeLong")
    # The share of negatives below each positive, and of positives above each negative, from ranks.
    both = stats.rankdata(np.concatenate([x, y]))
    above = (both[:m] - stats.rankdata(x)) / n
    below = 1 - (both[m:] - stats.rankdata(y)) / m
    auc = float(above.mean())
    z = float(stats.norm.ppf((1 + level) / 2))
    variance = above.var(ddof=1) / m + below.var(ddof=1) / n if min(m, n) > 1 else 0.0
    if variance == 0 or auc in (0.0, 1.0):
        low, high = _newcombe_auc(auc, m, n, z)
        return Interval(auc, low, high, m + n, level, "Newcombe")
    half = z * math.sqrt(variance) / (auc * (1 - auc))
    low, high = special.expit(special.logit(auc) + np.array([-half, half]))
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
    _checked(level)
    a, b = np.asarray(x, float), np.asarray(y, float)
    if a.shape != b.shape:
        raise InputError(f"{a.size} and {b.size} values cannot be paired")
    n = _clean(a + b, nan_policy).size
    kept = ~np.isnan(a + b)
    a, b = a[kept], b[kept]
    if n < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Interval(math.nan, math.nan, math.nan, n, level, "Bonett-Wright")
    r = float(stats.spearmanr(a, b).statistic)
    if n < 5:
        return Interval(r, math.nan, math.nan, n, level, "Bonett-Wright")
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt((1 + r * r / 2) / (n - 3))
    next_to_one = 1 - 12 / (n * (n * n - 1))  # at 1 the scale is infinite
    at = math.atanh(min(max(r, -next_to_one), next_to_one))
    low, high = np.tanh(at + np.array([-half, half]))
    return Interval(r, min(float(low), r), max(float(high), r), n, level, "Bonett-Wright")


def _newcombe_auc(auc: float, m: int, n: int, z: float) -> tuple[float, float]:
    k = (m + n) / 2 - 1

    def excess(a: float) -> float:
        variance = a * (1 - a) * (1 + k * (1 - a) / (2 - a) + k * a / (1 + a)) / (m * n)
        return (auc - a) ** 2 - z * z * variance

    edge = 1e-12  # at an auc of 0 or 1 that value is a root too, and not the one sought
    low = 0.0 if auc == 0 else float(optimize.brentq(excess, edge, min(auc, 1 - edge)))
    high = 1.0 if auc == 1 else float(optimize.brentq(excess, max(auc, edge), 1 - edge))
    return low, high


def _t_interval(x: Float[np.ndarray, " n"], level: float) -> tuple[float, float, float]:
    if x.size == 0:
        return math.nan, math.nan, math.nan
    mean = float(x.mean())
    if x.size == 1:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf((1 + level) / 2, x.size - 1) * x.std(ddof=1) / math.sqrt(x.size))
    return mean, mean - half, mean + half


def _clean(values: Values, nan_policy: NanPolicy) -> Float[np.ndarray, " n"]:
    x = np.asarray(values, float)  # None, as JSON writes it, becomes NaN
    missing = np.isnan(x)
    if nan_policy == "raise" and missing.any():
        raise InputError(
            f"{int(missing.sum())} of {x.size} values are NaN (the first at index "
            f"{int(np.flatnonzero(missing)[0])}); leave them out with nan_policy='omit' if those "
            "that remain answer your question"
        )
    return x[~missing]


def _whole_rows(
    values: Float[np.ndarray, "rows columns"], nan_policy: NanPolicy, name: str
) -> Float[np.ndarray, "whole columns"]:
    broken = np.isnan(values).any(axis=1)
    if nan_policy == "raise" and broken.any():
        raise InputError(f"NaN in the values of {name} {np.flatnonzero(broken).tolist()}")
    return values[~broken]


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"level is {level}; give a share between 0 and 1, such as 0.95")
    return level
