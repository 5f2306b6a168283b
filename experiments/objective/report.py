"""The page of `objective`, from its results alone."""

from typing import Any

from subliminal_jax.evaluation.student_kinds import KIND_NAMES
from subliminal_jax.reporting.page import Block, Page, Picture, Text
from subliminal_jax.reporting.panels import line_panels
from subliminal_jax.reporting.student_kinds import (
    comparison_columns,
    describe_kinds,
    describe_rise,
    describe_unstable,
    name_arm,
    rates_table,
)
from subliminal_jax.reporting.tables import Column, Table

from .analysis import NeededRows, Results, group_curves

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
            Text(describe_kinds(results), "Students and controls"),
            rates_table(results),
            Text(describe_data(results), "The data"),
        ],
        printed=(best, needed),
    )


def summarise(results: Results) -> str:
    """What was done and what came out, in sentences."""
    seen = results.steps * results.batch_size
    parts = [
        f"Students of {results.model} see n rows that a teacher wrote, chosen by their seed, and "
        "are trained on the sampled tokens (hard labels) or on the teacher's distribution at every "
        f"token (KL). Every student takes {results.steps} steps of {results.batch_size} rows, "
        f"{seen} examples in all, whatever n: few rows are seen more often. Rates were chosen for "
        f"each kind of student and n on {results.heldout_rows} held-out rows by the objective's "
        "own loss (cross-entropy for hard labels, KL for KL).",
        " ".join(
            f"{row.teacher}, {KIND_NAMES[row.adapter]}, {LABELS[row.objective]}: an EAS of "
            f"{row.level:g} needs {describe_needed(row)} rows."
            for row in results.needed
        ),
    ]
    last = [
        arm for arm in results.arms if arm.rows == results.sizes[-1] and arm.teacher != "random"
    ]
    parts += [
        f"{kind} teachers, {results.sizes[-1]} rows, P(trait) of students over that of "
        "their controls, in points: "
        + "; ".join(
            f"{name_arm(results, arm)}, {LABELS[arm.objective]} {describe_rise(arm)}"
            for arm in last
            if arm.teacher == kind
        )
        + "."
        for kind in dict.fromkeys(arm.teacher for arm in last)
    ]
    if text := describe_unstable(results):
        parts.append(text)
    return "\n\n".join(parts)


def student_pictures(results: Results) -> list[Block]:
    """EAS and trait against the number of rows, one picture a kind of student."""
    several = len(results.optimizers) > 1
    pictures: list[Block] = []
    for adapter in results.adapters:
        eas: list[dict[str, Any]] = []
        trait: list[dict[str, Any]] = []
        curves = group_curves([arm for arm in results.arms if arm.adapter == adapter])
        for (objective, _, optimizer, teacher), curve in curves.items():
            label = LABELS[objective] + (f", {optimizer}" if several else "")
            row = {"panel": teacher, "line": label, "x": [arm.rows for arm in curve]}
            aligned = [arm.metrics["eas"] for arm in curve]
            eas.append({**row, "y": [each.student for each in aligned]})
            eas.append({**row, "y": [each.control for each in aligned], "control": True})
            if teacher != "random":
                rises = [arm.metrics["word_log_prob"].difference for arm in curve]
                trait.append({**row, "y": rises})
        name = KIND_NAMES[adapter]
        pictures.append(
            Picture(
                f"eas_against_rows-{adapter}",
                f"Alignment against the number of rows: {name}",
                "Each point is the mean over traits at the best rate, with its 95% interval; the "
                f"dotted line is an EAS of {results.level:g}. Dashed: students of the plain "
                "model's answers, along the same directions.",
                line_panels(eas, x_label="rows", y_label="EAS", level=results.level, bound=1),
            )
        )
        if trait:
            pictures.append(
                Picture(
                    f"trait_against_rows-{adapter}",
                    f"Does the student name the trait? {name}",
                    "The log-probability of the trait's name as an answer, the student's minus "
                    "that of its controls of the same kind, objective, rows and rate.",
                    line_panels(trait, x_label="rows", y_label="log P(trait) over the controls"),
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
        "information of a vector at this block. Intervals are over traits.",
        line_panels(lines, x_label="rows in the mean", y_label="cosine", bound=1),
    )


def _is_drawn(n: int) -> bool:
    """A power of 4, or no power of 2 (the last n): half of the points are enough."""
    return n & (n - 1) != 0 or n.bit_length() % 2 == 1


def best_table(results: Results) -> Table:
    """Every teacher, kind of student, objective and number of rows at its best rate."""
    columns = [
        Column("teacher", "teacher"),
        Column("adapter", "student", labels=KIND_NAMES),
        *([Column("optimizer", "optimizer")] if len(results.optimizers) > 1 else []),
        Column("objective", "objective", labels=LABELS),
        Column("rows", "rows", "count"),
        Column("choice.rate", "best rate", "learning_rate"),
        Column("metrics.eas.student", "EAS", "number"),
        Column("metrics.eas.control", "EAS, controls", "number"),
        *comparison_columns(("word_rate", "word_log_prob", "eas", "shift_component")),
        Column("heldout_loss", "held-out CE", "number", digits=3),
        Column("heldout_kl", "held-out KL", "number", digits=4),
        Column("unstable", "unstable"),
    ]
    caption = (
        f"Means over {len(results.traits)} traits, each with data and a student of its own draw "
        "(the seed draws the rows, too), with 95% intervals over traits."
    )
    return Table("At the best rate", columns, results.arms, caption)


def needed_table(results: Results) -> Table:
    """Rows needed for the level, by teacher, kind of student and objective."""
    rows = [{**vars(row), "needed": describe_needed(row)} for row in results.needed]
    columns = [
        Column("teacher", "teacher"),
        Column("adapter", "student", labels=KIND_NAMES),
        Column("objective", "objective", labels=LABELS),
        Column("optimizer", "optimizer"),
        Column("traits", "traits", "count"),
        Column("needed", "rows needed"),
    ]
    caption = (
        "Where each trait's curve first reaches it, linear in the logarithm of the rows: geometric "
        "mean with a 95% t interval. Where some trait's curve begins above it or never gets there, "
        "how many do."
    )
    return Table(f"Rows needed for an EAS of {results.level:g}", columns, rows, caption)


def describe_needed(row: NeededRows) -> str:
    """A number of rows with its interval, a bound, or how many traits get there."""
    if row.interval is not None:
        return f"{row.interval:.0f}"
    if row.bound == "open":
        reached = [value for value in row.values if value is not None]
        return f"at most {max(reached):.0f} for {len(reached)} of {len(row.values)} traits"
    return f"{row.bound} {row.edge:g}"


def describe_data(results: Results) -> str:
    """How many of each teacher's answers were kept."""
    return "\n\n".join(
        f"{name}: {report.get('kept', report['pairs'])} of {report['pairs']} answers kept, at most "
        f"{report['longest']} tokens."
        for name, report in results.data.items()
    )
