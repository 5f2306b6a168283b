"""Verdicts on explanations of the gap between two optimizers, by explicit rules.

The gap is the difference, paired by vector, of what the upper arm (AdamW) and the lower one (SGD)
exceed their controls by in one metric. An explanation makes predictions about other arms; each is
decided by an interval against half of the gap, so that "it closes the gap" and "it does not" both
have to be shown, and neither is the default:

  rescues   some of the arms closes the lower arm's gap: its difference to the lower arm is clear of
            zero and at least half of the gap. Refuted if the interval of every one of them ends
            below half.
  spares    each of the arms stays within half a gap of the upper arm, to the interval's end;
            refuted if one falls by half or more, clear of zero.
  harms     some of the arms falls by half a gap or more below the upper arm, clear of zero; refuted
            if the interval of every one of them ends before that.
  vanishes  for each pair (upper, lower) of arms the interval of the difference ends below half of
            the gap; refuted if one is clear of zero and at least half.
  exceeds   for each pair (first, second) the first is larger, clear of zero; refuted if the
            interval of one ends below a quarter of the gap.
  measured  a difference that is not a metric of arms is positive, clear of zero; refuted if it is
            negative, clear of zero.

What is neither stays open: a difference clear of zero whose interval holds half of the gap, say.
Where one arm (or pair) of several is enough, it is chosen after the fact: of k it must be clear at
the level 1 - 0.05/k (Bonferroni), so that all of them together err in 5% of cases. What has to hold
of each is judged at 95%.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from subliminal_jax.evaluation.excess import Excess
from subliminal_jax.evaluation.metric_ranges import UNBOUNDED, MetricRange
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import Interval

Kind = Literal["rescues", "spares", "harms", "vanishes", "exceeds", "measured"]
Test = Callable[[Interval, float, Interval | None], bool | None]
Values = Mapping[str, Excess]  # one metric by arm
Verdict = Literal["supported", "supported in part", "contradicted", "mixed", "undecided", "no gap"]


@dataclass(frozen=True)
class Prediction:
    """What an explanation predicts of `arms`; `pairs` for "vanishes" and "exceeds"; `measured` is a
    key of the measured differences, and `within` their range."""

    kind: Kind
    says: str
    arms: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    measured: str = ""
    within: MetricRange = UNBOUNDED


@dataclass(frozen=True)
class Explanation:
    """A cause that was proposed for the gap, with its source and what follows from it."""

    name: str
    source: str
    predictions: tuple[Prediction, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class Decided:
    """One prediction held against one metric: holds (None: undecided), and the numbers that say so.

    `difference` is the interval that decided, of `arm` ("x - y" for pairs).
    """

    holds: bool | None
    arm: str = ""
    difference: Interval | None = None


@dataclass(frozen=True)
class JudgedPrediction:
    """What an explanation predicts, held against each metric."""

    says: str
    kind: Kind
    by_metric: Mapping[str, Decided]


@dataclass(frozen=True)
class JudgedExplanation:
    """An explanation with its verdict in each metric."""

    explanation: str
    source: str
    predictions: tuple[JudgedPrediction, ...]
    verdicts: Mapping[str, Verdict]


def difference(values: Values, first: str, second: str, of: int = 1) -> Interval | None:
    """first - second in what exceeds their controls, over the vectors that both have; None without
    two such vectors or without a control.

    As one `of` so many differences its level is 1 - 0.05/of, so that all together have 95%.
    """
    if first not in values or second not in values:
        return None
    both = values[first].minus(values[second])
    return both.difference(1 - 0.05 / of) if len(both.students) > 1 else None


def gap_between(values: Values, upper: str, lower: str) -> float | None:
    """upper - lower where it is positive, clear of zero; else None, and nothing is to explain."""
    lead = difference(values, upper, lower)
    return None if lead is None or not lead.low > 0 else lead.mean


def closes(d: Interval, gap: float, sure: Interval | None = None) -> bool | None:
    """Whether a difference to the lower arm closes half of the gap or more; None: undecided.

    `sure` is the same difference as one of several, any of which would be taken for a yes.
    """
    if d.high < gap / 2:
        return False
    return True if (sure or d).low > 0 and d.mean >= gap / 2 else None


def falls(d: Interval, gap: float, sure: Interval | None = None) -> bool | None:
    """Whether a difference to the upper arm loses half of the gap or more; as `closes`."""
    return closes(-d, gap, None if sure is None else -sure)


def decide(
    prediction: Prediction,
    values: Values,
    gap: float | None,
    upper: str,
    lower: str,
    measured: Mapping[str, Sequence[float]],
) -> Decided:
    """Hold one prediction against one metric, by the rules of this module. Arms that were not
    trained, or whose students blew up, leave it undecided, as does a metric without a gap."""
    kind = prediction.kind
    if kind == "measured":
        values_measured = list(measured.get(prediction.measured, ()))
        interval = prediction.within.clip(vector_interval(values_measured))
        return Decided(_sign(interval), prediction.measured, interval)
    if kind in ("rescues", "harms", "spares"):
        other = lower if kind == "rescues" else upper
        pairs = {arm: (arm, other) for arm in prediction.arms}
        test: Test = closes if kind == "rescues" else falls
    else:
        pairs = {f"{a} \N{MINUS SIGN} {b}": (a, b) for a, b in prediction.pairs}
        test = closes if kind == "vanishes" else _exceeds
    differences = {name: difference(values, *arms) for name, arms in pairs.items()}
    known = {name: d for name, d in differences.items() if d is not None and math.isfinite(d.low)}
    if not known:
        return Decided(None)
    sure = {name: difference(values, *pairs[name], of=len(known)) for name in known}
    outcomes = {
        name: None if gap is None else test(d, gap, sure[name]) for name, d in known.items()
    }
    missing = len(known) < len(differences)
    if kind in ("rescues", "harms"):
        holds = _any(outcomes.values(), missing)
    else:
        as_predicted = [None if o is None else o == (kind == "exceeds") for o in outcomes.values()]
        holds = _all(as_predicted, missing)
    largest_is_telling = kind in ("rescues", "vanishes")
    pick = max if largest_is_telling else min
    arm = pick(known, key=lambda name: known[name].mean)
    return Decided(holds, arm, known[arm])


def conclude(holds: Sequence[bool | None]) -> Verdict:
    """The verdict from all of an explanation's predictions."""
    yes, no, open_ = holds.count(True), holds.count(False), holds.count(None)
    if yes and no:
        return "mixed"
    if no:
        return "contradicted"
    if yes:
        return "supported in part" if open_ else "supported"
    return "undecided"


