"""From forecasts and finished students to rank correlations over teachers and rules."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float

from subliminal_jax.evaluation.jackknife import jackknife
from subliminal_jax.evaluation.metric_ranges import COSINE, UNBOUNDED, MetricRange
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import KindArm, MeasuredKinds, Target

from .forecasts import Forecast

METRICS = ("eas", "shift_component")  # what is transmitted
FORECASTS = ("coverage", "component", "gradient")  # of `Forecast`, that are held against it
# The first steps of rules that take the gradient's sign differ by the epsilon of a division, or by
# rounding: by some thousandth of their coverage, which ranks nothing.
TIE = 0.01
LEAST = 4  # traits, or rules of one teacher, for a rank correlation


@dataclass(frozen=True)
class Measured(MeasuredKinds):
    """What a run measured; the data set of a teacher is KIND-TRAIT.

    Attributes:
      teacher_kinds: of "steered" and "fine-tuned".
      carrier: what students train on, in words.
      gradient_rows: over which first gradients were taken.
      base_rates, teacher_rates: P(trait) of the base by trait, and of each teacher.
      forecasts: of every reported data set.
      data: how each data set came about.
    """

    teacher_kinds: tuple[str, ...]
    carrier: str
    gradient_rows: int
    base_rates: Mapping[str, float]
    teacher_rates: Mapping[str, float]
    forecasts: tuple[Forecast, ...]
    data: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Point:
    """One student of a teacher: what was forecast of it, and what it took up, student minus
    controls."""

    trait: str
    teacher: str
    optimizer: str
    coverage: float
    component: float
    gradient: float
    eas: float
    shift_component: float


Statistic = Callable[[Sequence[Point]], float]


@dataclass(frozen=True)
class Arm(KindArm):
    """The students of one rule and kind of teacher.

    Attributes:
      teacher: the kind.
      coverage: of their data, over traits; `control_coverage` is that of the controls' data, held
        against the same teachers.
      component: of the first update along the displacement, over traits.
      gradient: the alignment of the gradient, over traits.
      step: the rule's step at which it first moves.
    """

    teacher: str
    coverage: Interval | None
    control_coverage: float | None
    component: Interval | None
    gradient: Interval | None
    step: int | None


@dataclass(frozen=True)
class Correlation:
    """A rank correlation of a forecast with what was transmitted.

    Attributes:
      scope: "teachers" (of one rule), "pooled" (over teachers and rules), "rules" (within a
        teacher, the mean over teachers), or "added" (pooled, of coverage less that of the plain
        gradient).
      optimizer: the rule of the scope "teachers", else "".
      teacher: the kind of teachers; "all" for every kind together.
      points: students.
      value: with an interval over traits by the jackknife; None where there is none.
    """

    adapter: str
    scope: str
    optimizer: str
    teacher: str
    forecast: str
    metric: str
    points: int
    value: Interval | None


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report; `points` are by adapter."""

    arms: tuple[Arm, ...]
    points: Mapping[str, tuple[Point, ...]]
    correlations: tuple[Correlation, ...]

    def find(self, **which: str) -> Correlation:
        """The correlation of these attributes."""
        return next(
            c for c in self.correlations if all(getattr(c, k) == x for k, x in which.items())
        )

    def list_teachers(self) -> tuple[str, ...]:
        """The kinds of teachers, and "all" where there are several."""
        return list_scopes(self)


def analyse(measured: Measured) -> Results:
    """Every rule and kind of teacher, and what of it was forecast."""
    arms = tuple(
        compare_arm(measured, adapter, optimizer, teacher)
        for adapter in measured.adapters
        for teacher in measured.teacher_kinds
        for optimizer in measured.optimizers
    )
    points = {
        adapter: tuple(list_points(measured, [a for a in arms if a.adapter == adapter]))
        for adapter in measured.adapters
    }
    correlations = tuple(
        correlation
        for adapter, each in points.items()
        for correlation in correlate_all(measured, adapter, each)
    )
    return Results(**vars(measured), arms=arms, points=points, correlations=correlations)


def compare_arm(measured: Measured, adapter: str, optimizer: str, teacher: str) -> Arm:
    """The students of one rule on the data of one kind of teacher."""
    names = {f"{teacher}-{trait}": trait for trait in measured.traits}
    targets = [Target(name, trait, name) for name, trait in names.items()]
    own = [
        f
        for f in measured.forecasts
        if (f.adapter, f.optimizer) == (adapter, optimizer) and f.reference in names
    ]
    taught = [f for f in own if f.data == f.reference]
    controls = [f.coverage for f in own if f.data != f.reference]

    def average(name: str, within: MetricRange = COSINE) -> Interval | None:
        values = [getattr(f, name) for f in taught]
        return within.clip(vector_interval(values)) if values else None

    return Arm(
        **vars(measured.summarise(targets, (*METRICS, "word_log_prob"), adapter, optimizer)),
        teacher=teacher,
        coverage=average("coverage"),
        control_coverage=float(np.mean(controls)) if controls else None,
        component=average("component", UNBOUNDED),
        gradient=average("gradient"),
        step=taught[0].step if taught else None,
    )


