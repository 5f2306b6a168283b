"""Comparing optimizers: each at its best learning rate, and all at one training loss.

A row is one student: optimizer, learning_rate, seed, data ("steered" or "control"), diverged, and
its measured numbers (None where it has none). The best rate is chosen on the held-out loss of the
training kind, never on what is reported about the trait. A student that ended above the base's own
held-out loss is unstable: it is counted, has no part in any mean, and its rate cannot be the best.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.matching import bracket_level
from subliminal_jax.evaluation.metric_ranges import find_range
from subliminal_jax.evaluation.statistics import Interval, mean_interval, paired_difference
from subliminal_jax.evaluation.student_rows import ended_sound, is_unstable

# A level is read between two logged rows where the loss falls between them by no more than this
# part of its fall from the first row to the level: so much of a bend does a straight line hide.
WIDEST = 1 / 3
Row = Mapping[str, Any]
# The logged rows of steered students by optimizer and seed, in the order of their steps (0 is
# before training).
Histories = Mapping[tuple[str, int], Sequence[Row]]


@dataclass(frozen=True)
class MetricSummary:
    """One metric over seeds; the difference is paired by seed, None where there is no pair."""

    student: Interval
    control: Interval
    difference: Interval | None


@dataclass(frozen=True)
class BestStudents:
    """The students of one optimizer at its best rate.

    Attributes:
      learning_rate: None where at every rate some student diverged or was unstable; no metric then
        has values.
      grid: the rates tried.
      grid_edge: whether the best rate is at the edge of the grid.
      diverged_rates: those at which some student diverged.
      unstable_rates: those at which some student, or control, ended above the base's held-out loss.
    """

    optimizer: str
    learning_rate: float | None
    grid: tuple[float, ...]
    grid_edge: bool
    diverged_rates: tuple[float, ...]
    metrics: Mapping[str, MetricSummary]
    unstable_rates: tuple[float, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class MatchedStudents:
    """The students of one optimizer where their training loss first reaches the common level.

    Attributes:
      students: how many there are.
      bracketed: how many of them have logged rows close enough on both sides of the level; values
        are of these alone.
      step: where the level lies; None where none is bracketed.
      metrics: empty then.
      by_seed: each metric of the bracketed students.
    """

    optimizer: str
    students: int
    bracketed: int
    step: Interval | None
    metrics: Mapping[str, Interval]
    by_seed: Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class MatchedLoss:
    """Every optimizer at one training loss, in nats per predicted token; None without students that
    learned anything."""

    loss: float | None
    students: tuple[MatchedStudents, ...]


@dataclass(frozen=True)
class Curve:
    """EAS over steps of the steered students of one optimizer: mean, lowest and highest seed."""

    optimizer: str
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class TopShares:
    """Shares of a whole in the largest 0.1%, 1% and 10% of the coordinates."""

    thousandth: float
    hundredth: float
    tenth: float


@dataclass(frozen=True)
class StepAnatomy:
    """What gradients (taken with a minus sign) or updates hold of the steering direction.

    Attributes:
      norm: of the step.
      component: along the gradient of the steering score.
      cosine: of the two.
      top_mass, top_component: shares of the squared step and of the component in its largest
        coordinates.
      decile_mass, decile_component: those shares by tenth of the coordinates, the largest gradients
        first.
      a_mass, a_component: those shares in LoRA's A; None without LoRA.
    """

    norm: float
    component: float
    cosine: float
    top_mass: TopShares
    top_component: TopShares
    decile_mass: tuple[float, ...]
    decile_component: tuple[float, ...]
    a_mass: float | None
    a_component: float | None


@dataclass(frozen=True)
class Anatomy:
    """Gradients and updates of one optimizer at its best rate."""

    optimizer: str
    gradient: StepAnatomy
    update: StepAnatomy


def best_rates(
    rows: Sequence[Row], controls: Sequence[str] = ("control",)
) -> dict[str, float | None]:
    """For each optimizer the rate with the lowest mean held-out loss over its students but those of
    the data sets `controls`.

    A rate at which any seed diverged or ended unstable is out; None where that leaves none.
    """
    best: dict[str, float | None] = {}
    for optimizer in _unique(rows, "optimizer"):
        students = [r for r in rows if r["optimizer"] == optimizer and r["data"] not in controls]
        losses = {}
        for rate in _unique(students, "learning_rate"):
            at_rate = [r for r in students if r["learning_rate"] == rate]
            if all(ended_sound(r) and r["heldout_loss"] is not None for r in at_rate):
                losses[rate] = float(np.mean([r["heldout_loss"] for r in at_rate]))
        best[optimizer] = min(losses, key=lambda rate: losses[rate]) if losses else None
    return best


def group_histories(
    logged: Iterable[Row], best: Mapping[str, float | None]
) -> dict[tuple[str, int], list[Row]]:
    """The logged rows of the steered students at their best rates, as long as their loss is finite,
    by optimizer (in the order of `best`) and seed."""
    histories: dict[tuple[str, int], list[Row]] = {}
    for row in logged:
        at_best = row["learning_rate"] == best.get(row["optimizer"])
        finite = not row["diverged"] and row["train_loss"] is not None  # None: it was not
        if at_best and finite and row["data"] == "steered":
            histories.setdefault((row["optimizer"], row["seed"]), []).append(row)
    order = list(best)
    return dict(sorted(histories.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


def is_at_edge(rate: float | None, grid: Sequence[float]) -> bool:
    """Whether the best rate is the lowest or the highest of several, so that a better one may lie
    outside."""
    return rate is not None and len(grid) > 1 and rate in (min(grid), max(grid))


def summarise_best(
    rows: Sequence[Row], best: Mapping[str, float | None], metrics: Sequence[str]
) -> tuple[BestStudents, ...]:
    """Every optimizer at its best rate: the metrics of its students, its controls, and their
    difference. An optimizer without a sound rate is there too, without values."""
    summaries = []
    for optimizer, rate in best.items():
        students = [r for r in rows if r["optimizer"] == optimizer]
        grid = sorted(_unique([r for r in students if r["data"] == "steered"], "learning_rate"))
        summaries.append(
            BestStudents(
                optimizer=optimizer,
                learning_rate=rate,
                grid=tuple(grid),
                grid_edge=is_at_edge(rate, grid),
                diverged_rates=tuple(
                    sorted({r["learning_rate"] for r in students if r["diverged"]})
                ),
                metrics={metric: _summarise(students, rate, metric) for metric in metrics},
                unstable_rates=tuple(
                    sorted({r["learning_rate"] for r in students if is_unstable(r)})
                ),
            )
        )
    return tuple(summaries)


def match_training_loss(histories: Histories, metrics: Sequence[str]) -> MatchedLoss:
    """The metrics of every optimizer where its training loss first reaches one common level.

    The level is the lowest at which every student that learned anything ends (the largest of their
    last losses). Between two logged rows that bracket it closely (`WIDEST`) the metrics are
    interpolated linearly in the loss; where no two do, the student has no value. Before the first
    step a student has no direction, so that an EAS is not read next to step 0.
    """
    sound = {key: rows for key, rows in histories.items() if rows}
    learned = [r for r in sound.values() if r[-1]["train_loss"] < r[0]["train_loss"]]
    if not learned:
        return MatchedLoss(None, ())
    level = float(max(rows[-1]["train_loss"] for rows in learned))
    students = []
    for optimizer in dict.fromkeys(name for name, _ in sound):
        seeds = {seed: rows for (name, seed), rows in sound.items() if name == optimizer}
        values = {
            seed: reading
            for seed, rows in seeds.items()
            if (reading := _read_loss(rows, level, metrics)) is not None
        }
        intervals = {
            key: find_range(key).clip(mean_interval([reading[key] for reading in values.values()]))
            for key in ("step", *metrics)
            if values
        }
        students.append(
            MatchedStudents(
                optimizer=optimizer,
                students=len(seeds),
                bracketed=len(values),
                step=intervals.pop("step", None),
                metrics=intervals,
                by_seed=values,
            )
        )
    return MatchedLoss(level, tuple(students))


def average_curves(histories: Histories, optimizers: Sequence[str]) -> tuple[Curve, ...]:
    """EAS over the steps that all seeds of an optimizer have, from the first one on: a loss that is
    not finite at one step leaves a gap."""
    curves = []
    for name in optimizers:
        trained = [_after_steps(h) for (optimizer, _), h in histories.items() if optimizer == name]
        seeds = [rows for rows in trained if rows]
        if not seeds:
            continue
        common = set.intersection(*({row["step"] for row in rows} for rows in seeds))
        seeds = [[row for row in rows if row["step"] in common] for rows in seeds]
        values = np.array([[row["eas"] for row in rows] for rows in seeds])
        curves.append(
            Curve(
                optimizer=name,
                steps=tuple(row["step"] for row in seeds[0]),
                mean=tuple(values.mean(axis=0).tolist()),
                low=tuple(values.min(axis=0).tolist()),
                high=tuple(values.max(axis=0).tolist()),
            )
        )
    return tuple(curves)


def average_anatomies(histories: Histories) -> tuple[Anatomy, ...]:
    """What gradients and updates hold of the steering direction, by optimizer at its best rate.

    Means over seeds and logged steps; shares of a component are ratios of means, since the
    component of a single step may be close to zero.
    """
    anatomies = []
    for name in dict.fromkeys(optimizer for optimizer, _ in histories):
        logged = [
            row
            for (optimizer, _), rows in histories.items()
            if optimizer == name
            for row in _after_steps(rows)
        ]
        if logged:
            gradient, update = (_average_steps(logged, step) for step in ("gradient", "update"))
            anatomies.append(Anatomy(name, gradient, update))
    return tuple(anatomies)


def _average_steps(logged: Sequence[Row], step: str) -> StepAnatomy:
    """`logged` rows of one optimizer, with the columns of `UpdateAnatomy`; `step` is gradient or
    update."""
    components = np.array([row[f"{step}_component"] for row in logged])

    def mean(key: str) -> Float[np.ndarray, "*parts"]:
        return np.asarray(np.mean([row[f"{step}_{key}"] for row in logged], axis=0))

    def share(key: str) -> Float[np.ndarray, "*parts"]:
        shares = np.array([row[f"{step}_{key}"] for row in logged])
        weighted = shares * components.reshape(-1, *[1] * (shares.ndim - 1))
        return np.asarray(weighted.sum(axis=0) / components.sum())

    lora = f"{step}_a_mass" in logged[0]
    return StepAnatomy(
        norm=float(mean("norm")),
        component=float(mean("component")),
        cosine=float(mean("cosine")),
        top_mass=TopShares(*mean("top_mass").tolist()),
        top_component=TopShares(*share("top_component").tolist()),
        decile_mass=tuple(mean("decile_mass").tolist()),
        decile_component=tuple(share("decile_component").tolist()),
        a_mass=float(mean("a_mass")) if lora else None,
        a_component=float(share("a_component")) if lora else None,
    )


def _summarise(students: Sequence[Row], rate: float | None, metric: str) -> MetricSummary:
    steered, control = (
        {
            r["seed"]: r[metric]
            for r in students
            if (r["data"], r["learning_rate"]) == (data, rate)
            and ended_sound(r)
            and r[metric] is not None
        }
        for data in ("steered", "control")
    )
    seeds = sorted(steered.keys() & control.keys())
    within, difference = find_range(metric), None
    if seeds:
        pairs = [steered[s] for s in seeds], [control[s] for s in seeds]
        difference = within.difference().clip(paired_difference(*pairs).interval)
    student, base = (within.clip(mean_interval([*x.values()])) for x in (steered, control))
    return MetricSummary(student, base, difference)


def _read_loss(
    rows: Sequence[Row], level: float, metrics: Sequence[str]
) -> dict[str, float] | None:
    """Step and metrics where the loss first falls to `level`; None where that cannot be read."""
    losses = [row["train_loss"] for row in rows]
    bracket = bracket_level(losses, level)
    if bracket is None or losses[bracket.first] < losses[bracket.first + 1]:
        return None
    first, second = bracket.first, bracket.first + 1
    exact = bracket.weight in (0, 1)  # a row is at the level itself
    if not exact and losses[first] - losses[second] > WIDEST * (losses[0] - level):
        return None
    if "eas" in metrics and bracket.weight < 1 and rows[first]["step"] == 0:
        return None
    return {key: bracket.interpolate([row[key] for row in rows]) for key in ("step", *metrics)}


def _after_steps(rows: Sequence[Row]) -> list[Row]:
    """The logged rows but that of step 0, which has neither a direction nor a gradient."""
    return [row for row in rows if row["step"] > 0]


def _unique(rows: Sequence[Row], key: str) -> list[Any]:
    return list(dict.fromkeys(r[key] for r in rows))
