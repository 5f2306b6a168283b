"""The report of the optimizer dispute, drawn from its results.json alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Block, Picture, Text, write_page
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
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_learning_rate,
    print_table,
    wide_console,
)

Results = Mapping[str, Any]
FAMILIES = {
    "paper": "the paper's arms",
    "maps": "maps of scales",
    "outliers": "outliers masked or clipped",
    "steps": "steps: normalised, LoRA's factors",
    "batch": "batch sizes",
    "tokens": "rare tokens",
}
MAIN = ("adamw", "rmsprop", "signum", "sign-sgd", "momentum", "sgd")
METRICS = {"eas": "direction", "shift_component": "size", "trait_rate": "trait"}
HOLDS = {True: "yes", False: "no", None: "open"}


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the main tables and write report.html and its PNGs; returns the page's path."""
    console = wide_console()
    print_table(arms_table(results), console)
    print_table(verdict_table(results), console)
    return write_page(
        folder,
        title="Why does AdamW pass the vector on, and SGD less?",
        summary=summary(results, settings),
        command=command,
        config=settings,
        blocks=blocks(results, settings),
    )


def summary(results: Results, settings: Mapping[str, Any]) -> str:
    """What came out, in sentences that need no paper."""
    best = {row["optimizer"]: row for row in results["best"]}
    text = (
        f"A teacher ({results['model']}, {results['parameters']:,} parameters, with "
        f"{_vector(settings)} vector after block "
        f"{results['layer']}) answered {settings['rows']} prompts. Students start as the same "
        f"model without the vector and train on the answers for {settings['steps']} steps of "
        f"{settings['batch_size']} rows, {len(best)} arms with {settings['grid_points']} learning "
        f"rates each. The rate with the lowest held-out loss (over {settings['grid_seeds']} of "
        f"{settings['seeds']} seeds) counts; at it there are {settings['seeds']} students and as "
        "many controls, trained on what the plain model answered."
    )
    gaps = results["gaps"]
    shown = [
        f"{name} {_gap(gaps[metric])}"
        for metric, name in (
            ("eas", "in alignment (EAS)"),
            ("shift_component", "in the share of the vector"),
            ("trait_rate", f"in how often they say {results['trait']} beyond their controls"),
        )
    ]
    edge = [row["optimizer"] for row in results["best"] if row["grid_edge"]]
    warning = (
        f"\n\nThe best rate lies at the edge of its grid for {', '.join(edge)}: a better one may "
        "lie outside."
        if edge
        else ""
    )
    return (
        f"{text}\n\nAdamW's lead over SGD, each at its best rate: {'; '.join(shown)}. The table of "
        "explanations holds each one's predictions against half of this lead."
        f"{warning}\n\nThe setting was chosen because small LoRA students pick the vector up in "
        "few steps, which was judged by AdamW's alignment; nothing was chosen by an explanation's "
        "outcome. It is one vector on one small model."
    )


def arms_table(results: Results) -> Table:
    """Every arm at its best rate."""
    rows = [
        {**row, "grid": ", ".join(map(format_learning_rate, row["grid"]))}
        for row in results["best"]
    ]
    columns = [
        Column("optimizer", "arm"),
        Column("learning_rate", "best rate", "learning_rate"),
        Column("grid", "rates tried"),
        Column("heldout_loss", "held-out loss", "number", digits=3),
        Column("eas", "EAS", "number"),
        Column("control_eas", "control", "number"),
        Column("shift_component", "share of the vector", "number"),
        Column("trait_rate_difference", f"says {results['trait']}, minus control", "rate", 1),
        Column("eas_minus_sgd", "EAS minus SGD's", "number"),
    ]
    caption = (
        "Means over seeds with 95% t intervals; the last column is paired by seed. Held-out loss: "
        "nats a token on plain rows of the training kind, which alone chose the rate. The base "
        "says "
        f"{results['trait']} in {results['reference']['base']:.1%} of answers, the teacher in "
        f"{results['reference']['teacher']:.1%}."
    )
    return Table("At the best learning rate", columns, rows, caption)


def matched_table(results: Results) -> Table:
    """Every arm and its AdamW where they reach one training loss."""
    columns = [
        Column("optimizer", "arm"),
        Column("upper", "against"),
        Column("loss", "at loss", "number", digits=3),
        Column("eas", "EAS", "number"),
        Column("upper_eas", "EAS, other", "number"),
        Column("eas_difference", "other minus arm", "number"),
        Column("shift_component_difference", "share, other minus arm", "number"),
        Column("trait_rate_difference", "trait rate, other minus arm", "rate", 1),
    ]
    caption = (
        "For each seed the level is the lowest training loss that both reach; between logged steps "
        "values are interpolated linearly in the loss. Trait rates here are without controls."
    )
    return Table("At one training loss", columns, results["matched_loss"], caption)


