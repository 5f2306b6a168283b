"""Pictures of many settings or traits: heat maps, bars in groups, scatters of named points."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from subliminal_jax.reporting.style import (
    AXIS,
    INK,
    NEUTRAL,
    PALE,
    PALETTE,
    legend_above,
    new_axes,
    styled,
)

Rows = Sequence[Mapping[str, Any]]
_FILLS = (PALE, PALETTE[5], PALETTE[0], NEUTRAL, PALETTE[1])
_SHADES = LinearSegmentedColormap.from_list("shades", ["#FFFFFF", PALETTE[5], PALETTE[0]])


@styled
def heat_maps(
    panels: Mapping[str, Sequence[Sequence[float | None]]],
    rows: Sequence[Any],
    columns: Sequence[Any],
    *,
    row_label: str,
    column_label: str,
    digits: int = 2,
) -> Figure:
    """One panel for each title, its numbers written into the cells; shades span each panel's own
    range. None is an empty cell.

    Args:
      panels: values by title, a list of rows each.
    """
    across = min(len(panels), 2)
    down = math.ceil(len(panels) / across)
    size = (max(3.4, 1.3 + 0.75 * len(columns)), 1.2 + 0.5 * len(rows))
    figure = Figure(figsize=(size[0] * across, size[1] * down), layout="constrained")
    all_axes = figure.subplots(down, across, squeeze=False).flat
    for axes, (title, values) in zip(all_axes, panels.items(), strict=False):
        x = np.array(values, float)
        low, high = (0.0, 1.0) if np.isnan(x).all() else (np.nanmin(x), np.nanmax(x))
        axes.imshow(x, cmap=_SHADES, vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
        for (i, j), value in np.ndenumerate(x):
            dark = np.isfinite(value) and value - low > 0.6 * (high - low)
            text = f"{value:.{digits}f}" if np.isfinite(value) else "\N{EN DASH}"
            axes.text(
                j, i, text, ha="center", va="center", fontsize=10, color="white" if dark else INK
            )
        axes.set_xticks(range(len(columns)), [str(c) for c in columns])
        axes.set_yticks(range(len(rows)), [str(r) for r in rows])
        axes.set_xlabel(column_label)
        axes.set_ylabel(row_label)
        axes.set_title(title, fontsize=11, loc="left")
        axes.grid(False)
        axes.tick_params(length=0)
    for axes in list(all_axes):
        axes.set_visible(False)
    return figure


@styled
def scatter(points: Rows, *, x_label: str, y_label: str) -> Figure:
    """Named points with vertical intervals.

    Args:
      points: with `label`, `x` and `y` (an interval with `mean`, `low` and `high`, or a number);
        `strong` False draws a point pale.
    """
    figure, axes = new_axes(height=4.8)
    axes.axhline(0, color=AXIS, linewidth=0.8)
    for point in points:
        y = point["y"] if isinstance(point["y"], Mapping) else {"mean": point["y"]}
        color = PALETTE[0] if point.get("strong", True) else NEUTRAL
        if y.get("low") is not None and y.get("high") is not None:
            axes.plot([point["x"]] * 2, [y["low"], y["high"]], color=color, linewidth=1, alpha=0.6)
        axes.plot(point["x"], y["mean"], "o", color=color)
        axes.annotate(
            point["label"], (point["x"], y["mean"]), xytext=(5, 4), textcoords="offset points",
            fontsize=9, color=INK,
        )  # fmt: skip
    axes.margins(x=0.08)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure


@styled
def grouped_bars(rows: Rows, series: Mapping[str, str], *, y_label: str) -> Figure:
    """A group of bars for each row, as shares.

    Args:
      rows: with `label`, and a number (or None) under each key of `series`.
      series: key -> what the legend calls it; at most five.
    """
    figure, axes = new_axes(width=max(7.0, 0.68 * len(rows) + 1))
    width = 0.8 / len(series)
    for k, key in enumerate(series):
        places = np.arange(len(rows)) + (k - (len(series) - 1) / 2) * width
        heights = np.array([row[key] for row in rows], float)
        axes.bar(places, heights, width=0.92 * width, color=_FILLS[k])
    tilt: dict[str, Any] = (
        {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if len(rows) > 7 else {}
    )
    axes.set_xticks(range(len(rows)), [row["label"] for row in rows], **tilt)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_ylabel(y_label)
    legend_above(figure, {name: Patch(color=_FILLS[k]) for k, name in enumerate(series.values())})
    return figure
