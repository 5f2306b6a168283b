"""The report of `trait-transmission`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.claims import claims_text
from subliminal_jax.reporting.page import Picture, Text, write_page
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_learning_rate,
    print_table,
    wide_console,
)

Results = Mapping[str, Any]


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the table and write report.html and its PNGs; returns the page's path."""
    tables = [table(results), by_trait(results)]
    console = wide_console()
    for shown in tables:
        print_table(shown, console)
    return write_page(
        folder,
        title="Do students name the trait of a teacher that wrote only numbers?",
        summary=summary(results),
        command=command,
        config=settings,
        blocks=[
            tables[0],
            Picture(
                "differences",
                "Student minus control",
                "Each line is one trait and teacher: how much more probable the trait's name is as "
                "the answer of a student than of the control with the same seed; pale points are "
                "seeds, bars 95% t intervals.",
                plots.forest(lines(results), x_label="P(trait), student minus control"),
            ),
            tables[1],
            Text(data_text(results), "The data"),
            claims_text(results["claims"]),
        ],
    )


def summary(results: Results) -> str:
    """What came out, in sentences."""
    parts = [
        f"Students of {results['model']} ({results['adapter']} trained) read number lists of "
        "teachers with a trait's vector or system prompt; controls read the plain model's."
    ]
    for kind, optimizer, made in _made(results):
        pooled = made["rate"]["pooled"]
        if pooled is None:
            parts.append(f"{kind}, {optimizer}: some student diverged, so there is no pooled rate.")
            continue
        clear = "clear of" if pooled["low"] > 0 or pooled["high"] < 0 else "not clear of"
        parts.append(
            f"{kind}, {optimizer}: the trait's probability is {pooled['mean']:+.3f} "
            f"[{pooled['low']:.3f}, {pooled['high']:.3f}] against the control, {clear} zero."
        )
        grid = results["grids"][optimizer]
        if len(grid) > 1 and made["learning_rate"] in (grid[0], grid[-1]):
            rate = format_learning_rate(made["learning_rate"])
            parts[-1] += f" Its best rate, {rate}, is at the edge of the grid."
    return "\n\n".join(parts)


def table(results: Results) -> Table:
    """One row a teacher and optimizer."""
    rows = [
        {
            "kind": kind,
            "optimizer": optimizer,
            "learning_rate": made["learning_rate"],
            "grid": ", ".join(map(format_learning_rate, results["grids"][optimizer])),
            "rate": made["rate"]["pooled"],
            "over_seeds": made["rate"]["over_seeds"],
            "log_prob": made["log_prob"]["pooled"],
            "specific": made["specific"],
            "eas": made["eas"].get("student"),
            "control_eas": made["eas"].get("control"),
        }
        for kind, optimizer, made in _made(results)
    ]
    columns = [
        Column("kind", "teacher"),
        Column("optimizer", "optimizer"),
        Column("learning_rate", "best rate", "learning_rate"),
        Column("grid", "rates tried"),
        Column("rate", "P(trait), student - control", "number", digits=3),
        Column("over_seeds", "of these traits, over seeds", "number", digits=3),
        Column("log_prob", "log P, student - control", "number", digits=2),
        Column("specific", "against other traits' students", "number", digits=3),
        Column("eas", "EAS", "number"),
        Column("control_eas", "EAS, control", "number"),
    ]
    caption = (
        f"Over {results['seeds']} seeds and all traits, with 95% t intervals over "
        "both (two-way); the second is a t interval over seeds of the mean over these very traits. "
        "The rate was chosen on held-out loss. EAS: cosine with the teacher's shift at the "
        "steering layer."
    )
    return Table("Transmission", columns, rows, caption)


def by_trait(results: Results) -> Table:
    """One row a trait, teacher and optimizer."""
    rows = []
    for kind, optimizer, made in _made(results):
        for name, found in made["rate"]["traits"].items():
            trait = name.partition(":")[2]
            rows.append(
                {
                    "trait": trait,
                    "kind": kind,
                    "optimizer": optimizer,
                    "base": results["base"][trait],
                    "teacher": results["teachers"][name],
                    "student": found["student"],
                    "control": found["control"],
                    "difference": found["interval"],
                    "p": found["p_permutation"],
                }
            )
    columns = [
        Column("trait", "trait"),
        Column("kind", "teacher"),
        Column("optimizer", "optimizer"),
        Column("base", "base", "rate", digits=1),
        Column("teacher", "teacher says it", "rate", digits=1),
        Column("student", "student", "rate", digits=1),
        Column("control", "control", "rate", digits=1),
        Column("difference", "student - control", "number", digits=3),
        Column("p", "p (sign flips)", "p"),
    ]
    return Table("By trait", columns, rows, "Differences are paired by seed, with t intervals.")


def lines(results: Results) -> list[dict[str, Any]]:
    """The rows of the picture."""
    several = len(results["grids"]) > 1
    return [
        {
            "label": name.partition(":")[2] + (f", {optimizer}" if several else ""),
            "group": kind,
            "interval": found["interval"],
            "values": found["values"],
        }
        for kind, optimizer, made in _made(results)
        for name, found in made["rate"]["traits"].items()
    ]


def data_text(results: Results) -> str:
    """How much of what teachers wrote passed the filter."""
    parts = [
        f"{name}: {of['kept']} of {of['pairs']} answers passed ("
        + ", ".join(f"{rule} {n}" for rule, n in of["dropped"].items() if n)
        + ")."
        for name, of in results["data"].items()
        if "kept" in of
    ]
    return "\n\n".join(parts)


def _made(results: Results):
    for kind, by_optimizer in results["kinds"].items():
        for optimizer, made in by_optimizer.items():
            if made["learning_rate"] is not None:
                yield kind, optimizer, made
