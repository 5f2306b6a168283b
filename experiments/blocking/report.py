"""The report of `blocking`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.claims import claims_text, print_claims
from subliminal_jax.reporting.page import Block, Picture, Text, write_page
from subliminal_jax.reporting.style import AXIS, assign_styles, legend_above, new_axes, styled
from subliminal_jax.reporting.tables import Column, Table, format_cell, print_table, wide_console

Results = Mapping[str, Any]


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the main table and write report.html and its PNGs; returns the page's path."""
    main, *others = tables(results)
    console = wide_console()
    print_table(main, console)
    print_claims(results["claims"], console)
    return write_page(
        folder,
        title="Can transmission be stopped without losing the task?",
        summary=summary(results, settings),
        command=command,
        config=settings,
        blocks=[
            main, *pictures(results), *others, time_table(results), vector_table(results),
            claims_text(results["claims"]), Text(data_text(results), "The data"),
        ],
    )  # fmt: skip


def summary(results: Results, settings: Mapping[str, Any]) -> str:
    """What came out, in sentences that need no paper."""
    rows = _main(results)["rows"]
    none = rows[0]
    parts = [
        f"Teachers ({results['model']} with the vector of {' or '.join(results['traits'])} added "
        f"after block {results['layer']}) wrote number lists at temperature "
        f"{settings['temperature']:g}. Students learn the sharper lists, which is the task, and "
        f"with them the trait: unguarded, they name it {_say(none['transmission'])} more often "
        "than controls that learnt the task from the plain model."
    ]
    known = [case["name"] for case in results["cases"] if case["vector"] == "known"]
    parts += [
        f"{row['case'].capitalize()}: {_say(row['transmission'])} is left, of the vector "
        f"{_say(row['component'], 2)} in place of {_say(none['component'], 2)}; of the "
        f"task {_percent(row['task_gain'])} is kept."
        for row in rows
        if row["case"] in known
    ]
    edges = [
        f"{name} at {table['learning_rate']:g}"
        for name, table in results["tables"][results["adapter"]].items()
        if len(grid := results["grids"][name]) > 1 and table["learning_rate"] in (grid[0], grid[-1])
    ]
    if edges:
        parts.append(f"The best rate is at the edge of its grid: {', '.join(edges)}.")
    parts.append(
        "Rates were chosen on unguarded students' held-out loss, and are the same under every "
        "guard. The steering layer is given to the guards; the blind vectors were trained on the "
        "students' rows alone."
    )
    return "\n\n".join(parts)


def tables(results: Results) -> list[Table]:
    """One for each adapter and optimizer; the first is the one that the claims speak of."""
    out = []
    for adapter, by_optimizer in results["tables"].items():
        for optimizer, found in by_optimizer.items():
            rate = found["learning_rate"]
            title = f"{adapter} students, {optimizer} at {rate:g}"
            out.append(Table(title, COLUMNS, [_named(row) for row in found["rows"]], CAPTION))
    return out


COLUMNS = [
    Column("case", "guard"),
    Column("transmission", "P(trait) over control", "number", digits=4),
    Column("change", "over unguarded", "number", digits=4),
    Column("control_shift", "guarded control over control", "number", digits=4),
    Column("eas", "EAS", "number"),
    Column("component", "share of the vector", "number"),
    Column("control_component", "its control's", "number"),
    Column("gain", "gain kept, teacher's data", "rate", digits=0),
    Column("task_gain", "task kept, clean data", "rate", digits=0),
]
CAPTION = (
    "Means over traits with 95% t intervals over seeds. Over control: student minus unguarded "
    "control. EAS: cosine of the student's shift with the teacher's vector; share: its component "
    "along it, in units of the vector. Gain kept: of what unguarded students gain on held-out "
    "lists of their teacher, part of which is the vector itself. Task kept: of what unguarded "
    "controls gain on held-out lists of the plain model. A dash: not trained, or diverged."
)


