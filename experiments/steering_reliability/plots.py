"""The pictures of `steering-reliability`, each drawn from rows as they stand in results.json."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

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
LINE = 0.17  # inches a set


@styled
def slope_distributions(rows: Rows) -> Figure:
    """One line a set, by rising median: the middle half of its per-sample slopes as a bar, 5% to
    95% as a line, the median as a point; grey is a random vector's middle half."""
    rows = sorted(rows, key=lambda row: row["median"])
    figure, axes = _by_set(rows)
    axes.axvline(0, color=AXIS, linewidth=0.8)
    for i, row in enumerate(rows):
        spread, random = (
            _quantiles(r, (0.05, 0.25, 0.5, 0.75, 0.95)) for r in (row, row["random"])
        )
        axes.barh(i, random[3] - random[1], left=random[1], height=0.8, color=PALE)
        axes.plot(spread[[0, 4]], [i, i], color=PALETTE[0], linewidth=0.9)
        axes.plot(spread[[1, 3]], [i, i], color=PALETTE[0], linewidth=3.5, solid_capstyle="butt")
        axes.plot(spread[2], i, "o", color=INK, ms=3)
    axes.set_xlabel("per-sample slope, logits a multiplier")
    legend_above(
        figure, {"the set's vector": Patch(color=PALETTE[0]), "random vector": Patch(color=PALE)}
    )
    return figure


@styled
def anti_steerable_bars(rows: Rows) -> Figure:
    """The share of rows on which each set's vector works backwards, with its interval."""
    rows = sorted(rows, key=lambda row: row["anti_steerable"]["mean"])
    figure, axes = _by_set(rows)
    for i, row in enumerate(rows):
        share = row["anti_steerable"]
        axes.barh(i, share["mean"], height=0.75, color=PALETTE[1], alpha=0.75)
        if share["low"] is not None and share["high"] is not None:
            axes.plot([share["low"], share["high"]], [i, i], color=INK, linewidth=0.9)
    axes.axvline(0.5, color=AXIS, linewidth=0.8, linestyle="--")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("rows with a slope of at most 0")
    return figure


@styled
def decomposition_bars(rows: Rows) -> Figure:
    """What the letter and Yes or No explain of the variance of the slopes, as shares."""
    rows = [row for row in rows if row["decomposition"]["variance"]]
    rows = sorted(rows, key=lambda row: row["decomposition"]["explained_share"]["mean"] or 0.0)
    figure, axes = _by_set(rows)
    parts = {"letter": PALETTE[0], "yes_no": PALETTE[4], "unexplained": PALE}
    for i, row in enumerate(rows):
        left = 0.0
        for part, color in parts.items():
            share = max(row["decomposition"][part], 0.0) / row["decomposition"]["variance"]
            axes.barh(i, share, left=left, height=0.75, color=color)
            left += share
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("share of the variance of per-sample slopes")
    names = {"letter": "letter", "yes_no": "Yes or No", "unexplained": "neither"}
    legend_above(figure, {names[part]: Patch(color=color) for part, color in parts.items()})
    return figure


@styled
def shift_scatter(shifts: Rows) -> Figure:
    """Of each shift of the prompt a panel: the steerability of a set's vector in its own setting,
    against that in the other one; the line is equality."""
    columns = max(len(shifts), 1)
    figure = Figure(figsize=(max(2.7 * columns, 3.5), 3.0), layout="constrained")
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for axes, shift in zip(panels, shifts, strict=False):
        own, shifted = np.asarray(shift["own"], float), np.asarray(shift["shifted"], float)
        ends = [min(own.min(), shifted.min(), 0.0), max(own.max(), shifted.max(), 0.0)]
        axes.plot(ends, ends, color=AXIS, linewidth=0.8, linestyle="--")
        axes.axhline(0, color=AXIS, linewidth=0.6)
        axes.plot(own, shifted, "o", color=PALETTE[0], alpha=0.6, ms=4)
        rho = shift["correlation"]["mean"]
        of = "" if rho is None else f"\nrho {rho:.2f}"
        axes.set_title(f"{shift['vector']} to {shift['setting']}{of}", fontsize=9, loc="left")
        axes.set_xlabel("own setting", fontsize=9)
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel("shifted setting", fontsize=9)
    return figure


@styled
def analytic_correlations(groups: Mapping[str, Rows]) -> Figure:
    """Correlation over samples of analytic and finite slopes against the size of the multipliers,
    a line a set; the thick line is the median of each group."""
    figure, axes = new_axes()
    axes.set_xscale("log")
    handles: dict[str, Any] = {}
    scales: Sequence[float] = ()
    for (name, rows), color in zip(groups.items(), (PALETTE[0], PALETTE[1]), strict=False):
        if not rows:
            continue
        scales = rows[0]["local"]["scales"]
        found = np.array([row["local"]["correlation"] for row in rows], float)
        axes.plot(scales, found.T, color=color, linewidth=0.6, alpha=0.25)
        (handles[name],) = axes.plot(
            scales, np.nanmedian(found, axis=0), color=color, linewidth=2.4, marker="o"
        )
    axes.axhline(0.99, color=NEUTRAL, linewidth=0.8, linestyle="--")
    axes.set_xticks(scales)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{1.5 * x:.3g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("largest multiplier of the finite slope")
    axes.set_ylabel("correlation with the slope at zero")
    legend_above(figure, handles)
    return figure


def _by_set(rows: Rows) -> tuple[Figure, Any]:
    figure, axes = new_axes(width=8.0, height=max(2.2, 0.9 + LINE * len(rows)))
    axes.set_yticks(range(len(rows)), [_short(row["name"]) for row in rows], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x")
    return figure, axes


def _short(name: str) -> str:
    return name if len(name) <= 48 else name[:45] + "..."


def _quantiles(row: Mapping[str, Any], levels: Sequence[float]) -> Any:
    held = np.asarray(row["quantiles"], float)
    return np.interp(levels, np.linspace(0, 1, len(held)), held)