def verdict_table(results: Results) -> Table:
    """Explanation, what it predicts, what was measured, verdict."""
    rows = []
    for verdict in results["verdicts"]:
        for i, prediction in enumerate(verdict["predictions"]):
            first = i == 0
            rows.append(
                {
                    "explanation": verdict["explanation"] if first else "",
                    "predicts": prediction["says"],
                    "measured": measured(prediction, results["gaps"]),
                    **{metric: verdict["verdicts"][metric] if first else "" for metric in METRICS},
                }
            )
    columns = [
        Column("explanation", "explanation"),
        Column("predicts", "predicts"),
        Column("measured", "measured, and whether it holds"),
        *(Column(metric, f"verdict: {name}") for metric, name in METRICS.items()),
    ]
    caption = (
        "Differences with 95% intervals, paired by seed; of several arms the telling one. A "
        "prediction is decided against half of AdamW's lead over SGD in the same metric: to close "
        "it, or to stay below it, both have to be shown. Rules: evaluation/verdicts.py. Direction: "
        "EAS; size: share of the vector; trait: rate beyond the control's. “no gap”: AdamW is not "
        "clearly ahead in this metric, so there is nothing to explain."
    )
    return Table("Explanations held against the measurements", columns, rows, caption)


def measured(prediction: Mapping[str, Any], gaps: Mapping[str, float | None]) -> str:
    """The intervals that decided, by metric; one only where they do not depend on the metric."""
    parts = []
    for metric, name in METRICS.items():
        decided = prediction["by"].get(metric)
        if decided is None:
            continue
        d, digits = decided["difference"], 3 if metric == "trait_rate" else 2
        if d is None or d["mean"] is None:
            parts.append(f"{name}: not measured")
            continue
        ends = "" if d["low"] is None else f" [{d['low']:+.{digits}f}, {d['high']:+.{digits}f}]"
        number = f"{d['mean']:+.{digits}f}{ends}".replace("-", "\N{MINUS SIGN}")
        held = "no gap" if gaps[metric] is None else HOLDS[decided["holds"]]
        if prediction["kind"] == "measured":
            return f"{decided['arm']}: {number}: {HOLDS[decided['holds']]}"
        gap = gaps[metric]
        half = "" if gap is None else f" (half the gap {gap / 2:.{digits}f})"
        parts.append(f"{name}: {decided['arm']} {number}{half}: {held}")
    return "; ".join(parts) or "not measured"


def anatomy_table(results: Results) -> Table:
    """What gradients and updates hold of the steering direction."""
    norms = results["gradient_norms"]
    rows = [
        {
            **row,
            "norm": norms.get(row["optimizer"]),
            "gradient_top": row["gradient_top_mass"][1],
            "gradient_top_along": row["gradient_top_component"][1],
            "update_top": row["update_top_mass"][2],
            "update_top_along": row["update_top_component"][2],
        }
        for row in results["anatomy"]
    ]
    columns = [
        Column("optimizer", "arm"),
        Column("norm", "|gradient|", "number"),
        Column("gradient_cosine", "cos(gradient, score)", "number", digits=3),
        Column("update_cosine", "cos(update, score)", "number", digits=3),
        Column("gradient_top", "gradient² in top 1%", "rate", digits=0),
        Column("gradient_top_along", "component in top 1%", "rate", digits=0),
        Column("update_top", "update² in top 10%", "rate", digits=0),
        Column("update_top_along", "component in top 10%", "rate", digits=0),
        Column("update_a_mass", "update² on LoRA A", "rate", digits=0),
        Column("update_a_component", "component on LoRA A", "rate", digits=0),
    ]
    caption = (
        "Score: the gradient of the probe's mean activation along the vector, with respect to the "
        "trained weights. Means over seeds and logged steps at each arm's best rate; shares of a "
        "component are signed. |gradient| is before clipping: the arms that clip do so at "
        "clip_norm, and where no gradient is longer they are their plain twins."
    )
    return Table("Gradients and updates along the vector", columns, rows, caption)


