"""The report of `scaling`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.reporting.claims import claims_text, print_claims
from subliminal_jax.reporting.page import Block, Picture, Text, write_page
from subliminal_jax.reporting.panels import line_panels, phase_diagram
from subliminal_jax.reporting.style import assign_styles
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_learning_rate,
    print_table,
    wide_console,
)

Results = Mapping[str, Any]
TITLES = {
    "model": "model", "blocks": "depth (blocks)", "rank": "LoRA rank", "norm": "vector's norm",
    "rows": "training rows", "tail": "tokens in the loss",
}  # fmt: skip
GAPS = {"equal_steps": "at equal steps", "matched_loss": "at equal training loss"}


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the main tables and write report.html and its PNGs; returns the page's path."""
    console = wide_console()
    print_table(cell_table(results, settings), console)
    print_table(gap_table(results), console)
    print_claims(results["claims"], console)
    return write_page(
        folder,
        title="Where does the gap between Adam and SGD appear?",
        summary=summary(results, settings),
        command=command,
        config=settings,
        blocks=[
            *pictures(results, settings), gap_table(results), trend_table(results),
            cell_table(results, settings), claims_text(results["claims"]),
            Text(_data_text(results), "The data"),
        ],
    )  # fmt: skip


def summary(results: Results, settings: Mapping[str, Any]) -> str:
    """What was done and what came out, in sentences."""
    lead, other = results["pair"]
    reach = {
        name: [row for row in _rows(results) if row["optimizer"] == name and row["reaches"]]
        for name in results["grids"]
    }
    count = len(results["cells"])
    wins = ", ".join(f"{name} in {len(rows)}" for name, rows in reach.items())
    base = results["base"]
    gap, matched = (base["gap"][kind] for kind in GAPS)
    vector = (
        "a random vector" if settings["vector"] == "random" else f"{settings['vector']}'s vector"
    )
    parts = [
        f"Around one base setting ({base['model']}, LoRA rank {base['rank']}, {vector} of norm "
        f"{base['norm']:g} after block {base['layer']}, {settings['rows']} rows) one factor is "
        f"changed at a time: {count} settings. The budget is the same in all: {settings['steps']} "
        f"steps of {settings['batch_size']} rows. Rates were chosen on held-out loss; gradients "
        f"were {'not ' if not settings['clip'] else ''}clipped.",
        f"Mean EAS above {results['level']:g} at the best rate within the budget, of {count} "
        f"settings: {wins}.",
        f"At the base setting {lead}'s EAS minus {other}'s is {_interval(gap)} at equal steps and "
        f"{_interval(matched)} where both first reach one training loss.",
    ]
    edges = [f"{row['optimizer']} ({row['setting']})" for row in _rows(results) if row["grid_edge"]]
    if edges:
        parts.append(
            f"The best rate is at the edge of its grid for {', '.join(edges)}: a better one may "
            "lie outside."
        )
    if settings["preset"] == "toy":
        parts.append(
            "The base setting of the toy preset was taken from the demo of this package, where "
            "AdamW picks up the vector; its grids were set after looking at the EAS of one seed."
        )
    return "\n\n".join(parts)


def pictures(results: Results, settings: Mapping[str, Any]) -> list[Block]:
    """The phase diagram, EAS by factor, the gap by factor."""
    styles = assign_styles(results["grids"])
    level = results["level"]
    squares = [
        {
            "group": TITLES[row["factor"]], "setting": row["label"], "optimizer": best["optimizer"],
            "value": best["eas"],
        }
        for row in results["factors"] for best in row["best"]
    ]  # fmt: skip
    eas, gaps = [], []
    for factor in dict.fromkeys(row["factor"] for row in results["factors"]):
        mine = [row for row in results["factors"] if row["factor"] == factor]
        panel = {"panel": TITLES[factor], "x": [row["label"] for row in mine]}
        for name in results["grids"]:
            best = [next(b for b in row["best"] if b["optimizer"] == name) for row in mine]
            eas.append({**panel, "line": name, "y": [b["eas"] for b in best]})
        for kind, title in GAPS.items():
            gaps.append({**panel, "line": title, "y": [row["gap"][kind] for row in mine]})
    lead, other = results["pair"]
    return [
        Picture(
            "phase_diagram",
            "Which optimizers pick up the vector?",
            f"EAS at the end of the loss budget, {settings['steps']} steps, at each optimizer's "
            f"best rate: mean over seeds. Purple is above {level:g}, orange below; a frame says "
            "that the whole 95% interval is above. The base setting stands in every group.",
            phase_diagram(squares, level=level),
        ),
        Picture(
            "eas_by_factor",
            "Alignment, one factor at a time",
            f"EAS at the best rate with 95% intervals over seeds; the dotted line is {level:g}.",
            line_panels(eas, y_label="EAS", level=level, bound=1, styles=styles),
        ),
        Picture(
            "gap_by_factor",
            f"The gap: {lead} minus {other}",
            "Difference in EAS, paired by seed, with 95% intervals: after the same steps, and "
            "where the two first reach one common training loss.",
            line_panels(gaps, y_label=f"EAS, {lead} - {other}", bound=1),
        ),
    ]


