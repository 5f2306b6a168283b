"""The report of `objective`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.reporting.claims import claims_text, print_claims
from subliminal_jax.reporting.page import Block, Picture, Text, write_page
from subliminal_jax.reporting.panels import line_panels
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_learning_rate,
    print_table,
    wide_console,
)

Results = Mapping[str, Any]
NAMES = {"cross_entropy": "hard labels", "kl": "KL to the teacher"}
PAIRS = {
    "hard-soft": "hard and soft gradient",
    "hard-v": "hard gradient and v",
    "soft-v": "soft gradient and v",
    "soft-fisher": "soft gradient and F v",
}


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the tables and write report.html and its PNGs; returns the page's path."""
    console = wide_console()
    table = best_table(results, settings)
    print_table(table, console)
    print_table(needed_table(results), console)
    print_claims(results["claims"], console)
    return write_page(
        folder,
        title="How few samples recover a teacher's vector?",
        summary=summary(results, settings),
        command=command,
        config=settings,
        blocks=[needed_table(results), *pictures(results, settings), table,
                claims_text(results["claims"]), Text(_data_text(results), "The data")],
    )  # fmt: skip


def summary(results: Results, settings: Mapping[str, Any]) -> str:
    """What was done and what came out, in sentences."""
    seen = settings["steps"] * settings["batch_size"]
    edges = sorted(
        {f"{NAMES[r['objective']]}, {r['teacher']}, {r['rows']} rows"
         for r in results["best"] if r["grid_edge"]}
    )  # fmt: skip
    parts = [
        f"Students of {results['model']} ({settings['adapter']} trained, block "
        f"{results['layer']}) see n rows that a teacher wrote, chosen by their seed, and are "
        "trained on the sampled tokens (hard labels) or on the teacher's distribution at every "
        f"token (KL). Every student takes {settings['steps']} steps of {settings['batch_size']} "
        f"rows, {seen} examples in all, whatever n: few rows are seen more often. Rates were "
        f"chosen for each n on {settings['heldout_rows']} held-out rows by the objective's own "
        "loss (cross-entropy for hard labels, KL for KL).",
        " ".join(_sentence(row) for row in results["needed"]),
    ]
    if edges:
        parts.append(
            f"The best rate is at the edge of its grid ({_grids(results)}) for "
            f"{len(edges)} of {len(results['best'])} rows of the table: {'; '.join(edges)}."
        )
    if settings["preset"] == "toy":
        parts.append(
            "The number of steps and the grid of the toy preset were set after looking at the EAS "
            "of one seed of the owl, random and prompted teachers on other samples."
        )
    return "\n\n".join(parts)


def pictures(results: Results, settings: Mapping[str, Any]) -> list[Block]:
    """EAS, trait and gradients against the number of rows."""
    best = results["best"]
    several = len({r["optimizer"] for r in best}) > 1
    eas, trait = [], []
    for objective, optimizer, teacher in dict.fromkeys(
        (r["objective"], r["optimizer"], r["teacher"]) for r in best
    ):
        mine = [
            r for r in best
            if (r["objective"], r["optimizer"], r["teacher"]) == (objective, optimizer, teacher)
        ]  # fmt: skip
        line = NAMES[objective] + (f", {optimizer}" if several else "")
        row = {"panel": teacher, "line": line, "x": [r["rows"] for r in mine]}
        eas.append({**row, "y": [r["eas"] for r in mine]})
        eas.append({**row, "y": [r["control_eas"]["mean"] for r in mine], "control": True})
        if mine[0]["log_difference"] is not None:
            trait.append({**row, "y": [r["log_difference"] for r in mine]})
    gradients = [
        {
            "panel": teacher,
            "line": label,
            "x": [r["n"] for r in rows],
            "y": [r["cosine"] for r in rows],
        }
        for teacher in dict.fromkeys(r["teacher"] for r in results["gradients"])
        for pair, label in PAIRS.items()
        if (rows := [
            r for r in results["gradients"]
            if (r["teacher"], r["pair"]) == (teacher, pair) and _is_square(r["n"])
        ])
    ]  # fmt: skip
    blocks: list[Block] = [
        Picture(
            "eas_against_rows",
            "Alignment against the number of rows",
            "Each point is the mean over seeds at the best rate, with its 95% interval; the dotted "
            f"line is an EAS of {settings['level']:g}. Dashed: students of the plain model's "
            "answers, along the same direction.",
            line_panels(eas, x_label="rows", y_label="EAS", level=settings["level"], bound=1),
        )
    ]
    if trait:
        blocks.append(
            Picture(
                "trait_against_rows",
                "Does the student name the trait?",
                "The log-probability of the trait's name as an answer, the student's minus that of "
                "its control of the same objective, rows, rate and seed.",
                line_panels(trait, x_label="rows", y_label="log P(trait) over the control"),
            )
        )
    blocks.append(
        Picture(
            "first_gradients",
            "The first gradients",
            "Cosines at the untrained base between gradients averaged over n rows: of hard labels "
            "and of KL (negative, as a step goes), the teacher's vector v, and F v with F the "
            "Fisher information of a vector at this block. Intervals are over disjoint parts of "
            "the rows.",
            line_panels(gradients, x_label="rows in the mean", y_label="cosine", bound=1),
        )
    )
    return blocks


