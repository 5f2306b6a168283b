"""What properties of a rule say of what it transmits: a linear model over rules, by families.

    y = a + b (effective rank) + c_tensor + c_coordinate + c_matrix + d (sign) + e (momentum)

One row a rule: its mean over vectors of student minus controls. Intervals are by the jackknife over
families, which takes all rules of a family out at once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy
from jaxtyping import Bool, Float

from subliminal_jax.evaluation.metric_ranges import COSINE, EXPLAINED, UNBOUNDED, MetricRange
from subliminal_jax.evaluation.statistics import Interval

from .rules import Rule

TERMS = ("effective rank", "tensor", "coordinate", "matrix", "sign", "momentum")
LEAST = 4  # families of a jackknife
DEPENDENT = 1e-6  # of a column: the share of its length that the others do not explain, at least


@dataclass(frozen=True)
class Prediction:
    """A rule that the model was not fitted to: what is predicted of it, and what it did."""

    rule: str
    predicted: float
    measured: float


@dataclass(frozen=True)
class PropertyModel:
    """The model of one metric at one place.

    Attributes:
      place: where rules are compared, "best" or "matched".
      metric: what is transmitted.
      rules: that it was fitted to; `families` of them.
      coefficients: by term, in the metric's units (of the rank: for each direction more); None for
        one that other properties, or the families, cannot be told from.
      rank_correlation: Spearman's of the metric with the effective rank, over rules.
      explained: the share of the variance between rules that families explain, beyond what random
        families of these sizes would.
      fit: the share of the variance that the model explains.
      predictions: of the rules that separate explanations.
      error: the mean size of their errors; `mean_error`, of predicting the fitted rules' mean.
    """

    place: str
    metric: str
    rules: int
    families: int
    coefficients: Mapping[str, Interval | None]
    rank_correlation: Interval | None
    explained: Interval | None
    fit: float | None
    predictions: tuple[Prediction, ...]
    error: float | None
    mean_error: float | None


@dataclass(frozen=True)
class Spread:
    """How what is transmitted varies, as components of its variance.

    Attributes:
      cells: rules times ranks, of which every vector has a student.
      rules: between rules, beyond chance; over vectors.
      vectors: between vectors, of the mean rule.
      rest: what neither says.
      ranks: between ranks of LoRA; None of one rank.
      rules_over_ranks: between rules less between ranks.
      lowest, highest: the rules that transmit least and most, with how much.
    """

    cells: int
    rules: Interval | None
    vectors: float | None
    rest: float | None
    ranks: Interval | None
    rules_over_ranks: Interval | None
    lowest: tuple[str, float] | None
    highest: tuple[str, float] | None


Table = Float[np.ndarray, "rules terms"]


def fit_properties(
    place: str,
    metric: str,
    values: Mapping[str, tuple[float, float]],
    rules: Mapping[str, Rule],
) -> PropertyModel:
    """The model of rules' (transmission, effective rank).

    Args:
      values: by rule, of those that have both.
      rules: their families and properties.
    """
    fitted = [name for name in values if not rules[name].separating]
    y = np.array([values[name][0] for name in fitted])
    ranks = np.array([values[name][1] for name in fitted])
    families = [rules[name].family for name in fitted]
    x = make_design([rules[name] for name in fitted], ranks)
    found = {
        term: jackknife(families, partial(find_coefficient_of, x, y, i), UNBOUNDED)
        for i, term in enumerate(TERMS, start=1)
    }
    beta, fit = None, None
    if len(y) > np.linalg.matrix_rank(x) and np.ptp(y) > 0:
        beta = np.linalg.lstsq(x, y, rcond=None)[0]
        fit = float(1 - np.square(y - x @ beta).sum() / np.square(y - y.mean()).sum())
    predictions: tuple[Prediction, ...] = ()
    if beta is not None:
        others = [name for name in values if rules[name].separating]
        design = make_design(
            [rules[name] for name in others], np.array([values[name][1] for name in others])
        )
        predictions = tuple(
            Prediction(name, float(row @ beta), values[name][0])
            for name, row in zip(others, design, strict=True)
        )
    errors = [abs(p.predicted - p.measured) for p in predictions]
    from_mean = [abs(float(y.mean()) - p.measured) for p in predictions]
    return PropertyModel(
        place=place,
        metric=metric,
        rules=len(fitted),
        families=len(set(families)),
        coefficients=found,
        rank_correlation=jackknife(families, lambda keep: correlate(ranks[keep], y[keep]), COSINE),
        explained=jackknife(
            families,
            lambda keep: explain([f for f, k in zip(families, keep, strict=True) if k], y[keep]),
            EXPLAINED,
        ),
        fit=fit,
        predictions=predictions,
        error=float(np.mean(errors)) if errors else None,
        mean_error=float(np.mean(from_mean)) if from_mean else None,
    )


def make_design(rules: Sequence[Rule], ranks: Float[np.ndarray, " rules"]) -> Table:
    """A column of ones, then one a term."""
    rows = [
        [
            1.0,
            rank,
            *(float(rule.normalisation == kind) for kind in ("tensor", "coordinate", "matrix")),
            float(rule.sign),
            float(rule.momentum),
        ]
        for rule, rank in zip(rules, ranks.tolist(), strict=True)
    ]
    return np.array(rows, float).reshape(len(rules), 1 + len(TERMS))


def find_coefficient(x: Table, y: Float[np.ndarray, " rules"], i: int) -> float:
    """The coefficient of column `i` in the least-squares fit; NaN where the other columns give the
    column, or there are no more rules than columns."""
    others = np.delete(x, i, axis=1)
    column = x[:, i]
    if len(y) <= np.linalg.matrix_rank(x):
        return float("nan")
    own = column - others @ np.linalg.lstsq(others, column, rcond=None)[0]
    if np.linalg.norm(own) <= DEPENDENT * max(float(np.linalg.norm(column)), DEPENDENT):
        return float("nan")
    return float(own @ y / (own @ own))  # of Frisch, Waugh and Lovell


def find_coefficient_of(
    x: Table, y: Float[np.ndarray, " rules"], i: int, keep: Bool[np.ndarray, " rules"]
) -> float:
    """`find_coefficient` of the rules where `keep` is true."""
    return find_coefficient(x[keep], y[keep], i)


def correlate(x: Float[np.ndarray, " rules"], y: Float[np.ndarray, " rules"]) -> float:
    """Spearman's correlation; NaN where a side does not vary."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(scipy.stats.spearmanr(x, y).statistic)


