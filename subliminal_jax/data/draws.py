"""Cheap, reproducible random choices for text generators."""

import bisect
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draws:
    """A stream of random choices from one seed.

    Uniform numbers of a `numpy.random.Generator` are drawn in blocks: a call then costs a tenth of
    a scalar draw, and a document needs about fifty of them. Equal seeds give equal streams.
    """

    def __init__(self, seed: int | Sequence[int]):
        self._rng = np.random.default_rng(seed)
        self._block: list[float] = []

    def uniform(self) -> float:
        """A number in [0, 1)."""
        if not self._block:
            self._block = self._rng.random(4096).tolist()
        return self._block.pop()

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """An integer in low..high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.uniform() * len(options))]

    def weighted(self, options: Sequence[T], cumulative: Sequence[float]) -> T:
        """An option by its weight; `cumulative` are the running sums of weights, ending at 1."""
        return options[min(bisect.bisect_right(cumulative, self.uniform()), len(options) - 1)]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different options, in random order."""
        remaining = list(options)
        return [remaining.pop(int(self.uniform() * len(remaining))) for _ in range(count)]
