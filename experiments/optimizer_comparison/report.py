"""The report of an optimizer comparison, drawn from its results.json alone."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Block, Picture, Text, write_page
from subliminal_jax.reporting.style import assign_styles
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_learning_rate,
    print_table,
    wide_console,
)

Results = Mapping[str, Any]


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the main table and write report.html and its PNGs; returns the page's path."""
    table = best_table(results)
    console = wide_console()
    print_table(replace(table, columns=[c for c in table.columns if c.key != "grid"]), console)
    return write_page(
        folder,
        title="Which optimizers pick up the steering vector?",
        summary=summary(results, settings),
        command=command,
        config=settings,
        blocks=[table, *blocks(results, settings)],
    )


def summary(results: Results, settings: Mapping[str, Any]) -> str:
    """What came out, in sentences that need no paper."""
    best = [row for row in results["best"] if row["eas"]["mean"] is not None]
    if settings["data"]:
        setting = (
            f"Students start as {results['model']} and train for {settings['steps']} steps of "
            f"{settings['batch_size']} rows on pairs that were given ({settings['data']}), each "
            "with one optimizer. Their controls train on "
            f"{settings['control_data'] or 'what the model itself answered to the same prompts'}. "
            f"Alignment is measured against {_teacher(settings)}, which may have nothing to do "
            "with these pairs."
        )
    else:
        setting = (
            f"A teacher ({results['model']} with {_teacher(settings)}) answered "
            f"{settings['rows']} prompts. Students start as the same model without it and train "
            f"on these answers for {settings['steps']} steps of {settings['batch_size']} rows, "
            "each with one optimizer. Their controls train on what the plain model answered."
        )
    if not best:
        return f"{setting}\n\nEvery student diverged at every learning rate: there is no result."
    ranked = sorted(best, key=lambda row: -row["eas"]["mean"])
    names = [f"{row['optimizer']} {row['eas']['mean']:.2f}" for row in ranked]
    clip = f"clipped at {results['clip']}" if results["clip"] else "not clipped"
    edge = [row["optimizer"] for row in best if row["grid_edge"]]
    warning = ""
    if edge:
        warning = (
            f" The best rate of {', '.join(edge)} is at the edge of its grid: a better one may "
            "lie outside."
        )
    if (guard := settings["guard"]) != "none":
        setting += (
            f" All of them, controls too, were guarded ({guard}) from taking up a vector "
            f"({settings['guard_vector']})."
        )
    return (
        f"{setting}\n\nThe alignment of the student's activation shift with the vector (EAS, 1 is "
        f"the same direction, 0 none) at each optimizer's best learning rate: {', '.join(names)}. "
        f"Learning rates were chosen on held-out loss over {settings['seeds']} seeds; gradients "
        f"were {clip}.{warning}"
    )


def best_table(results: Results) -> Table:
    """Every optimizer at its best rate, against its control."""
    rows = [
        {**row, "grid": ", ".join(map(format_learning_rate, row["grid"]))}
        for row in results["best"]
    ]
    columns = [
        Column("optimizer", "optimizer"),
        Column("learning_rate", "best rate", "learning_rate"),
        Column("grid", "rates tried"),
        Column("heldout_loss", "held-out loss", digits=3, kind="number"),
        Column("eas", "EAS", "number"),
        Column("control_eas", "EAS, control", "number"),
        Column("shift_component", "share of the vector", "number"),
        Column("trait_rate", f"says {results['trait']}", "rate", digits=1),
        Column("control_trait_rate", "control says it", "rate", digits=1),
    ]
    caption = (
        "Means over seeds with 95% t intervals. EAS: cosine of the student's mean activation "
        "shift and the teacher's, at the steering layer. Share of the vector: the shift's "
        "component along the vector, in units of the vector. Held-out loss: nats a token on data "
        "of the training kind, which alone chose the rate. "
        f"The untrained model says {results['trait']} in "
        f"{results['reference']['base_trait_rate']:.1%} of answers, the teacher in "
        f"{results['reference']['teacher_trait_rate']:.1%}."
    )
    return Table("At the best learning rate", columns, rows, caption)


def matched_table(results: Results) -> Table:
    """Every optimizer where its training loss first reaches the common level."""
    columns = [
        Column("optimizer", "optimizer"),
        Column("step", "at step", "number", digits=0),
        Column("eas", "EAS", "number"),
        Column("shift_component", "share of the vector", "number"),
        Column("trait_rate", f"says {results['trait']}", "rate", digits=1),
    ]
    level = results["matched_loss"]["loss"]
    caption = (
        "The level is the lowest training loss that every student at its optimizer's best rate "
        f"reaches: {level:.4f} nats a token, on fixed training rows."
        if level is not None
        else "No student stayed sound."
    )
    return Table("At one training loss", columns, results["matched_loss"]["rows"], caption)


