"""The page of `log-linearity`, from its results alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from subliminal_jax.data.conversations import describe
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture
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
from subliminal_jax.reporting.tables import Column, Table

from .analysis import GAUSSIAN, KINDS, Results, RowSpaceAngles, random_twin
from .claims import PAPER_SLOPE


def make_page(results: Results) -> Page:
    """Spectra, low-rank prediction, row spaces and the toy, each as pictures and a table."""
    spectra, errors, angles, toy = tables = (
        spectrum_table(results),
        error_table(results),
        angle_table(results),
        toy_table(results),
    )
    return Page(
        title="Are the models approximately log-linear?",
        summary=summarise(results),
        blocks=[
            *(spectrum_picture(results, kind) for kind in KINDS),
            spectra,
            prediction_picture(results),
            errors,
            *map(angle_picture, results.angles),
            angles,
            toy_picture(results),
            toy,
        ],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    systems, pairs = results.shape
    parts = [
        f"Log-probabilities of {pairs} responses under {systems} system prompts, {results.draws} "
        "draws of both."
    ]
    if results.dropped_rows:
        parts.append(f"Rows of the source that were dropped: {describe(results.dropped_rows)}.")
    parts += [
        f"{s.model}: the singular values of rank {s.first} to {s.last} fall with a slope of "
        f"{s.slope.mean:.2f} (the paper: about {PAPER_SLOPE}; R2 of the fit "
        f"{s.r_squared.mean:.2f})."
        for s in results.model_spectra()
    ]
    parts += [
        f"{e.model}: factors of rank {e.rank} predict {100 * e.held_out_r_squared.mean:.0f}% of "
        f"the variance of held-out entries, with an error of {e.held_out_rmse.mean:.2f} nats and "
        f"{e.held_out_largest.mean:.1f} at most."
        for e in results.claimed_errors()
    ]
    parts += [
        f"{a.first} and {a.other} ({KINDS[a.kind]}): mean cosine {a.models.mean:.2f}; random "
        f"weights {a.random.mean:.2f}, Gaussian {a.gaussian.mean:.2f}."
        for a in results.angles
    ]
    return " ".join(parts)


# -- tables --------------------------------------------------------------------------------------


def spectrum_table(results: Results) -> Table:
    """One row a model and kind."""
    columns = [
        Column("model", "model"),
        Column("kind", "matrix", labels=KINDS),
        Column("slope", "slope", "number"),
        Column("r_squared", "R2 of the fit", "number", digits=3),
        Column("effective_rank", "effective rank", "number", digits=1),
        Column("rank_90", "rank for 90%", "number", digits=1),
        Column("rank_99", "rank for 99%", "number", digits=1),
    ]
    spectrum = results.spectra[0]
    caption = (
        f"Power law fitted over ranks {spectrum.first} to {spectrum.last}; t intervals over "
        f"{results.draws} draws. Effective rank: exp of the entropy of the singular values. Last "
        "columns: ranks that hold these shares of the squared norm."
    )
    return Table("Singular values", columns, results.spectra, caption)


def error_table(results: Results) -> Table:
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
    return Table("Factors of rank k", columns, results.residuals, caption)


def angle_table(results: Results) -> Table:
    """One row a pair of models and kind."""
    rows = [{**vars(a), "names": f"{a.first} and {a.other}"} for a in results.angles]
    columns = [
        Column("names", "models"),
        Column("kind", "matrix", labels=KINDS),
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
    return Table("An exactly log-linear model", columns, results.toy, caption)


# -- pictures ------------------------------------------------------------------------------------


def spectrum_picture(results: Results, kind: str) -> Picture:
    return Picture(
        f"spectrum-{kind}",
        f"Singular values: {KINDS[kind]}",
        "Mean over draws, both axes logarithmic; dotted, a power law with the paper's slope of "
        f"{PAPER_SLOPE}. Grey: a Gaussian matrix of the same shape and norm.",
        draw_spectra(results, kind),
    )


def prediction_picture(results: Results) -> Picture:
    lines = []
    for name in results.models:
        errors = [e for e in results.residuals if e.model == name]
        lines.append(
            {
                "panel": "held-out entries",
                "line": name,
                "x": [e.rank for e in errors],
                "y": [e.held_out_r_squared for e in errors],
            }
        )
    return Picture(
        "prediction",
        "Do low-rank factors predict what they were not fitted to?",
        "Share of variance of held-out system prompts on held-out pairs, against each pair's mean; "
        "bars are 95% intervals over draws.",
        line_panels(lines, x_label="rank of the factors", y_label="R2", bound=1.0, columns=1),
    )


def angle_picture(angles: RowSpaceAngles) -> Picture:
    return Picture(
        f"angles-{angles.other}-{angles.kind}".replace("/", "-"),
        f"Principal angles: {angles.first} and {angles.other}, {KINDS[angles.kind]}",
        f"Cosines between their top-{angles.k} row spaces, largest first, mean over draws; against "
        "the second model with random weights and Gaussian matrices.",
        draw_angles(angles),
    )


def toy_picture(results: Results) -> Picture:
    lines = [
        {"label": arm.arm, "interval": arm.correlation, "values": arm.values} for arm in results.toy
    ]
    return Picture(
        "toy",
        "An exactly log-linear model",
        "Correlation of the student's shifts with the system prompt's on held-out pairs; pale "
        "points are seeds, bars 95% intervals.",
        plots.forest(lines, x_label="correlation (uncentred) on held-out pairs"),
    )


@styled
def draw_spectra(results: Results, kind: str) -> Figure:
    """Singular values against rank, both logarithmic: models solid, their random weights dashed."""
    figure, axes = new_axes()
    spectra = [s for s in results.spectra if s.kind == kind]
    colors = {name: style.color for name, style in assign_styles(results.models).items()}
    twin_colors = {random_twin(name): color for name, color in colors.items()}
    handles: dict[str, Any] = {}
    norm = np.linalg.norm(spectra[0].singular)
    for spectrum in spectra:
        values = np.array(spectrum.singular)
        if kind == "centred":  # its last is zero up to rounding
            values = values[:-1]
        look: Mapping[str, Any]
        if spectrum.model in colors:
            look = {"color": colors[spectrum.model], "marker": "."}
        elif spectrum.model == GAUSSIAN:
            values = values * norm / np.linalg.norm(values)
            look = {"color": NEUTRAL, "linewidth": 1.2}
        else:
            look = {"color": twin_colors[spectrum.model], "linestyle": "--", "linewidth": 1.2}
        rank = np.arange(1, len(values) + 1)
        (handles[spectrum.model],) = axes.plot(rank, values, **look)
    first, last = spectra[0].first, spectra[0].last
    span = np.array([first, last], float)
    law = spectra[0].singular[first - 1] * (span / first) ** PAPER_SLOPE
    (handles[f"slope {PAPER_SLOPE}"],) = axes.plot(span, law, color=INK, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rank")
    axes.set_ylabel("singular value (nats)")
    legend_above(figure, handles)
    return figure


@styled
def draw_angles(angles: RowSpaceAngles) -> Figure:
    """Cosines, largest first."""
    figure, axes = new_axes(height=3.6)
    rank = np.arange(1, angles.k + 1)
    lines = (
        ("the two models", angles.models_cosines, {"color": PALETTE[0], "marker": "o"}),
        ("second model, random weights", angles.random_cosines, {"color": AXIS, "linestyle": "--"}),
        ("Gaussian matrices", angles.gaussian_cosines, {"color": NEUTRAL, "linewidth": 1.2}),
    )
    handles = {}
    for label, cosines, look in lines:
        (handles[label],) = axes.plot(rank, cosines, **look)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("principal angle")
    axes.set_ylabel("cosine")
    legend_above(figure, handles)
    return figure
