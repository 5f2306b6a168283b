"""Pictures of a zoo of traits: heat maps over settings, bars by trait, a scatter of traits."""

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
from subliminal_jax.reporting.texts import picture_text

from .analysis import TraitStudent, TraitSummary

RATES = {  # attribute of `TraitSummary` -> (name in the legend, colour)
    "base": ("base", PALE),
    "prompted": ("system prompt", PALETTE[5]),
    "best_rate": ("vector", PALETTE[0]),
    "random": ("random vector", NEUTRAL),
}
_SHADES = LinearSegmentedColormap.from_list("shades", ["#FFFFFF", PALETTE[5], PALETTE[0]])


@styled
def heat_maps(
    panels: Mapping[str, Sequence[Sequence[float | None]]],
    layers: Sequence[int],
    scales: Sequence[float],
) -> Figure:
    """One panel for each title, with values [layers][scales] written into the cells; shades span
    each panel's own range. None is an empty cell."""
    across = min(len(panels), 2)
    down = math.ceil(len(panels) / across)
    size = (max(3.4, 1.3 + 0.75 * len(scales)), 1.2 + 0.5 * len(layers))
    figure = Figure(figsize=(size[0] * across, size[1] * down), layout="constrained")
    all_axes = figure.subplots(down, across, squeeze=False).flat
    for axes, (title, values) in zip(all_axes, panels.items(), strict=False):
        x = np.array(values, float)
        low, high = (0.0, 1.0) if np.isnan(x).all() else (np.nanmin(x), np.nanmax(x))
        axes.imshow(x, cmap=_SHADES, vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
        for (i, j), value in np.ndenumerate(x):
            dark = np.isfinite(value) and value - low > 0.6 * (high - low)
            text = f"{value:.2f}" if np.isfinite(value) else "\N{EN DASH}"
            axes.text(
                j, i, text, ha="center", va="center", fontsize=10, color="white" if dark else INK
            )
        axes.set_xticks(range(len(scales)), [str(scale) for scale in scales])
        axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
        axes.set_xlabel("scale of the vector")
        axes.set_ylabel("layer")
        axes.set_title(picture_text(title), fontsize=11, loc="left")
        axes.grid(False)
        axes.tick_params(length=0)
    for axes in list(all_axes):
        axes.set_visible(False)
    return figure


@styled
def trait_rates(zoo: Sequence[TraitSummary]) -> Figure:
    """The `RATES` of each trait as bars side by side."""
    figure, axes = new_axes(width=max(7.0, 0.68 * len(zoo) + 1))
    width = 0.8 / len(RATES)
    for k, (key, (_, color)) in enumerate(RATES.items()):
        positions = np.arange(len(zoo)) + (k - (len(RATES) - 1) / 2) * width
        heights = np.array([vars(trait)[key] for trait in zoo], float)
        axes.bar(positions, heights, width=0.92 * width, color=color)
    tilt: dict[str, Any] = (
        {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if len(zoo) > 7 else {}
    )
    axes.set_xticks(range(len(zoo)), [picture_text(trait.trait) for trait in zoo], **tilt)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(zoo) - 0.4)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_ylabel("answers that name the trait")
    legend_above(figure, {name: Patch(color=color) for name, color in RATES.values()})
    return figure


@styled
def gains_against_differences(students: Sequence[TraitStudent]) -> Figure:
    """What each teacher's vector gains against what its student shows, with intervals; traits that
    do not pass are grey."""
    figure, axes = new_axes(height=4.8)
    axes.axhline(0, color=AXIS, linewidth=0.8)
    for student in students:
        x, y = student.summary.teacher_gain, student.difference
        color = PALETTE[0] if student.transmitted else NEUTRAL
        axes.plot([x, x], [y.low, y.high], color=color, linewidth=1, alpha=0.6)
        axes.plot(x, y.mean, "o", color=color)
        axes.annotate(
            picture_text(student.summary.trait),
            (x, y.mean),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=9,
            color=INK,
        )
    axes.margins(x=0.08)
    axes.set_xlabel("P(trait), steered teacher minus base")
    axes.set_ylabel("P(trait), student minus controls")
    return figure