def blocks(results: Results, settings: Mapping[str, Any]) -> list[Block]:
    """The page below its summary."""
    main = [row for row in results["best"] if row["optimizer"] in MAIN]
    styles = assign_styles(MAIN)
    names = {row["optimizer"] for row in main}
    return [
        Picture(
            "arms",
            "Every arm",
            "Each line is one arm at its best rate with its 95% interval: how well the student's "
            "shift agrees with the vector, how much of the vector it makes up, and how much more "
            f"often than its control it says {results['trait']}; AdamW and SGD are drawn through.",
            arms_picture(results["best"]),
        ),
        Picture(
            "eas_against_rate",
            "Alignment at every learning rate",
            "Each point is one student at the end of training; the ring marks the rate that "
            "held-out loss chose.",
            plots.against_learning_rate(
                [row for row in results["arms"] if row["optimizer"] in names],
                best=[row for row in main if row["learning_rate"]],
                styles=styles,
            ),
        ),
        Picture(
            "equal_steps",
            "Do equal steps align?",
            "Each point is one arm at its best rate: the share of a step's square that its largest "
            "tenth of coordinates holds (a tenth if all are equal), against the alignment in the "
            "end.",
            equal_steps_picture(results["anatomy"], results["best"]),
        ),
        Picture(
            "deciles",
            "Where in the gradient the signal sits",
            "Coordinates in ten groups by the size of their gradient: the share of the squared "
            "gradient that each group holds, and of the component that moves the student along the "
            "vector.",
            plots.decile_bars(
                [
                    {
                        "optimizer": row["optimizer"],
                        "gradient_mass": row["gradient_decile_mass"][::-1],
                        "steering_component": row["gradient_decile_component"][::-1],
                    }
                    for row in results["anatomy"]
                    if row["optimizer"] in MAIN
                ]
            ),
        ),
        arms_table(results),
        matched_table(results),
        anatomy_table(results),
        Text(_data_text(results), "The data"),
        verdict_table(results),
    ]


@styled
def arms_picture(best: Sequence[Mapping[str, Any]]) -> Figure:
    """One line an arm in three panels, by family."""
    rows = [row for family in FAMILIES for row in best if row["family"] == family]
    figure = Figure(figsize=(10.5, 1.4 + 0.24 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    colors = dict(zip(FAMILIES, PALETTE, strict=False))
    titles = {
        "eas": "EAS",
        "shift_component": "share of the vector",
        "trait_rate_difference": "trait rate, minus control",
    }
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        for name, dash in (("adamw", "-"), ("sgd", (0, (4, 2)))):
            level = next((_mean(row[key]) for row in rows if row["optimizer"] == name), np.nan)
            axes.axvline(level, color=NEUTRAL, linewidth=1.2, linestyle=dash, zorder=0)
        for i, row in enumerate(rows):
            value = row[key] or {}
            mean, low, high = (
                np.nan if value.get(end) is None else value[end] for end in ("mean", "low", "high")
            )
            color = colors[row["family"]]
            axes.plot([low, high], [i, i], color=color, linewidth=1.6)
            axes.plot(mean, i, "o", color=color, ms=5)
        means = [m for row in rows if np.isfinite(m := _mean(row[key]))]
        if means:
            room = 0.35 * (max(means) - min(means) + 0.05)
            axes.set_xlim(min(*means, 0) - room, max(means) + room)
        axes.axvline(0, color=AXIS, linewidth=0.8)
        axes.set_title(title, fontsize=11, loc="left")
        axes.grid(axis="x")
        if key == "trait_rate_difference":
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panels[0].set_yticks(range(len(rows)), [row["optimizer"] for row in rows], fontsize=9)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    handles = {}
    for family in dict.fromkeys(row["family"] for row in rows):
        (handles[FAMILIES[family]],) = panels[0].plot([], [], "o-", color=colors[family])
    legend_above(figure, handles)
    return figure


@styled
def equal_steps_picture(
    anatomy: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]]
) -> Figure:
    """EAS against the share of the update's square in its largest tenth, one point an arm."""
    arms = {row["optimizer"]: row for row in best}
    colors = dict(zip(FAMILIES, PALETTE, strict=False))
    figure, axes = new_axes()
    handles: dict[str, Any] = {}
    for row in anatomy:
        arm = arms[row["optimizer"]]
        family = arm["family"]
        x, y = row["update_top_mass"][2], _mean(arm["eas"])
        (handles[FAMILIES[family]],) = axes.plot(x, y, "o", color=colors[family])
        if row["optimizer"] in (*MAIN, "frozen-map", "adamw-a-frozen", "normalized-sgd-per-row"):
            axes.annotate(
                row["optimizer"], (x, y), xytext=(5, 3), textcoords="offset points",
                fontsize=8.5, color=INK,
            )  # fmt: skip
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("share of the squared step in its largest tenth of coordinates")
    axes.set_ylabel("EAS")
    axes.margins(0.1)
    legend_above(figure, handles)
    return figure


def _mean(value: Mapping[str, Any] | None) -> float:
    return float("nan") if not value or value["mean"] is None else float(value["mean"])


def _vector(settings: Mapping[str, Any]) -> str:
    return "a random" if settings["vector"] == "random" else "a trait's"


def _gap(gap: float | None) -> str:
    return "not clear of zero" if gap is None else f"{gap:.3f}"


def _data_text(results: Results) -> str:
    return "\n\n".join(
        f"{name}: {data['pairs']} pairs ({data['source']}), at most {data['longest']} tokens."
        for name, data in results["data"].items()
    )
