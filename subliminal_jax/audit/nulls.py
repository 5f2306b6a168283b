"""p-values of candidates' scores: against what the base would write, and against others.

A clean data set leaves every score at the noise of its rows; a data set in another style than the
base's moves all scores, placebos' too. A candidate has to stand out against both.

Placebos alone are no null: of clean sets of the shipped model, gradient alignment puts half of the
animals below 5% of placebo nouns, since a set's noise moves all animals together, and further than
it moves nouns. So the other candidates are compared with, too. That costs power, because a trait's
relatives are moved with it.
"""

from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Float

from subliminal_jax.audit.method import Scored
from subliminal_jax.audit.score_test import FEWEST_COMPARATORS

Logs = Float[np.ndarray, " candidates"]


def compare_with_zero(rows: Float[np.ndarray, "rows candidates"]) -> Logs:
    """Log p of "the mean over rows is not above 0": Student's t. Rows are differences between data
    and control, whose sign is arbitrary where the base wrote both."""
    n = len(rows)
    error = rows.std(axis=0, ddof=1) / np.sqrt(n)
    return scipy.stats.t.logsf(rows.mean(axis=0) / np.maximum(error, 1e-30), n - 1)


def compare_with_others(
    scores: Float[np.ndarray, " candidates"], placebos: Float[np.ndarray, " placebos"]
) -> Logs:
    """Log p of "the score is one more of the placebos', and one more of the other candidates'": the
    prediction of a new member of a Gaussian sample (Student's t), the larger p of the two groups.

    Groups of fewer than four have no say; without any group p is 1.
    """
    logs = np.full(len(scores), -np.inf)
    for i, score in enumerate(scores):
        groups = [g for g in (placebos, np.delete(scores, i)) if len(g) >= FEWEST_COMPARATORS]
        logs[i] = max((_predict(score, group) for group in groups), default=0.0)
    return logs


def _predict(score: float, group: Float[np.ndarray, " members"]) -> float:
    m = len(group)
    error = group.std(ddof=1) * np.sqrt(1 + 1 / m)
    return float(scipy.stats.t.logsf((score - group.mean()) / max(error, 1e-30), m - 1))


def make_scored(
    scores: Float[np.ndarray, " candidates"],
    logs: Sequence[Logs],
    forward_tokens: int,
    row_scores: Float[np.ndarray, " rows"] | None = None,
    *,
    evidence: float | None = None,
) -> Scored:
    """The result of a method whose p-values are the largest of several nulls' (given as logs).

    Evidence, unless given, is of the first null alone, minus the log of the smallest p: that the
    base did not write the data, where the method has such a test, may be plain where no candidate
    stands out.
    """
    log_p = np.max(logs, axis=0)
    return Scored(
        scores=scores,
        p_values=np.exp(log_p),
        evidence=float(-logs[0].min()) if evidence is None else evidence,
        forward_tokens=forward_tokens,
        row_scores=row_scores,
    )
