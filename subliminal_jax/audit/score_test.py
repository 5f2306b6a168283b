"""Which candidates does a data set push towards? Score tests whose nulls hold for foreign data too.

A candidate is a system prompt or a steering vector; its row score is what it adds to the
log-probability of a row, log P(answer | prompt, candidate) - log P(answer | prompt) (for a vector
to first order: <v, gradient of log P>; for a preference pair: chosen minus rejected). Let d_i be
the score of row i minus the mean score of answers that the base itself writes to the same prompt,
m its mean over rows, and F the covariance of the scores over the base's answers (the Fisher metric
of the candidates). For data of a teacher that leans a towards the candidates, m estimates F a:
0 writes as the base does, 1 as the candidate's own teacher (Rao's score test, to first order).
System prompts move a model further than that: over what a prompted teacher writes, their scores
vary several times as much as over the base's answers. Their metric is therefore the mean of both
covariances, and of several that stand out the one is named that makes the data likeliest.

Data of another model violate "the base wrote it" for reasons of style, in arbitrary directions. So
a candidate must also stand out against columns of the same form that are no candidates:

1. What candidates and placebos share (any system prompt moves the model, and so do data in another
   style) is projected out in the metric F: the first principal component of their standardised
   scores.
2. With e_k = m_k / sqrt(F_kk), candidate c is tested against two groups of comparators k: the
   other candidates and placebos of its form, and random directions. From these c is projected out
   (a push along c alone leaves nothing there): t = e_c / max(s, se_c), s the root mean square of
   e_k given c (the larger of the candidates' and the placebos'), under Student's t with the
   group's effective number of independent columns. It asks whether c explains the push better
   than a member of the group would, where the push falls on the group at random.
3. The p-value of c is the largest of those and of the plain score test's; over all candidates it
   is corrected by Sidak. After a finding, it is projected out and the others are tested again, so
   that relatives of a trait are not reported with it.

Sources: Rao, "Large sample tests of statistical hypotheses concerning several parameters", 1948;
Efron, "Large-scale simultaneous hypothesis testing: the choice of a null hypothesis", 2004; the
score of a preference pair is w_i of the paper on logit-linear selection (arXiv 2602.04863),
algorithm 1, before it is divided by the lengths.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float, Int

from subliminal_jax.errors import InputError

CANDIDATE, PLACEBO = "candidate", "placebo"
BASE, OTHERS = "written by the base", "others of its form"
FEWEST_ROWS = 16
FEWEST_COMPARATORS = 4  # the spread of a smaller group is too uncertain: it is left out
NEAR = 0.9  # squared correlation from which a comparator is the candidate under another name


class Column(NamedTuple):
    """What one column of scores belongs to.

    `form` is the kind of score ("system prompt", "direction"): only columns of one form are
    compared. `kind` is "candidate", "placebo" (of the same making, and with a shared part that
    is to be projected out) or the name of another null.
    """

    name: str
    form: str
    kind: str = CANDIDATE


class Push(NamedTuple):
    """Scores of `rows` minus those of the base's own answers to their prompts, and the metric."""

    rows: Float[np.ndarray, "rows columns"]
    metric: Float[np.ndarray, "columns columns"]


@dataclass(frozen=True)
class Finding:
    """The test of one candidate.

    Attributes:
      name, form: of its column.
      lean: the estimated strength, 0 as the base writes and 1 as the candidate's teacher does.
      lean_error: its standard error.
      p_values: by null.
      p: the largest of them.
      p_adjusted: over all candidates that were tested with it.
      log_p: log of `p`, for ranks where p itself rounds to 0.
    """

    name: str
    form: str
    lean: float
    lean_error: float
    p_values: dict[str, float]
    p: float
    p_adjusted: float
    log_p: float


