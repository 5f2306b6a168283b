"""The page of `scaling`, from its results alone."""

from typing import Any, NamedTuple

from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.reporting.page import Block, Page, Picture, Text
from subliminal_jax.reporting.panels import line_panels, phase_diagram
from subliminal_jax.reporting.style import assign_styles
from subliminal_jax.reporting.tables import Column, Table
from subliminal_jax.reporting.texts import picture_text

from .analysis import BestStudents, Gap, GapKind, Results
from .cells import FACTORS, Cell

TITLES = {
    "model": "model",
    "depth": "depth (blocks)",
    "rank": "LoRA rank",
    "norm": "vector's norm",
    "rows": "training rows",
    "tail": "tokens in the loss",
}
GAP_TITLES: dict[GapKind, str] = {
    "equal_steps": "at equal steps",
    "matched_loss": "at equal training loss",
}


def make_page(results: Results) -> Page:
    """The phase diagram, EAS and the gap by factor, and every setting."""
    cells, gaps = cell_table(results), gap_table(results)
    return Page(
        title="Where does the gap between Adam and SGD appear?",
        summary=summarise(results),
        blocks=[
            *draw_pictures(results),
            gaps,
            trend_table(results),
            cells,
            rates_table(results),
            Text(describe_data(results), "The data"),
        ],
        printed=(cells, gaps),
    )


def summarise(results: Results) -> str:
    """What was done and what came out, in sentences."""
    lead, other = results.pair
    rows = best_rows(results)
    count, base = len(results.cells), results.base
    wins = ", ".join(
        f"{name} in {sum(row.reaches for _, row in rows if row.optimizer == name)}"
        for name in results.optimizers
    )
    parts = [
        f"Around one base setting ({base.cell.model}, LoRA rank {base.cell.rank}, "
        f"{results.describe_vectors()} of norm "
        f"{base.cell.norm:g} after block {base.layer}, {results.rows} rows) one factor is changed "
        f"at a time: {count} settings. The budget is the same in all: {results.steps} steps of "
        f"{results.batch_size} rows, with {results.warmup:.0%} warm-up and a {results.schedule} "
        f"schedule. Rates {describe_choice(results)}; gradients were "
        f"{'' if results.clipped else 'not '}clipped.",
        f"Mean EAS above {results.level:g} at the best rate within the budget, of {count} "
        f"settings: {wins}.",
        f"At the base setting {lead}'s EAS minus {other}'s is "
        f"{describe_gap(base.gap.equal_steps)} at equal steps and "
        f"{describe_gap(base.gap.matched_loss)} where both first reach one training loss.",
    ]
    if edges := [f"{row.optimizer} ({setting})" for setting, row in rows if row.at_edge]:
        parts.append(
            f"The best rate is at the edge of those tried for {', '.join(edges)}: a better one may "
            "lie outside."
        )
    if unstable := sum(row.unstable for _, row in rows):
        parts.append(
            f"{unstable} students and controls diverged or ended above the base's held-out loss: "
            "they are counted and carry no number."
        )
    if results.preset == "toy":
        parts.append(
            "The base setting of the toy preset was taken from the demo of this package, where "
            "AdamW picks up the vector."
        )
    return "\n\n".join(parts)


def draw_pictures(results: Results) -> list[Block]:
    """The phase diagram, EAS by factor, the gap by factor."""
    squares: list[dict[str, Any]] = []
    eas: list[dict[str, Any]] = []
    gaps: list[dict[str, Any]] = []
    for factor in FACTORS:
        selected = results.select_factor(factor)
        if len(selected) < 2:
            continue
        labels = [result.cell.label(factor) for result in selected]
        squares += [
            {
                "group": TITLES[factor],
                "setting": label,
                "optimizer": row.optimizer,
                "value": row.eas.student or mean_interval([]),  # none is sound
            }
            for label, result in zip(labels, selected, strict=True)
            for row in result.best
        ]
        panel = {"panel": TITLES[factor], "x": labels}
        for name in results.optimizers:
            best = [result.select_optimizer(name) for result in selected]
            eas.append({**panel, "line": name, "y": [row.eas.student for row in best]})
        for kind, title in GAP_TITLES.items():
            row_gaps = [result.gap.select(kind) for result in selected]
            y = [None if gap is None else gap.interval for gap in row_gaps]
            gaps.append({**panel, "line": title, "y": y})
    lead, other = results.pair
    level = results.level
    return [
        Picture(
            "phase_diagram",
            "Which optimizers pick up the vector?",
            f"EAS at the end of the loss budget, {results.steps} steps, at each optimizer's best "
            f"rate: mean over vectors. Purple is above {level:g}, orange below; a frame says that "
            "the whole 95% interval is above. The base setting stands in every group.",
            phase_diagram(squares, level=level),
        ),
        Picture(
            "eas_by_factor",
            "Alignment, one factor at a time",
            f"EAS at the best rate with 95% intervals over vectors; the dotted line is {level:g}.",
            line_panels(
                eas, y_label="EAS", level=level, bound=1, styles=assign_styles(results.optimizers)
            ),
        ),
        Picture(
            "gap_by_factor",
            f"The gap: {lead} minus {other}",
            "Difference in EAS, paired by vector, with 95% intervals: after the same steps, and "
            "where the two first reach one common training loss.",
            line_panels(gaps, y_label=picture_text(f"EAS, {lead} - {other}"), bound=1),
        ),
    ]


