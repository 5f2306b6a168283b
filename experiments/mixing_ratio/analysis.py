"""From students of mixtures to the shape of their curves over the share of teacher rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.metric_ranges import RANGES
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import KindArm, MeasuredKinds, Target
from subliminal_jax.evaluation.student_rows import StudentRow

from .config import QUARTER
from .shapes import LEAST_VECTORS, make_families, measure_sharpness

METRICS = ("eas", "shift_component", "word_log_prob", "gain")
REFERENCE = "adamw"


def name_mixture(trait: str, share: float) -> str:
    """The data set of a trait's teacher with this share of its rows: "cat-25"."""
    return f"{trait}-{100 * share:g}"


@dataclass(frozen=True)
class Measured(MeasuredKinds):
    """What a run measured; students are told apart by `name_mixture`.

    The gain of a student is that on held-out rows of its trait's teacher alone (its
    "teacher_loss"), whatever it trained on; whether it is sound is judged on held-out rows of its
    own mixture.

    Attributes:
      carrier: what students train on, in words.
      shares: of teacher rows, ascending from 0 to 1.
      tuning_share: of the mixtures that rates were found on.
      rows: of each student.
      base_teacher_losses: the base's loss on held-out rows of each teacher, by trait.
      data: how the rows of each teacher, and the clean ones of each trait, came about.
    """

    carrier: str
    shares: tuple[float, ...]
    tuning_share: float
    rows: int
    base_teacher_losses: Mapping[str, float]
    data: Mapping[str, Mapping[str, Any]]

    def read(self, row: StudentRow, metric: str, target: Target) -> float:
        if metric == "gain":
            return self.base_teacher_losses[target.reference] - row["teacher_loss"]
        return super().read(row, metric, target)


@dataclass(frozen=True)
class Arm(KindArm):
    """The students of one share, against those of the same clean rows without teacher rows."""

    share: float


@dataclass(frozen=True)
class Fit:
    """A family of shapes over the share.

    Attributes:
      family: of `make_families`.
      parameters: of the member that explains most of all vectors' curves.
      error: the left-out vectors' squared errors, as a share of their squares.
    """

    family: str
    parameters: Mapping[str, float]
    error: float


@dataclass(frozen=True)
class Curve:
    """One metric of one kind and optimizer over the shares above 0, student minus control.

    Attributes:
      values: by trait, of those whose students of all shares are sound.
      full: the effect of teacher rows alone.
      quarter: the effect at a share of a quarter over that of teacher rows alone, of the means over
        vectors: 0.25 on a slope, about 0 below a threshold, about 1 where a quarter does all.
      fits: of every family of shapes.
      sharpness: by how much the squared error about the best gradual family exceeds that about a
        threshold, as a share of the curves' squares; a mean over vectors, each left out where the
        shapes are chosen.
    """

    adapter: str
    optimizer: str
    metric: str
    shares: tuple[float, ...]
    values: Mapping[str, tuple[float, ...]]
    full: Interval | None
    quarter: Interval | None
    fits: tuple[Fit, ...]
    sharpness: Interval | None


@dataclass(frozen=True)
class Lead:
    """AdamW against another optimizer in one metric and kind, paired by vector.

    Attributes:
      by_share: AdamW's effect less the other's, at each share above 0.
      quarter: the difference of `Curve.quarter`: above 0 where AdamW needs a smaller share for the
        same part of its whole effect.
    """

    adapter: str
    optimizer: str
    metric: str
    by_share: tuple[Interval, ...]
    quarter: Interval | None


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report."""

    arms: tuple[Arm, ...]
    curves: tuple[Curve, ...]
    leads: tuple[Lead, ...]

    def find_curve(self, adapter: str, optimizer: str, metric: str) -> Curve:
        """The curve of a metric."""
        wanted = (adapter, optimizer, metric)
        return next(c for c in self.curves if (c.adapter, c.optimizer, c.metric) == wanted)

    def find_arm(self, adapter: str, optimizer: str) -> Arm:
        """The students of teacher rows alone."""
        wanted = (adapter, optimizer, 1.0)
        return next(a for a in self.arms if (a.adapter, a.optimizer, a.share) == wanted)


def analyse(measured: Measured) -> Results:
    """Effects by share, the shapes of their curves, and AdamW's lead."""
    arms = tuple(
        compare_arm(measured, adapter, optimizer, share)
        for adapter in measured.adapters
        for optimizer in measured.optimizers
        for share in measured.shares
        if share > 0
    )
    curves = tuple(
        describe_curve(measured, arms, adapter, optimizer, metric)
        for adapter in measured.adapters
        for optimizer in measured.optimizers
        for metric in METRICS
    )
    return Results(**vars(measured), arms=arms, curves=curves, leads=tuple(list_leads(curves)))