def judge(
    explanations: Sequence[Explanation],
    metrics: Mapping[str, Values],
    *,
    upper: str = "adamw",
    lower: str = "sgd",
    measured: Mapping[str, Sequence[float]] | None = None,
) -> tuple[JudgedExplanation, ...]:
    """Every explanation: each prediction held against each metric, and a verdict a metric.

    Args:
      metrics: for each metric, what every arm transmits.
      measured: for "measured" predictions, differences by vector.

    A metric in which the upper arm is not clearly above the lower one has the verdict "no gap".
    """
    judged = []
    gaps = {name: gap_between(values, upper, lower) for name, values in metrics.items()}
    for explanation in explanations:
        predictions = tuple(
            JudgedPrediction(
                prediction.says,
                prediction.kind,
                {
                    name: decide(prediction, values, gaps[name], upper, lower, measured or {})
                    for name, values in metrics.items()
                },
            )
            for prediction in explanation.predictions
        )
        verdicts: dict[str, Verdict] = {
            name: "no gap"
            if gaps[name] is None
            else conclude([p.by_metric[name].holds for p in predictions])
            for name in metrics
        }
        judged.append(
            JudgedExplanation(explanation.name, explanation.source, predictions, verdicts)
        )
    return tuple(judged)


def _exceeds(d: Interval, gap: float, sure: Interval | None = None) -> bool | None:
    if d.low > 0:
        return True
    return False if (sure or d).high < gap / 4 else None


def _sign(d: Interval) -> bool | None:
    if d.low > 0:
        return True
    return False if d.high < 0 else None


def _any(outcomes: Any, missing: bool) -> bool | None:
    outcomes = list(outcomes)
    if True in outcomes:
        return True
    return None if missing or None in outcomes else False


def _all(outcomes: Any, missing: bool) -> bool | None:
    outcomes = list(outcomes)
    if False in outcomes:
        return False
    return None if missing or None in outcomes else True
