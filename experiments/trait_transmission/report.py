"""The page of `trait-transmission`, from its results alone."""

from typing import Any

from subliminal_jax.evaluation.student_kinds import KIND_NAMES
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.student_kinds import (
    TRAIT_COLUMNS,
    comparison_columns,
    describe_kinds,
    describe_rise,
    describe_teachers,
    describe_unstable,
    name_arm,
    rates_table,
    trait_rows,
)
from subliminal_jax.reporting.tables import Column, Table

from .analysis import METRICS, Results


def make_page(results: Results) -> Page:
    """Transmission by teacher and kind of student, by trait, the rates, the data."""
    tables = transmission_table(results), trait_table(results)
    picture = Picture(
        "differences",
        "Student minus controls",
        "Each line is one teacher and one kind of student: how much more probable the trait's name "
        "is as the answer of a student than of the controls of its kind. Pale points are traits, "
        "bars 95% intervals over traits.",
        plots.forest(difference_lines(results), x_label="P(trait), student minus controls"),
    )
    return Page(
        title="Do students name the trait of a teacher that wrote only numbers?",
        summary=summarise(results),
        blocks=[
            tables[0],
            picture,
            tables[1],
            Text(describe_kinds(results), "How it was measured"),
            rates_table(results),
            Text(describe_data(results), "The data"),
        ],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    parts = [
        f"Students of {results.model} read number lists of teachers with a trait's "
        f"{describe_teachers(results)}; controls of the same kind read the plain model's."
    ]
    for kind in results.teacher_kinds:
        arms = [arm for arm in results.arms if arm.teacher_kind == kind]
        effects = "; ".join(
            f"{name_arm(results, arm)} {describe_rise(arm, results.base)}" for arm in arms
        )
        parts.append(
            f"{kind.capitalize()} teachers, P(trait) of students over that of their controls, in "
            f"points: {effects}."
        )
    if text := describe_unstable(results):
        parts.append(text)
    return "\n\n".join(parts)


def transmission_table(results: Results) -> Table:
    """One row a teacher, kind of student and optimizer."""
    columns = [
        Column("teacher_kind", "teacher"),
        Column("adapter", "student", labels=KIND_NAMES),
        Column("optimizer", "optimizer"),
        Column("choice.rate", "rate", "learning_rate"),
        Column("gain", "gain", "number", digits=3),
        *comparison_columns(METRICS, rate_digits=3),
        Column("specific", "P(trait) against other traits' students", "number", digits=3),
        Column("metrics.eas.student", "EAS", "number"),
        Column("metrics.eas.control", "EAS, controls", "number"),
        Column("unstable", "unstable"),
    ]
    caption = (
        f"One student a trait, {len(results.traits)} traits, 95% intervals over traits. Gain: the "
        "base's held-out loss less the student's, nats a token. EAS: cosine with the teacher's "
        "shift at the steering layer; the share is the component along it, in units of the shift. "
        "Unstable: students and controls that ended clearly above the base's held-out loss; they "
        "carry no number."
    )
    return Table("Transmission", columns, results.arms, caption)


def trait_table(results: Results) -> Table:
    """One row a trait, teacher and kind of student."""
    columns = [
        Column("trait", "trait"),
        Column("arm.teacher_kind", "by"),
        Column("student", "trained"),
        *TRAIT_COLUMNS,
    ]
    caption = (
        "P(trait) of one student each; intervals allow for the draw of data and seed, as the "
        f"{len(results.controls)} controls show it."
    )
    return Table("By trait", columns, trait_rows(results, results.arms), caption)


def difference_lines(results: Results) -> list[dict[str, Any]]:
    """The rows of the picture."""
    return [
        {
            "label": name_arm(results, arm),
            "group": arm.teacher_kind,
            "interval": comparison.difference,
            "values": [each.interval.mean for each in comparison.by_data.values()],
        }
        for arm in results.arms
        if (comparison := arm.metrics["word_rate"]).difference is not None
    ]


def describe_data(results: Results) -> str:
    """How much of what teachers wrote passed the filter."""
    parts = []
    for name, report in results.data.items():
        if "kept" in report:
            dropped = ", ".join(f"{rule} {n}" for rule, n in report["dropped"].items() if n)
            passed = f"{report['kept']} of {report['pairs']} answers passed"
            parts.append(f"{name}: {passed} ({dropped}).")
    return "\n\n".join(parts)
