"""The pictures of `optimizer-mechanics` that no other experiment draws."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from subliminal_jax.evaluation.excess import METRIC_NAMES, METRICS
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting.style import (
    AXIS,
    INK,
    NEUTRAL,
    PALETTE,
    legend_above,
    new_axes,
    styled,
)
from subliminal_jax.reporting.texts import picture_text

from .analysis import ArmResult, Results

FAMILIES = {
    "paper": "the paper's arms",
    "maps": "maps of scales",
    "outliers": "outliers masked or clipped",
    "steps": "steps: normalised, LoRA's factors",
    "batch": "batch sizes",
    "tokens": "rare tokens",
}
MAIN = ("adamw", "rmsprop", "signum", "sign-sgd", "momentum", "sgd")
NAMED = (*MAIN, "frozen-map", "adamw-a-frozen", "normalized-sgd-per-row")
NOTHING = Interval(np.nan, np.nan, np.nan, 0, 0.95, "none")


@styled
def draw_arms(best: tuple[ArmResult, ...]) -> Figure:
    """One line an arm in three panels, by family."""
    arms = [arm for family in FAMILIES for arm in best if arm.family == family]
    figure = Figure(figsize=(10.5, 1.4 + 0.24 * len(arms)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    colors = dict(zip(FAMILIES, PALETTE, strict=False))
    columns = {
        f"{METRIC_NAMES[metric]}, minus control": [
            arm.metrics[metric].difference or NOTHING for arm in arms
        ]
        for metric in METRICS
    }
    for axes, (title, intervals) in zip(panels, columns.items(), strict=True):
        for name, dash in (("adamw", "-"), ("sgd", (0, (4, 2)))):
            pairs = zip(arms, intervals, strict=True)
            level = next((x.mean for arm, x in pairs if arm.optimizer == name), np.nan)
            axes.axvline(level, color=NEUTRAL, linewidth=1.2, linestyle=dash, zorder=0)
        for i, (arm, interval) in enumerate(zip(arms, intervals, strict=True)):
            color = colors[arm.family]
            axes.plot([interval.low, interval.high], [i, i], color=color, linewidth=1.6)
            axes.plot(interval.mean, i, "o", color=color, ms=5)
        means = [x.mean for x in intervals if np.isfinite(x.mean)]
        if means:
            room = 0.35 * (max(means) - min(means) + 0.05)
            axes.set_xlim(min(*means, 0) - room, max(means) + room)
        axes.axvline(0, color=AXIS, linewidth=0.8)
        axes.set_title(title, fontsize=11, loc="left")
        axes.grid(axis="x")
    panels[0].set_yticks(
        range(len(arms)), [picture_text(arm.optimizer) for arm in arms], fontsize=9
    )
    panels[0].set_ylim(len(arms) - 0.4, -0.6)
    handles = {}
    for family in dict.fromkeys(arm.family for arm in arms):
        (handles[FAMILIES[family]],) = panels[0].plot([], [], "o-", color=colors[family])
    legend_above(figure, handles)
    return figure


@styled
def draw_equal_steps(results: Results) -> Figure:
    """EAS beyond the controls against the share of the update's square in its largest tenth, one
    point an arm."""
    colors = dict(zip(FAMILIES, PALETTE, strict=False))
    figure, axes = new_axes()
    handles: dict[str, Any] = {}
    for anatomy in results.anatomy:
        arm = results.find_arm(anatomy.optimizer)
        if arm is None or (eas := arm.metrics["eas"].difference) is None:
            continue
        x, y = anatomy.update.top_mass.tenth, eas.mean
        (handles[FAMILIES[arm.family]],) = axes.plot(x, y, "o", color=colors[arm.family])
        if arm.optimizer in NAMED:
            axes.annotate(
                picture_text(arm.optimizer),
                (x, y),
                xytext=(5, 3),
                textcoords="offset points",
                fontsize=8.5,
                color=INK,
            )
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("share of the squared step in its largest tenth of coordinates")
    axes.set_ylabel("EAS, minus control")
    axes.margins(0.1)
    legend_above(figure, handles)
    return figure
