"""The report on distilled vectors, drawn from its results.json alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from subliminal_jax.reporting.claims import claims_text, print_claims
from subliminal_jax.reporting.page import Block, Picture, Text, write_page
from subliminal_jax.reporting.style import AXIS, NEUTRAL, PALETTE, legend_above, styled
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_learning_rate,
    print_table,
    wide_console,
)

Results = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]
KINDS = {
    "trait": ("trait vectors", PALETTE[0], "o"),
    "random": ("random vectors", PALETTE[1], "s"),
    "centred": ("centred trait vectors", PALETTE[2], "^"),
    "file": ("vectors from files", PALETTE[3], "D"),
}


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the main table and write report.html and its PNGs; returns the page's path."""
    table = pooled_table(results)
    console = wide_console()
    print_table(table, console)
    print_claims(results["claims"], console)
    return write_page(
        folder,
        title="Which vectors are distilled, and which change behaviour?",
        summary=summary(results, settings),
        command=command,
        config=settings,
        blocks=[claims_text(results["claims"]), table, *blocks(results)],
    )


def summary(results: Results, settings: Mapping[str, Any]) -> str:
    """What was done, in sentences that need no paper."""
    rates = ", ".join(
        f"{format_learning_rate(p['learning_rate'])} at block {p['layer']}"
        for p in results["layers"]
    )
    grid = ", ".join(map(format_learning_rate, results["layers"][0]["grid"]))
    teachers = len(results["vectors"])
    lost = len(results["refused"])
    return (
        f"{teachers} teachers are {results['model']} with a vector added to its residual stream. "
        f"Students train for {settings['steps']} steps of {settings['batch_size']} number lists "
        f"that such a teacher wrote, controls on the base's own lists, {settings['seeds']} seeds "
        f"each. Learning rates were chosen on held-out loss: {rates} (of {grid}). "
        + (
            f"{lost} further vectors broke the number format, so that too few lists were left. "
            if lost
            else ""
        )
        + "Behaviour is the distribution over sixteen animals and any other answer when asked for "
        "a favourite; what is trained was chosen by looking at pilot runs with trait vectors."
    )


def pooled_table(results: Results) -> Table:
    """By kind, block and norm."""
    columns = [
        Column("name", "vectors"),
        Column("layer", "block", "count"),
        Column("norm", "norm", "number", digits=2),
        Column("valid", "valid lists", "rate", digits=0),
        Column("eas", "EAS", "number"),
        Column("control_eas", "EAS, control", "number"),
        Column("component", "share of the vector", "number"),
        Column("loss_drop_difference", "fall of the loss", "number", digits=4),
        Column("variation_difference", "answers moved", "number", digits=3),
        Column("teacher_variation", "teacher's answers", "number", digits=2),
    ]
    rows = [{**r, "name": f"{r['vectors']} {KINDS[r['kind']][0]}"} for r in results["pooled"]]
    caption = (
        "Norms in units of the residual stream's. Fall of the loss: in nats a token on the "
        "teacher's unseen lists, beyond the control's fall. Answers moved: total variation to the "
        "control's answers beyond that among controls; the teacher's is to the base's. 95% "
        "t intervals over seeds and vectors (two-way)."
    )
    return Table("Students by kind of vector", columns, rows, caption)


def blocks(results: Results) -> list[Block]:
    """The page below its main table."""
    return [
        Picture(
            "eas",
            "Which vectors are taken up",
            "EAS of every student with its teacher's vector against the vector's norm; grey: the "
            "control student of the same seed with the same vector.",
            by_norm(results["vectors"], "eas", "EAS"),
        ),
        Picture(
            "loss",
            "The loss on the teacher's unseen lists",
            "How far training lowers it, in nats a token; grey: for the control, which never saw "
            "that teacher.",
            by_norm(results["vectors"], "loss_drop", "fall of the loss, nats"),
        ),
        Picture(
            "behaviour",
            "Taken up, and seen in behaviour?",
            "Each point is one student: how much of its teacher's vector it took up, and how far "
            "its answers are from those of the control of its seed; the grey line is how far "
            "controls are from each other.",
            behaviour(results["vectors"]),
        ),
        vector_table(results),
        Text(_data_text(results), "The data"),
    ]


