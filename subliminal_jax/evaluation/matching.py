"""Comparing arms at one level of a quantity that training changes, such as the held-out gain.

Finished runs are compared: each was trained with its whole schedule for a number of steps of its
own. Between two of an arm that bracket the level its values are interpolated; where no two bracket
it there is no value, and nothing is ever read beyond the runs there are. Matching describes: the
level is reached by training, so what differs at it need not be what the optimizer does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Row = Mapping[str, float]


@dataclass(frozen=True)
class Bracket:
    """Where a level lies between two runs of a sequence.

    Attributes:
      first: the index of the earlier run; the later one follows it.
      weight: of the later run, 0 to 1.
    """

    first: int
    weight: float

    def interpolate(self, values: Sequence[float]) -> float:
        """The value at the level, of one value a run."""
        before, after = values[self.first], values[self.first + 1]
        return float(before + self.weight * (after - before))


def bracket_level(values: Sequence[float], level: float) -> Bracket | None:
    """The first two neighbours in `values` that have `level` between them; None where no two do.

    Values may rise or fall, and the two are a bracket too where one of them is the level. A value
    that is not finite brackets nothing.
    """
    for i, (before, after) in enumerate(pairwise(values)):
        if not np.isfinite([before, after]).all():
            continue
        if min(before, after) <= level <= max(before, after):
            span = after - before
            return Bracket(i, (level - before) / span if span else 1.0)
    return None


def read_at_level(
    rows: Sequence[Row], by: str, level: float, metrics: Sequence[str]
) -> dict[str, float] | None:
    """`metrics` where the column `by` of ordered rows first has the value `level`, interpolated
    linearly between the two rows that bracket it; None where none do."""
    bracket = bracket_level([row[by] for row in rows], level)
    if bracket is None:
        return None
    return {metric: bracket.interpolate([row[metric] for row in rows]) for metric in metrics}