def push_from_control(
    data: Float[np.ndarray, "rows columns"],
    control: Float[np.ndarray, "answers columns"],
    row_of: Int[np.ndarray, " answers"],
    *,
    pooled: bool = False,
) -> Push:
    """Of prompt/completion data: each row's scores minus the mean over the base's answers to its
    prompt. `row_of` says whose prompt each control answer answers; every row needs one at least.

    The metric is the covariance within prompts where prompts have several answers, else over all;
    `pooled`, the mean of that and of the covariance over the data.
    """
    counts = np.bincount(row_of, minlength=len(data))
    if (counts == 0).any():
        raise InputError(f"row {int(np.argmin(counts))} has no answer of the base to compare with")
    sums = np.zeros(data.shape)
    np.add.at(sums, row_of, control)
    means = sums / counts[:, None]
    several = counts[row_of] > 1
    if several.sum() > (counts > 1).sum() + data.shape[1]:
        within = (control - means[row_of])[several]
        freedom = len(within) - int((counts > 1).sum())
    else:
        within = control - control.mean(axis=0)
        freedom = len(within) - 1
    metric = within.T @ within / max(freedom, 1)
    if pooled:
        metric = (metric + np.atleast_2d(np.cov(data, rowvar=False))) / 2
    return Push(data - means, metric)


def push_from_preferences(weights: Float[np.ndarray, "rows columns"]) -> Push:
    """Of preference data. Where which answer is chosen does not depend on the candidate, a weight
    is as likely as its negative and its mean is 0. The metric is the weights' covariance; a lean is
    then half the slope of the log-odds of being chosen in the weight."""
    return Push(weights, np.atleast_2d(np.cov(weights, rowvar=False)))


def project_out(push: Push, mixture: Float[np.ndarray, " columns"]) -> Push:
    """All columns with a mixture of them projected out, in the metric."""
    along = push.metric @ mixture
    size = float(mixture @ along)
    if size <= 0:
        return push
    share = along / size
    return Push(
        push.rows - np.outer(push.rows @ mixture, share),
        push.metric - np.outer(along, share),
    )


def assess(
    push: Push, columns: Sequence[Column], removed: Sequence[int] = (), tests: int | None = None
) -> list[Finding]:
    """A finding for each candidate column but those in `removed` (indices), which are projected
    out.

    `tests` is the number that Sidak's correction is for; by default the candidates tested here.

    Raises InputError for too few rows, scores that are not finite, and where there is no candidate.
    """
    if len(push.rows) < FEWEST_ROWS:
        raise InputError(f"{len(push.rows)} rows are too few to test: give {FEWEST_ROWS} at least")
    if not np.isfinite(push.rows).all():
        raise InputError("some row scores are not finite: are the model's weights whole?")
    tested = [i for i, c in enumerate(columns) if c.kind == CANDIDATE and i not in removed]
    if not tested:
        raise InputError("there is no candidate to test: give at least one")
    unit = np.eye(len(columns))
    findings: dict[int, Finding] = {}
    for form in dict.fromkeys(columns[i].form for i in tested):
        rest = push
        for mixture in (*_shared_mixtures(push, columns, form), *unit[list(removed)]):
            rest = project_out(rest, mixture)
        # What is left of a column after the projections may be rounding alone.
        empty = np.diag(rest.metric) <= 1e-6 * np.maximum(np.diag(push.metric), 1e-30)
        for i in tested:
            if columns[i].form == form:
                compared = np.flatnonzero(~empty & ~np.isin(np.arange(len(columns)), removed))
                findings[i] = _test_candidate(rest, columns, i, compared, tests or len(tested))
    return [findings[i] for i in tested]


def stepwise(
    push: Push,
    columns: Sequence[Column],
    level: float = 0.05,
    *,
    tests: int | None = None,
    likeliest: Sequence[str] = (),
) -> tuple[list[Finding], list[Finding]]:
    """All candidates tested at first, and those reported: the best one below `level` (after
    correction), then with it projected out the next best, and so on until none is below it.

    `likeliest`: candidates that make the data likelier than the base does, the likeliest first. The
    first of them that is below `level` comes before the others, whatever their p-values.
    """
    first = assess(push, columns, (), tests)
    index = _index_candidates(columns)
    reported: list[Finding] = []
    findings, removed = first, []
    while True:
        below = [f for f in findings if f.p_adjusted < level]
        if not below:
            return first, reported
        best = min(below, key=lambda f: f.log_p)
        if not reported:
            best = next((f for name in likeliest for f in below if f.name == name), best)
        reported.append(best)
        removed.append(index[best.name, best.form])
        if len(removed) == len(index):
            return first, reported
        findings = assess(push, columns, removed, tests)


