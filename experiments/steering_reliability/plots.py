"""The pictures of `steering-reliability`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from subliminal_jax.evaluation.reliability import PromptShift, VectorReliability
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
from subliminal_jax.reporting.texts import picture_text

from .analysis import MeasuredSet, MeasuredTrait

Records = Sequence[MeasuredSet | MeasuredTrait]
LINE = 0.17  # inches a set


@styled
def slope_distributions(records: Records) -> Figure:
    """One line a set, by rising median: the middle half of its per-sample slopes as a bar, 5% to
    95% as a line, the median as a point; grey is a random vector's middle half."""
    records = sorted(records, key=lambda record: record.median)
    figure, axes = _new_axes(records)
    axes.axvline(0, color=AXIS, linewidth=0.8)
    for i, record in enumerate(records):
        levels = (0.05, 0.25, 0.5, 0.75, 0.95)
        spread, random = (_quantiles(vector, levels) for vector in (record, record.random))
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
def anti_steerable_bars(records: Records) -> Figure:
    """The share of rows on which each set's vector works backwards, with its interval."""
    records = sorted(records, key=lambda record: record.anti_steerable.mean)
    figure, axes = _new_axes(records)
    for i, record in enumerate(records):
        share = record.anti_steerable
        axes.barh(i, share.mean, height=0.75, color=PALETTE[1], alpha=0.75)
        axes.plot([share.low, share.high], [i, i], color=INK, linewidth=0.9)
    axes.axvline(0.5, color=AXIS, linewidth=0.8, linestyle="--")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("rows with a slope of at most 0")
    return figure


@styled
def decomposition_bars(records: Records) -> Figure:
    """What the letter and Yes or No explain of the variance of the slopes, as shares."""
    records = [record for record in records if record.decomposition.variance]
    records = sorted(records, key=lambda record: record.decomposition.explained_share.mean)
    figure, axes = _new_axes(records)
    colors = {"letter": PALETTE[0], "Yes or No": PALETTE[4], "neither": PALE}
    for i, record in enumerate(records):
        parts = record.decomposition
        left = 0.0
        for part, color in zip(
            (parts.letter, parts.yes_no, parts.unexplained), colors.values(), strict=True
        ):
            share = max(part, 0.0) / parts.variance
            axes.barh(i, share, left=left, height=0.75, color=color)
            left += share
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("share of the variance of per-sample slopes")
    legend_above(figure, {name: Patch(color=color) for name, color in colors.items()})
    return figure


@styled
def shift_scatter(shifts: Sequence[PromptShift]) -> Figure:
    """A panel for each shift of the prompt: the steerability of a set's vector in its own setting,
    against that in the other one; the line is equality."""
    columns = max(len(shifts), 1)
    figure = Figure(figsize=(max(2.7 * columns, 3.5), 3.0), layout="constrained")
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for axes, shift in zip(panels, shifts, strict=False):
        values = (*shift.unshifted, *shift.shifted, 0.0)
        ends = [min(values), max(values)]
        axes.plot(ends, ends, color=AXIS, linewidth=0.8, linestyle="--")
        axes.axhline(0, color=AXIS, linewidth=0.6)
        axes.plot(shift.unshifted, shift.shifted, "o", color=PALETTE[0], alpha=0.6, ms=4)
        rho = shift.correlation.mean
        title = picture_text(f"{shift.vector} to {shift.setting}")
        title += "" if math.isnan(rho) else f"\nrho {rho:.2f}"
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("own setting", fontsize=9)
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel("shifted setting", fontsize=9)
    return figure


@styled
def analytic_correlations(groups: Mapping[str, Records]) -> Figure:
    """Correlation over samples of analytic and finite slopes against the size of the multipliers,
    a line a set; the thick line is the median of each group."""
    figure, axes = new_axes()
    axes.set_xscale("log")
    handles: dict[str, Any] = {}
    scales: Sequence[float] = ()
    for (name, records), color in zip(groups.items(), (PALETTE[0], PALETTE[1]), strict=False):
        if not records:
            continue
        scales = records[0].local.scales
        correlations = np.array([record.local.correlation for record in records], float)
        axes.plot(scales, correlations.T, color=color, linewidth=0.6, alpha=0.25)
        median = np.nanmedian(correlations, axis=0)
        (handles[name],) = axes.plot(scales, median, color=color, linewidth=2.4, marker="o")
    axes.axhline(0.99, color=NEUTRAL, linewidth=0.8, linestyle="--")
    axes.set_xticks(scales)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{1.5 * x:.3g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("largest multiplier of the finite slope")
    axes.set_ylabel("correlation with the slope at zero")
    legend_above(figure, handles)
    return figure


def _new_axes(records: Records) -> tuple[Figure, Axes]:
    """Axes with a line for each record, named at the left."""
    figure, axes = new_axes(width=8.0, height=max(2.2, 0.9 + LINE * len(records)))
    axes.set_yticks(range(len(records)), [picture_text(r.name) for r in records], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.7, len(records) - 0.3)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x")
    return figure, axes


def _quantiles(vector: VectorReliability, levels: Sequence[float]) -> Float[np.ndarray, " levels"]:
    even = np.linspace(0, 1, len(vector.quantiles))
    return np.interp(levels, even, vector.quantiles)
