"""Did the trait pass? Students of each trait's teacher against the controls of the same seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subliminal_jax.evaluation.statistics import (
    crossed_interval,
    mean_interval,
    paired_difference,
)

Row = Mapping[str, Any]


def differences(
    rows: Sequence[Row],
    index: Mapping[str, int],
    metric: str = "word_rate",
    *,
    optimizer: str,
    rate: float,
    control: str = "control",
) -> dict[str, list[float]]:
    """For each data set (key of `index`) its students' metric minus that of the controls, by seed.

    `index[name]` is where the data set's own word stands in the metric's list. Seeds of which
    either student diverged are left out.
    """
    chosen = [
        r for r in rows
        if r["optimizer"] == optimizer and r["learning_rate"] == rate and not r["diverged"]
    ]  # fmt: skip
    found = {(r["data"], r["seed"]): r[metric] for r in chosen}
    out: dict[str, list[float]] = {}
    for name, i in index.items():
        seeds = sorted(s for n, s in found if n == name and (control, s) in found)
        out[name] = [found[name, s][i] - found[control, s][i] for s in seeds]
    return out


def transmission(
    rows: Sequence[Row],
    index: Mapping[str, int],
    metric: str = "word_rate",
    *,
    optimizer: str,
    rate: float,
    control: str = "control",
) -> dict[str, Any]:
    """Student minus control for each trait, and pooled over traits and seeds.

    `pooled` takes seeds and traits as drawn (two-way t): it speaks of other traits and seeds.
    `over_seeds` is a t interval on each seed's mean over traits: it speaks of these traits. Both
    need every trait to have the same seeds; where a student diverged they are None.
    """
    by_trait = differences(rows, index, metric, optimizer=optimizer, rate=rate, control=control)
    table = {
        name: {
            **paired_difference(d, [0.0] * len(d)).to_dict(),
            "values": d,
            "student": _mean(rows, name, index[name], metric, optimizer, rate),
            "control": _mean(rows, control, index[name], metric, optimizer, rate),
        }
        for name, d in by_trait.items()
    }
    lengths = {len(d) for d in by_trait.values()}
    pooled = over_seeds = None
    if len(lengths) == 1 and lengths != {0}:
        values = np.array(list(by_trait.values())).T
        pooled = crossed_interval(values).to_dict()
        over_seeds = mean_interval(values.mean(axis=1)).to_dict()
    return {
        "metric": metric, "optimizer": optimizer, "learning_rate": rate,
        "traits": table, "pooled": pooled, "over_seeds": over_seeds,
    }  # fmt: skip


def _mean(
    rows: Sequence[Row], data: str, i: int, metric: str, optimizer: str, rate: float
) -> float | None:
    values = [
        r[metric][i] for r in rows
        if (r["data"], r["optimizer"], r["learning_rate"]) == (data, optimizer, rate)
        and not r["diverged"]
    ]  # fmt: skip
    return float(np.mean(values)) if values else None
