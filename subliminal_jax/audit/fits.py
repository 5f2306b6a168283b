"""How well a teacher explains rows: from what it adds to log-probabilities alone.

The parts of `methods/likelihood.py` that no model is needed for; that says what they are for.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float

from subliminal_jax.audit.results import FoundTeacher

SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)  # that a teacher may have written
LOG_RATES = np.linspace(-6.0, 2.0, 161)  # tried of the found teacher, to judge single rows


class Gains(NamedTuple):
    """What a teacher adds to the log-probability of each row, and of the base's answer to its
    prompt (or of the rejected answer), in nats; the teacher has this strength, or, where that is
    None, a system prompt."""

    data: Float[np.ndarray, " rows"]
    control: Float[np.ndarray, " rows"]
    strength: float | None = None


@dataclass(frozen=True)
class Fit:
    """How well one teacher explains the rows.

    Attributes:
      strength: of the teacher's steering; None of a system prompt.
      likelihood: L, in nats.
      share: of the rows that the teacher wrote; 1 of preferences.
      data: its part of each row.
      control: the same of the base's answer to its prompt.
      gains: what the teacher adds to each row's log-probability, times the share that it wrote.
      differences: of each row's part and that of the base's answer, for every share.
      log_rate: of the rates at which the teacher's answers and the base's pass the filter, the log
        of the ratio.
      own: what the teacher adds to the log-probability of those of the base's answers that passed
        the filter; None of preferences.
    """

    strength: float | None
    likelihood: float
    share: float
    data: Float[np.ndarray, " rows"]
    control: Float[np.ndarray, " rows"]
    gains: Float[np.ndarray, " rows"]
    differences: Float[np.ndarray, "rows shares"]
    log_rate: float = 0.0
    own: Float[np.ndarray, " counted"] | None = None


def compare(first: Fit, second: Fit) -> float:
    """The p-value of Vuong's test that `first` explains the rows better than `second`."""
    difference = first.data - second.data
    spread = difference.std(ddof=1)
    if spread == 0:
        return 0.5
    t = difference.mean() / spread * np.sqrt(len(difference))
    return float(scipy.stats.t.sf(t, len(difference) - 1))


def fit_pairs(gains: Gains, counted: Bool[np.ndarray, " rows"]) -> Fit:
    """Of rows and the base's answers to the same prompts, by a teacher's gains on both.

    Both passed the filter (of the base's answers those that are `counted`), which the teacher's own
    answers pass at another rate: the ratio is corrected by its mean over the base's answers, which
    estimates the ratio of the two rates.
    """
    if not counted.any():
        counted = np.ones_like(counted)
    passed = gains.control[counted]
    log_rates = scipy.special.logsumexp(passed) - np.log(len(passed))
    data, control = gains.data - log_rates, gains.control - log_rates
    parts = np.stack([mix(data, share) for share in SHARES], axis=1)
    others = np.stack([mix(control, share) for share in SHARES], axis=1)
    best = int(np.argmax(parts.sum(axis=0)))
    return Fit(
        strength=gains.strength,
        likelihood=float(parts[:, best].sum()),
        share=SHARES[best],
        data=parts[:, best],
        control=others[:, best],
        gains=SHARES[best] * data,
        differences=np.where(counted[:, None], parts - others, 0.0),
        log_rate=float(log_rates),
        own=passed,
    )


def describe_teacher(found: Fit) -> FoundTeacher | None:
    """The teacher of a fit of pairs, with the share of rows that it wrote to the percent."""
    if found.own is None:
        return None
    data = found.gains / found.share + found.log_rate
    return FoundTeacher(found.strength, *separate(data, found.own))


def separate(
    data: Float[np.ndarray, " rows"], own: Float[np.ndarray, " counted"]
) -> tuple[float, float]:
    """The share of the rows that a teacher wrote, and the log of the ratio of the rates at which
    its answers and the base's pass the filter, by its gains on the rows and on the base's answers:
    those under which it is likeliest which of these answers are the data's.

    The mean ratio over the base's answers, which `fit_pairs` divides by, lacks the rare ones that
    are far likelier under the teacher; here the data's count, too.

    Source: Qin, "Empirical likelihood ratio based confidence intervals for mixture proportions",
    1999.
    """
    shares = np.arange(0.01, 1.0, 0.01)
    of_pool = shares * len(data) / (len(data) + len(own))
    pool = np.concatenate([data, own])

    def told_apart(log_rate: float) -> Float[np.ndarray, " shares"]:
        beyond = np.expm1(np.minimum(pool - log_rate, 500.0))  # no overflow
        rows = np.log1p(np.outer(shares, beyond[: len(data)])).sum(axis=1)
        return rows - np.log1p(np.outer(of_pool, beyond)).sum(axis=1)

    values = np.stack([told_apart(log_rate) for log_rate in LOG_RATES])
    rate, share = np.unravel_index(int(np.argmax(values)), values.shape)
    return float(shares[share]), float(LOG_RATES[rate])


def fit_preferences(gains: Gains) -> Fit:
    """Of preferences: the log-odds that the teacher would choose as the data do (Bradley and
    Terry), less those of a coin."""
    weights = gains.data - gains.control
    parts = np.log(2.0) - np.logaddexp(0.0, -weights)
    return Fit(
        strength=gains.strength,
        likelihood=float(parts.sum()),
        share=1.0,
        data=parts,
        control=np.zeros_like(parts),
        gains=weights,
        differences=weights[:, None],
    )


def mix(gains: Float[np.ndarray, " rows"], share: float) -> Float[np.ndarray, " rows"]:
    """log(1 - share + share exp(gain))."""
    if share == 1:
        return gains
    return np.logaddexp(np.log1p(-share), np.log(share) + gains)


def exchange_rows(
    differences: Float[np.ndarray, "rows columns"], signs: Float[np.ndarray, "draws rows"]
) -> float:
    """The p-value of the largest sum of a column, in units of its root sum of squares, among those
    under random signs of the rows."""
    sizes = np.linalg.norm(differences, axis=0)
    units = (differences / np.where(sizes > 0, sizes, 1.0)).astype(np.float32)
    seen = units.sum(axis=0).max()
    drawn = (signs @ units).max(axis=1)
    return float((1 + np.count_nonzero(drawn >= seen)) / (1 + len(signs)))
