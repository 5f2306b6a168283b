"""Shares: of students or data sets that do something, or of what each of them does.

The unit is the student, the trait or the data set, never one of its answers: those of one unit are
not independent of each other.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.metric_ranges import SHARE
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import Interval, rate_interval


def share_interval(
    shares: Float[np.ndarray, " units"] | Sequence[float], level: float = 0.95
) -> Interval:
    """The mean of one share a unit, such as of the answers of each student.

    Where all are 0, or all are 1, it is Wilson's interval of as many units: no spread among few
    does not show that there is none. Otherwise it is that of `vector_interval`, within [0, 1].

    Raises InputError as `vector_interval` does.
    """
    x = np.asarray(shares, float)
    if x.size and (np.all(x == 0) or np.all(x == 1)):
        return rate_interval(int(x.sum()), x.size, level)
    return SHARE.clip(vector_interval(x, level))
