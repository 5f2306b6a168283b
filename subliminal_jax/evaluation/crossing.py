"""How much of something (training rows, say) a measure needs to reach a level."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import Interval, mean_interval


@dataclass(frozen=True)
class Crossing:
    """The x at which curves of several seeds first reach `level`.

    Attributes:
      values: `first_crossing` of each seed; None for a seed that never reaches the level.
      interval: their geometric mean with its 95% t interval (of the logarithms); None where a
        crossing lies outside of the measured x.
      bound: where it then lies: "at most" `edge` (every seed begins at the level), "more than"
        `edge` (no seed reaches it), or "open" (some do, some do not).
      edge: the first or the last measured x.
    """

    level: float
    values: tuple[float | None, ...]
    interval: Interval | None = None
    bound: Literal["at most", "more than", "open"] | None = None
    edge: float | None = None


def first_crossing(x: Sequence[float], y: Sequence[float], level: float) -> float:
    """The x at which y first reaches `level`, interpolated linearly in log x.

    It is x[0] where y begins at the level or above (the true one may be smaller), and infinite
    where y never reaches it. Raises InputError unless `x` is positive and ascending, one for each
    y.
    """
    if len(x) != len(y) or not x or min(x) <= 0 or any(a >= b for a, b in pairwise(x)):
        raise InputError(f"crossing needs positive ascending x, one for each y; got {list(x)}")
    if y[0] >= level:
        return float(x[0])
    for i in range(1, len(x)):
        if y[i] >= level:
            part = (level - y[i - 1]) / (y[i] - y[i - 1])
            return float(x[i - 1] * (x[i] / x[i - 1]) ** part)
    return math.inf


def find_crossing(
    x: Sequence[float], curves: Float[np.ndarray, "seeds points"], level: float
) -> Crossing:
    """Where the curves of several seeds first reach `level`; raises InputError as `first_crossing`
    does."""
    crossings = [first_crossing(x, curve, level) for curve in curves.tolist()]
    values = tuple(None if math.isinf(value) else value for value in crossings)
    if all(value == x[0] for value in crossings):
        return Crossing(level, values, bound="at most", edge=float(x[0]))
    if all(math.isinf(value) for value in crossings):
        return Crossing(level, values, bound="more than", edge=float(x[-1]))
    if any(math.isinf(value) or value == x[0] for value in crossings):
        return Crossing(level, values, bound="open")
    logs = mean_interval([math.log(value) for value in crossings])
    mean, low, high = (math.exp(end) for end in (logs.mean, logs.low, logs.high))
    return Crossing(level, values, Interval(mean, low, high, logs.n, logs.level, "t of log"))
