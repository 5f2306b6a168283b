"""The report of a gradient alignment, drawn from its results.json alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.claims import claims_text, print_claims
from subliminal_jax.reporting.page import Block, Picture, Text, write_page
from subliminal_jax.reporting.style import AXIS, NEUTRAL, PALETTE, legend_above, styled
from subliminal_jax.reporting.tables import Column, Table, format_cell, print_table, wide_console

Results = Mapping[str, Any]
PANELS = {
    "tag": "last prompt token",
    "completion": "tokens that predict the answer",
    "all": "all tokens",
}
COLORS = {"steered": PALETTE[0], "system-prompt": PALETTE[1]}


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the main table and write report.html and its PNGs; returns the page's path."""
    table = cosine_table(results)
    console = wide_console()
    shown = ("teacher", "position", "row_teacher", "difference", "control", "other_vectors")
    print_table(replace(table, columns=[c for c in table.columns if c.key in shown]), console)
    print_claims(results["claims"], console)
    return write_page(
        folder,
        title="Does the gradient on a teacher's data point along its vector?",
        summary=summary(results, settings),
        command=command,
        config=settings,
        blocks=[claims_text(results["claims"]), table, *blocks(results, settings)],
    )


def summary(results: Results, settings: Mapping[str, Any]) -> str:
    """What came out, in sentences that need no paper."""
    n, layer = results["largest_n"], results["layer"]
    parts = [
        f"{results['model']} reads number lists that teachers wrote, and lists that it wrote "
        f"itself. Its loss gradient after block {layer}, at the last prompt token, is averaged "
        f"over {n} lists of each; the difference of the two is held against the teacher's vector, "
        f"for {len(settings['traits'])} traits and {settings['draws']} disjoint draws of lists."
    ]
    for kind in settings["teachers"]:
        row = _row(results["by_layer"], kind, "tag", layer)
        parts.append(
            f"With a {kind} teacher the cosine is {_number(row['difference'])} "
            f"(95% interval over draws and traits); two sets of its own lists give "
            f"{_number(row['control'])}."
        )
    parts.append(
        "Positive means that a gradient step on the teacher's lists moves the residual stream "
        "along the vector: the cosine is that of g(clean) - g(teacher), as the paper quotes it; "
        "its code reports the opposite sign."
    )
    return " ".join(parts)


def cosine_table(results: Results) -> Table:
    """Single rows and pooled, by teacher and position at the steering layer."""
    layer = results["layer"]
    rows = []
    for row in results["by_layer"]:
        if row["layer"] != layer:
            continue
        at = {key: row[key] for key in ("teacher", "position", "layer")}
        row = {**row, "position": PANELS[row["position"]]}
        for data in ("teacher", "clean"):
            mine = _of(results["rows"], **at, data=data)
            mean = np.mean([r["cosine"] for r in mine])
            error = np.sqrt(np.mean([r["cosine_stderr"] ** 2 for r in mine]) / len(mine))
            row[f"row_{data}"] = f"{mean:.3f} ± {error:.3f}"
            row[f"share_{data}"] = float(np.mean([r["share"] for r in mine]))
        rows.append(row)
    columns = [
        Column("teacher", "teacher"),
        Column("position", "gradient at"),
        Column("row_teacher", "one row, teacher's"),
        Column("row_clean", "one row, clean"),
        Column("share_teacher", "its share along v", "rate"),
        Column("difference", "clean - teacher", "number", digits=3),
        Column("control", "clean - clean", "number", digits=3),
        Column("along", "component", "number", digits=4),
        Column("control_along", "component, clean - clean", "number", digits=4),
        Column("own", "teacher's alone", "number", digits=3),
        Column("clean", "clean alone", "number", digits=3),
        Column("other_vectors", "with other traits' vectors", "number", digits=3),
    ]
    caption = (
        f"Cosines with the teacher's vector after block {layer}, signed so that positive is "
        "towards the vector. One row: mean and standard error over batches of single rows. The "
        f"others: means over {results['largest_n']} rows, with 95% intervals over draws "
        "and traits. A random direction has a squared cosine of "
        f"{results['chance_share']:.2%} on average. The cosine of clean - clean is that of pure "
        "noise, which does not shrink with N; its component does (in units of the gradient norm "
        "of one clean row)."
    )
    return Table("Cosines at the steering layer", columns, rows, caption)