def explain(families: Sequence[str], y: Float[np.ndarray, " rules"]) -> float:
    """Kelley's epsilon squared: the share of the variance of rules that lies between families,
    0 in the mean for random ones. NaN where no family has two rules, or nothing varies."""
    groups: dict[str, list[float]] = {}
    for family, value in zip(families, y.tolist(), strict=True):
        groups.setdefault(family, []).append(value)
    within_degrees = len(y) - len(groups)
    if len(groups) < 2 or within_degrees < 1 or np.ptp(y) == 0:
        return float("nan")
    within = sum(np.square(np.array(g) - np.mean(g)).sum() for g in groups.values())
    whole = np.square(y - y.mean()).sum() / (len(y) - 1)
    return float(1 - within / within_degrees / whole)


def jackknife(
    units: Sequence[str],
    statistic: Callable[[Bool[np.ndarray, " rules"]], float],
    within: MetricRange,
    level: float = 0.95,
) -> Interval | None:
    """A statistic of all rules, with an interval over units, each of which is left out whole.

    With s of all and s_i without unit i of n, the squared standard error is (n - 1) / n times the
    sum of (s_i - s)^2, and the interval Student's t with n - 1 degrees of freedom (CV3 of
    MacKinnon, Nielsen and Webb, "Cluster-robust inference", 2023). Of the atlas's families, with
    random ranks and noise that families share none or half of, 92 to 98% of such intervals hold a
    coefficient (200 draws), and 1% of those of `explain` lie above 0 where families say nothing;
    Hall's of pseudo-values are far too long where families differ in size. None of fewer than
    `LEAST` units, and where the statistic is not defined with one left out.

    Args:
      units: of each row.
      statistic: of the rows where a mask is true.
      level: of the interval.
    """
    names = list(dict.fromkeys(units))
    n, own = len(names), np.array(units)
    if n < LEAST:
        return None
    whole = statistic(np.ones(len(own), bool))
    without = np.array([statistic(own != name) for name in names])
    if not np.isfinite([whole, *without]).all():
        return None
    error = math.sqrt((n - 1) / n * float(np.square(without - whole).sum()))
    half = error * float(scipy.stats.t.ppf((1 + level) / 2, n - 1))
    return within.clip(Interval(whole, whole - half, whole + half, n, level, "t"))


