"""The report of `log-linearity`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.claims import claims_text, print_claims
from subliminal_jax.reporting.page import Picture, write_page
from subliminal_jax.reporting.panels import line_panels
from subliminal_jax.reporting.style import (
    AXIS,
    INK,
    NEUTRAL,
    PALETTE,
    assign_styles,
    legend_above,
    new_axes,
    styled,
)
from subliminal_jax.reporting.tables import Column, Table, print_table, wide_console

Results = Mapping[str, Any]
KINDS = {"raw": "log-probabilities", "centred": "each pair's mean removed"}
PAPER_SLOPE = -0.6


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the tables and write report.html and its PNGs; returns the page's path."""
    console = wide_console()
    tables = [spectrum_table(results), residual_table(results), angle_table(results)]
    for shown in (*tables, toy_table(results)):
        print_table(shown, console)
    print_claims(results["claims"], console)
    return write_page(
        folder,
        title="Are the models approximately log-linear?",
        summary=summary(results),
        command=command,
        config=settings,
        blocks=[
            *(
                Picture(
                    f"spectrum-{kind}",
                    f"Singular values: {words}",
                    "Mean over draws, both axes logarithmic; dotted, a power law with the paper's "
                    f"slope of {PAPER_SLOPE}. Grey: a Gaussian matrix of the same shape and norm.",
                    spectrum_figure(results, kind),
                )
                for kind, words in KINDS.items()
            ),
            tables[0],
            Picture(
                "prediction",
                "Do low-rank factors predict what they were not fitted to?",
                "Share of variance of held-out system prompts on held-out pairs, against each "
                "pair's mean; bars are 95% intervals over draws.",
                prediction_figure(results),
            ),
            tables[1],
            *(
                Picture(
                    f"angles-{row['other']}-{row['kind']}".replace("/", "-"),
                    f"Principal angles: {row['first']} and {row['other']}, {KINDS[row['kind']]}",
                    f"Cosines between their top-{row['k']} row spaces, largest first, mean over "
                    "draws; against the second model with random weights and Gaussian matrices.",
                    angle_figure(row),
                )
                for row in results["angles"]
            ),
            tables[2],
            Picture(
                "toy",
                "An exactly log-linear model",
                "Correlation of the student's shifts with the system prompt's on held-out pairs; "
                "pale points are seeds, bars 95% intervals.",
                plots.forest(
                    [
                        {"label": row["arm"], **row, "interval": row["correlation"]}
                        for row in results["toy"]
                    ],
                    x_label="correlation (uncentred) on held-out pairs",
                ),
            ),
            toy_table(results),
            claims_text(results["claims"]),
        ],
    )  # fmt: skip


def summary(results: Results) -> str:
    """What came out, in sentences."""
    m, n = results["shape"]
    parts = [
        f"Log-probabilities of {n} responses under {m} system prompts, {results['draws']} draws of "
        "both."
    ]
    parts += [
        f"{row['model']}: the singular values of rank {row['first']} to {row['last']} fall with a "
        f"slope of {row['slope']['mean']:.2f} (the paper: about {PAPER_SLOPE}; R2 of the fit "
        f"{row['r_squared']['mean']:.2f})."
        for row in results["spectra"]
        if row["kind"] == "raw" and row["model"] in results["models"]
    ]
    parts += [
        f"{row['model']}: factors of rank {row['rank']} predict "
        f"{100 * row['held_out_r_squared']['mean']:.0f}% of the variance of held-out entries, with "
        f"an error of {row['held_out_rmse']['mean']:.2f} nats and "
        f"{row['held_out_largest']['mean']:.1f} at most."
        for row in results["residuals"]
        if row["rank"] == results["k"] and row["model"] in results["models"]
    ]
    parts += [
        f"{row['first']} and {row['other']} ({KINDS[row['kind']]}): mean cosine "
        f"{row['models']['mean']:.2f}; random weights {row['random']['mean']:.2f}, Gaussian "
        f"{row['gaussian']['mean']:.2f}."
        for row in results["angles"]
    ]
    return " ".join(parts)


def spectrum_table(results: Results) -> Table:
    """One row a model and kind."""
    rows = [{**row, "kind": KINDS[row["kind"]]} for row in results["spectra"]]
    columns = [
        Column("model", "model"),
        Column("kind", "matrix"),
        Column("slope", "slope", "number"),
        Column("r_squared", "R2 of the fit", "number", digits=3),
        Column("effective_rank", "effective rank", "number", digits=1),
        Column("rank_90", "rank for 90%", "number", digits=1),
        Column("rank_99", "rank for 99%", "number", digits=1),
    ]
    first, last = (results["spectra"][0][end] for end in ("first", "last"))
    caption = (
        f"Power law fitted over ranks {first} to {last}; t intervals over {results['draws']} "
        "draws. Effective rank: exp of the entropy of the singular values. Last columns: ranks "
        "that hold these shares of the squared norm."
    )
    return Table("Singular values", columns, rows, caption)


