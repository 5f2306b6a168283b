"""The page of `objective`, from its results alone."""

from typing import Any

from subliminal_jax.reporting.page import Block, Page, Picture, Text
from subliminal_jax.reporting.panels import line_panels
from subliminal_jax.reporting.tables import Column, Table, format_grids

from .analysis import NeededRows, Results

LABELS = {"cross_entropy": "hard labels", "kl": "KL to the teacher"}
PAIRS = {
    "hard-soft": "hard and soft gradient",
    "hard-v": "hard gradient and v",
    "soft-v": "soft gradient and v",
    "soft-fisher": "soft gradient and F v",
}


def make_page(results: Results) -> Page:
    """Rows needed, EAS, trait and gradients against the number of rows, and the best rates."""
    best, needed = best_table(results), needed_table(results)
    return Page(
        title="How few samples recover a teacher's vector?",
        summary=summarise(results),
        blocks=[
            needed,
            *student_pictures(results),
            gradient_picture(results),
            best,
            Text(describe_data(results), "The data"),
        ],
        printed=(best, needed),
    )


def summarise(results: Results) -> str:
    """What was done and what came out, in sentences."""
    seen = results.steps * results.batch_size
    edges = sorted(
        {
            f"{LABELS[row.objective]}, {row.teacher}, {row.rows} rows"
            for row in results.best
            if row.grid_edge
        }
    )
    parts = [
        f"Students of {results.model} ({results.adapter} trained, block {results.layer}) see n "
        "rows that a teacher wrote, chosen by their seed, and are trained on the sampled tokens "
        "(hard labels) or on the teacher's distribution at every token (KL). Every student takes "
        f"{results.steps} steps of {results.batch_size} rows, {seen} examples in all, whatever n: "
        "few rows are seen more often. Rates were chosen for each n on "
        f"{results.heldout_rows} held-out rows by the objective's own loss (cross-entropy for hard "
        "labels, KL for KL).",
        " ".join(
            f"{row.teacher}, {LABELS[row.objective]}: an EAS of {row.level:g} needs "
            f"{describe_needed(row)} rows."
            for row in results.needed
        ),
    ]
    if edges:
        parts.append(
            f"The best rate is at the edge of its grid ({format_grids(results.grids)}) for "
            f"{len(edges)} of {len(results.best)} rows of the table: {'; '.join(edges)}."
        )
    if results.preset == "toy":
        parts.append(
            "The number of steps and the grid of the toy preset were set after looking at the EAS "
            "of one seed of the owl, random and prompted teachers on other samples."
        )
    return "\n\n".join(parts)


def student_pictures(results: Results) -> list[Block]:
    """EAS and trait against the number of rows."""
    several = len(results.grids) > 1
    eas: list[dict[str, Any]] = []
    trait: list[dict[str, Any]] = []
    for (objective, optimizer, teacher), curve in results.curves().items():
        label = LABELS[objective] + (f", {optimizer}" if several else "")
        row = {"panel": teacher, "line": label, "x": [point.rows for point in curve]}
        eas.append({**row, "y": [point.eas for point in curve]})
        eas.append({**row, "y": [point.control_eas.mean for point in curve], "control": True})
        if results.traits[teacher] is not None:
            trait.append({**row, "y": [point.log_difference for point in curve]})
    pictures: list[Block] = [
        Picture(
            "eas_against_rows",
            "Alignment against the number of rows",
            "Each point is the mean over seeds at the best rate, with its 95% interval; the dotted "
            f"line is an EAS of {results.level:g}. Dashed: students of the plain model's answers, "
            "along the same direction.",
            line_panels(eas, x_label="rows", y_label="EAS", level=results.level, bound=1),
        )
    ]
    if trait:
        pictures.append(
            Picture(
                "trait_against_rows",
                "Does the student name the trait?",
                "The log-probability of the trait's name as an answer, the student's minus that of "
                "its control of the same objective, rows, rate and seed.",
                line_panels(trait, x_label="rows", y_label="log P(trait) over the control"),
            )
        )
    return pictures


def gradient_picture(results: Results) -> Picture:
    """The cosines of the first gradients against the number of rows."""
    lines = []
    for teacher in dict.fromkeys(row.teacher for row in results.gradients):
        for pair, label in PAIRS.items():
            points = [
                row
                for row in results.gradients
                if (row.teacher, row.pair) == (teacher, pair) and _is_drawn(row.n)
            ]
            x, y = [point.n for point in points], [point.cosine for point in points]
            lines.append({"panel": teacher, "line": label, "x": x, "y": y})
    return Picture(
        "first_gradients",
        "The first gradients",
        "Cosines at the untrained base between gradients averaged over n rows: of hard labels and "
        "of KL (negative, as a step goes), the teacher's vector v, and F v with F the Fisher "
        "information of a vector at this block. Intervals are over disjoint parts of the rows.",
        line_panels(lines, x_label="rows in the mean", y_label="cosine", bound=1),
    )


def _is_drawn(n: int) -> bool:
    """A power of 4, or no power of 2 (the last n): half of the points are enough."""
    return n & (n - 1) != 0 or n.bit_length() % 2 == 1


def best_table(results: Results) -> Table:
    """Every objective, teacher and number of rows at its best rate."""
    columns = [
        Column("teacher", "teacher"),
        Column("objective", "objective", labels=LABELS),
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
    if len(results.grids) > 1:
        columns.insert(2, Column("optimizer", "optimizer"))
    caption = (
        f"Means over {results.seeds} seeds (which draw the rows, too) with 95% t intervals. Rates "
        f"tried: {format_grids(results.grids)}."
    )
    return Table("At the best rate", columns, results.best, caption)


def needed_table(results: Results) -> Table:
    """Rows needed for the level, by teacher and objective."""
    rows = [{**vars(row), "needed": describe_needed(row)} for row in results.needed]
    columns = [
        Column("teacher", "teacher"),
        Column("objective", "objective", labels=LABELS),
        Column("optimizer", "optimizer"),
        Column("needed", "rows needed"),
    ]
    caption = (
        "Where each seed's curve first reaches it, linear in the logarithm of the rows: geometric "
        "mean with a 95% t interval. Where a seed's curve begins above it or never gets there, the "
        "single seeds."
    )
    return Table(f"Rows needed for an EAS of {results.level:g}", columns, rows, caption)


def describe_needed(row: NeededRows) -> str:
    """A number of rows with its interval, a bound, or what each seed needs."""
    if row.interval is not None:
        return f"{row.interval:.0f}"
    if row.bound == "open":
        values = ", ".join("never" if value is None else f"{value:.0f}" for value in row.values)
        return f"by seed {values}"
    return f"{row.bound} {row.edge:g}"


def describe_data(results: Results) -> str:
    """How many of each teacher's answers were kept."""
    return "\n\n".join(
        f"{name}: {report.get('kept', report['pairs'])} of {report['pairs']} answers kept, at most "
        f"{report['longest']} tokens."
        for name, report in results.data.items()
    )