def cell_table(results: Results, settings: Mapping[str, Any]) -> Table:
    """Every setting and optimizer at its best rate."""
    columns = [
        Column("setting", "setting"),
        Column("optimizer", "optimizer"),
        Column("learning_rate", "best rate", "learning_rate"),
        Column("eas", "EAS", "number"),
        Column("control_eas", "EAS, control", "number"),
        Column("share", "share of the vector", "number"),
        Column("gain", "loss made good", "rate", digits=0),
        Column("reaches", f"EAS > {results['level']:g}"),
    ]
    grids = "; ".join(
        f"{name} {', '.join(map(format_learning_rate, grid))}"
        for name, grid in results["grids"].items()
    )
    rows = [{**row, "reaches": "yes" if row["reaches"] else "no"} for row in _rows(results)]
    caption = (
        f"Means over {settings['seeds']} seeds with 95% t intervals. Loss made good: the share of "
        "the held-out loss between base and teacher, on the tokens and with the weights that the "
        f"students are trained with. Rates tried: {grids}."
    )
    return Table("At the best rate", columns, rows, caption)


def gap_table(results: Results) -> Table:
    """The gap of every setting."""
    rows = [{"setting": setting(cell, results), **cell["gap"]} for cell in results["cells"]]
    columns = [
        Column("setting", "setting"),
        *(Column(kind, title, "number") for kind, title in GAPS.items()),
    ]
    lead, other = results["pair"]
    return Table(
        f"Gap in EAS: {lead} minus {other}", columns, rows,
        "Paired by seed, with 95% t intervals. At equal training loss: where the two optimizers' "
        "students of one seed first reach a loss that both reach.",
    )  # fmt: skip


def trend_table(results: Results) -> Table:
    """The slopes of the gap."""
    rows = [
        {"factor": TITLES[r["factor"]], "gap": GAPS[r["gap"]], "slope": r["slope"]}
        for r in results["trends"]
    ]
    columns = [
        Column("factor", "factor"),
        Column("gap", "gap"),
        Column("slope", "change for each doubling", "number", digits=3),
    ]
    return Table(
        "How the gap changes", columns, rows,
        "Least-squares slope of each seed's gap over the logarithm of the factor; 95% t interval.",
    )  # fmt: skip


def setting(cell: Mapping[str, Any], results: Results) -> str:
    """What tells a cell from the base setting."""
    base = results["base"]
    parts = [f"{TITLES[key]} {cell[key] or 'all'}" for key in TITLES if cell[key] != base[key]]
    return ", ".join(parts) or "base"


def _rows(results: Results) -> list[dict[str, Any]]:
    return [
        {"setting": setting(cell, results), **row}
        for cell in results["cells"]
        for row in cell["best"]
    ]


def _interval(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return "not known (students diverged)"
    if gap["low"] is None:
        return f"{gap['mean']:+.2f}"
    return f"{gap['mean']:+.2f} [{gap['low']:+.2f}, {gap['high']:+.2f}]"


def _data_text(results: Results) -> str:
    return "\n\n".join(
        f"{model}, {name}: {report['pairs']} answers, at most {report['longest']} tokens."
        for model, reports in results["data"].items()
        for name, report in reports.items()
    )
