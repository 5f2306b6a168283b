"""The p-value that belongs to an interval, and Holm's correction of several.

Results hold intervals at 95%. The p-value of a null is one minus the level at which the interval,
made by the same method, would end at it: it is at most 0.05 exactly where the interval excludes
the null. Of an interval that is clipped to the range of its quantity, it is that of the interval
before.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy

from subliminal_jax.evaluation import hall
from subliminal_jax.evaluation.statistics import Interval

# Methods of which the interval says all that its test needs.
_STUDENT = (
    *("t", "paired t", "two-way t", "Welch t"),
    *("prediction, over controls", "Hall's t over vectors"),
)
_SCALES: dict[str, Callable[[float], float]] = {  # on which the method's interval is symmetric
    "DeLong": lambda x: float(scipy.special.logit(x)),
    "Bonett-Wright": math.atanh,
}


def p_value(interval: Interval, null: float = 0.0) -> float:
    """The two-sided p-value of "the estimated quantity is `null`".

    Of Student's t, with Hall's correction of skewness or without, it is the test's own; of Wilson's
    that of the score test; of others that of a normal estimate on the scale of the method, with
    the standard error that its end towards the null implies. 1 where there is no interval.
    """
    mean, (low, high) = interval.mean, interval.unclipped or (interval.low, interval.high)
    if not np.isfinite([mean, low, high]).all() or mean == null:
        return 1.0
    if interval.method == "Wilson" and 0 < null < 1:
        z = (mean - null) / math.sqrt(null * (1 - null) / interval.n)
        return float(2 * scipy.stats.norm.sf(abs(z)))
    end = low if mean > null else high
    if end == mean:
        return 0.0
    if interval.method in _STUDENT:
        n, skewness = interval.n, interval.skewness
        distribution = scipy.stats.t(interval.degrees or max(n - 1, 1))
        quantile = float(distribution.ppf((1 + interval.level) / 2))
        error = (mean - low) / hall.invert(quantile, skewness, n)
        return float(2 * distribution.sf(abs(hall.transform((mean - null) / error, skewness, n))))
    scale = _SCALES.get(interval.method)
    if scale is not None and all(_is_inside(interval.method, x) for x in (mean, end, null)):
        mean, end, null = scale(mean), scale(end), scale(null)
    quantile = float(scipy.stats.norm.ppf((1 + interval.level) / 2))
    return float(2 * scipy.stats.norm.sf(abs((mean - null) / (mean - end)) * quantile))


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for all: where those of at most 0.05 are taken, one that is wrong is
    among them in at most 5% of cases.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, (len(p_values) - rank) * p_values[i])
        corrected[i] = min(largest, 1.0)
    return corrected


def _is_inside(method: str, x: float) -> bool:
    """Whether the method's scale has a value for x."""
    return 0 < x < 1 if method == "DeLong" else -1 < x < 1