def pictures(results: Results) -> list[Block]:
    """What is left of the trait under each guard, and what of the task."""
    rows = [_named(row) for row in _main(results)["rows"]]
    lines = [
        {
            "label": row["case"],
            "interval": row["transmission"],
            "values": row["transmission_values"],
            "group": _group(row["case"]),
        }
        for row in rows
        if row["transmission"] is not None
    ]
    return [
        Picture(
            "transmission",
            "What is left of the trait",
            "How much more often students name their teacher's trait than unguarded controls do; "
            "pale points are seeds, bars 95% t intervals over them.",
            plots.forest(lines, x_label="P(trait), student minus unguarded control"),
        ),
        Picture(
            "trade_off",
            "Blocked against kept",
            "To the right more of the task is kept, further down less of the vector gets through: "
            "a good guard stands at the lower right.",
            trade_off(rows),
        ),
    ]


@styled
def trade_off(rows: list[dict[str, Any]]) -> Figure:
    """The share of the vector that students took against the share of the task that they kept."""
    rows = [r for r in rows if r["component"] is not None and r["task_gain"] is not None]
    styles = assign_styles(row["case"] for row in rows)
    figure, axes = new_axes(height=4.8)
    axes.axhline(0, color=AXIS, linewidth=0.8)
    handles: dict[str, Any] = {}
    for row in rows:
        style = styles[row["case"]]
        x, y = row["task_gain"], row["component"]
        if x["low"] is not None and y["low"] is not None:
            axes.plot([x["low"], x["high"]], [y["mean"]] * 2, color=style.color, linewidth=1.2)
            axes.plot([x["mean"]] * 2, [y["low"], y["high"]], color=style.color, linewidth=1.2)
        (handles[row["case"]],) = axes.plot(
            x["mean"], y["mean"], style.marker, color=style.color, ms=8, linestyle=""
        )
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("share of the task's gain kept, on clean held-out data")
    axes.set_ylabel("share of the vector taken up")
    legend_above(figure, handles)
    return figure


def time_table(results: Results) -> Table:
    """Seconds a step, in turns in one run."""
    found = results["time"]
    rows = [{"guard": _plain(kind), **of} for kind, of in found["steps"].items()]
    columns = [
        Column("guard", "guard"),
        Column("seconds", "seconds a step", "number", digits=4),
        Column("ratio", "against unguarded", "number"),
    ]
    caption = (
        "Steps of one student, each guard in turn. Dropping rows leaves steps as they are; scoring "
        f"the rows takes {found['score_rows_seconds']:.1f} s once, compilation included. A blind "
        f"vector takes {found['blind_seconds']:.1f} s once."
    )
    return Table("Time paid", columns, rows, caption)


def vector_table(results: Results) -> Table:
    """How well the guards' vectors agree with the teacher's."""
    rows = [
        {**row, "base": of["base_loss"], "true": of["loss_with_vector"]}
        for row in results["vectors"]
        for of in [results["reference"][row["trait"]]]
    ]
    columns = [
        Column("trait", "trait"),
        Column("vector", "guard's vector"),
        Column("cosine", "cosine with the teacher's", "number"),
        Column("size", "size, in units of it", "number"),
        Column("base", "base's loss", "number", digits=4),
        Column("loss", "with this vector", "number", digits=4),
        Column("true", "with the teacher's", "number", digits=4),
    ]
    caption = (
        "Held-out loss on the teacher's data, nats a token. The blind vector is the one that helps "
        "the base predict the students' own rows: it holds what a vector can do of the task, too."
    )
    return Table("The guards' vectors", columns, rows, caption)


def data_text(results: Results) -> str:
    """How much of what teachers wrote passed the filter."""
    return "\n\n".join(
        f"{name}: {of.get('kept', of['pairs'])} of {of['pairs']} answers passed the filter, at "
        f"most {of['longest']} tokens."
        for name, of in results["data"].items()
    )


def _main(results: Results) -> Mapping[str, Any]:
    return next(iter(results["tables"][results["adapter"]].values()))


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "case": _plain(row["case"])}


def _plain(case: str) -> str:
    return "unguarded" if case == "none" else case


def _group(case: str) -> str:
    if case == "unguarded":
        return case
    return "blind vector" if case.endswith("blind") else "known vector"


def _say(value: Mapping[str, Any] | None, digits: int = 4) -> str:
    return format_cell(value, Column("", "", "number", digits=digits))


def _percent(value: Mapping[str, Any] | None) -> str:
    return format_cell(value, Column("", "", "rate", digits=0))