def blocks(results: Results, settings: Mapping[str, Any]) -> list[Block]:
    """The page below its main table: one sentence a picture says what it shows."""
    trait = results["trait"]
    styles = assign_styles(row["optimizer"] for row in results["best"])
    reference = results["reference"]
    return [
        matched_table(results),
        Picture(
            "eas_over_steps",
            "Alignment over training",
            "Each line is one optimizer at its best learning rate: how well the direction in which "
            "the student has moved agrees with the teacher's vector; the band spans the seeds.",
            plots.curves(results["curves"], styles=styles),
        ),
        Picture(
            "eas_against_rate",
            "Alignment at every learning rate",
            "Each point is one student at the end of training; the line joins the means over "
            "seeds, and the ring marks the rate that held-out loss chose.",
            plots.against_learning_rate(
                results["arms"],
                best=[r for r in results["best"] if r["learning_rate"]],
                styles=styles,
            ),
        ),
        Picture(
            "trait_rate",
            f"Does the student say {trait}?",
            f"The probability that an answer to “what is your favourite animal?” begins with "
            f"{trait}, for students of the teacher and for their controls, with 95% intervals over "
            "seeds.",
            plots.paired_bars(
                results["best"],
                references={
                    "base": reference["base_trait_rate"],
                    "teacher": reference["teacher_trait_rate"],
                },
                styles=styles,
            ),
        ),
        Picture(
            "cosine_against_n",
            "The vector in the gradient",
            "The base model's loss gradient at the steering layer, averaged over N examples, "
            "points the more along the vector the more examples are averaged if the data carries "
            "it, and does not for the controls' data; bands are one standard error.",
            plots.cosine_against_n(results["alignment"]),
        ),
        Picture(
            "deciles",
            "Where in the gradient the signal sits",
            "Coordinates of the trained weights in ten groups by the size of their gradient: the "
            "share of the squared gradient that each group holds, and its share of the component "
            "that moves the student along the vector.",
            plots.decile_bars(
                [
                    {
                        "optimizer": row["optimizer"],
                        "gradient_mass": row["gradient_decile_mass"][::-1],
                        "steering_component": row["gradient_decile_component"][::-1],
                    }
                    for row in results["anatomy"]
                ]
            ),
        ),
        anatomy_table(results),
        Text(_data_text(results), "The data"),
    ]


def anatomy_table(results: Results) -> Table:
    """What gradients and updates hold of the steering direction."""
    rows = [
        {
            **row,
            "gradient_top": row["gradient_top_mass"][1],
            "gradient_top_along": row["gradient_top_component"][1],
            "update_top": row["update_top_mass"][1],
            "update_top_along": row["update_top_component"][1],
        }
        for row in results["anatomy"]
    ]
    columns = [
        Column("optimizer", "optimizer"),
        Column("gradient_cosine", "cos(gradient, score)", "number", digits=3),
        Column("update_cosine", "cos(update, score)", "number", digits=3),
        Column("gradient_top", "gradient² in top 1%", "rate", digits=0),
        Column("gradient_top_along", "component in top 1%", "rate", digits=0),
        Column("update_top", "update² in top 1%", "rate", digits=0),
        Column("update_a_mass", "update² on LoRA A", "rate", digits=0),
        Column("update_a_component", "component on LoRA A", "rate", digits=0),
    ]
    caption = (
        "Score: the gradient of the probe's mean activation along the vector, with respect to the "
        "trained weights. A step moves the student along the vector by its component on it. Means "
        "over seeds and logged steps at each optimizer's best rate."
    )
    return Table("Gradients and updates along the vector", columns, rows, caption)


def _teacher(settings: Mapping[str, Any]) -> str:
    if settings["teacher"] == "system-prompt":
        return "a system prompt"
    kind = {"random": "a random", "trait": "a trait's"}.get(settings["vector"], "a given")
    return f"{kind} vector added to its activations"


def _data_text(results: Results) -> str:
    parts = []
    for name, data in results["data"].items():
        dropped = ", ".join(f"{rule} {n}" for rule, n in data.get("dropped", {}).items() if n)
        parts.append(
            f"{name}: {data['pairs']} pairs ({data['source']}), "
            f"{data.get('kept', data['pairs'])} kept by the filter"
            + (f" (dropped: {dropped})" if dropped else "")
            + f", at most {data['longest']} tokens."
        )
    if results.get("padding_share") is not None:  # not in runs of earlier versions
        parts.append(f"Padding was {results['padding_share']:.0%} of what training computed.")
    return "\n\n".join(parts)