def residual_table(results: Results) -> Table:
    """One row a model and rank."""
    columns = [
        Column("model", "model"),
        Column("rank", "rank", "count"),
        Column("fit_rmse", "fit: error", "number"),
        Column("fit_largest", "fit: largest", "number"),
        Column("held_out_r_squared", "held out: R2", "number"),
        Column("held_out_rmse", "held out: error", "number"),
        Column("held_out_largest", "held out: largest", "number"),
    ]
    caption = (
        "Errors in nats (root of the mean square, and the largest), beyond each pair's mean. Held "
        "out: entries whose system prompt and pair both lie outside of the half that was fitted; "
        "R2 is against the pair's mean over fitted system prompts."
    )
    return Table("Factors of rank k", columns, results["residuals"], caption)


def angle_table(results: Results) -> Table:
    """One row a pair of models and kind."""
    rows = [
        {**row, "names": f"{row['first']} and {row['other']}", "kind": KINDS[row["kind"]]}
        for row in results["angles"]
    ]
    columns = [
        Column("names", "models"),
        Column("kind", "matrix"),
        Column("k", "top k", "count"),
        Column("models", "mean cosine", "number", digits=3),
        Column("random", "random weights", "number", digits=3),
        Column("gaussian", "Gaussian", "number", digits=3),
        Column("over_random", "over random weights", "number", digits=3),
        Column("over_gaussian", "over Gaussian", "number", digits=3),
    ]
    caption = (
        "Mean cosine of the principal angles between the top-k row spaces. Random weights: the "
        "second model's architecture and tokenizer before any training."
    )
    return Table("Row spaces of two models", columns, rows, caption)


def toy_table(results: Results) -> Table:
    """One row an arm of the toy."""
    columns = [
        Column("arm", "pairs"),
        Column("correlation", "correlation", "number", digits=3),
        Column("bound", "theorem's bound", "number", digits=3),
        Column("margin", "margin (nats)", "number", digits=1),
        Column("pairs", "trained on", "count"),
    ]
    caption = (
        "Rotated: selected by a teacher whose shift stands at that angle to the model's. The bound "
        "is 1 / (10 C^1.5) with C the ratio of the largest to the smallest selected weight."
    )
    return Table("An exactly log-linear model", columns, results["toy"], caption)


@styled
def spectrum_figure(results: Results, kind: str) -> Figure:
    """Singular values against rank, both logarithmic."""
    figure, axes = new_axes()
    rows = [row for row in results["spectra"] if row["kind"] == kind]
    styles = assign_styles(results["models"])
    handles: dict[str, Any] = {}
    norm = np.linalg.norm(rows[0]["singular"])
    for row in rows:
        values = np.array(row["singular"])
        if kind == "centred":  # its last is zero up to rounding
            values = values[:-1]
        rank = np.arange(1, len(values) + 1)
        if row["model"] in styles:
            style = styles[row["model"]]
            (line,) = axes.plot(rank, values, marker=".", color=style.color)
        elif row["model"] == rows[-1]["model"]:  # the Gaussian one
            values = values * norm / np.linalg.norm(values)
            (line,) = axes.plot(rank, values, color=NEUTRAL, linewidth=1.2)
        else:  # a model's random weights
            owner = next((m for m in styles if row["model"].startswith(f"{m},")), None)
            color = AXIS if owner is None else styles[owner].color
            (line,) = axes.plot(rank, values, color=color, linestyle="--", linewidth=1.2)
        handles[row["model"]] = line
    first, last = rows[0]["first"], rows[0]["last"]
    span = np.array([first, last], float)
    start = rows[0]["singular"][first - 1]
    (line,) = axes.plot(span, start * (span / first) ** PAPER_SLOPE, color=INK, linestyle=":")
    handles[f"slope {PAPER_SLOPE}"] = line
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rank")
    axes.set_ylabel("singular value (nats)")
    legend_above(figure, handles)
    return figure


def prediction_figure(results: Results) -> Figure:
    """Share of variance of held-out entries against the rank."""
    names = list(dict.fromkeys(row["model"] for row in results["residuals"]))
    rows = []
    for name in names:
        if name in results["models"]:
            mine = [row for row in results["residuals"] if row["model"] == name]
            rows.append(
                {
                    "panel": "held-out entries",
                    "line": name,
                    "x": [row["rank"] for row in mine],
                    "y": [row["held_out_r_squared"] for row in mine],
                }
            )
    return line_panels(rows, x_label="rank of the factors", y_label="R2", bound=1.0, columns=1)


@styled
def angle_figure(row: Mapping[str, Any]) -> Figure:
    """Cosines, largest first."""
    figure, axes = new_axes(height=3.6)
    handles = {}
    at = np.arange(1, row["k"] + 1)
    looks: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("models", "the two models", {"color": PALETTE[0], "marker": "o"}),
        ("random", "second model, random weights", {"color": AXIS, "linestyle": "--"}),
        ("gaussian", "Gaussian matrices", {"color": NEUTRAL, "linewidth": 1.2}),
    )
    for key, label, look in looks:
        (handles[label],) = axes.plot(at, row[f"{key}_cosines"], **look)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("principal angle")
    axes.set_ylabel("cosine")
    legend_above(figure, handles)
    return figure
