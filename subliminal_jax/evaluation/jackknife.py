"""An interval for a statistic of points that come in groups, such as the students of a trait."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

from subliminal_jax.evaluation.metric_ranges import COSINE, MetricRange
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import Interval

P = TypeVar("P")


def jackknife(
    points: Sequence[P],
    group_of: Callable[[P], Hashable],
    statistic: Callable[[Sequence[P]], float],
    least: int,
    within: MetricRange = COSINE,
) -> Interval | None:
    """A statistic of all points, with an interval over groups: all points of a group are left out
    at once.

    The pseudo-values n s - (n - 1) s without group i are centred on s and taken as one value a
    group (Tukey 1958). For a rank correlation of normal traits and seven rules, 87 to 95% of such
    intervals over 8 traits hold a correlation of 0 to 0.9, and 93 to 95% of those over 16 (150
    draws each). None of fewer than `least` groups, and where the statistic is not defined with a
    group left out.

    Args:
      within: the statistic's range.
    """
    groups = list(dict.fromkeys(map(group_of, points)))
    n, whole = len(groups), statistic(points)
    without = np.array([statistic([p for p in points if group_of(p) != g]) for g in groups])
    if n < least or not np.isfinite([whole, *without]).all():
        return None
    pseudo = n * whole - (n - 1) * without
    return within.clip(vector_interval(pseudo - pseudo.mean() + whole))
