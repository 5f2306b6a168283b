"""Pictures of students' vectors: alignment over training, gains against the scale."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting.style import AXIS, NEUTRAL, PALETTE, legend_above, styled

from .analysis import Alignment, Gain

COLORS = {"student": PALETTE[0], "control": NEUTRAL, "random": PALETTE[1]}
LARGEST_PANELS = 8


@styled
def alignment_lines(alignments: Sequence[Alignment], layer: int) -> Figure:
    """EAS over steps, one panel a block (at most eight, around the steering layer)."""
    layers = sorted({a.layer for a in alignments})
    if len(layers) > LARGEST_PANELS:
        layers = sorted({*layers[:: len(layers) // 7], layer})[:LARGEST_PANELS]
    columns = min(len(layers), 4)
    lines = -(-len(layers) // columns)
    figure = Figure(figsize=(9.6, 0.8 + 2.6 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    names = ("student", "control")
    for axes, block in zip(panels.flat, layers, strict=False):
        axes.axhline(0, color=AXIS, linewidth=0.8)
        for name in names:
            points = [
                (a.step, a.eas)
                for a in alignments
                if (a.layer, a.data) == (block, name) and a.eas is not None
            ]
            _draw_line(axes, points, name)
        steered = " (steered)" if block == layer else ""
        axes.set_title(f"block {block}{steered}", fontsize=11, loc="left")
    for axes in panels.flat[len(layers) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("EAS")
    figure.supxlabel("step", fontsize=11)
    legend_above(figure, {name: Line2D([], [], color=COLORS[name]) for name in names})
    return figure


@styled
def gain_lines(gains: Sequence[Gain], layer: int) -> Figure:
    """Gain of the trait rate against the scale, one panel a way of adding the vector."""
    ways = list(dict.fromkeys((g.layers, g.positions) for g in gains))
    reads = list(dict.fromkeys(g.read for g in gains))
    figure = Figure(figsize=(9.6, 5.4), layout="constrained")
    panels = figure.subplots(len(reads), len(ways), sharex=True, sharey=True, squeeze=False)
    blocks = {"all": "all blocks", "one": f"block {layer}"}
    tokens = {"prompt": "prompt tokens", "last": "last token"}
    read_over = {"last": "read at the last token", "mean": "read over all tokens"}
    for line, read in zip(panels, reads, strict=True):
        for axes, (layers, positions) in zip(line, ways, strict=True):
            axes.axhline(0, color=AXIS, linewidth=0.8)
            for source in COLORS:
                points = sorted(
                    (
                        (g.scale, g.gain)
                        for g in gains
                        if (g.read, g.layers, g.positions, g.source)
                        == (read, layers, positions, source)
                    ),
                    key=lambda point: point[0],
                )
                _draw_line(axes, points, source, marker="o")
            axes.set_title(f"{blocks[layers]}, {tokens[positions]}", fontsize=10, loc="left")
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        line[0].set_ylabel(f"trait rate, less base\n{read_over[read]}")
    figure.supxlabel("scale of v_student", fontsize=11)
    handles = {name: Line2D([], [], color=color, marker="o") for name, color in COLORS.items()}
    legend_above(figure, handles)
    return figure


def _draw_line(
    axes: Axes, points: Sequence[tuple[float, Interval]], name: str, marker: str = ""
) -> None:
    """Means, with a band for their intervals."""
    x = [place for place, _ in points]
    mean, low, high = np.array([(y.mean, y.low, y.high) for _, y in points]).reshape(-1, 3).T
    axes.fill_between(x, low, high, color=COLORS[name], alpha=0.18, linewidth=0)
    axes.plot(x, mean, color=COLORS[name], marker=marker, ms=4)
