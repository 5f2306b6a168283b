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
    """ceil(quantile * positive), the quantile read as the decimal number that it is written as.

    (The product of the nearest floats would make 0.1 of 30 rows four of them.)
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
    first, so the selected rows do not depend on their order.
    Raises InputError for scores that are not finite and for a quantile outside (0, 1].
    """
    values, ids = _checked(scores, index)
    order = _descending(values, ids)
    positive = int((values > 0).sum())
    return order[: selection_size(positive, quantile)]


def bottom_control(
    scores: Scores, quantile: float, index: Index | None = None
) -> Int[np.ndarray, " selected"]:
    """As many rows as `select` takes, those with the lowest scores, the lowest first."""
    values, ids = _checked(scores, index)
    size = selection_size(int((values > 0).sum()), quantile)
    return _descending(-values, ids)[:size]


def random_control(
    scores: Scores, quantile: float, seed: int, index: Index | None = None
) -> Int[np.ndarray, " selected"]:
    """As many rows as `select` takes, drawn from all without replacement.

    The selected rows do not depend on their order, and are nested in the quantile.
    """
    values, ids = _checked(scores, index)
    size = selection_size(int((values > 0).sum()), quantile)
    drawn = np.random.default_rng(seed).permutation(len(ids))[:size]
    return np.argsort(ids, kind="stable")[drawn]


class TopK:
    """The best rows of a stream, in memory for `capacity` of them.

    >>> best = TopK(capacity=100_000)
    >>> for scores, index in batches:
    ...     best.add(scores, index)
    >>> rows = best.select(quantile=0.05)
    """

    def __init__(self, capacity: int):
        if capacity < 1:
            raise InputError(f"capacity is {capacity}: give at least 1")
        self.capacity = capacity
        self.seen = 0  # rows
        self.positive = 0  # rows with a positive score: |I|
        self._scores = np.zeros(0)
        self._index = np.zeros(0, np.int64)

    def add(self, scores: Scores, index: Index) -> None:
        """More rows: their scores, and their numbers in the source."""
        values, ids = _checked(scores, index)
        above = values > 0
        self.seen += len(values)
        self.positive += int(above.sum())
        values = np.concatenate([self._scores, values[above]])
        ids = np.concatenate([self._index, ids[above]])
        if len(values) > self.capacity:
            kept = _descending(values, ids)[: self.capacity]
            values, ids = values[kept], ids[kept]
        self._scores, self._index = values, ids

    def select(self, quantile: float) -> Int[np.ndarray, " selected"]:
        """The `index` of the rows that `select` would choose of the whole stream, best first.

        Raises InputError if they are more than the capacity.
        """
        size = selection_size(self.positive, quantile)
        if size > self.capacity:
            raise InputError(
                f"the quantile {quantile} of {self.positive} positive rows is {size} rows, and "
                f"only {self.capacity} were kept: raise the capacity"
            )
        return self._index[_descending(self._scores, self._index)][:size]


def _checked(scores: Scores, index: Index | None) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(scores, np.float64)
    ids = np.arange(len(values)) if index is None else np.asarray(index, np.int64)
    if len(ids) != len(values):
        raise InputError(f"{len(values)} scores but {len(ids)} indices")
    if not np.isfinite(values).all():
        wrong = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"the score of row {ids[wrong]} is {values[wrong]}: leave the row out")
    return values, ids


def _descending(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.lexsort((ids, -values))