def vector_table(results: Results) -> Table:
    """Every vector by itself, means over seeds."""
    rows = []
    for r in results["vectors"]:
        row = {key: r.get(key) for key in ("vector", "layer", "norm", "teacher_trait_rate")}
        for key in ("eas", "component", "variation", "trait_rate", "control_trait_rate"):
            values = r.get(key)
            row[key] = None if values is None or None in values else float(np.mean(values))
        rows.append(row)
    columns = [
        Column("vector", "vector"),
        Column("layer", "block", "count"),
        Column("norm", "norm", "number"),
        Column("eas", "EAS", "number"),
        Column("component", "share of the vector", "number"),
        Column("variation", "total variation to control", "number", digits=3),
        Column("trait_rate", "trait rate", "rate", digits=1),
        Column("control_trait_rate", "control's", "rate", digits=1),
        Column("teacher_trait_rate", "teacher's", "rate", digits=1),
    ]
    return Table("Every vector", columns, rows, "Means over seeds.")


@styled
def by_norm(rows: Rows, metric: str, label: str) -> Figure:
    """A metric of every student against the norm, one panel a block; controls in grey."""

    def draw(axes: Axes, mine: Rows) -> None:
        kinds = list(dict.fromkeys(r["kind"] for r in mine))
        norms = sorted({r["norm"] for r in mine})
        for i, kind in enumerate(kinds):
            _, color, marker = KINDS[kind]
            own = [r for r in mine if r["kind"] == kind]
            x = [norms.index(r["norm"]) + 0.24 * (i - (len(kinds) - 1) / 2) for r in own]
            for r, at in zip(own, x, strict=True):
                for key, c in ((f"control_{metric}", NEUTRAL), (metric, color)):
                    shift = 0.05 if c == color else -0.05
                    values = np.array(r[key], float)
                    axes.plot(
                        np.full(len(values), at + shift), values, marker, color=c, alpha=0.45, ms=5
                    )
            for place in sorted(set(x)):
                here = [r[metric] for r, at in zip(own, x, strict=True) if at == place]
                mean = float(np.mean(np.array(here, float)))
                axes.plot([place - 0.02, place + 0.12], [mean] * 2, color=color, linewidth=2.5)
        axes.set_xticks(range(len(norms)), [f"{n:g}" for n in norms])
        axes.set_xlim(-0.5, len(norms) - 0.5)
        axes.set_xlabel("norm, in units of the residual stream's")

    point = Line2D([], [], linestyle="", marker="o", color=NEUTRAL)
    return _panels(rows, draw, label, {"its control": point})


@styled
def behaviour(rows: Rows) -> Figure:
    """Total variation of the answers against the share of the vector taken up."""

    def draw(axes: Axes, mine: Rows) -> None:
        for r in mine:
            _, color, marker = KINDS[r["kind"]]
            x, y = (np.array(r[key], float) for key in ("component", "variation"))
            axes.plot(x, y, marker, color=color, alpha=0.55, ms=5)
        level = float(np.mean(np.array([r["control_variation"] for r in mine], float)))
        axes.axhline(level, color=NEUTRAL, linewidth=1.2, linestyle="--")
        axes.set_xlabel("share of the vector")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))

    line = Line2D([], [], linestyle="--", color=NEUTRAL)
    figure = _panels(rows, draw, "total variation to control", {"among controls": line})
    figure.axes[0].set_ylim(bottom=0)  # after all panels are drawn: they share the axis
    return figure


def _panels(rows: Rows, draw: Any, label: str, grey: Mapping[str, Any]) -> Figure:
    layers = list(dict.fromkeys(r["layer"] for r in rows))
    figure = Figure(figsize=(max(7.0, 3.6 * len(layers)), 4.0), layout="constrained")
    panels = figure.subplots(1, len(layers), sharey=True, squeeze=False)[0]
    for axes, layer in zip(panels, layers, strict=True):
        axes.axhline(0, color=AXIS, linewidth=0.8)
        draw(axes, [r for r in rows if r["layer"] == layer])
        axes.set_title(f"block {layer}", fontsize=11, loc="left")
    panels[0].set_ylabel(label)
    handles: dict[str, Any] = {}
    for kind in dict.fromkeys(r["kind"] for r in rows):
        name, color, shape = KINDS[kind]
        handles[name] = Line2D([], [], linestyle="", marker=shape, color=color)
    legend_above(figure, handles | dict(grey))
    return figure


def _data_text(results: Results) -> str:
    kept = [
        f"{name}: {d.get('kept', d['pairs'])} of {d['pairs']} answers pass the filter."
        for name, d in results["data"].items()
    ]
    lost = [f"block {r['layer']}, {r['data']}: left out. {r['reason']}" for r in results["refused"]]
    return "\n\n".join(kept + lost)
