"""How every plot looks: one palette, one size of type, one colour for an optimizer everywhere."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple

# Okabe and Ito, "Color universal design", 2008, without its yellow, which is lost on white; the
# last is Paul Tol's wine. Told apart with any common colour blindness.
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
# These keep their colour from one report to the next, as long as no more than the palette's
# number of arms are compared.
_PREFERRED = ("adamw", "sgd", "rmsprop", "signum", "momentum", "adam", "muon", "lion")

_RC: Any = {
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
    """What tells one optimizer from the others: colour first, then marker and dash."""

    color: str
    marker: str
    dash: Any


def assign_styles(names: Iterable[str]) -> dict[str, ArmStyle]:
    """A style for each name, all different for up to 40 of them.

    Call it once a report with all names, and hand the result to every plot: the styles depend on
    which names there are, not on their order.
    """
    wanted = sorted(set(names), key=lambda name: (name not in _PREFERRED, name))
    free = list(range(max(len(wanted), len(PALETTE))))
    styles = {}
    for name in wanted:
        preferred = _PREFERRED.index(name) if name in _PREFERRED else free[0]
        index = preferred if preferred in free else free[0]
        free.remove(index)
        turn, color = divmod(index, len(PALETTE))
        turn %= len(_MARKERS)
        styles[name] = ArmStyle(PALETTE[color], _MARKERS[turn], _DASHES[turn])
    return styles


def styled(plot: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under this project's settings, whatever the caller's matplotlib has."""

    @functools.wraps(plot)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(_RC):
            return plot(*args, **kwargs)

    return wrapped


def new_axes(width: float = 7.0, height: float = 4.2) -> tuple[Figure, Axes]:
    """A figure of `width` x `height` inches outside pyplot's global list, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def legend_above(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Name what is drawn in rows above the axes, where it hides no data."""
    if not handles:
        return
    names = list(handles)
    room = 11.5 * figure.get_figwidth()  # in characters
    columns = next(n for n in range(len(names), 0, -1) if n == 1 or _legend_width(names, n) <= room)
    # matplotlib fills columns; in this order its legend reads in rows.
    order = [name for first in range(columns) for name in names[first::columns]]
    figure.legend(
        [handles[name] for name in order],
        order,
        loc="outside upper left",
        ncols=columns,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    )


def _legend_width(names: Sequence[str], columns: int) -> int:
    """The width in characters of a legend; each entry has a handle of about six."""
    return sum(6 + max(map(len, names[first::columns])) for first in range(columns))
