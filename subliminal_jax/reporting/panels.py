"""Small multiples: one measure in several panels, such as one for each teacher."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting.style import (
    AXIS,
    INK,
    ArmStyle,
    assign_styles,
    legend_above,
    split_interval,
    styled,
)
from subliminal_jax.reporting.texts import picture_text

Rows = Sequence[Mapping[str, Any]]
# Distance between lines at one x: in places where x are words, in half powers of two elsewhere.
SPACING = 0.09


@styled
def line_panels(
    rows: Rows,
    *,
    y_label: str,
    x_label: str = "",
    level: float | None = None,
    bound: float | None = None,
    styles: Mapping[str, ArmStyle] | None = None,
    columns: int = 3,
) -> Figure:
    """Lines with 95% intervals over x, one panel for each `panel` of the rows.

    Args:
      rows: one for each line, with `panel`, `line`, `x` (numbers, drawn on a log axis, or words)
        and `y` (each an `Interval`, a number, or None for a gap). A row with a true `control` is
        drawn dashed and without intervals, in the colour of its line.
      level: height of a horizontal line.
      bound: largest absolute value possible; the y axis is cut 5% beyond it.
      columns: largest number of panels side by side.
    """
    styles = styles or assign_styles(row["line"] for row in rows)
    names = list(dict.fromkeys(row["panel"] for row in rows))
    columns = max(min(columns, len(names)), 1)
    lines = max(math.ceil(len(names) / columns), 1)
    figure = Figure(figsize=(max(7.0, 3.1 * columns), 0.9 + 2.7 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    handles: dict[str, Any] = {}
    order = list(dict.fromkeys(row["line"] for row in rows))
    for axes, name in zip(panels.flat, names, strict=False):
        panel_rows = [row for row in rows if row["panel"] == name]
        words = any(isinstance(x, str) for row in panel_rows for x in row["x"])
        axes.axhline(0, color=AXIS, linewidth=0.8)
        if level is not None:
            axes.axhline(level, color=INK, linewidth=1, linestyle=":")
        for row in panel_rows:
            style = styles[row["line"]]
            shift = SPACING * (order.index(row["line"]) - (len(order) - 1) / 2)
            numbers = range(len(row["x"])) if words else row["x"]
            x = [v + shift if words else v * 2 ** (2 * shift) for v in numbers]
            mark = _draw_line(axes, x, row["y"], style, bool(row.get("control")))
            if not row.get("control"):
                handles[row["line"]] = mark
        _set_ticks(axes, panel_rows, words)
        axes.set_title(picture_text(name), fontsize=11, loc="left", fontweight="bold")
        axes.set_xlabel(x_label)
    for axes in panels[:, 0]:
        axes.set_ylabel(y_label)
    if bound is not None:
        low, high = panels[0, 0].get_ylim()  # shared by all
        panels[0, 0].set_ylim(max(low, -1.05 * bound), min(high, 1.05 * bound))
    for axes in panels.flat[len(names) :]:
        axes.set_visible(False)
    if any(row.get("control") for row in rows):
        handles["controls"] = Line2D([], [], color=AXIS, linestyle=(0, (2, 2)), linewidth=1.2)
    legend_above(figure, handles)
    return figure


@styled
def phase_diagram(rows: Rows, *, level: float) -> Figure:
    """EAS of settings against optimizers, as coloured squares with their numbers.

    Args:
      rows: one for each square, with `setting`, `group` (of settings), `optimizer` and `value` (an
        `Interval`; its mean is NaN where every student diverged).
      level: a square is purple where its mean is above, else orange; it has a frame where the whole
        interval is above.
    """
    settings = list(dict.fromkeys((row["group"], row["setting"]) for row in rows))
    optimizers = list(dict.fromkeys(row["optimizer"] for row in rows))
    table = np.full((len(settings), len(optimizers)), np.nan)
    labels = [picture_text(f"{group}: {name}") for group, name in settings]
    width = max(2.9, 1.0 + 0.085 * max(map(len, labels), default=0))
    size = (width + 1.25 * len(optimizers), 1.1 + 0.36 * len(settings))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=False)
    for row in rows:
        i = settings.index((row["group"], row["setting"]))
        k = optimizers.index(row["optimizer"])
        value: Interval = row["value"]
        table[i, k] = value.mean
        text = "diverged" if math.isnan(value.mean) else f"{value.mean:.2f}"
        dark = abs(value.mean - level) > 0.4
        axes.text(k, i, text, ha="center", va="center", color="white" if dark else INK)
        if value.low > level:
            axes.add_patch(_make_frame(k, i))
    image = axes.imshow(table, aspect="auto", cmap="PuOr", vmin=level - 0.7, vmax=level + 0.7)
    axes.set_xticks(range(len(optimizers)), [picture_text(name, 24) for name in optimizers])
    axes.set_yticks(range(len(settings)), labels)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    for spine in axes.spines.values():
        spine.set_visible(False)
    groups = [group for group, _ in settings]
    for i in range(1, len(groups)):
        if groups[i] != groups[i - 1]:
            axes.axhline(i - 0.5, color="white", linewidth=4)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="EAS")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def _draw_line(
    axes: Axes, x: Sequence[float], y: Sequence[Any], style: ArmStyle, control: bool
) -> Any:
    mean, low, high = np.array([split_interval(value) for value in y]).T
    if control:
        return axes.plot(x, mean, color=style.color, linestyle=(0, (2, 2)), linewidth=1.2)[0]
    ends = np.maximum([mean - low, high - mean], 0)
    return axes.errorbar(
        x,
        mean,
        yerr=np.where(np.isfinite(ends), ends, 0.0),
        color=style.color,
        linestyle=style.dash,
        marker=style.marker,
        ms=5,
        capsize=2,
        elinewidth=1.1,
    )


def _set_ticks(axes: Axes, rows: Rows, words: bool) -> None:
    values = list(dict.fromkeys(x for row in rows for x in row["x"]))
    if words:
        labels = [picture_text(str(value)) for value in values]
        is_long = max(map(len, labels)) > 6
        tilt: dict[str, Any] = {"rotation": 25, "ha": "right"} if is_long else {}
        axes.set_xticks(range(len(values)), labels, **tilt)
        axes.set_xlim(-0.5, len(values) - 0.5)
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))
    axes.margins(x=0.08)


def _make_frame(k: int, i: int) -> Rectangle:
    return Rectangle((k - 0.46, i - 0.4), 0.92, 0.8, fill=False, edgecolor=INK, linewidth=1.8)
