"""Comparing optimizers: each at its best learning rate, and all at one training loss.

A row is one student: optimizer, learning_rate, seed, data ("steered" or "control"), diverged, and
its measured numbers (None where it has none). The best rate is chosen on the held-out loss of the
training kind, never on what is reported about the trait.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from subliminal_jax.evaluation.statistics import mean_interval, paired_difference

Row = Mapping[str, Any]
Histories = Mapping[tuple[str, int], Sequence[Row]]


def best_rates(rows: Sequence[Row]) -> dict[str, float | None]:
    """For each optimizer the rate with the lowest mean held-out loss over its students but the
    controls.

    A rate at which any seed diverged is out; None where that leaves none.
    """
    best: dict[str, float | None] = {}
    for optimizer in _unique(rows, "optimizer"):
        mine = [r for r in rows if r["optimizer"] == optimizer and r["data"] != "control"]
        losses = {}
        for rate in _unique(mine, "learning_rate"):
            at_rate = [r for r in mine if r["learning_rate"] == rate]
            if not any(r["diverged"] or r["heldout_loss"] is None for r in at_rate):
                losses[rate] = float(np.mean([r["heldout_loss"] for r in at_rate]))
        best[optimizer] = min(losses, key=lambda rate: losses[rate]) if losses else None
    return best


def at_edge(rate: float | None, grid: Sequence[float]) -> bool:
    """Whether the best rate is the lowest or the highest of several, so that a better one may lie
    outside."""
    return rate is not None and len(grid) > 1 and rate in (min(grid), max(grid))


def at_best_rate(
    rows: Sequence[Row], best: Mapping[str, float | None], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """One row an optimizer: each metric's mean and interval over seeds for the steered students,
    for their controls, and for the difference of the two paired by seed.

    `grid` holds the rates tried and `grid_edge` says that the best one is at its edge. An optimizer
    without a sound rate keeps its row, with None for its numbers.
    """
    table = []
    for optimizer, rate in best.items():
        mine = [r for r in rows if r["optimizer"] == optimizer]
        grid = sorted(_unique([r for r in mine if r["data"] == "steered"], "learning_rate"))
        row: dict[str, Any] = {
            "optimizer": optimizer,
            "learning_rate": rate,
            "grid": grid,
            "grid_edge": at_edge(rate, grid),
            "diverged_rates": sorted({r["learning_rate"] for r in mine if r["diverged"]}),
        }
        for metric in metrics:
            steered = _by_seed(mine, rate, "steered", metric)
            control = _by_seed(mine, rate, "control", metric)
            row[metric] = mean_interval(list(steered.values())).to_dict()
            row[f"control_{metric}"] = mean_interval(list(control.values())).to_dict()
            both = sorted(steered.keys() & control.keys())
            difference = None
            if both:
                pairs = [steered[s] for s in both], [control[s] for s in both]
                difference = paired_difference(*pairs).interval.to_dict()
            row[f"{metric}_difference"] = difference
        table.append(row)
    return table


def at_matched_loss(histories: Histories, metrics: Sequence[str]) -> dict[str, Any]:
    """The metrics of every optimizer where its training loss first reaches one common level.

    `histories[optimizer, seed]` are the logged rows of the steered student at the best rate, each
    with `step`, `train_loss` and the metrics. The level is the lowest that every student reaches
    (the largest of their smallest losses); between two logged steps the metrics are interpolated
    linearly in the loss. Returns {"loss": level, "rows": one an optimizer with intervals}.
    """
    sound = {key: rows for key, rows in histories.items() if rows}
    if not sound:
        return {"loss": None, "rows": []}
    level = max(min(r["train_loss"] for r in rows) for rows in sound.values())
    table = []
    for optimizer in dict.fromkeys(name for name, _ in sound):
        crossings = [
            _at_level(rows, level, metrics)
            for (name, _), rows in sound.items()
            if name == optimizer
        ]
        row: dict[str, Any] = {"optimizer": optimizer}
        for metric in ("step", *metrics):
            row[metric] = mean_interval([c[metric] for c in crossings]).to_dict()
        table.append(row)
    return {"loss": level, "rows": table}


def curves(histories: Histories, best: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """EAS over steps at each optimizer's best rate: mean over seeds, lowest and highest.

    Of the steps that all its seeds have: a loss that is not finite at one step leaves a gap.
    """
    rows = []
    for name in best:
        seeds = [h for (optimizer, _), h in histories.items() if optimizer == name and h]
        if not seeds:
            continue
        common = set.intersection(*({row["step"] for row in h} for h in seeds))
        seeds = [[row for row in h if row["step"] in common] for h in seeds]
        values = np.array([[row["eas"] for row in h] for h in seeds])
        rows.append(
            {
                "optimizer": name,
                "data": "steered",
                "x": [row["step"] for row in seeds[0]],
                "mean": values.mean(axis=0),
                "low": values.min(axis=0),
                "high": values.max(axis=0),
            }
        )
    return rows


def anatomies(histories: Histories) -> list[dict[str, Any]]:
    """What gradients and updates hold of the steering direction, by optimizer at its best rate.

    Means over seeds and logged steps; shares of a component are ratios of means, since the
    component of a single step may be close to zero.
    """
    rows = []
    for name in dict.fromkeys(optimizer for optimizer, _ in histories):
        logged = [row for (o, _), h in histories.items() if o == name for row in h]
        if logged:
            rows.append({"optimizer": name, **dict(_anatomy(logged))})
    return rows


def _anatomy(logged: Sequence[Row]) -> Iterator[tuple[str, Any]]:
    def mean(key: str) -> Any:
        return np.mean([row[key] for row in logged], axis=0)

    for x in ("gradient", "update"):
        for key in ("norm", "component", "cosine"):
            yield f"{x}_{key}", mean(f"{x}_{key}")
        component = np.array([row[f"{x}_component"] for row in logged])
        total = component.sum()
        for part in ("top", "decile"):
            yield f"{x}_{part}_mass", mean(f"{x}_{part}_mass")
            shares = np.array([row[f"{x}_{part}_component"] for row in logged])
            yield f"{x}_{part}_component", (shares * component[:, None]).sum(axis=0) / total
        if f"{x}_a_mass" in logged[0]:
            yield f"{x}_a_mass", mean(f"{x}_a_mass")
            shares = np.array([row[f"{x}_a_component"] for row in logged])
            yield f"{x}_a_component", (shares * component).sum() / total


def _at_level(rows: Sequence[Row], level: float, metrics: Sequence[str]) -> dict[str, float]:
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


def _by_seed(rows: Sequence[Row], rate: float | None, data: str, metric: str) -> dict[int, float]:
    return {
        r["seed"]: r[metric]
        for r in rows
        if r["data"] == data
        and r["learning_rate"] == rate
        and not r["diverged"]
        and r[metric] is not None
    }


def _unique(rows: Sequence[Row], key: str) -> list[Any]:
    return list(dict.fromkeys(r[key] for r in rows))
