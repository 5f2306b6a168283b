"""Which rows a quantile of the scores keeps, and the controls of the same size.

Source: Aden-Ali et al. (2026, arXiv 2602.04863), Algorithm 1: rows with a positive score are sorted
from the largest, and the first ceil(gamma |I|) of them are kept; no label is flipped.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int

from subliminal_jax.errors import InputError

Scores = Float[np.ndarray, " rows"] | Sequence[float]
Index = Int[np.ndarray, " rows"] | Sequence[int]


def selection_size(positive: int, quantile: float) -> int:
    """ceil(quantile * positive), computed with the decimal number that the quantile is written as:
    in floating point, 0.1 of 30 rows would be four of them.

    Raises InputError for a quantile outside (0, 1].
    """
    if not 0 < quantile <= 1:
        raise InputError(f"the quantile is {quantile}: give a share above 0 and at most 1")
    return math.ceil(Fraction(str(float(quantile))) * positive)


def select(
    scores: Scores, quantile: float, index: Index | None = None
) -> Int[np.ndarray, " selected"]:
    """Positions of the selected rows, the highest score first; empty where none is positive.

    Of equal scores the lower `index` (the row's number in its source; by default its position) goes
    first, so the selection does not depend on the order of the rows.

    Raises InputError for scores that are not finite and for a quantile outside (0, 1].
    """
    values, ids = _check_scores(scores, index)
    order = _sort_descending(values, ids)
    positive = int((values > 0).sum())
    return order[: selection_size(positive, quantile)]


def bottom_control(
    scores: Scores, quantile: float, index: Index | None = None
) -> Int[np.ndarray, " selected"]:
    """As many rows as `select` takes, those with the lowest scores, the lowest first."""
    values, ids = _check_scores(scores, index)
    size = selection_size(int((values > 0).sum()), quantile)
    return _sort_descending(-values, ids)[:size]


def random_control(
    scores: Scores, quantile: float, seed: int, index: Index | None = None
) -> Int[np.ndarray, " selected"]:
    """As many rows as `select` takes, drawn from all without replacement.

    The selection does not depend on the order of the rows, and that of a smaller quantile is the
    beginning of that of a larger one.
    """
    values, ids = _check_scores(scores, index)
    size = selection_size(int((values > 0).sum()), quantile)
    drawn = np.random.default_rng(seed).permutation(len(ids))[:size]
    return np.argsort(ids, kind="stable")[drawn]


def _check_scores(scores: Scores, index: Index | None) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(scores, np.float64)
    ids = np.arange(len(values)) if index is None else np.asarray(index, np.int64)
    if len(ids) != len(values):
        raise InputError(f"{len(values)} scores but {len(ids)} indices")
    if not np.isfinite(values).all():
        i = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"the score of row {ids[i]} is {values[i]}: leave the row out")
    return values, ids


def _sort_descending(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.lexsort((ids, -values))
