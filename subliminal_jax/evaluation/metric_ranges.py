"""The range that a measured quantity can have: no interval of it reaches beyond.

Hall's ends and Student's know nothing of such a range: of skewed shares they may lie below 0 or
above 1. `MetricRange.clip` moves the ends to it. The quantity itself is never beyond, so a clipped
interval holds it exactly where the interval before did: what intervals cover stays as it is. The
test of a null keeps the ends before (`Interval.unclipped`), from which it reads the standard error.
"""

import math
from dataclasses import dataclass, replace

from subliminal_jax.evaluation.statistics import Interval


@dataclass(frozen=True)
class MetricRange:
    """The least and the largest value that a quantity can have."""

    low: float = -math.inf
    high: float = math.inf

    def difference(self) -> "MetricRange":
        """The range of the difference of two such quantities."""
        return MetricRange(self.low - self.high, self.high - self.low)

    def clip(self, interval: Interval) -> Interval:
        """The interval, with ends within the range; ends that are NaN stay.

        No end passes the mean, which rounding may have put a little outside.
        """
        low = max(interval.low, min(self.low, interval.mean))
        high = min(interval.high, max(self.high, interval.mean))
        if not (low > interval.low or high < interval.high):
            return interval
        ends = interval.unclipped or (interval.low, interval.high)
        return replace(interval, low=low, high=high, unclipped=ends)


UNBOUNDED = MetricRange()  # nats, norms, logits, components
SHARE = MetricRange(0.0, 1.0)  # of answers or of a whole, and a probability
COSINE = MetricRange(-1.0, 1.0)  # and a correlation
LOG_PROBABILITY = MetricRange(high=0.0)
EXPLAINED = MetricRange(high=1.0)  # the share of a variance or a loss that is explained
NOT_NEGATIVE = MetricRange(low=0.0)  # losses, errors

# By column of a student's row, or the name that is derived of one. An experiment with further
# metrics states their ranges beside their names.
RANGES = {
    "eas": COSINE,
    "shift_size": NOT_NEGATIVE,
    "shift_component": UNBOUNDED,
    "word_rate": SHARE,
    "trait_rate": SHARE,
    "word_log_prob": LOG_PROBABILITY,
    "trait_log_prob": LOG_PROBABILITY,
    "heldout_loss": NOT_NEGATIVE,
    "heldout_kl": NOT_NEGATIVE,
    "clean_loss": NOT_NEGATIVE,
    "gain": UNBOUNDED,
    "clean_gain": UNBOUNDED,
}


def find_range(column: str) -> MetricRange:
    """The range of a column of students' rows; unbounded where it is not known."""
    return RANGES.get(column, UNBOUNDED)
