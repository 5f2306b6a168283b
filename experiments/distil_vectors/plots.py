"""Pictures of single students: metrics against the norm of the vector, answers against EAS."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from subliminal_jax.reporting.style import AXIS, NEUTRAL, PALETTE, legend_above, styled

from .analysis import KINDS, AgainstControls, DistilledVector

STYLES = dict(zip(KINDS, zip(PALETTE, "os^D", strict=False), strict=True))  # colour, marker


@styled
def metric_by_norm(vectors: Sequence[DistilledVector], metric: str, label: str) -> Figure:
    """A metric of every student against the norm, one panel a block; controls in grey."""

    def draw(axes: Axes, vectors: Sequence[DistilledVector]) -> None:
        kinds = list(dict.fromkeys(v.kind for v in vectors))
        norms = sorted({v.norm for v in vectors})
        for i, kind in enumerate(kinds):
            color, marker = STYLES[kind]
            offset = 0.24 * (i - (len(kinds) - 1) / 2)
            by_norm: dict[float, list[AgainstControls]] = {}
            for v in vectors:
                if v.kind == kind:
                    by_norm.setdefault(v.norm, []).append(getattr(v, metric))
            for norm, held in by_norm.items():
                x = norms.index(norm) + offset
                for each in held:
                    if each.control is not None:
                        axes.plot(x - 0.05, each.control, marker, color=NEUTRAL, alpha=0.45, ms=5)
                    axes.plot(x + 0.05, each.student, marker, color=color, alpha=0.45, ms=5)
                mean = float(np.mean([each.student for each in held]))
                axes.plot([x - 0.02, x + 0.12], [mean] * 2, color=color, linewidth=2.5)
        axes.set_xticks(range(len(norms)), [f"{n:g}" for n in norms])
        axes.set_xlim(-0.5, len(norms) - 0.5)
        axes.set_xlabel("norm, in units of the residual stream's")

    point = Line2D([], [], linestyle="", marker="o", color=NEUTRAL)
    return _draw_panels(vectors, draw, label, {"controls": point})


@styled
def answers_by_component(vectors: Sequence[DistilledVector]) -> Figure:
    """Total variation of the answers against the share of the vector taken up."""

    def draw(axes: Axes, vectors: Sequence[DistilledVector]) -> None:
        among: list[float] = []
        for v in vectors:
            if v.variation is not None:
                color, marker = STYLES[v.kind]
                x, y = v.component.student, v.variation.student
                axes.plot(x, y, marker, color=color, alpha=0.55, ms=5)
                among += v.variation.controls.values()
        if among:
            level = float(np.mean(among))
            axes.axhline(level, color=NEUTRAL, linewidth=1.2, linestyle="--")
        axes.set_xlabel("share of the vector")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))

    line = Line2D([], [], linestyle="--", color=NEUTRAL)
    label = "total variation to controls"
    figure = _draw_panels(vectors, draw, label, {"among controls": line})
    figure.axes[0].set_ylim(bottom=0)  # after all panels are drawn: they share the axis
    return figure


def _draw_panels(
    vectors: Sequence[DistilledVector],
    draw: Callable[[Axes, Sequence[DistilledVector]], None],
    label: str,
    grey: Mapping[str, Line2D],
) -> Figure:
    """One panel a block, and a legend of the kinds and of what is grey."""
    layers = list(dict.fromkeys(v.layer for v in vectors))
    figure = Figure(figsize=(max(7.0, 3.6 * len(layers)), 4.0), layout="constrained")
    panels = figure.subplots(1, len(layers), sharey=True, squeeze=False)[0]
    for axes, layer in zip(panels, layers, strict=True):
        axes.axhline(0, color=AXIS, linewidth=0.8)
        draw(axes, [v for v in vectors if v.layer == layer])
        axes.set_title(f"block {layer}", fontsize=11, loc="left")
    panels[0].set_ylabel(label)
    handles: dict[str, Any] = {}
    for kind in dict.fromkeys(v.kind for v in vectors):
        color, marker = STYLES[kind]
        handles[KINDS[kind]] = Line2D([], [], linestyle="", marker=marker, color=color)
    legend_above(figure, {**handles, **grey})
    return figure
