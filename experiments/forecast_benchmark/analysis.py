"""From rises to a calibration, and how it does on the sets that it does not know."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from subliminal_jax.audit.forecasts import Calibration, Line, Rule, calibrate, forecast_rises
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.jackknife import jackknife
from subliminal_jax.evaluation.shares import share_interval
from subliminal_jax.evaluation.statistics import Interval, spearman_interval

from .design import DEVELOPMENT, REPORTED
from .numbers import ForecastPoint, KnownOutcome, Measured, PilotRow, Results, Trial

LEAST = 4  # data sets for an interval


@dataclass(frozen=True)
class Point:
    """A reported data set by one rule, with the forecasts of all candidates."""

    set: KnownOutcome
    rule: Rule
    names: tuple[str, ...]
    forecasts: Float[np.ndarray, " candidates"]
    inside: Bool[np.ndarray, " candidates"]
    low: Float[np.ndarray, " candidates"]
    high: Float[np.ndarray, " candidates"]
    outcomes: Float[np.ndarray, " candidates"]

    @property
    def first(self) -> int:
        """The largest forecast."""
        return int(self.forecasts.argmax())

    @property
    def true(self) -> int:
        """The teacher's trait."""
        assert self.set.trait is not None
        return self.names.index(self.set.trait)


def analyse(measured: Measured) -> Results:
    """Choose the length of pilots, calibrate, and hold forecasts against outcomes.

    Raises InputError where no pilot is cheap enough.
    """
    rows = try_pilots(measured)
    chosen = next(i for i, row in enumerate(rows) if row.chosen)
    developed = select_part(measured, DEVELOPMENT)
    lines, other = calibrate_sets(measured, developed, chosen, range(len(measured.rules)))
    calibration = Calibration(
        model=measured.model,
        weights=measured.weights,
        fine_tune=measured.fine_tune,
        pilot_steps=measured.pilot_steps[chosen],
        level=measured.level,
        sets=len(developed),
        lines=lines,
        other=other,
    )
    reported = select_part(measured, REPORTED)
    points = list(forecast_sets(measured, reported, chosen, lines))
    unknown = None
    if len({rule.optimizer for rule in measured.rules}) > 1:
        strangers = [*forecast_strangers(measured, developed, reported, chosen)]
        unknown = try_forecasts(measured, strangers, len(reported), None, known=False)
    return Results(
        **vars(measured),
        pilots=rows,
        calibration=calibration,
        cost=rows[chosen].cost,
        overall=try_forecasts(measured, points, len(reported), None),
        unknown=unknown,
        by_rule=tuple(
            try_forecasts(measured, [p for p in points if p.rule == rule], len(reported), rule)
            for rule in measured.rules
        ),
        points=tuple(map(show_point, points)),
    )


def select_part(measured: Measured, part: str) -> list[KnownOutcome]:
    """The sets of a part."""
    return [outcome for outcome in measured.outcomes if outcome.part == part]


