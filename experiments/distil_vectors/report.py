"""The page of `distil-vectors`, from its results alone."""

from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.tables import Column, Table, format_grid, format_learning_rate

from . import plots
from .analysis import KINDS, Results


def make_page(results: Results) -> Page:
    """Kinds of vectors by block and norm, three pictures of single students, every vector."""
    table = pooled_table(results)
    return Page(
        title="Which vectors are distilled, and which change behaviour?",
        summary=summarise(results),
        blocks=[
            table,
            Picture(
                "eas",
                "Which vectors are taken up",
                "EAS of every student with its teacher's vector against the vector's norm; grey: "
                "the control student of the same seed with the same vector.",
                plots.metric_by_norm(results.vectors, "eas", "EAS"),
            ),
            Picture(
                "loss",
                "The loss on the teacher's unseen lists",
                "How far training lowers it, in nats a token; grey: for the control, which never "
                "saw that teacher.",
                plots.metric_by_norm(results.vectors, "loss_drop", "fall of the loss, nats"),
            ),
            Picture(
                "behaviour",
                "Taken up, and seen in behaviour?",
                "Each point is one student: how much of its teacher's vector it took up, and how "
                "far its answers are from those of the control of its seed; the grey line is how "
                "far controls are from each other.",
                plots.answers_by_component(results.vectors),
            ),
            vector_table(results),
            Text(describe_data(results), "The data"),
        ],
        printed=[table],
    )


def summarise(results: Results) -> str:
    """What was done, in sentences that need no paper."""
    rates = ", ".join(
        f"{format_learning_rate(students.learning_rate)} at block {students.layer}"
        for students in results.layers
    )
    grid = format_grid(results.layers[0].grid)
    refused = len(results.refused)
    return (
        f"{len(results.vectors)} teachers are {results.model} with a vector added to its residual "
        f"stream. Students train for {results.steps} steps of {results.batch_size} number lists "
        f"that such a teacher wrote, controls on the base's own lists, {results.seeds} seeds "
        f"each. Learning rates were chosen on held-out loss: {rates} (of {grid}). "
        + (
            f"{refused} further vectors broke the number format, so that too few lists were left. "
            if refused
            else ""
        )
        + "Behaviour is the distribution over sixteen animals and any other answer when asked for "
        "a favourite; what is trained was chosen by looking at pilot runs with trait vectors."
    )


def pooled_table(results: Results) -> Table:
    """By kind, block and norm."""
    columns = [
        Column("name", "vectors"),
        Column("layer", "block", "count"),
        Column("norm", "norm", "number", digits=2),
        Column("valid", "valid lists", "rate", digits=0),
        Column("eas.student", "EAS", "number"),
        Column("eas.control", "EAS, control", "number"),
        Column("component.student", "share of the vector", "number"),
        Column("loss_drop.difference", "fall of the loss", "number", digits=4),
        Column("variation.difference", "answers moved", "number", digits=3),
        Column("teacher_variation", "teacher's answers", "number", digits=2),
    ]
    rows = [
        {**vars(group), "name": f"{group.vectors} {KINDS[group.kind]}"} for group in results.pooled
    ]
    caption = (
        "Norms in units of the residual stream's. Fall of the loss: in nats a token on the "
        "teacher's unseen lists, beyond the control's fall. Answers moved: total variation to the "
        "control's answers beyond that among controls; the teacher's is to the base's. 95% "
        "t intervals over seeds and vectors (two-way)."
    )
    return Table("Students by kind of vector", columns, rows, caption)


def vector_table(results: Results) -> Table:
    """Every vector by itself."""
    columns = [
        Column("vector", "vector"),
        Column("layer", "block", "count"),
        Column("norm", "norm", "number"),
        Column("eas", "EAS", "number"),
        Column("component", "share of the vector", "number"),
        Column("variation", "total variation to control", "number", digits=3),
        Column("trait_rate", "trait rate", "rate", digits=1),
        Column("control_trait_rate", "control's", "rate", digits=1),
        Column("teacher_trait_rate", "teacher's", "rate", digits=1),
    ]
    return Table("Every vector", columns, results.means, "Means over seeds.")


def describe_data(results: Results) -> str:
    """How many answers of each teacher passed the filter, and who was left out."""
    passed = [
        f"{name}: {report.get('kept', report['pairs'])} of {report['pairs']} answers pass the "
        "filter."
        for name, report in results.data.items()
    ]
    refused = [f"block {v.layer}, {v.data}: left out. {v.reason}" for v in results.refused]
    return "\n\n".join(passed + refused)