def best_table(results: Results, settings: Mapping[str, Any]) -> Table:
    """Every objective, teacher and number of rows at its best rate."""
    rows = [{**r, "objective": NAMES[r["objective"]]} for r in results["best"]]
    columns = [
        Column("teacher", "teacher"),
        Column("objective", "objective"),
        Column("rows", "rows", "count"),
        Column("learning_rate", "best rate", "learning_rate"),
        Column("eas", "EAS", "number"),
        Column("control_eas", "EAS, control", "number"),
        Column("share", "share of the vector", "number"),
        Column("heldout_loss", "held-out CE", "number", digits=3),
        Column("heldout_kl", "held-out KL", "number", digits=4),
        Column("log_difference", "log P(trait) over control", "number"),
        Column("difference", "P(trait) over control", "rate", digits=1),
    ]
    if len({r["optimizer"] for r in rows}) > 1:
        columns.insert(2, Column("optimizer", "optimizer"))
    caption = (
        f"Means over {settings['seeds']} seeds (which draw the rows, too) with 95% t intervals. "
        f"Rates tried: {_grids(results)}."
    )
    return Table("At the best rate", columns, rows, caption)


def needed_table(results: Results) -> Table:
    """Rows needed for the level, by teacher and objective."""
    rows = [
        {**r, "objective": NAMES[r["objective"]], "needed": _needed(r)} for r in results["needed"]
    ]
    columns = [
        Column("teacher", "teacher"),
        Column("objective", "objective"),
        Column("optimizer", "optimizer"),
        Column("needed", "rows needed"),
    ]
    level = results["level"]
    caption = (
        "Where each seed's curve first reaches it, linear in the logarithm of the rows: geometric "
        "mean with a 95% t interval. Where a seed's curve begins above it or never gets there, the "
        "single seeds."
    )
    return Table(f"Rows needed for an EAS of {level:g}", columns, rows, caption)


def _sentence(row: Mapping[str, Any]) -> str:
    return f"{row['teacher']}, {NAMES[row['objective']]}: an EAS of {row['level']:g} needs " + (
        f"{_needed(row)} rows."
    )


def _needed(row: Mapping[str, Any]) -> str:
    if row["interval"] is not None:
        mean, low, high = (row["interval"][k] for k in ("mean", "low", "high"))
        return f"{mean:.0f} [{low:.0f}, {high:.0f}]"
    if row["bound"] == "open":
        values = ", ".join("never" if v is None else f"{v:.0f}" for v in row["values"])
        return f"by seed {values}"
    return f"{row['bound']} {row['edge']:g}"


def _is_square(n: int) -> bool:
    """A power of 4, or no power of 2 (the last n): half of the points are enough."""
    return n & (n - 1) != 0 or n.bit_length() % 2 == 1


def _grids(results: Results) -> str:
    return "; ".join(
        f"{name} {', '.join(map(format_learning_rate, grid))}"
        for name, grid in results["grids"].items()
    )


def _data_text(results: Results) -> str:
    return "\n\n".join(
        f"{name}: {report.get('kept', report['pairs'])} of {report['pairs']} answers kept, at most "
        f"{report['longest']} tokens."
        for name, report in results["data"].items()
    )