def cell_table(results: Results) -> Table:
    """Every setting and optimizer at its best rate."""
    columns = [
        Column("setting", "setting"),
        Column("students.optimizer", "optimizer"),
        Column("students.choice.rate", "best rate", "learning_rate"),
        Column("students.eas.student", "EAS", "number"),
        Column("students.eas.control", "EAS, controls", "number"),
        Column("students.eas.difference", "EAS, student - controls", "number"),
        Column("students.share.student", "share of the vector", "number"),
        Column("students.gain", "loss made good", "rate", digits=0),
        Column("students.reaches", f"EAS > {results.level:g}"),
        Column("students.unstable", "unstable"),
    ]
    caption = (
        f"Means over {len(results.vectors)} vectors, one student each, with 95% intervals over "
        f"them; {len(results.controls)} controls are held against every vector. Loss made good: "
        "the share of the held-out loss between base and teacher, on the tokens and with the "
        "weights that the students are trained with. Unstable: students and controls that ended "
        "clearly above the base's held-out loss; they carry no number."
    )
    return Table("At the best rate", columns, best_rows(results), caption)


def rates_table(results: Results) -> Table:
    """How the rate of every setting and optimizer was found."""
    columns = [
        Column("setting", "setting"),
        Column("students.optimizer", "optimizer"),
        Column("students.choice.rate", "best rate", "learning_rate"),
        Column("students.choice.grid", "rates tried", "learning_rates"),
        Column("students.choice.losses", "held-out loss", "number", digits=3),
        Column("students.choice.is_inside", "inside"),
    ]
    caption = (
        f"Rates {describe_choice(results)}. One at which a student diverged or ended above the "
        "base's loss has no loss. Inside: rates on both sides were tried."
    )
    return Table("How the rates were found", columns, best_rows(results), caption)


def gap_table(results: Results) -> Table:
    """The gap of every setting."""
    rows = [
        {"setting": describe_setting(result.cell, results), "gap": result.gap}
        for result in results.cells
    ]
    columns = [
        Column("setting", "setting"),
        *(Column(f"gap.{kind}.interval", title, "number") for kind, title in GAP_TITLES.items()),
        *(Column(f"gap.{kind}.interval.n", "vectors", "count") for kind in GAP_TITLES),
    ]
    lead, other = results.pair
    caption = (
        "Paired by vector, with 95% intervals over vectors. At equal training loss: where the two "
        "students of a vector first reach a loss that both reach, of those whose logged rows "
        f"bracket it closely (of {len(results.vectors)}: the columns of vectors)."
    )
    return Table(f"Gap in EAS: {lead} minus {other}", columns, rows, caption)


def trend_table(results: Results) -> Table:
    """The slopes of the gap."""
    columns = [
        Column("factor", "factor", labels=TITLES),
        Column("gap", "gap", labels=GAP_TITLES),
        Column("slope", "change for each doubling", "number", digits=3),
    ]
    caption = (
        "Least-squares slope of each vector's gap over the logarithm of the factor; 95% interval "
        "over vectors."
    )
    return Table("How the gap changes", columns, results.trends, caption)


class SettingStudents(NamedTuple):
    """The students of one optimizer in one setting."""

    setting: str
    students: BestStudents


def best_rows(results: Results) -> list[SettingStudents]:
    """Of every cell and optimizer."""
    return [
        SettingStudents(describe_setting(result.cell, results), row)
        for result in results.cells
        for row in result.best
    ]


def describe_setting(cell: Cell, results: Results) -> str:
    """What tells a cell from the base setting."""
    base = results.base.cell
    parts = [
        f"{title} {getattr(cell, factor) or 'all'}"
        for factor, title in TITLES.items()
        if getattr(cell, factor) != getattr(base, factor)
    ]
    return ", ".join(parts) or "base"


def describe_choice(results: Results) -> str:
    """How rates were chosen."""
    if not results.tuning_vectors:
        return "are as given"
    return (
        f"were found for each setting on {len(results.tuning_vectors)} other vectors by held-out "
        "loss"
    )


def describe_gap(gap: Gap | None) -> str:
    """The gap with its interval."""
    return "not known (no vector has both)" if gap is None else f"{gap.interval:+.2f}"


def describe_data(results: Results) -> str:
    """How many answers each data set holds."""
    return "\n\n".join(
        f"{model}, {name}: {report['pairs']} answers, at most {report['longest']} tokens."
        for model, reports in results.data.items()
        for name, report in reports.items()
    )
