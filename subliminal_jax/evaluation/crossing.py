"""How much is needed of something (rows, say) until a measure reaches a level."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import mean_interval


def first_crossing(x: Sequence[float], y: Sequence[float], level: float) -> float:
    """The x at which y first reaches `level`, interpolated linearly in log x.

    `x` is positive and ascends. It is x[0] where y begins at the level or above (the true one may
    be smaller), and infinite where y never reaches it.
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


def needed(
    x: Sequence[float], curves: Float[np.ndarray, "seeds points"], level: float
) -> dict[str, Any]:
    """`first_crossing` of each seed's curve and their geometric mean with its 95% t interval.

    `interval` is None where a crossing lies outside of x; `bound` then says where: "at most" the
    first x (every seed begins at the level), "more than" the last (no seed reaches it), both with
    `edge` that x, or "open" (some do, some do not).
    """
    values = [first_crossing(x, curve, level) for curve in curves.tolist()]
    out: dict[str, Any] = {
        "level": level,
        "values": [None if math.isinf(v) else v for v in values],
        "interval": None,
        "bound": None,
        "edge": None,
    }
    if all(v == x[0] for v in values):
        return {**out, "bound": "at most", "edge": x[0]}
    if all(math.isinf(v) for v in values):
        return {**out, "bound": "more than", "edge": x[-1]}
    if any(math.isinf(v) or v == x[0] for v in values):
        return {**out, "bound": "open"}
    logs = mean_interval([math.log(v) for v in values])
    ends = {key: math.exp(getattr(logs, key)) for key in ("mean", "low", "high")}
    return {**out, "interval": {**ends, "n": logs.n, "level": logs.level, "method": "t of log"}}
