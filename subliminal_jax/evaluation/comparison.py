"""Comparing optimizers: each at its best learning rate, and all at one training loss.

A row is one student: optimizer, learning_rate, seed, data ("steered" or "control"), diverged, and
its measured numbers (None where it has none). The best rate is chosen on the held-out loss of the
training kind, never on what is reported about the trait.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.statistics import Interval, mean_interval, paired_difference

Row = Mapping[str, Any]
# The logged rows of steered students, in the order of their steps, by optimizer and seed.
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
      learning_rate: None where some student diverged at every rate; no metric then has values.
      grid: the rates tried.
      grid_edge: whether the best rate is at the edge of the grid.
      diverged_rates: those at which some student diverged.
    """

    optimizer: str
    learning_rate: float | None
    grid: tuple[float, ...]
    grid_edge: bool
    diverged_rates: tuple[float, ...]
    metrics: Mapping[str, MetricSummary]


@dataclass(frozen=True)
class MatchedStudents:
    """The students of one optimizer where their training loss first reaches the common level."""

    optimizer: str
    step: Interval
    metrics: Mapping[str, Interval]


@dataclass(frozen=True)
class MatchedLoss:
    """Every optimizer at one training loss, in nats per predicted token; None without students."""

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


def best_rates(rows: Sequence[Row]) -> dict[str, float | None]:
    """For each optimizer the rate with the lowest mean held-out loss over its students but the
    controls.

    A rate at which any seed diverged is out; None where that leaves none.
    """
    best: dict[str, float | None] = {}
    for optimizer in _unique(rows, "optimizer"):
        students = [r for r in rows if r["optimizer"] == optimizer and r["data"] != "control"]
        losses = {}
        for rate in _unique(students, "learning_rate"):
            at_rate = [r for r in students if r["learning_rate"] == rate]
            if not any(r["diverged"] or r["heldout_loss"] is None for r in at_rate):
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
            )
        )
    return tuple(summaries)


def match_training_loss(histories: Histories, metrics: Sequence[str]) -> MatchedLoss:
    """The metrics of every optimizer where its training loss first reaches one common level.

    The level is the lowest that every student reaches (the largest of their smallest losses);
    between two logged steps the metrics are interpolated linearly in the loss.
    """
    sound = {key: rows for key, rows in histories.items() if rows}
    if not sound:
        return MatchedLoss(None, ())
    level = max(min(r["train_loss"] for r in rows) for rows in sound.values())
    students = []
    for optimizer in dict.fromkeys(name for name, _ in sound):
        crossings = [
            _interpolate(rows, level, metrics)
            for (name, _), rows in sound.items()
            if name == optimizer
        ]
        intervals = {key: mean_interval([c[key] for c in crossings]) for key in ("step", *metrics)}
        students.append(MatchedStudents(optimizer, intervals.pop("step"), intervals))
    return MatchedLoss(level, tuple(students))


def average_curves(histories: Histories, optimizers: Sequence[str]) -> tuple[Curve, ...]:
    """EAS over the steps that all seeds of an optimizer have: a loss that is not finite at one step
    leaves a gap."""
    curves = []
    for name in optimizers:
        seeds = [rows for (optimizer, _), rows in histories.items() if optimizer == name and rows]
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
            row for (optimizer, _), rows in histories.items() if optimizer == name for row in rows
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
            if (r["data"], r["learning_rate"], r["diverged"]) == (data, rate, False)
            and r[metric] is not None
        }
        for data in ("steered", "control")
    )
    seeds = sorted(steered.keys() & control.keys())
    difference = None
    if seeds:
        pairs = [steered[s] for s in seeds], [control[s] for s in seeds]
        difference = paired_difference(*pairs).interval
    return MetricSummary(
        mean_interval(list(steered.values())), mean_interval(list(control.values())), difference
    )


def _interpolate(rows: Sequence[Row], level: float, metrics: Sequence[str]) -> dict[str, float]:
    """The metrics where the loss first falls to `level`; rows are in order of their steps."""
    keys = ("step", *metrics)
    for i, row in enumerate(rows):
        if row["train_loss"] > level:
            continue
        if i == 0:
            return {key: float(row[key]) for key in keys}
        before = rows[i - 1]
        span = before["train_loss"] - row["train_loss"]
        part = (before["train_loss"] - level) / span if span > 0 else 1.0
        return {key: float(before[key] + part * (row[key] - before[key])) for key in keys}
    raise ValueError(f"the loss never reaches {level}: the level is not common to all")


def _unique(rows: Sequence[Row], key: str) -> list[Any]:
    return list(dict.fromkeys(r[key] for r in rows))
