"""The report on students' vectors, drawn from its results.json alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from subliminal_jax.evaluation.statistics import crossed_interval
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.claims import claims_text, print_claims
from subliminal_jax.reporting.page import Block, Picture, Text, write_page
from subliminal_jax.reporting.style import AXIS, NEUTRAL, PALETTE, legend_above, styled
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_cell,
    format_learning_rate,
    print_table,
    wide_console,
)

Results = Mapping[str, Any]
KINDS = {
    "steered": "steered by the vector",
    "prompted": "system prompt",
    "projected": "system prompt, vector projected out",
    "subtracted": "system prompt, vector subtracted",
    "control": "none (control)",
}


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the main table and write report.html and its PNGs; returns the page's path."""
    table = students_table(results)
    console = wide_console()
    print_table(table, console)
    print_claims(results["claims"], console)
    return write_page(
        folder,
        title="Is a student's vector what makes it say the trait?",
        summary=summary(results, settings),
        command=command,
        config=settings,
        blocks=[claims_text(results["claims"]), table, *blocks(results, settings)],
    )


def summary(results: Results, settings: Mapping[str, Any]) -> str:
    """What came out, in sentences that need no paper."""
    final, necessity = results["final"], results["necessity"]
    kind = results["kind"]
    lost = _matrix(necessity, "student") - _matrix(necessity, "teacher's")
    excess = _matrix(necessity, "student") - _matrix(necessity, "control")
    share = lost.mean() / excess.mean() if excess.mean() else float("nan")
    return (
        f"Students start as {results['model']} and train for {settings['steps']} steps of "
        f"{settings['batch_size']} number lists, written by teachers of "
        f"{len(settings['traits'])} traits ({KINDS[kind]}); controls train on the base's own "
        f"lists. At the learning rate that held-out loss chose "
        f"({format_learning_rate(results['learning_rate'])} of "
        f"{', '.join(map(format_learning_rate, results['grid']))}) the students' shift after block "
        f"{results['layer']} has a cosine of {_number(final[kind]['eas'])} with the teacher's "
        f"vector, the controls' {_number(final['control']['eas'])}. They say the trait with "
        f"{_rate(final[kind]['rate'])}, the controls with {_rate(final['control']['rate'])}. With "
        "the component along the teacher's vector replaced by the base's they lose "
        f"{share:.0%} of that difference.\n\n"
        f"{settings['seeds']} seeds; 95% t intervals over seeds and traits (two-way). "
        f"What is trained ({_trained(settings)}) was chosen for the toy setting by looking at "
        "pilot runs, in which it moved the trait as far as more weights did, in half the time; the "
        "learning rate was not."
    )


def students_table(results: Results) -> Table:
    """Alignment and trait of the students of every kind of teacher, and of the teachers."""
    teachers = results["teachers"]
    rows = []
    for kind, label in KINDS.items():
        values = results["final"][kind]
        key = "base" if kind == "control" else kind
        rows.append(
            {
                "teacher": label,
                "teacher_rate": float(np.mean([t[key] for t in teachers])),
                **{k: _crossed(v) if v else None for k, v in values.items()},
            }
        )
    columns = [
        Column("teacher", "teacher"),
        Column("teacher_rate", "teacher's trait rate", "rate", digits=1),
        Column("eas", "student's EAS"),
        Column("component", "share of the vector"),
        Column("rate", "student's trait rate", "rate", digits=1),
        Column("log_prob", "its log", "number"),
    ]
    columns = [
        Column(c.key, c.title, "number" if c.key in ("eas", "component") else c.kind, c.digits)
        for c in columns
    ]
    caption = (
        f"After block {results['layer']}, against the shift that the system prompt makes there. "
        "Means over traits and seeds with 95% intervals. Students of other teachers than "
        f"the one that is {KINDS[results['kind']]} train at that one's best rate. Projecting the "
        "vector out also removes what the base has along it, in units of the vector "
        + ", ".join(f"{x:.2f} ({trait})" for trait, x in results["base_component"].items())
        + ": where that is negative, the projection steers towards the trait. Subtracting takes "
        "off only what the prompt adds on average."
    )
    return Table("Students by what made their teacher", columns, rows, caption)


def necessity_table(results: Results) -> Table:
    """The trait rate of students whose component along a vector is the base's."""
    rates = {name: np.array(v) for name, v in results["necessity"].items()}
    excess = rates["student"] - rates["control"]
    rows = []
    for name in ("teacher's", "student's own", "random"):
        lost = rates["student"] - rates[name]
        share = float(lost.mean() / excess.mean()) if excess.mean() else None
        rows.append(
            {"vector": name, "rate": _crossed(rates[name].tolist()),
             "lost": _crossed(lost.tolist()), "share": share}
        )  # fmt: skip
    columns = [
        Column("vector", "replaced along"),
        Column("rate", "trait rate left", "rate", digits=1),
        Column("lost", "lost", "rate", digits=2),
        Column("share", "of the excess over control", "rate", digits=0),
    ]
    caption = (
        f"Students say the trait with {_rate(results['necessity']['student'])}, controls with "
        f"{_rate(results['necessity']['control'])}. Replaced: after every block, at every token."
    )
    return Table("Necessity: without the component", columns, rows, caption)


