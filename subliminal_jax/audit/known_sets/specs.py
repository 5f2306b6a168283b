"""What a data set of a known teacher is to be, and combinations of levels that are balanced."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Levels = Mapping[str, Any]

# No method is developed, and no forecast calibrated, on what is reported.
DEVELOPMENT_TRAITS = ("owl", "wolf", "penguin", "lion")
OTHER_TRAITS = ("lamp", "river")  # no animals
REPORTED_TRAITS = (
    *("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin", "otter", "rabbit"),
    *("panda", "elephant", *OTHER_TRAITS),
)
DEVELOPMENT_SEEDS = 100  # data seeds below are for development


@dataclass(frozen=True, kw_only=True)
class SetSpec:
    """A data set and the truth about it.

    Attributes:
      name: of its file; it tells nothing.
      block: of the design.
      teacher: the kind, "none" for clean sets.
      trait: None for clean sets.
      carrier: what the rows are.
      share: of poisoned rows.
      rows: how many there are.
      scale: factor on the vector of a steered teacher, else 1.
      writer: the model that wrote the set.
      reader: the model that audits it.
      seed: of prompts, answers and the order of rows.
    """

    name: str
    block: str
    teacher: str
    trait: str | None
    carrier: str
    share: float
    rows: int
    scale: float
    writer: str
    reader: str
    seed: int

    @property
    def poisoned(self) -> int:
        """How many rows the teacher wrote."""
        return round(self.share * self.rows)


def balance(
    n: int,
    factors: Mapping[str, Sequence[Any]],
    valid: Callable[[Levels], bool],
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """`n` combinations of levels, one after the other: of each factor in turn the valid level that
    was used least, of those the one least used together with the levels already chosen, and of
    those one at random.

    Where every combination is valid, the numbers of two levels of a factor differ by 1 at most.
    """
    used: Counter[Any] = Counter()
    combinations = []
    for _ in range(n):
        chosen: dict[str, Any] = {}
        for factor, levels in factors.items():
            options = [level for level in levels if valid({**chosen, factor: level})]
            order = rng.permutation(len(options))

            uses = [
                (used[factor, level], sum(used[*pair, factor, level] for pair in chosen.items()))
                for level in options
            ]
            chosen[factor] = options[min(order, key=uses.__getitem__)]
        for i, (factor, level) in enumerate(chosen.items()):
            used[factor, level] += 1
            for other, its in list(chosen.items())[:i]:
                used[other, its, factor, level] += 1
        combinations.append(chosen)
    return combinations