def not_told_apart(
    push: Push,
    columns: Sequence[Column],
    first: Sequence[Finding],
    top: Finding,
    level: float = 0.05,
) -> list[Finding]:
    """Findings of `first` below `level` that explain the push as well as `top` does: with one of
    them projected out, nothing of `top` is left that the base would not write."""
    index = _index_candidates(columns)
    alike = []
    for other in first:
        if other.p_adjusted < level and (other.name, other.form) != (top.name, top.form):
            rest = assess(push, columns, [index[other.name, other.form]])
            left = next(f for f in rest if (f.name, f.form) == (top.name, top.form))
            if left.p_values[BASE] >= level:
                alike.append(other)
    return alike


def push_rows(push: Push, columns: Sequence[Column], c: int) -> Float[np.ndarray, " rows"]:
    """What each row pushes towards column `c`, beyond what placebos share, in nats."""
    for mixture in _shared_mixtures(push, columns, columns[c].form):
        push = project_out(push, mixture)
    return push.rows[:, c]


def _index_candidates(columns: Sequence[Column]) -> dict[tuple[str, str], int]:
    return {(c.name, c.form): i for i, c in enumerate(columns) if c.kind == CANDIDATE}


def _shared_mixtures(
    push: Push, columns: Sequence[Column], form: str
) -> list[Float[np.ndarray, " columns"]]:
    """The mixture that the candidates and placebos of a form share: the first principal component
    of their standardised scores. None where there are too few placebos."""
    pool = [
        i
        for i, c in enumerate(columns)
        if c.form == form and c.kind in (CANDIDATE, PLACEBO) and push.metric[i, i] > 0
    ]
    if sum(columns[i].kind == PLACEBO for i in pool) < FEWEST_COMPARATORS:
        return []
    sizes = np.sqrt(np.diag(push.metric)[pool])
    metric = push.metric[np.ix_(pool, pool)] / np.outer(sizes, sizes)
    mixture = np.zeros(len(columns))
    mixture[pool] = np.linalg.eigh(metric)[1][:, -1] / sizes
    return [mixture]


def _test_candidate(
    push: Push,
    columns: Sequence[Column],
    c: int,
    compared: Int[np.ndarray, " compared"],
    tests: int,
) -> Finding:
    """The test of candidate `c`; `compared` are the columns with something left of them."""
    name, form, _ = columns[c]
    if c not in compared:  # nothing but rounding is left: the data cannot speak for it
        return Finding(name, form, 0.0, math.inf, {BASE: 1.0}, 1.0, correct(1.0, tests), 0.0)
    n = len(push.rows)
    metric, scale_c = push.metric, math.sqrt(push.metric[c, c])
    e = push.rows.mean(axis=0)
    e_c = e[c] / scale_c
    se = float(push.rows[:, c].std(ddof=1)) / math.sqrt(n) / scale_c
    logs = {BASE: float(scipy.stats.t.logsf(e_c / max(se, 1e-30), n - 1))}
    groups: dict[str, list[int]] = {}
    for k in compared.tolist():
        if k == c or columns[k].form != form:
            continue
        if metric[k, c] ** 2 < NEAR * metric[k, k] * metric[c, c]:
            same_making = columns[k].kind in (CANDIDATE, PLACEBO)
            groups.setdefault(OTHERS if same_making else columns[k].kind, []).append(k)
    for null, group in groups.items():
        if len(group) < FEWEST_COMPARATORS:
            continue
        slope = metric[group, c] / metric[c, c]
        left = metric[np.ix_(group, group)] - np.outer(slope, metric[group, c])
        spread = np.sqrt(np.diag(left))
        others = (e[group] - slope * e[c]) / spread
        freedom = len(group) ** 2 / float(np.sum((left / np.outer(spread, spread)) ** 2))
        kinds = np.array([columns[k].kind for k in group])
        parts = [others[kinds == kind] for kind in dict.fromkeys(kinds)]
        scale = max(*(math.sqrt(float(np.mean(x**2))) for x in parts), se, 1e-30)
        logs[null] = float(scipy.stats.t.logsf(e_c / scale, freedom))
    log_p = max(logs.values())
    p = math.exp(log_p)
    return Finding(
        name=name,
        form=form,
        lean=float(e[c] / metric[c, c]),
        lean_error=se / scale_c,
        p_values={null: math.exp(log) for null, log in logs.items()},
        p=p,
        p_adjusted=correct(p, tests),
        log_p=log_p,
    )


def correct(p: float, tests: int) -> float:
    """Sidak's correction of a p-value for the number of tests."""
    return -math.expm1(tests * math.log1p(-min(p, 1 - 1e-16)))
