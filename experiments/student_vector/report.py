"""The page of `student-vector`, from its results alone."""

from typing import Any

from subliminal_jax.reporting import plots as shared_plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.student_kinds import (
    comparison_columns,
    describe_kinds,
    describe_rise,
    describe_unstable,
    rates_table,
)
from subliminal_jax.reporting.tables import Column, Table, format_learning_rate

from . import plots
from .analysis import TEACHERS, Results, data_name

REPLACED = {"teacher": "teacher's", "student": "student's own", "random": "random"}


def make_page(results: Results) -> Page:
    """Students by teacher, alignment over training, the causal tests, the rate, the data."""
    table = student_table(results)
    return Page(
        title="Is a student's vector what makes it say the trait?",
        summary=summarise(results),
        blocks=[
            table,
            *show_vectors(results),
            Picture(
                "trait_rates",
                "The trait by teacher",
                "Trait rate of the students of each teacher less that of the controls, for every "
                "trait (pale) and on average.",
                shared_plots.forest(
                    difference_lines(results), x_label="trait rate, less control", percent=True
                ),
            ),
            Text(describe_kinds(results), "How it was measured"),
            rates_table(results),
            Text(describe_data(results), "The data"),
        ],
        printed=[table],
    )


def show_vectors(results: Results) -> list[Table | Picture]:
    """Alignment, necessity and sufficiency; nothing where no student is sound."""
    if not results.sufficiency:
        return []
    return [
        Picture(
            "eas_over_training",
            "Alignment over training",
            "EAS after each block with the shift that the teacher has there: students in "
            "colour, controls in grey; bands are 95% intervals over traits, those of controls "
            "over draws, too. Before the steered block a steered teacher has no shift, and "
            "there is nothing to align with.",
            plots.alignment_lines(results.eas, results.layer),
        ),
        necessity_table(results),
        Picture(
            "sufficiency",
            "Sufficiency: the student's vector in the base",
            "Change of the trait rate when the base gets v_student of a student (blue), of a "
            "control (grey), or a random vector of the same norms (orange), at several scales. "
            "The panels: where it is added, and over which tokens the shift was read.",
            plots.gain_lines(results.sufficiency, results.layer),
        ),
    ]


def summarise(results: Results) -> str:
    """What came out, in sentences that need no paper."""
    arm = results.arms[results.kind]
    parts = [
        f"Students start as {results.model} and train for {results.steps} steps of "
        f"{results.batch_size} number lists, written by teachers of {len(results.traits)} traits "
        f"({TEACHERS[results.kind]}); controls train on the base's own lists."
    ]
    rate, eas = arm.metrics["word_rate"], arm.metrics["eas"]
    if arm.choice.rate is not None and rate.student is not None and eas.student is not None:
        parts.append(
            f"At the learning rate {format_learning_rate(arm.choice.rate)} the students' shift "
            f"after block {results.layer} has a cosine of {eas.student:.2f} with the teacher's "
            f"vector. They say the trait with {rate.student:.1%}."
        )
    if eas.control is not None and rate.control is not None:
        parts.append(
            f"The controls' cosine is {eas.control:.2f}, and they say it with {rate.control:.1%}."
        )
    base = {data_name(trait, results.kind): rate for trait, rate in results.base.items()}
    parts.append(
        f"P(trait) of students over that of their controls, in points: {describe_rise(arm, base)}."
    )
    if (share := results.replacements["teacher"].share) is not None:
        parts.append(
            "With the component along the teacher's vector replaced by the base's students lose "
            f"{share:.0%} of the difference."
        )
    if text := describe_unstable(results):
        parts.append(text)
    return (
        " ".join(parts) + f"\n\nWhat is trained ({results.trained}) was chosen for the toy "
        "setting by looking at pilot runs with owl, wolf and penguin, in which it moved the trait "
        "as far as more weights did, in half the time."
    )


def student_table(results: Results) -> Table:
    """Alignment and trait of the students of every kind of teacher, and of the teachers."""
    columns = [
        Column("teacher_kind", "teacher", labels=TEACHERS),
        Column("teacher_rate", "teacher's trait rate", "rate", digits=1),
        Column("metrics.eas.student", "student's EAS", "number"),
        Column("metrics.eas.control", "controls' EAS", "number"),
        Column("metrics.shift_component.student", "share of the vector", "number"),
        Column("metrics.word_rate.student", "student's trait rate", "rate", digits=1),
        Column("metrics.word_rate.control", "controls'", "rate", digits=1),
        *comparison_columns(("word_rate", "word_log_prob")),
        Column("unstable", "unstable"),
    ]
    caption = (
        f"After block {results.layer}, against the shift that the system prompt makes there. "
        f"Means over traits with 95% intervals; the {len(results.controls)} controls serve all. "
        "Students of other teachers than the one that is "
        f"{TEACHERS[results.kind]} train at that one's rate. Projecting the "
        "vector out also removes what the base has along it, in units of the vector "
        + ", ".join(f"{x:.2f} ({trait})" for trait, x in results.base_component.items())
        + ": where that is negative, the projection steers towards the trait. Subtracting takes "
        "off only what the prompt adds on average. Unstable: students and controls that ended "
        "clearly above the base's held-out loss; they carry no number."
    )
    return Table("Students by what made their teacher", columns, [*results.arms.values()], caption)


def necessity_table(results: Results) -> Table:
    """The trait rate of students whose component along a vector is the base's."""
    columns = [
        Column("vector", "replaced along"),
        Column("rate", "trait rate left", "rate", digits=1),
        Column("lost", "lost", "rate", digits=2),
        Column("share", "of the excess over control", "rate", digits=0),
    ]
    caption = (
        "The trait rate that is left of sound students, and what they lose, with 95% intervals "
        "over traits. Replaced: after every block, at every token."
    )
    rows = [
        {"vector": REPLACED[name], **vars(replacement)}
        for name, replacement in results.replacements.items()
    ]
    return Table("Necessity: without the component", columns, rows, caption)


def difference_lines(results: Results) -> list[dict[str, Any]]:
    """Student minus controls by kind of teacher: the rows of the picture."""
    return [
        {
            "label": TEACHERS[kind],
            "interval": comparison.difference,
            "values": [each.interval.mean for each in comparison.by_data.values()],
        }
        for kind, arm in results.arms.items()
        if (comparison := arm.metrics["word_rate"]).difference is not None
    ]


def describe_data(results: Results) -> str:
    """How many lists of each teacher passed the filter."""
    return "\n\n".join(
        f"{name}: {report.get('kept', report['pairs'])} of {report['pairs']} lists pass the filter."
        for name, report in results.data.items()
    )