def blocks(results: Results, settings: Mapping[str, Any]) -> list[Block]:
    """The page below its main table."""
    layer = results["layer"]
    return [
        Picture(
            "eas_over_training",
            "Alignment over training",
            "EAS after each block with the shift that the teacher has there: students in colour, "
            "controls in grey; bands are 95% intervals over seeds and traits. Before the "
            "steered block a steered teacher has no shift, and there is nothing to align with.",
            eas_lines(results["eas"], layer),
        ),
        necessity_table(results),
        Picture(
            "sufficiency",
            "Sufficiency: the student's vector in the base",
            "Change of the trait rate when the base gets v_student of a student (blue), of a "
            "control (grey), or a random vector of the same norms (orange), at several factors. "
            "The panels: where it is added, and over which tokens the shift was read.",
            sufficiency_lines(results["sufficiency"], layer),
        ),
        Picture(
            "trait_rates",
            "The trait by teacher",
            "Trait rate of the students of each teacher less that of the controls of the same "
            "seed, for every trait and seed (pale) and on average.",
            plots.forest(
                difference_rows(results), x_label="trait rate, less control", percent=True
            ),
        ),
        Text(_data_text(results), "The data"),
    ]


def difference_rows(results: Results) -> list[dict[str, Any]]:
    """Student minus control by kind of teacher."""
    control = np.array(results["final"]["control"]["rate"])
    rows = []
    for kind in ("steered", "prompted", "projected", "subtracted"):
        own = np.array(results["final"][kind]["rate"])
        if own.shape == control.shape and own.size:
            d = own - control
            rows.append({"label": KINDS[kind], "interval": _crossed(d.tolist()),
                         "values": d.ravel().tolist()})  # fmt: skip
    return rows


@styled
def eas_lines(rows: Sequence[Mapping[str, Any]], layer: int) -> Figure:
    """EAS over steps, one panel a block (at most eight, around the steering layer)."""
    layers = sorted({r["layer"] for r in rows})
    if len(layers) > 8:
        layers = sorted({*layers[:: len(layers) // 7], layer})[:8]
    columns = min(len(layers), 4)
    lines = -(-len(layers) // columns)
    figure = Figure(figsize=(9.6, 0.8 + 2.6 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    colors = {"student": PALETTE[0], "control": NEUTRAL}
    for axes, at in zip(panels.flat, layers, strict=False):
        axes.axhline(0, color=AXIS, linewidth=0.8)
        for who, color in colors.items():
            mine = [r for r in rows if (r["layer"], r["data"]) == (at, who) and r["eas"]]
            x = [r["step"] for r in mine]
            mean, low, high = (
                np.array([r["eas"][key] for r in mine], float) for key in ("mean", "low", "high")
            )
            axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
            axes.plot(x, mean, color=color)
        axes.set_title(
            f"block {at}" + (" (steered)" if at == layer else ""), fontsize=11, loc="left"
        )
    for axes in panels.flat[len(layers) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("EAS")
    figure.supxlabel("step", fontsize=11)
    legend_above(figure, {who: Line2D([], [], color=color) for who, color in colors.items()})
    return figure


@styled
def sufficiency_lines(rows: Sequence[Mapping[str, Any]], layer: int) -> Figure:
    """Gain of the trait rate against the factor, one panel a way of adding the vector."""
    ways = list(dict.fromkeys((r["layers"], r["positions"]) for r in rows))
    figure = Figure(figsize=(9.6, 5.4), layout="constrained")
    reads = list(dict.fromkeys(r["read"] for r in rows))
    panels = figure.subplots(len(reads), len(ways), sharex=True, sharey=True, squeeze=False)
    colors = {"student": PALETTE[0], "control": NEUTRAL, "random": PALETTE[1]}
    where = {"all": "all blocks", "one": f"block {layer}"}
    tokens = {"prompt": "prompt tokens", "last": "last token"}
    over = {"last": "read at the last token", "mean": "read over all tokens"}
    for line, read in zip(panels, reads, strict=True):
        for axes, (layers, positions) in zip(line, ways, strict=True):
            axes.axhline(0, color=AXIS, linewidth=0.8)
            for source, color in colors.items():
                mine = sorted(
                    (
                        r for r in rows
                        if (r["read"], r["layers"], r["positions"], r["source"])
                        == (read, layers, positions, source)
                    ),
                    key=lambda r: r["factor"],
                )  # fmt: skip
                x = [r["factor"] for r in mine]
                mean, low, high = (
                    np.array([r["gain"][key] for r in mine], float)
                    for key in ("mean", "low", "high")
                )
                axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
                axes.plot(x, mean, color=color, marker="o", ms=4)
            axes.set_title(f"{where[layers]}, {tokens[positions]}", fontsize=10, loc="left")
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        line[0].set_ylabel(f"trait rate, less base\n{over[read]}")
    figure.supxlabel("factor on v_student", fontsize=11)
    legend_above(
        figure, {name: Line2D([], [], color=color, marker="o") for name, color in colors.items()}
    )
    return figure


def _trained(settings: Mapping[str, Any]) -> str:
    if settings["adapter"] == "full":
        return "all weights"
    blocks = ", ".join(map(str, settings["adapter_layers"])) or "all"
    return f"LoRA of rank {settings['rank']} on {', '.join(settings['targets'])} of blocks {blocks}"


def _matrix(necessity: Mapping[str, Any], name: str) -> np.ndarray:
    return np.array(necessity[name], float)


def _crossed(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    return crossed_interval(np.array(values, float)).to_dict()


def _number(values: Sequence[Sequence[float]]) -> str:
    return format_cell(_crossed(values), Column("", "", "number")) if values else "no number"


def _rate(values: Sequence[Sequence[float]]) -> str:
    return (
        format_cell(_crossed(values), Column("", "", "rate", digits=1)) if values else "no number"
    )


def _data_text(results: Results) -> str:
    return "\n\n".join(
        f"{name}: {d.get('kept', d['pairs'])} of {d['pairs']} lists pass the filter."
        for name, d in results["data"].items()
    )