# -- components of the variance --------------------------------------------------------------------


def measure_spread(
    values: Mapping[tuple[str, int], Mapping[str, float]],
    families: Mapping[str, str],
    traits: Sequence[str],
) -> Spread:
    """Components of the variance over rules, vectors and ranks, with intervals over vectors.

    Args:
      values: student minus controls by rule and rank, then vector.
      families: of the rules; those that separate explanations are left out.
      traits: the vectors.
    """
    names = list(dict.fromkeys(rule for rule, _ in values))
    ranks = list(dict.fromkeys(rank for _, rank in values))
    whole = [
        name
        for name in names
        if families[name] != "separating"
        and all(trait in values.get((name, rank), {}) for rank in ranks for trait in traits)
    ]
    if len(whole) < 2 or len(traits) < 2:
        return Spread(len(whole) * len(ranks), None, None, None, None, None, None, None)
    table = np.array(
        [[[values[name, rank][t] for t in traits] for rank in ranks] for name in whole]
    )
    means = dict(zip(whole, table.mean(axis=(1, 2)).tolist(), strict=True))
    lowest, highest = (f(means, key=lambda name: means[name]) for f in (min, max))
    flat = table.mean(axis=1)  # rules, vectors

    def over_vectors(part: Callable[[np.ndarray], float]) -> Interval | None:
        def statistic(keep: Bool[np.ndarray, " traits"]) -> float:
            return part(table[:, :, keep]) if keep.sum() > 1 else float("nan")

        return jackknife(traits, statistic, UNBOUNDED)

    several = len(ranks) > 1
    return Spread(
        cells=len(whole) * len(ranks),
        rules=over_vectors(lambda x: find_component(x.mean(axis=1))),
        vectors=find_component(flat.T),
        rest=find_rest(flat),
        ranks=over_vectors(lambda x: find_component(x.mean(axis=0))) if several else None,
        rules_over_ranks=over_vectors(
            lambda x: find_component(x.mean(axis=1)) - find_component(x.mean(axis=0))
        )
        if several
        else None,
        lowest=(lowest, means[lowest]),
        highest=(highest, means[highest]),
    )


def find_rest(x: Float[np.ndarray, "rows columns"]) -> float:
    """The mean square of what rows and columns leave."""
    rest = x - x.mean(axis=1, keepdims=True) - x.mean(axis=0, keepdims=True) + x.mean()
    return float(np.square(rest).sum() / ((x.shape[0] - 1) * (x.shape[1] - 1)))


def find_component(x: Float[np.ndarray, "rows columns"]) -> float:
    """The component of the variance between rows: that of their means, less what chance of single
    cells adds to it. It may be negative."""
    return float(x.mean(axis=1).var(ddof=1)) - find_rest(x) / x.shape[1]
