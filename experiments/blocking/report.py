"""The page of `blocking`, from its results alone."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import KIND_NAMES
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.student_kinds import (
    describe_kinds,
    describe_unstable,
    rates_table,
)
from subliminal_jax.reporting.style import AXIS, assign_styles, legend_above, new_axes, styled
from subliminal_jax.reporting.tables import Column, Table, format_cell

from .analysis import GuardResult, Results
from .cases import UNGUARDED

LABELS = {UNGUARDED.name: "unguarded"}  # other cases are called by their names
EFFECT = Column("", "", "number", digits=4)
SHARE = Column("", "", "number", digits=2)
PERCENT = Column("", "", "rate", digits=0)


def make_page(results: Results) -> Page:
    """What each guard blocks and keeps, what it costs, the vectors and the data."""
    main, *others = guard_tables(results)
    return Page(
        title="Can transmission be stopped without losing the task?",
        summary=summarise(results),
        blocks=[
            main,
            transmission_picture(results),
            trade_off_picture(results),
            *others,
            time_table(results),
            vector_table(results),
            Text(describe_kinds(results), "How it was measured"),
            rates_table(results),
            Text(describe_data(results), "The data"),
        ],
        printed=[main],
    )


def summarise(results: Results) -> str:
    """What came out, in sentences that need no paper."""
    rows = {row.case: row for row in results.main_table.rows}
    unguarded = rows[UNGUARDED.name]
    parts = [
        f"Teachers ({results.model} with the vector of {' or '.join(results.traits)} added after "
        f"block {results.layer}) wrote number lists at temperature {results.temperature:g}. "
        "Students learn the sharper lists, which is the task, and with them the trait: unguarded, "
        f"they name it {format_cell(unguarded.transmission, EFFECT)} more often than controls that "
        "learnt the task from the plain model."
    ]
    for case in results.cases:
        if case.vector == "known":
            row = rows[case.name]
            parts.append(
                f"{case.name.capitalize()}: {format_cell(row.transmission, EFFECT)} is left, of "
                f"the vector {format_cell(row.component, SHARE)} in place of "
                f"{format_cell(unguarded.component, SHARE)}; of the task "
                f"{format_cell(row.task_gain, PERCENT)} is kept."
            )
    if text := describe_unstable(results):
        parts.append(text)
    parts.append(
        "Rates are the same under every guard. The steering layer is given to the guards; the "
        "blind vectors were trained on the students' rows alone."
    )
    return "\n\n".join(parts)


def guard_tables(results: Results) -> list[Table]:
    """One for each adapter and optimizer; the first is the one that the claims speak of."""
    columns = [
        Column("case", "guard", labels=LABELS),
        Column("transmission", "P(trait) over control", "number", digits=4),
        Column("change", "over unguarded", "number", digits=4),
        Column("control_shift", "guarded control over control", "number", digits=4),
        Column("eas", "EAS", "number"),
        Column("component", "share of the vector", "number"),
        Column("control_component", "its control's", "number"),
        Column("gain", "gain kept, teacher's data", "rate", digits=0),
        Column("task_gain", "task kept, clean data", "rate", digits=0),
    ]
    caption = (
        "Means over traits with 95% intervals over them. Over control: student minus unguarded "
        "controls. EAS: cosine of the student's shift with the teacher's vector; share: its "
        "component along it, in units of the vector. Gain kept: of what unguarded students gain on "
        "held-out lists of their teacher, part of which is the vector itself. Task kept: of what "
        "unguarded controls gain on held-out lists of the plain model. A dash: not trained, or "
        "not sound."
    )
    return [
        Table(
            f"Students ({KIND_NAMES[table.adapter]}), {table.optimizer}"
            + ("" if table.choice.rate is None else f" at {table.choice.rate:g}"),
            columns,
            table.rows,
            caption,
        )
        for table in results.tables
    ]


def transmission_picture(results: Results) -> Picture:
    """What is left of the trait under each guard."""
    lines = [
        {
            "label": LABELS.get(row.case, row.case),
            "interval": row.transmission,
            "values": row.transmission_values,
            "group": case_group(row.case),
        }
        for row in results.main_table.rows
        if row.transmission is not None
    ]
    return Picture(
        "transmission",
        "What is left of the trait",
        "How much more often students name their teacher's trait than unguarded controls do; pale "
        "points are traits, bars 95% intervals over them.",
        plots.forest(lines, x_label="P(trait), student minus unguarded controls"),
    )


def trade_off_picture(results: Results) -> Picture:
    """What is left of the vector against what is kept of the task."""
    return Picture(
        "trade_off",
        "Blocked against kept",
        "To the right more of the task is kept, further down less of the vector gets through: a "
        "good guard stands at the lower right.",
        plot_trade_off(results.main_table.rows),
    )


@styled
def plot_trade_off(rows: Sequence[GuardResult]) -> Figure:
    """The share of the vector that students took against the share of the task that they kept."""
    points: list[tuple[str, Interval, Interval]] = [
        (LABELS.get(row.case, row.case), row.task_gain, row.component)
        for row in rows
        if row.task_gain is not None and row.component is not None
    ]
    styles = assign_styles(label for label, _, _ in points)
    figure, axes = new_axes(height=4.8)
    axes.axhline(0, color=AXIS, linewidth=0.8)
    handles: dict[str, Any] = {}
    for label, x, y in points:
        style = styles[label]
        # Ends that are not finite (one trait) draw nothing.
        axes.plot([x.low, x.high], [y.mean] * 2, color=style.color, linewidth=1.2)
        axes.plot([x.mean] * 2, [y.low, y.high], color=style.color, linewidth=1.2)
        (handles[label],) = axes.plot(
            x.mean, y.mean, style.marker, color=style.color, ms=8, linestyle=""
        )
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("share of the task's gain kept, on clean held-out data")
    axes.set_ylabel("share of the vector taken up")
    legend_above(figure, handles)
    return figure


def time_table(results: Results) -> Table:
    """Seconds a step, in turns in one run."""
    rows = [{"guard": kind, "step": step} for kind, step in results.time.steps.items()]
    columns = [
        Column("guard", "guard", labels=LABELS),
        Column("step.seconds", "seconds a step", "number", digits=4),
        Column("step.ratio", "against unguarded", "number"),
    ]
    caption = (
        "Steps of one student, each guard in turn. Dropping rows leaves steps as they are; scoring "
        f"the rows takes {results.time.score_rows_seconds:.1f} s once, compilation included. A "
        f"blind vector takes {results.time.blind_seconds:.1f} s once."
    )
    return Table("Time paid", columns, rows, caption)


def vector_table(results: Results) -> Table:
    """How well the guards' vectors agree with the teacher's."""
    rows = [{**vars(results.reference[fit.trait]), **vars(fit)} for fit in results.vectors]
    columns = [
        Column("trait", "trait"),
        Column("vector", "guard's vector"),
        Column("cosine", "cosine with the teacher's", "number"),
        Column("size", "size, in units of it", "number"),
        Column("base_loss", "base's loss", "number", digits=4),
        Column("loss", "with this vector", "number", digits=4),
        Column("loss_with_vector", "with the teacher's", "number", digits=4),
    ]
    caption = (
        "Held-out loss on the teacher's data, nats a token. The blind vector is the one that helps "
        "the base predict the students' own rows: it holds what a vector can do of the task, too."
    )
    return Table("The guards' vectors", columns, rows, caption)


def describe_data(results: Results) -> str:
    """How much of what teachers wrote passed the filter."""
    return "\n\n".join(
        f"{name}: {report.get('kept', report['pairs'])} of {report['pairs']} answers passed the "
        f"filter, at most {report['longest']} tokens."
        for name, report in results.data.items()
    )


def case_group(case: str) -> str:
    if case == UNGUARDED.name:
        return "unguarded"
    return "blind vector" if case.endswith("blind") else "known vector"