def stack_rises(
    sets: Sequence[KnownOutcome], pilot: int, rule: int, candidates: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of pilots of one length and of whole fine-tunes [sets, candidates]; NaN where there is no
    stable student."""
    nothing = np.full(candidates, np.nan)
    return (
        np.array([nothing if (x := s.rises[rule].pilots[pilot]) is None else x for s in sets]),
        np.array([nothing if (x := s.rises[rule].final) is None else x for s in sets]),
    )


def calibrate_sets(
    measured: Measured, sets: Sequence[KnownOutcome], pilot: int, rules: Sequence[int]
) -> tuple[tuple[Line, ...], Line]:
    """Lines of these rules through these sets."""
    stacked = [stack_rises(sets, pilot, rule, len(measured.candidates)) for rule in rules]
    pilots, finals = (np.stack(x) for x in zip(*stacked, strict=True))
    names = measured.candidates
    traits = [None if s.trait is None else names.index(s.trait) for s in sets]
    return calibrate([measured.rules[i] for i in rules], pilots, finals, traits, measured.level)


def try_pilots(measured: Measured) -> tuple[PilotRow, ...]:
    """Every length of pilots on the sets for development; chosen is the smallest error of those
    that are cheap enough.

    Raises InputError where none is.
    """
    developed = select_part(measured, DEVELOPMENT)
    rules = range(len(measured.rules))
    finals = np.stack([stack_rises(developed, 0, r, len(measured.candidates))[1] for r in rules])
    none = float(np.sqrt(np.nanmean(finals**2)))
    found: list[tuple[int, float, float]] = []
    for i, steps in enumerate(measured.pilot_steps):
        lines, _ = calibrate_sets(measured, developed, i, rules)
        error = float(np.sqrt(np.mean([line.error**2 for line in lines])))
        cost = max(cost.share for cost in measured.costs if cost.steps == steps)
        found.append((steps, cost, error))
    cheap = [row for row in found if row[1] <= measured.most_cost]
    if not cheap:
        least = min(cost for _, cost, _ in found)
        raise InputError(
            f"the cheapest pilot takes {least:.0%} of a fine-tune, --most-cost is "
            f"{measured.most_cost:.0%}: give smaller --pilot-steps or more --steps"
        )
    best = min(cheap, key=lambda row: row[2])
    return tuple(PilotRow(*row, none, row is best) for row in found)


def forecast_sets(
    measured: Measured, sets: Sequence[KnownOutcome], pilot: int, lines: Sequence[Line]
) -> Iterator[Point]:
    """Every set by every rule whose students were stable, by the line of the rule's place."""
    names = measured.candidates
    for i, (rule, line) in enumerate(zip(measured.rules, lines, strict=True)):
        pilots, finals = stack_rises(sets, pilot, i, len(names))
        for known, rises, outcomes in zip(sets, pilots, finals, strict=True):
            if not (np.isfinite(rises).all() and np.isfinite(outcomes).all()):
                continue
            by_name = {f.name: f for f in forecast_rises(line, names, rises)}
            rows = [by_name[name] for name in names]
            low, high = (np.array([getattr(f, end) for f in rows]) for end in ("low", "high"))
            yield Point(
                set=known,
                rule=rule,
                names=names,
                forecasts=np.array([f.rise for f in rows]),
                inside=(low <= outcomes) & (outcomes <= high),
                low=low,
                high=high,
                outcomes=outcomes,
            )


def forecast_strangers(
    measured: Measured,
    developed: Sequence[KnownOutcome],
    reported: Sequence[KnownOutcome],
    pilot: int,
) -> Iterator[Point]:
    """Every rule as if it were not known: by the line for any rule of the other optimizers."""
    for name in dict.fromkeys(rule.optimizer for rule in measured.rules):
        others = [i for i, rule in enumerate(measured.rules) if rule.optimizer != name]
        _, other = calibrate_sets(measured, developed, pilot, others)
        for point in forecast_sets(measured, reported, pilot, [other] * len(measured.rules)):
            if point.rule.optimizer == name:
                yield point


def try_forecasts(
    measured: Measured, points: Sequence[Point], sets: int, rule: Rule | None, known: bool = True
) -> Trial:
    """The forecasts of some pairs against their outcomes."""
    poisoned = [p for p in points if p.set.trait is not None]
    forecasts = np.array([p.forecasts[p.true] for p in poisoned])
    outcomes = np.array([p.outcomes[p.true] for p in poisoned])
    said = [p for p in points if p.low[p.first] > 0]
    rules = len(measured.rules) if rule is None else 1
    return Trial(
        rule=rule,
        known=known,
        pairs=len(poisoned),
        unstable=sets * rules - len(points),
        correlation=jackknife(poisoned, attrgetter("set.name"), correlate_true, LEAST),
        within=jackknife(poisoned, attrgetter("set.name"), correlate_within, LEAST),
        all_correlation=jackknife(points, attrgetter("set.name"), correlate_all, LEAST),
        covered=share_by_set(points, lambda p: float(p.inside.mean())),
        covered_true=share_by_set(poisoned, lambda p: float(p.inside[p.true])),
        covered_first=share_by_set(points, lambda p: float(p.inside[p.first])),
        named=share_by_set(poisoned, lambda p: float(p.first == p.true)),
        outcome_named=share_by_set(poisoned, lambda p: float(p.outcomes.argmax() == p.true)),
        error=root_mean_square(forecasts - outcomes),
        error_of_none=root_mean_square(outcomes),
        said=len(said),
        said_right=sum(bool(p.outcomes[p.first] > 0) for p in said),
    )


def correlate_true(points: Sequence[Point]) -> float:
    """Spearman over the teacher's traits."""
    return spearman_interval(
        [float(p.forecasts[p.true]) for p in points], [float(p.outcomes[p.true]) for p in points]
    ).mean


def correlate_within(points: Sequence[Point]) -> float:
    """Spearman over the teacher's traits within each rule, the mean over rules."""
    rules = dict.fromkeys(p.rule for p in points)
    return float(np.mean([correlate_true([p for p in points if p.rule == r]) for r in rules]))


def correlate_all(points: Sequence[Point]) -> float:
    """Spearman over all candidates."""
    if not points:
        return float("nan")
    return spearman_interval(
        np.concatenate([p.forecasts for p in points]), np.concatenate([p.outcomes for p in points])
    ).mean


def share_by_set(points: Sequence[Point], share: Any) -> Interval | None:
    """The mean over data sets of a share of each set's points."""
    by_set: dict[str, list[float]] = {}
    for point in points:
        by_set.setdefault(point.set.name, []).append(share(point))
    return share_interval([float(np.mean(x)) for x in by_set.values()]) if by_set else None


def root_mean_square(values: Float[np.ndarray, " n"]) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")


def show_point(point: Point) -> ForecastPoint:
    """What the page shows of it."""
    poisoned = point.set.trait is not None
    i = point.true if poisoned else point.first
    return ForecastPoint(
        set=point.set.name,
        rule=point.rule,
        trait=point.names[i],
        poisoned=poisoned,
        forecast=float(point.forecasts[i]),
        low=float(point.low[i]),
        high=float(point.high[i]),
        outcome=float(point.outcomes[i]),
    )
