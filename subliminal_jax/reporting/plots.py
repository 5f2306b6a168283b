"""Plots of rows, one function a kind of plot.

They compute nothing but means of points. None and NaN leave a gap. `styles` comes from
`assign_styles` over all optimizers of a report; without it each plot colours the names it shows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
)

from subliminal_jax.reporting.style import (
    AXIS,
    INK,
    NEUTRAL,
    PALE,
    PALETTE,
    ArmStyle,
    assign_styles,
    legend_above,
    new_axes,
    split_interval,
    styled,
)
from subliminal_jax.reporting.tables import format_learning_rate
from subliminal_jax.reporting.texts import picture_text

Rows = Sequence[Mapping[str, Any]]
Styles = Mapping[str, ArmStyle]

STEERED, CONTROL = PALETTE[0], NEUTRAL


@styled
def curves(
    rows: Rows, *, styles: Styles | None = None, x_label: str = "step", y_label: str = "EAS"
) -> Figure:
    """A line with a band for each optimizer; controls are dashed, without bands.

    Args:
      rows: one a line, with `optimizer`, `x`, `mean` and, where there is a band, `low` and `high`
        (lists of one length); `data` is "steered" (default) or "control".
    """
    styles = styles or assign_styles(row["optimizer"] for row in rows)
    figure, axes = new_axes()
    axes.axhline(0, color=AXIS, linewidth=0.8)
    handles: dict[str, Any] = {}
    controls = False
    for row in rows:
        style, is_control = styles[row["optimizer"]], row.get("data") == "control"
        controls |= is_control
        x, mean = _array(row["x"]), _array(row["mean"])
        if "low" in row and not is_control:
            low, high = _array(row["low"]), _array(row["high"])
            axes.fill_between(x, low, high, color=style.color, alpha=0.18, linewidth=0)
        (line,) = axes.plot(
            x,
            mean,
            color=style.color,
            linestyle=(0, (2, 2)) if is_control else style.dash,
            linewidth=1.2 if is_control else 1.9,
            marker=style.marker if len(x) == 1 else "",
        )
        if not is_control:
            handles[row["optimizer"]] = line
    if controls:
        handles["controls"] = Line2D([], [], color=NEUTRAL, linestyle=(0, (2, 2)), linewidth=1.2)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.margins(x=0.02)
    legend_above(figure, handles)
    return figure


@styled
def learning_rate_curves(
    arms: Rows,
    *,
    best: Rows = (),
    styles: Styles | None = None,
) -> Figure:
    """EAS at the end against the learning rate: a point for each seed, a line through the means.

    Args:
      arms: rows with `optimizer`, `learning_rate`, `diverged` and `eas`; controls are left out. A
        student that diverged is a cross at the lower edge of the plot.
      best: rows with `optimizer` and `learning_rate`, the chosen rates, which get a ring.
    """
    arms = [arm for arm in arms if arm.get("data") != "control"]
    styles = styles or assign_styles(arm["optimizer"] for arm in arms)
    chosen = {(row["optimizer"], row["learning_rate"]) for row in best}
    figure, axes = new_axes()
    axes.set_xscale("log")
    handles: dict[str, Any] = {}
    any_diverged = False
    for name in dict.fromkeys(arm["optimizer"] for arm in arms):
        style = styles[name]
        optimizer_arms = [arm for arm in arms if arm["optimizer"] == name]
        rates = sorted({arm["learning_rate"] for arm in optimizer_arms})
        means = []
        for rate in rates:
            seeds = [arm for arm in optimizer_arms if arm["learning_rate"] == rate]
            values = [a["eas"] for a in seeds if not a.get("diverged") and a["eas"] is not None]
            means.append(float(np.mean(values)) if values else math.nan)
            axes.plot(
                [rate] * len(values), values, style.marker, color=style.color, alpha=0.4, ms=4.5
            )
            if len(values) < len(seeds):
                any_diverged = True
                axes.plot(rate, 0.025, "x", color=style.color, transform=axes.get_xaxis_transform())
            if (name, rate) in chosen and values:
                axes.plot(rate, means[-1], "o", ms=13, mfc="none", mec=style.color, mew=1.5)
        (handles[name],) = axes.plot(
            rates, means, color=style.color, linestyle=style.dash, marker=style.marker, ms=6
        )
    if chosen:
        handles["chosen rate"] = _make_marker("o", ms=11, mfc="none")
    if any_diverged:
        handles["diverged"] = _make_marker("x")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: format_learning_rate(rate)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.06)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("EAS at the end")
    legend_above(figure, handles)
    return figure


@styled
def paired_bars(
    rows: Rows,
    *,
    references: Mapping[str, float] | None = None,
    styles: Styles | None = None,
) -> Figure:
    """Trait rates of students and controls: two bars for each optimizer, with their intervals.

    Args:
      rows: with `optimizer`, `trait_rate` and `control_trait_rate`, each an `Interval`, a number,
        or None.
      references: named levels drawn across, such as the teacher's and the base's rates.
    """
    styles = styles or assign_styles(row["optimizer"] for row in rows)
    figure, axes = new_axes(width=max(7.0, 0.62 * len(rows) + 1))
    for i, row in enumerate(rows):
        color = styles[row["optimizer"]].color
        bars = (("trait_rate", i - 0.19, color), ("control_trait_rate", i + 0.19, PALE))
        for key, place, fill in bars:
            mean, low, high = split_interval(row.get(key))
            axes.bar(place, mean, width=0.36, color=fill)
            if math.isfinite(low) and math.isfinite(high):
                axes.errorbar(
                    place,
                    mean,
                    yerr=[[max(mean - low, 0)], [max(high - mean, 0)]],
                    color=INK,
                    linewidth=1.2,
                    capsize=3,
                )
    tilt: dict[str, Any] = (
        {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if len(rows) > 7 else {}
    )
    axes.set_xticks(range(len(rows)), [picture_text(row["optimizer"]) for row in rows], **tilt)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.axhline(0, color=AXIS, linewidth=0.8)
    axes.set_ylabel("answers that name the trait")
    for (name, level), dash in zip((references or {}).items(), ("--", ":", "-."), strict=False):
        axes.axhline(level, color=INK, linewidth=1, linestyle=dash)
        axes.annotate(
            picture_text(name),
            (1, level),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
        )
    students = tuple(Patch(color=styles[row["optimizer"]].color) for row in rows[:3])
    if rows:
        legend_above(figure, {"student": students, "its control": Patch(color=PALE)})
    return figure


@styled
def cosine_against_n(rows: Rows) -> Figure:
    """Cosine of the mean over N gradients with the steering vector, against N on a log axis.

    Args:
      rows: with `n`, `cosine`, `stderr` (or None) and `data`, "steered" or "control".
    """
    figure, axes = new_axes()
    axes.axhline(0, color=AXIS, linewidth=0.8)
    axes.set_xscale("log", base=2)
    handles: dict[str, Any] = {}
    names = dict.fromkeys(row.get("data", "steered") for row in rows)
    colors = {"steered": STEERED, "control": CONTROL}
    for name in names:
        points = sorted((r for r in rows if r.get("data", "steered") == name), key=lambda r: r["n"])
        n, cosine = _array([r["n"] for r in points]), _array([r["cosine"] for r in points])
        error = _array([r.get("stderr") for r in points])
        color = colors.get(name, PALETTE[2])
        axes.fill_between(n, cosine - error, cosine + error, color=color, alpha=0.18, linewidth=0)
        marker = "o" if name == "steered" else "s"
        (handles[f"{name} data"],) = axes.plot(n, cosine, color=color, marker=marker)
    sizes = sorted({row["n"] for row in rows})
    stride = max(math.ceil(len(sizes) / 12), 1)
    ticks = sizes[::-1][::stride]  # from the largest, which always has a tick
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axes.set_xlabel("N, examples in the mean")
    axes.set_ylabel("cos(mean gradient, steering vector)")
    legend_above(figure, handles)
    return figure


@styled
def decile_bars(rows: Rows) -> Figure:
    """Deciles of a gradient's coordinates and their shares, one panel for each optimizer.

    Args:
      rows: with `optimizer`, `gradient_mass` and `steering_component`: ten shares each, from the
        tenth of the coordinates with the smallest gradients to that with the largest. A share of
        the steering component may be negative.
    """
    columns = max(min(len(rows), 3), 1)
    lines = max(math.ceil(len(rows) / columns), 1)
    figure = Figure(figsize=(max(7.0, 2.6 * columns), 0.9 + 2.3 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    series = (
        ("gradient_mass", "share of the squared gradient", PALE),
        ("steering_component", "share of the steering component", STEERED),
    )
    place = np.arange(1, 11)
    for axes, row in zip(panels.flat, rows, strict=False):
        for (key, _, color), shift in zip(series, (-0.21, 0.21), strict=True):
            axes.bar(place + shift, _array(row[key]), width=0.4, color=color)
        axes.set_title(picture_text(row["optimizer"]), fontsize=11, loc="left", fontweight="bold")
        _set_decile_axis(axes)
    for axes in panels.flat[len(rows) :]:
        axes.set_visible(False)
    for axes in panels.flat[max(len(rows) - columns, 0) : len(rows)]:
        axes.tick_params(labelbottom=True)  # the lowest panel of each column
    label = "tenth of the coordinates, from smallest to largest gradient"
    figure.supxlabel(label, fontsize=11)
    legend_above(figure, {label: Patch(color=color) for _, label, color in series})
    return figure


@styled
def forest(rows: Rows, *, x_label: str, percent: bool = False) -> Figure:
    """One line a row: a point with its interval, and the single values as pale points.

    Args:
      rows: with `label`, `interval` (an `Interval`), and optionally `group`, which gives the
        colour, and `values`, the single seeds.
      percent: write the axis in percent.
    """
    groups = list(dict.fromkeys(row.get("group", "") for row in rows))
    styles = assign_styles(groups)
    figure, axes = new_axes(height=max(2.4, 0.9 + 0.34 * len(rows)))
    axes.axvline(0, color=AXIS, linewidth=0.8)
    handles: dict[str, Any] = {}
    for i, row in enumerate(rows):
        style = styles[row.get("group", "")]
        mean, low, high = split_interval(row["interval"])
        values = _array(row.get("values") or [])
        axes.plot(values, np.full(len(values), i), "o", color=style.color, alpha=0.3, ms=4)
        axes.plot([low, high], [i, i], color=style.color, linewidth=2)
        (point,) = axes.plot(mean, i, style.marker, color=style.color, ms=7)
        handles.setdefault(row.get("group", ""), point)
    axes.set_yticks(range(len(rows)), [picture_text(row["label"]) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    if percent:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.xaxis.set_major_locator(MaxNLocator(6))  # more labels would overlap
    axes.set_xlabel(x_label)
    if len(groups) > 1:
        legend_above(figure, handles)
    return figure


@styled
def scatter(rows: Rows, *, x_label: str, y_label: str) -> Figure:
    """One named point a row, with its intervals along both axes.

    Args:
      rows: with `label`, `group` (which gives the colour), and `x` and `y`, each an `Interval`, a
        number, or None, without which a row is left out.
    """
    styles = assign_styles(row["group"] for row in rows)
    figure, axes = new_axes(width=9.0, height=6.4)
    axes.axhline(0, color=AXIS, linewidth=0.8)
    handles: dict[str, Any] = {}
    for row in rows:
        style = styles[row["group"]]
        x, y = split_interval(row["x"]), split_interval(row["y"])
        if not (math.isfinite(x[0]) and math.isfinite(y[0])):
            continue
        for ends, fixed, draw in ((x, y[0], axes.hlines), (y, x[0], axes.vlines)):
            if math.isfinite(ends[1]) and math.isfinite(ends[2]):
                draw(fixed, ends[1], ends[2], color=style.color, linewidth=0.8, alpha=0.35)
        (point,) = axes.plot(x[0], y[0], style.marker, color=style.color, ms=7)
        axes.annotate(
            picture_text(row["label"]),
            (x[0], y[0]),
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=7.5,
            color=INK,
        )
        handles.setdefault(row["group"], point)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    legend_above(figure, handles)
    return figure


def _set_decile_axis(axes: Axes) -> None:
    axes.axhline(0, color=AXIS, linewidth=0.8)
    axes.set_xticks([1, 4, 7, 10])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _make_marker(marker: str, ms: float = 7, mfc: str = NEUTRAL) -> Line2D:
    return Line2D([], [], linestyle="", marker=marker, color=NEUTRAL, ms=ms, mfc=mfc, mew=1.5)


def _array(values: Sequence[float | None]) -> Float[np.ndarray, " n"]:
    return np.asarray(values, float)  # None becomes NaN, which is a gap