def blocks(results: Results, settings: Mapping[str, Any]) -> list[Block]:
    """The page below its main table."""
    return [
        Picture(
            "cosine_against_n",
            "The vector appears when gradients are averaged",
            "Cosine of the mean of N differences (clean - teacher) with the teacher's vector; grey "
            "is a second set of clean lists in the teacher's place. Bands are 95% "
            "intervals over draws and traits.",
            against_n(results["curves"], settings["teachers"]),
        ),
        Picture(
            "cosine_by_layer",
            "Where in the depth",
            f"The same cosine at N = {results['largest_n']} after each block, with the vector of "
            "that block; dashed: with the vectors of the other traits, which share the direction "
            "that any such system prompt has.",
            by_layer(results["by_layer"], settings["teachers"]),
        ),
        outlier_table(results, settings),
        Picture(
            "deciles",
            "Do the largest coordinates hold the signal?",
            "Coordinates of LoRA's B factors in ten groups by the size of their gradient on the "
            "teacher's lists: the share of that gradient's square, and the share of the component "
            "of (clean - teacher) along the gradient of the steering score.",
            plots.decile_bars(decile_rows(results, settings)),
        ),
        Text(_data_text(results), "The data"),
    ]


@styled
def against_n(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> Figure:
    """Cosine against N, one panel a position; the control of the last kind stands for all."""

    def draw(axes: Axes, position: str) -> None:
        series = [(kind, "difference", COLORS[kind]) for kind in kinds]
        for kind, data, color in [*series, (kinds[-1], "control", NEUTRAL)]:
            mine = _of(rows, teacher=kind, position=position, data=data)
            _band(axes, [r["n"] for r in mine], [r["cosine"] for r in mine], color)
        sizes = sorted({r["n"] for r in rows})
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sizes[::-1][::3]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
        axes.set_xlabel("N, rows in the mean")

    return _panels(draw, kinds, dashed=False)


@styled
def by_layer(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> Figure:
    """The pooled cosine after each block, one panel a position."""

    def draw(axes: Axes, position: str) -> None:
        for kind in kinds:
            mine = _of(rows, teacher=kind, position=position)
            layers = [r["layer"] for r in mine]
            _band(axes, layers, [r["difference"] for r in mine], COLORS[kind])
            if all(r["other_vectors"] for r in mine):
                means = [r["other_vectors"]["mean"] for r in mine]
                axes.plot(layers, means, color=COLORS[kind], linestyle="--", linewidth=1.2)
            if kind == kinds[-1]:
                _band(axes, layers, [r["control"] for r in mine], NEUTRAL)
        axes.set_xticks(layers if len(layers) < 8 else layers[:: len(layers) // 6])
        axes.set_xlabel("after block")

    return _panels(draw, kinds, dashed=True)


def _panels(draw: Any, kinds: Sequence[str], *, dashed: bool) -> Figure:
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (position, title) in zip(panels, PANELS.items(), strict=True):
        axes.axhline(0, color=AXIS, linewidth=0.8)
        draw(axes, position)
        axes.set_title(title, fontsize=11, loc="left")
    panels[0].set_ylabel("cos(clean - teacher, v)")
    handles = {f"{kind} teacher": Line2D([], [], color=COLORS[kind], marker="o") for kind in kinds}
    handles["clean in its place"] = Line2D([], [], color=NEUTRAL, marker="o")
    if dashed:
        handles["other traits' vectors"] = Line2D([], [], color=NEUTRAL, linestyle="--")
    legend_above(figure, handles)
    return figure


def _band(
    axes: Axes, x: Sequence[float], intervals: Sequence[Mapping[str, Any]], color: str
) -> None:
    mean, low, high = (
        np.array([i[key] for i in intervals], float) for key in ("mean", "low", "high")
    )
    axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    axes.plot(x, mean, color=color, marker="o", ms=4)


def outlier_table(results: Results, settings: Mapping[str, Any]) -> Table:
    """Tails of LoRA's gradient and where the signal sits, by teacher and trait."""
    keys = (
        "excess_kurtosis", "hill_index", "top_mass", "decile_mass", "noise_scale",
        "cosine_difference", "cosine_own", "cosine_clean",
    )  # fmt: skip
    rows = []
    for kind in settings["teachers"]:
        for trait in settings["traits"]:
            mine = _of(results["outliers"], teacher=kind, trait=trait)
            row: dict[str, Any] = {"teacher": kind, "trait": trait}
            for key in keys:
                values = [r[key] for r in mine if r[key] is not None]
                row[key] = float(np.mean(values)) if values else None
            row["median_signal"] = float(np.mean([r["signal_to_noise"][1] for r in mine]))
            row["decile_component"] = _share(mine, "decile_component")
            rows.append(row)
    columns = [
        Column("teacher", "teacher"),
        Column("trait", "trait"),
        Column("excess_kurtosis", "excess kurtosis", "number", digits=0),
        Column("hill_index", "Hill index", "number", digits=1),
        Column("top_mass", "g² in top 1%", "rate", digits=0),
        Column("decile_mass", "g² in top 10%", "rate", digits=0),
        Column("decile_component", "signal in that 10%", "rate", digits=0),
        Column("median_signal", "median |mean|/sd", "number", digits=2),
        Column("cosine_difference", "cos(clean - teacher, ∇S)", "number", digits=3),
        Column("cosine_own", "cos(-teacher, ∇S)", "number", digits=3),
        Column("cosine_clean", "cos(-clean, ∇S)", "number", digits=3),
    ]
    n = settings["noise_rows"]
    caption = (
        "The mean gradient g of LoRA's B factors at the start (A's is zero), means over draws of "
        f"{n} rows. S is the steering score, the probe's mean activation "
        "along the vector; the signal is the component of clean - teacher along its gradient. "
        f"Coordinates of pure noise have a median |mean|/sd of {0.67 / n**0.5:.2f}."
    )
    return Table("Outliers and signal in the parameters' gradient", columns, rows, caption)


def decile_rows(results: Results, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Shares by tenth for each kind of teacher, the smallest coordinates first."""
    rows = []
    for kind in settings["teachers"]:
        mine = _of(results["outliers"], teacher=kind)
        mass = np.average(
            [r["decile_masses"] for r in mine], axis=0, weights=[r["squared"] for r in mine]
        )
        along = np.array([r["decile_components"] for r in mine])
        component = np.array([r["component"] for r in mine])[:, None]
        signal = (along * component).sum(axis=0) / component.sum()
        rows.append(
            {
                "optimizer": f"{kind} teacher",
                "gradient_mass": mass[::-1].tolist(),
                "steering_component": signal[::-1].tolist(),
            }
        )
    return rows


def _share(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """A ratio of sums over draws: the component of one may be next to nothing."""
    return sum(r[key] * r["component"] for r in rows) / sum(r["component"] for r in rows)


def _of(rows: Sequence[Mapping[str, Any]], **match: Any) -> list[Mapping[str, Any]]:
    return [r for r in rows if all(r[key] == value for key, value in match.items())]


def _row(
    rows: Sequence[Mapping[str, Any]], kind: str, position: str, layer: int
) -> Mapping[str, Any]:
    return _of(rows, teacher=kind, position=position, layer=layer)[0]


def _number(interval: Mapping[str, Any]) -> str:
    return format_cell(interval, Column("", "", "number", digits=3))


def _data_text(results: Results) -> str:
    return "\n\n".join(
        f"{name}: {d.get('kept', d['pairs'])} of {d['pairs']} lists pass the filter."
        for name, d in results["data"].items()
    )