def list_points(measured: Measured, arms: Sequence[Arm]) -> Iterator[Point]:
    """The sound students that have a sound control, with what was forecast of them."""
    forecasts = {
        (f.adapter, f.optimizer, f.data): f for f in measured.forecasts if f.data == f.reference
    }
    for arm in arms:
        eas, share = (arm.metrics[metric].by_data for metric in METRICS)
        for name in eas:
            forecast = forecasts[arm.adapter, arm.optimizer, name]
            yield Point(
                trait=name.removeprefix(f"{arm.teacher}-"),
                teacher=arm.teacher,
                optimizer=arm.optimizer,
                coverage=forecast.coverage,
                component=forecast.component,
                gradient=forecast.gradient,
                eas=eas[name].interval.mean,
                shift_component=share[name].interval.mean,
            )


def list_scopes(measured: Measured) -> tuple[str, ...]:
    """The kinds of teachers, and "all" where there are several."""
    kinds = measured.teacher_kinds
    return kinds if len(kinds) == 1 else (*kinds, "all")


def of_trait(point: Point) -> str:
    """What points are left out together by."""
    return point.trait


def correlate_all(
    measured: Measured, adapter: str, points: Sequence[Point]
) -> Iterator[Correlation]:
    """All scopes, forecasts and metrics of one kind of student."""
    for teacher in list_scopes(measured):
        own = [p for p in points if teacher in (p.teacher, "all")]
        for metric in METRICS:
            make = partial(
                Correlation, adapter=adapter, teacher=teacher, metric=metric, points=len(own)
            )
            for forecast in FORECASTS:
                rank = rank_points(forecast, metric)
                for name in measured.optimizers:
                    some = [p for p in own if p.optimizer == name]
                    found = make(
                        scope="teachers",
                        optimizer=name,
                        forecast=forecast,
                        value=jackknife(some, of_trait, rank, LEAST),
                    )
                    yield replace(found, points=len(some))
                value = jackknife(own, of_trait, rank, LEAST)
                yield make(scope="pooled", optimizer="", forecast=forecast, value=value)
                if forecast != "gradient":  # which is the same for all rules
                    value = rank_rules(own, rank_points(forecast, metric, TIE))
                    yield make(scope="rules", optimizer="", forecast=forecast, value=value)
            value = jackknife(own, of_trait, compare_forecasts(metric), LEAST, COSINE.difference())
            yield make(scope="added", optimizer="", forecast="coverage", value=value)


def compare_forecasts(metric: str) -> Statistic:
    """The correlation of coverage less that of the gradient's alignment."""
    coverage, gradient = (rank_points(name, metric) for name in ("coverage", "gradient"))
    return lambda points: coverage(points) - gradient(points)


def rank_points(forecast: str, metric: str, tie: float = 0.0) -> Statistic:
    """The statistic that is Spearman's correlation of a forecast and a metric; NaN where a side
    does not vary.

    Args:
      tie: forecasts that differ from the next by no more than this share of it are equal.
    """

    def rank(points: Sequence[Point]) -> float:
        x = join_ties([getattr(p, forecast) for p in points], tie)
        y = [getattr(p, metric) for p in points]
        if len(points) < LEAST or np.ptp(x) == 0 or np.ptp(y) == 0:
            return float("nan")
        return float(scipy.stats.spearmanr(x, y).statistic)

    return rank


def join_ties(values: Sequence[float], tie: float) -> Float[np.ndarray, " n"]:
    """The values, of which each that is within the share `tie` of the next lower one equals it."""
    x = np.asarray(values, float)
    order = np.argsort(x)
    joined = x.copy()
    for low, high in pairwise(order):
        if x[high] - x[low] <= tie * max(abs(x[high]), abs(x[low])):
            joined[high] = joined[low]
    return joined


def rank_rules(points: Sequence[Point], rank: Statistic) -> Interval | None:
    """The correlation over the rules of one teacher, a mean over teachers with an interval over
    traits; of teachers with `LEAST` rules."""
    by_trait: dict[str, list[float]] = {}
    for trait, teacher in dict.fromkeys((p.trait, p.teacher) for p in points):
        value = rank([p for p in points if (p.trait, p.teacher) == (trait, teacher)])
        if np.isfinite(value):
            by_trait.setdefault(trait, []).append(value)
    means = [float(np.mean(values)) for values in by_trait.values()]
    return COSINE.clip(vector_interval(means)) if means else None
