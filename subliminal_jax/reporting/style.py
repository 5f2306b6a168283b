"""The style of every plot: palette, sizes, and one colour for each optimizer in all plots."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting.texts import picture_text

# Okabe and Ito, "Color universal design", 2008, without yellow, which is illegible on white, and
# with Paul Tol's wine. Distinguishable with any common colour blindness.
PALETTE = (
    "#0072B2",  # blue
    "#D55E00",  # vermilion
    "#009E73",  # green
    "#CC79A7",  # pink
    "#E69F00",  # orange
    "#56B4E9",  # sky
    "#000000",  # black
    "#882255",  # wine
)
INK, AXIS, NEUTRAL, PALE, GRID = "#1C1F23", "#5B636D", "#8A929B", "#C9CED4", "#E4E7EB"
_MARKERS = ("o", "s", "^", "D", "v")
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (9, 3)))
# These have the same colour in every report that compares no more arms than the palette has
# colours.
_PREFERRED = ("adamw", "sgd", "rmsprop", "signum", "momentum", "adam", "muon", "lion")

_RC: Any = {
    "text.usetex": False,
    "text.parse_math": True,
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": AXIS,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": AXIS,
    "ytick.color": AXIS,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.4,
    "lines.linewidth": 1.9,
    "lines.markersize": 6,
}

P = ParamSpec("P")


@dataclass(frozen=True)
class ArmStyle:
    """Colour, marker and dash of one optimizer."""

    color: str
    marker: str
    dash: Any


def assign_styles(names: Iterable[str]) -> dict[str, ArmStyle]:
    """A style for each name, all different for up to 40 of them.

    The styles depend on the set of names, not on their order: call it once for all names of a
    report, and pass the result to every plot.
    """
    ordered = sorted(set(names), key=lambda name: (name not in _PREFERRED, name))
    free = list(range(max(len(ordered), len(PALETTE))))
    styles = {}
    for name in ordered:
        preferred = _PREFERRED.index(name) if name in _PREFERRED else free[0]
        index = preferred if preferred in free else free[0]
        free.remove(index)
        cycle, color = divmod(index, len(PALETTE))
        cycle %= len(_MARKERS)
        styles[name] = ArmStyle(PALETTE[color], _MARKERS[cycle], _DASHES[cycle])
    return styles


def styled(plot: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorator: draw with this project's matplotlib settings, and leave the caller's unchanged."""

    @functools.wraps(plot)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(_RC):
            return plot(*args, **kwargs)

    return wrapped


def new_axes(width: float = 7.0, height: float = 4.2) -> tuple[Figure, Axes]:
    """A figure of `width` x `height` inches outside pyplot's global list, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def split_interval(value: Interval | float | None) -> tuple[float, float, float]:
    """(mean, low, high) of an interval; a number has no ends (NaN), None no mean either."""
    if isinstance(value, Interval):
        return value.mean, value.low, value.high
    return math.nan if value is None else float(value), math.nan, math.nan


def legend_above(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Add a legend in rows above the axes, outside the plot."""
    if not handles:
        return
    names = [picture_text(name, 60) for name in handles]
    max_width = 10.5 * figure.get_figwidth()  # in characters
    columns = next(
        n for n in range(len(names), 0, -1) if n == 1 or _legend_width(names, n) <= max_width
    )
    # matplotlib fills columns; in this order its legend reads in rows.
    marks = list(handles.values())
    order = [i for first in range(columns) for i in range(first, len(names), columns)]
    legend = figure.legend(
        [marks[i] for i in order],
        [f" {names[i]}" for i in order],  # a name that begins with _ would be left out
        loc="outside upper left",
        ncols=columns,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    )
    for text in legend.get_texts():
        text.set_text(text.get_text().removeprefix(" "))


def _legend_width(names: Sequence[str], columns: int) -> int:
    """The width in characters of a legend; each entry has a handle of about six."""
    return sum(6 + max(map(len, names[first::columns])) for first in range(columns))
