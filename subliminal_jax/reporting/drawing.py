"""Figures as SVG inside a page: in the page's colours, with the values of their points."""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator, FuncFormatter, PercentFormatter

from subliminal_jax.reporting.style import AXIS, GRID, INK, NEUTRAL, PALE

# Colours that follow the page's, light or dark; those of series stay.
_PAGE_COLORS = {
    INK: "var(--ink)",
    AXIS: "var(--muted)",
    GRID: "var(--line)",
    NEUTRAL: "var(--neutral)",
    PALE: "var(--pale)",
    "#000000": "var(--black)",
}
_RADIUS = 6.0  # of the place around a point that shows its values, in points
_MOST_VERTICES = 60  # of one line that show values
Values = Sequence[float] | Float[np.ndarray, " n"]
_DRAWN = 72  # units of an SVG in an inch


@dataclass(frozen=True)
class Point:
    """What a picture shows at one place: series, x and y as words, and the place in the SVG."""

    series: str
    x: str
    y: str
    left: float
    top: float
    width: float
    height: float
    radius: float = 0.0

    @property
    def text(self) -> str:
        """In one line."""
        return "\n".join(part for part in (self.series, self.x, self.y) if part)


def draw_svg(figure: Figure, prefix: str) -> str:
    """The content of an <svg> element of 72 units an inch: texts as texts, the background clear,
    and `prefix` before the ids, which are unique in a page only so."""
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.BytesIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": prefix, "text.usetex": False}
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        element.tag = _drop_namespace(element.tag)
        element.attrib = {
            _drop_namespace(name): _adapt(_drop_namespace(name), value, prefix)
            for name, value in element.attrib.items()
        }
    return "".join(
        ElementTree.tostring(child, encoding="unicode") for child in root if child.tag != "metadata"
    )


def find_points(figure: Figure) -> list[Point]:
    """The values of a figure that was drawn: of markers and vertices of lines in data coordinates,
    and of bars. Series have the names that the legend gives their colours."""
    legends = [child for child in figure.get_children() if isinstance(child, Legend)]
    names = {color: name for legend in legends for color, name in _read_legend(legend)}
    points: dict[tuple[float, float], Point] = {}
    for axes in figure.axes:
        if axes.get_visible() and not axes.images:  # images have their numbers written in them
            for point in _find_axes_points(axes, names, figure):
                points.setdefault((point.left, point.top), point)
    return list(points.values())


def _find_axes_points(axes: Axes, names: dict[str, str], figure: Figure) -> Iterator[Point]:
    title = axes.get_title(loc="left").replace("\n", " ")
    height = _DRAWN * figure.get_figheight()

    def locate(vertices: Any) -> Float[np.ndarray, "n 2"]:
        places = _DRAWN / figure.dpi * axes.transData.transform(vertices)
        return np.stack([places[:, 0], height - places[:, 1]], axis=1)

    def make(color: Any, x: Values, y: Values, *box: float) -> Point:
        series = ", ".join(part for part in (title, names.get(to_hex(color), "")) if part)
        numbers = [round(float(number), 1) for number in box]
        return Point(series, _write(axes.xaxis, x), _write(axes.yaxis, y), *numbers)

    for line in axes.lines:
        color: Any = line.get_color()
        if line.get_transform() != axes.transData or to_hex(color) == to_hex(AXIS):
            continue  # reference lines
        vertices = np.asarray(line.get_xydata(), float)
        vertices = vertices[:: -(-len(vertices) // _MOST_VERTICES) or 1]
        vertices = vertices[np.isfinite(vertices).all(axis=1)]
        for (x, y), (left, top) in zip(vertices, locate(vertices) - _RADIUS, strict=True):
            yield make(color, [x], [y], left, top, 2 * _RADIUS, 2 * _RADIUS, _RADIUS)
    for container in axes.containers:
        for bar in container.patches if isinstance(container, BarContainer) else ():
            corners = bar.get_bbox().get_points()
            if np.isfinite(corners).all():
                (left, top), (right, bottom) = np.sort(locate(corners), axis=0)
                x, y = ([middle] for middle in corners.mean(axis=0))
                if container.orientation == "horizontal":  # type: ignore[attr-defined]
                    x = corners[:, 0] if corners[0, 0] else corners[1:, 0]
                else:
                    y = corners[:, 1] if corners[0, 1] else corners[1:, 1]
                yield make(bar.get_facecolor(), x, y, left, top, right - left, bottom - top)


def _write(axis: Axis, values: Values) -> str:
    """A coordinate, or a span of two, in words after the axis' label, which may stand at another
    panel with the same axis."""
    axes = axis.axes
    is_x = axis is axes.xaxis
    siblings = (axes.get_shared_x_axes() if is_x else axes.get_shared_y_axes()).get_siblings(axes)
    panels = [axes, *siblings]
    labels = (panel.get_xlabel() if is_x else panel.get_ylabel() for panel in panels)
    label = next(filter(None, labels), "").replace("\n", " ")
    text = " to ".join(_write_value(axis, float(value)) for value in values)
    return f"{label}: {text}" if label else text


def _write_value(axis: Axis, value: float) -> str:
    """As the tick where ticks are given and one is near, else as a number."""
    formatter, locator = axis.get_major_formatter(), axis.get_major_locator()
    text = f"{value:.4g}"
    if isinstance(formatter, PercentFormatter):
        text = f"{100 * value / formatter.xmax:.3g}%"
    elif isinstance(formatter, FuncFormatter):
        text = formatter(value) or text
    if isinstance(locator, FixedLocator):
        ticks = np.asarray(axis.get_majorticklocs(), float)
        scaled = axis.get_transform().transform(np.array([value, *ticks]))
        distances = np.abs(scaled[1:] - scaled[0])
        spacing = np.diff(np.sort(scaled[1:])).min() if len(ticks) > 1 else 1.0
        if len(ticks) and distances.min() < 0.48 * spacing:
            text = formatter(ticks[distances.argmin()], int(distances.argmin())) or text
    return text.replace("-", "\N{MINUS SIGN}") if re.fullmatch(r"[-\d.e+%,]+", text) else text


def _read_legend(legend: Legend) -> Iterator[tuple[str, str]]:
    """(colour, name) of the entries, of whose colours the first entry has the name."""
    seen = set()
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        for part in handle if isinstance(handle, tuple) else (handle,):
            color = getattr(part, "get_color", None) or getattr(part, "get_facecolor", None)
            value = "" if color is None else color()
            if np.ndim(value) == 2:  # that of a collection, of error bars say
                value = value[0] if len(value) else ""
            if len(value) and (name := to_hex(value)) not in seen:
                seen.add(name)
                yield name, text.get_text().replace(r"\$", "$").strip()


def _adapt(name: str, value: str, prefix: str) -> str:
    """An attribute with the page's colours, and with the ids of this picture."""
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return re.sub(r"^#", f"#{prefix}-", value)
    value = re.sub(r"url\(#", f"url(#{prefix}-", value)
    for color, variable in _PAGE_COLORS.items() if name == "style" else ():
        value = re.sub(re.escape(color), variable, value, flags=re.IGNORECASE)
    return value


def _drop_namespace(name: str) -> str:
    return name.rpartition("}")[2]
