"""The page of `student-vector`, from its results alone."""

from typing import Any

from subliminal_jax.reporting import plots as shared_plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.tables import Column, Table, format_grid, format_learning_rate

from . import plots
from .analysis import KINDS, TEACHERS, Results, rate_differences

REPLACED = {"teacher": "teacher's", "student": "student's own", "random": "random"}


def make_page(results: Results) -> Page:
    """Students by teacher, alignment over training, the causal tests."""
    table = student_table(results)
    return Page(
        title="Is a student's vector what makes it say the trait?",
        summary=summarise(results),
        blocks=[
            table,
            Picture(
                "eas_over_training",
                "Alignment over training",
                "EAS after each block with the shift that the teacher has there: students in "
                "colour, controls in grey; bands are 95% intervals over seeds and traits. Before "
                "the steered block a steered teacher has no shift, and there is nothing to align "
                "with.",
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
            Picture(
                "trait_rates",
                "The trait by teacher",
                "Trait rate of the students of each teacher less that of the controls of the same "
                "seed, for every trait and seed (pale) and on average.",
                shared_plots.forest(
                    difference_lines(results), x_label="trait rate, less control", percent=True
                ),
            ),
            Text(describe_data(results), "The data"),
        ],
        printed=[table],
    )


def summarise(results: Results) -> str:
    """What came out, in sentences that need no paper."""
    student, control = results.summaries[results.kind], results.summaries["control"]
    share = results.replacements["teacher"].share
    lost = (
        "there is nothing to lose" if share is None else f"they lose {share:.0%} of the difference"
    )
    rate = format_learning_rate(results.learning_rate)
    return (
        f"Students start as {results.model} and train for {results.steps} steps of "
        f"{results.batch_size} number lists, written by teachers of {len(results.traits)} traits "
        f"({KINDS[results.kind]}); controls train on the base's own lists. At the learning rate "
        f"that held-out loss chose ({rate} of "
        f"{format_grid(results.grid)}) the students' shift after block "
        f"{results.layer} has a cosine of {student.eas:.2f} with the teacher's vector, the "
        f"controls' {control.eas:.2f}. They say the trait with {student.rate:.1%}, the controls "
        f"with {control.rate:.1%}. With the component along the teacher's vector replaced by the "
        f"base's {lost}.\n\n"
        f"{results.seeds} seeds; 95% t intervals over seeds and traits (two-way). What is trained "
        f"({results.trained}) was chosen for the toy setting by looking at pilot runs, in which it "
        "moved the trait as far as more weights did, in half the time; the learning rate was not."
    )


def student_table(results: Results) -> Table:
    """Alignment and trait of the students of every kind of teacher, and of the teachers."""
    columns = [
        Column("teacher", "teacher"),
        Column("teacher_rate", "teacher's trait rate", "rate", digits=1),
        Column("eas", "student's EAS", "number"),
        Column("component", "share of the vector", "number"),
        Column("rate", "student's trait rate", "rate", digits=1),
        Column("log_prob", "its log", "number"),
    ]
    caption = (
        f"After block {results.layer}, against the shift that the system prompt makes there. "
        "Means over traits and seeds with 95% intervals. Students of other teachers than "
        f"the one that is {KINDS[results.kind]} train at that one's best rate. Projecting the "
        "vector out also removes what the base has along it, in units of the vector "
        + ", ".join(f"{x:.2f} ({trait})" for trait, x in results.base_component.items())
        + ": where that is negative, the projection steers towards the trait. Subtracting takes "
        "off only what the prompt adds on average."
    )
    rows = [
        {"teacher": KINDS[kind], **vars(summary)} for kind, summary in results.summaries.items()
    ]
    return Table("Students by what made their teacher", columns, rows, caption)


def necessity_table(results: Results) -> Table:
    """The trait rate of students whose component along a vector is the base's."""
    columns = [
        Column("vector", "replaced along"),
        Column("rate", "trait rate left", "rate", digits=1),
        Column("lost", "lost", "rate", digits=2),
        Column("share", "of the excess over control", "rate", digits=0),
    ]
    student, control = (results.summaries[kind].rate for kind in (results.kind, "control"))
    caption = (
        f"Students say the trait with {student:.1%}, controls with {control:.1%}. Replaced: after "
        "every block, at every token."
    )
    rows = [
        {"vector": REPLACED[name], **vars(replacement)}
        for name, replacement in results.replacements.items()
    ]
    return Table("Necessity: without the component", columns, rows, caption)


def difference_lines(results: Results) -> list[dict[str, Any]]:
    """Student minus control by kind of teacher: the rows of the picture."""
    lines = []
    for kind in TEACHERS:
        values = rate_differences(results.final[kind], results.final["control"])
        if values is not None:
            interval = results.summaries[kind].difference
            lines.append(
                {"label": KINDS[kind], "interval": interval, "values": values.ravel().tolist()}
            )
    return lines


def describe_data(results: Results) -> str:
    """How many lists of each teacher passed the filter."""
    return "\n\n".join(
        f"{name}: {report.get('kept', report['pairs'])} of {report['pairs']} lists pass the filter."
        for name, report in results.data.items()
    )
