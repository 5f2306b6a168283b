"""Student's t where values are skewed: Hall's transform of a studentised mean.

Where few vectors carry an effect, the mean of a sample and its standard error rise together, and
Student's t ends too early on that side. Hall's monotone cubic of the studentised mean is nearly
symmetric again.

Source: Hall, "On the removal of skewness by transformation", 1992.
"""

import math

import numpy as np
import scipy
from jaxtyping import Float

LEAST = 5  # values from which skewness is corrected for; below, its estimate is noise


def estimate_skewness(values: Float[np.ndarray, " n"]) -> float:
    """The skewness of values, 0 of fewer than `LEAST` and of values without spread."""
    n = values.size
    spread = float(values.std(ddof=1)) if n > 1 else 0.0
    if n < LEAST or spread == 0:
        return 0.0
    third = float(np.mean((values - values.mean()) ** 3))
    return third * n * n / ((n - 1) * (n - 2)) / spread**3


def find_ends(
    mean: float, error: float, skewness: float, n: int, degrees: float, level: float
) -> tuple[float, float]:
    """The ends of the interval of a mean of `n` values with the standard error `error`."""
    t = float(scipy.stats.t.ppf((1 + level) / 2, degrees))
    low, high = (mean - invert(quantile, skewness, n) * error for quantile in (t, -t))
    return low, high


def transform(t: float, skewness: float, n: int) -> float:
    """Hall's cubic of the studentised mean t of n values."""
    s = skewness / math.sqrt(n)
    return t + s * t * t / 3 + s * s * t**3 / 27 + s / 6


def invert(y: float, skewness: float, n: int) -> float:
    """The studentised mean whose `transform` is y."""
    s = skewness / math.sqrt(n)
    if abs(s) < 1e-6:
        return y
    cubic = 1 + s * (y - s / 6)
    return 3 / s * (math.copysign(abs(cubic) ** (1 / 3), cubic) - 1)