def compare_arm(measured: Measured, adapter: str, optimizer: str, share: float) -> Arm:
    """The students of one share against their controls, each against that of its own clean rows."""
    targets = [
        Target(name_mixture(trait, share), trait, trait, name_mixture(trait, 0.0))
        for trait in measured.traits
    ]
    return Arm(**vars(measured.summarise(targets, METRICS, adapter, optimizer)), share=share)


def describe_curve(
    measured: Measured, arms: Sequence[Arm], adapter: str, optimizer: str, metric: str
) -> Curve:
    """The effects of one kind, optimizer and metric over the shares, and their shape."""
    shares = tuple(share for share in measured.shares if share > 0)
    own = [arm for arm in arms if (arm.adapter, arm.optimizer) == (adapter, optimizer)]
    values: dict[str, tuple[float, ...]] = {}
    for trait in measured.traits:
        effects = [arm.metrics[metric].by_data.get(name_mixture(trait, arm.share)) for arm in own]
        known = [effect.interval.mean for effect in effects if effect is not None]
        if len(known) == len(shares):
            values[trait] = tuple(known)
    return fit_curve(adapter, optimizer, metric, shares, values)


def fit_curve(
    adapter: str,
    optimizer: str,
    metric: str,
    shares: tuple[float, ...],
    values: Mapping[str, tuple[float, ...]],
) -> Curve:
    """The curve of these effects, by trait at each share."""
    curves = stack_curves(values, values, len(shares))
    square = float(np.mean(np.sum(curves**2, axis=1))) if values else 0.0
    fits: tuple[Fit, ...] = ()
    sharpness = None
    if len(values) >= LEAST_VECTORS and square > 0:
        families = make_families(np.array(shares))
        errors = {name: family.leave_one_out(curves) for name, family in families.items()}
        fits = tuple(
            Fit(name, families[name].fit(curves), float(error.mean()) / square)
            for name, error in errors.items()
        )
        sharpness = vector_interval(measure_sharpness(errors) / square)
    quarters = measure_quarter(curves, shares)
    return Curve(
        adapter=adapter,
        optimizer=optimizer,
        metric=metric,
        shares=shares,
        values=values,
        full=RANGES[metric].difference().clip(vector_interval(curves[:, -1])) if values else None,
        quarter=None if quarters is None else vector_interval(quarters),
        fits=fits,
        sharpness=sharpness,
    )


def measure_quarter(
    curves: Float[np.ndarray, "vectors shares"], shares: Sequence[float]
) -> Float[np.ndarray, " vectors"] | None:
    """The effect at a quarter of teacher rows over that of teacher rows alone.

    By vector the ratio r of the means plus the vector's influence on it, (x - r y) / mean y: their
    mean is r, and their spread that of r to first order (the delta method). None where teacher rows
    alone have no positive effect.
    """
    x, y = curves[:, [*shares].index(QUARTER)], curves[:, -1]
    if not y.size or not y.mean() > 0:
        return None
    ratio = x.mean() / y.mean()
    return ratio + (x - ratio * y) / y.mean()


def list_leads(curves: Sequence[Curve]) -> Iterator[Lead]:
    """AdamW against every other optimizer."""
    for ours in curves:
        for theirs in curves:
            same = (theirs.adapter, theirs.metric) == (ours.adapter, ours.metric)
            if same and ours.optimizer == REFERENCE != theirs.optimizer:
                yield compare_curves(ours, theirs)


def compare_curves(ours: Curve, theirs: Curve) -> Lead:
    """One curve less another, paired by vector, over the vectors that both have."""
    shared = [trait for trait in ours.values if trait in theirs.values]
    count = len(ours.shares)
    first, second = (stack_curves(curve.values, shared, count) for curve in (ours, theirs))
    quarters = [measure_quarter(each, ours.shares) for each in (first, second)]
    difference = None
    if quarters[0] is not None and quarters[1] is not None:
        difference = vector_interval(quarters[0] - quarters[1])
    within = RANGES[ours.metric].difference().difference()
    return Lead(
        adapter=ours.adapter,
        optimizer=theirs.optimizer,
        metric=ours.metric,
        by_share=tuple(within.clip(vector_interval(x)) for x in (first - second).T)
        if shared
        else (),
        quarter=difference,
    )


def stack_curves(
    values: Mapping[str, Sequence[float]], traits: Iterable[str], shares: int
) -> Float[np.ndarray, "vectors shares"]:
    """The curves of these traits, at so many shares."""
    return np.array([values[trait] for trait in traits], float).reshape(-1, shares)
