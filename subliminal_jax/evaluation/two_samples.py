"""The difference of two independent samples, such as the students of two runs."""

import math
from collections.abc import Sequence

import numpy as np
import scipy

from subliminal_jax.evaluation.statistics import Interval


def difference_interval(
    first: Sequence[float], second: Sequence[float], level: float = 0.95
) -> Interval:
    """mean(first) - mean(second) of independent samples of any variances, with Welch's t interval.

    `n` counts both samples. With fewer than two values in one of them the ends are NaN.

    Source: Welch, "The generalization of Student's problem when several different population
    variances are involved", 1947.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    n = a.size + b.size
    difference = float(a.mean() - b.mean()) if a.size and b.size else math.nan
    low = high = math.nan
    degrees = None
    if min(a.size, b.size) >= 2:
        variances = a.var(ddof=1) / a.size, b.var(ddof=1) / b.size
        error = math.sqrt(sum(variances))
        low = high = difference
        if error:
            parts = (v**2 / (x.size - 1) for v, x in zip(variances, (a, b), strict=True))
            degrees = error**4 / sum(parts)
            half = float(scipy.stats.t.ppf((1 + level) / 2, degrees)) * error
            low, high = difference - half, difference + half
    return Interval(difference, low, high, n, level, "Welch t", degrees=degrees)
