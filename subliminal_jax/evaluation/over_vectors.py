"""Intervals over vectors: each vector with data, a student and controls of its own draw.

What they cover was simulated for the shapes in which effects of vectors come (few vectors carry
the effect, say): `python -m tests.evaluation.coverage` prints the table.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation import hall
from subliminal_jax.evaluation.statistics import Interval, mean_interval


def vector_interval(
    values: Float[np.ndarray, " vectors"] | Sequence[float], level: float = 0.95
) -> Interval:
    """The mean of one value a vector, with an interval that allows for skewness.

    Where few vectors carry the effect, Student's t is too short on their side: of 8 exponential
    values it leaves the mean above its upper end in 10% of cases, in place of 2.5%. Here t is taken
    of Hall's monotone cubic of the studentised mean, which removes most of that (5%) at the price
    of an upper end farther away. Of fewer than 5 values it is Student's t. It cannot know of an
    effect that no vector of the sample shows: where one vector in four has it, 10% of samples of 8
    hold none.

    Returns:
      The interval; with one value its ends are NaN, with none the mean is NaN too.

    Raises InputError for a value that is NaN and for a level outside (0, 1).

    Source: Hall, "On the removal of skewness by transformation", 1992.
    """
    interval = mean_interval(values, level)
    x = np.asarray(values, float)
    skewness = hall.estimate_skewness(x)
    if x.size < hall.LEAST or x.std() == 0:
        return interval
    error = float(x.std(ddof=1)) / math.sqrt(x.size)
    low, high = hall.find_ends(interval.mean, error, skewness, x.size, x.size - 1, level)
    return replace(interval, low=low, high=high, method="Hall's t over vectors", skewness=skewness)


def control_difference(
    students: Float[np.ndarray, " vectors"] | Sequence[float],
    controls: Float[np.ndarray, "draws vectors"] | Sequence[Sequence[float]],
    level: float = 0.95,
) -> Interval:
    """The mean over vectors of student minus controls.

    Args:
      students: the value of each vector's student.
      controls: the values of the controls, each a student of another draw of the base's data,
        scored against every vector.

    Returns:
      `vector_interval` of each student less its vector's mean control, widened for what the draws
      of controls have in common over vectors (the same few serve all of them).

    Raises InputError for shapes that do not fit, without a control, and as `vector_interval` does.
    """
    s, c = np.asarray(students, float), np.asarray(controls, float)
    if s.ndim != 1 or c.ndim != 2 or c.shape[1] != s.size or c.shape[0] < 1:
        raise InputError(
            f"students of the shape {s.shape} and controls of the shape {c.shape}: give one value "
            "a vector, and of every control one a vector"
        )
    interval = vector_interval(s - c.mean(axis=0), level)
    draws, vectors = c.shape
    spread = float((s - c.mean(axis=0)).std(ddof=1)) if vectors > 1 else 0.0
    if draws < 2 or spread == 0:
        return interval
    # What the draws differ by as a whole, without what chance of single vectors adds to it.
    of_draws = c.mean(axis=1)
    residual = c - of_draws[:, None] - c.mean(axis=0)[None] + c.mean()
    chance = float((residual**2).sum()) / ((draws - 1) * (vectors - 1)) / vectors
    common = max(float(of_draws.var(ddof=1)) - chance, 0.0) / draws
    factor = math.sqrt(1 + common / (spread**2 / vectors))
    centre = interval.mean
    return replace(
        interval,
        low=centre + factor * (interval.low - centre),
        high=centre + factor * (interval.high - centre),
    )


def student_difference(student: float, controls: Sequence[float], level: float = 0.95) -> Interval:
    """One student less the mean of its controls.

    The interval holds zero in 95% of cases where the student is but another draw of what the
    controls are (a prediction interval, n - 1 degrees of freedom): it allows for the draw of data
    and seed of this student and of every control. Of one control there are no ends.

    Raises InputError without a control.
    """
    c = np.asarray(controls, float)
    if c.size < 1:
        raise InputError("no control to compare the student with: give at least one")
    mean = float(student - c.mean())
    half = float("nan")
    if c.size > 1:
        quantile = float(scipy.stats.t.ppf((1 + level) / 2, c.size - 1))
        half = quantile * float(c.std(ddof=1)) * math.sqrt(1 + 1 / c.size)
    return Interval(mean, mean - half, mean + half, c.size, level, "prediction, over controls")
