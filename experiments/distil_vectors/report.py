"""The page of `distil-vectors`, from its results alone."""

from subliminal_jax.evaluation.student_rows import TOLERANCE
from subliminal_jax.reporting.differences import list_differences
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.rate_search import make_rates_table
from subliminal_jax.reporting.tables import Column, Table, format_learning_rate

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
            *(draw_pictures(results) if results.vectors else ()),
            vector_table(results),
            *rates_tables(results),
            Text(describe_data(results), "The data"),
        ],
        printed=[table],
    )


def draw_pictures(results: Results) -> list[Picture]:
    """Every student's alignment, loss and answers."""
    return [
        Picture(
            "eas",
            "Which vectors are taken up",
            "EAS of every student with its teacher's vector against the vector's norm; grey: the "
            "mean of the controls with the same vector.",
            plots.metric_by_norm(results.vectors, "eas", "EAS"),
        ),
        Picture(
            "loss",
            "The loss on the teacher's unseen lists",
            "How far training lowers it, in nats a token; grey: for the controls, which never saw "
            "that teacher.",
            plots.metric_by_norm(results.vectors, "loss_drop", "fall of the loss, nats"),
        ),
        Picture(
            "behaviour",
            "Taken up, and seen in behaviour?",
            "Each point is one student: how much of its teacher's vector it took up, and how far "
            "its answers are from those of the controls; the grey line is how far controls are "
            "from each other.",
            plots.answers_by_component(results.vectors),
        ),
    ]


def summarise(results: Results) -> str:
    """What was done, in sentences that need no paper."""
    rates = ", ".join(
        f"{'none' if c.rate is None else format_learning_rate(c.rate)} at block {c.layer}"
        for c in results.choices
    )
    chosen = "Learning rates are as given"
    if results.tuning_vectors:
        chosen = (
            "Learning rates were found by held-out loss on further vectors "
            f"({', '.join(results.tuning_vectors)}), which are not reported"
        )
    parts = [
        f"{len(results.vectors)} teachers are {results.model} with a vector added to its residual "
        f"stream. Students train for {results.steps} steps of {results.batch_size} number lists "
        "that such a teacher wrote, each on its own draw and with its own seed; "
        f"{len(results.controls)} controls at each block train on draws of the base's own lists "
        f"and serve all vectors. {results.warmup:.0%} warm-up, {results.schedule} schedule. "
        f"{chosen}: {rates}."
    ]
    if results.refused:
        parts.append(
            f"{len(results.refused)} further vectors broke the number format, so that too few "
            "lists were left."
        )
    if unstable := results.list_unstable():
        parts.append(
            f"Unstable, above the base's loss on held-out rows by more than {TOLERANCE:g} nats, "
            f"and without a number: {', '.join(unstable)}."
        )
    parts.append(
        "Behaviour is the distribution over sixteen animals and any other answer when asked for "
        "a favourite; what is trained was chosen by looking at pilot runs with vectors of owl and "
        "wolf."
    )
    excess = {
        f"{KINDS[group.kind]} at block {group.layer}, norm {group.norm:g}": group.metrics[
            "eas"
        ].difference
        for group in results.pooled
    }
    outcome = list_differences("EAS of students over their controls", excess)
    return "\n\n".join([*([outcome] if excess else []), " ".join(parts)])


def pooled_table(results: Results) -> Table:
    """By kind, block and norm."""
    columns = [
        Column("name", "vectors"),
        Column("layer", "block", "count"),
        Column("norm", "norm", "number", digits=2),
        Column("valid", "valid lists", "rate", digits=0),
        Column("metrics.eas.student", "EAS", "number"),
        Column("metrics.eas.control", "EAS, control", "number"),
        Column("metrics.component.student", "share of the vector", "number"),
        Column("metrics.loss_drop.difference", "fall of the loss", "number", digits=4),
        Column("metrics.variation.difference", "answers moved", "number", digits=3),
        Column("teacher_variation", "teacher's answers", "number", digits=2),
    ]
    rows = [
        {**vars(group), "name": f"{group.vectors} {KINDS[group.kind]}"} for group in results.pooled
    ]
    caption = (
        "Norms in units of the residual stream's. Fall of the loss: in nats a token on the "
        "teacher's unseen lists, beyond the controls' fall. Answers moved: total variation to the "
        "controls' answers beyond that among controls; the teacher's is to the base's. 95% "
        "intervals over vectors, with a correction for skewness."
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
        Column("variation", "total variation to controls", "number", digits=3),
        Column("trait_rate", "trait rate", "rate", digits=1),
        Column("control_trait_rate", "controls'", "rate", digits=1),
        Column("teacher_trait_rate", "teacher's", "rate", digits=1),
    ]
    return Table("Every vector", columns, results.values, "One student each.")


def rates_tables(results: Results) -> list[Table]:
    """How the rates were found; none where they were given."""
    if not results.tuning_vectors:
        return []
    column = Column("layer", "block", "count")
    return [make_rates_table(results.choices, results.tuning_vectors, column)]


def describe_data(results: Results) -> str:
    """How many answers of each teacher passed the filter, and who was left out."""
    passed = [
        f"{name}: {report.get('kept', report['pairs'])} of {report['pairs']} answers pass the "
        "filter."
        for name, report in results.data.items()
    ]
    refused = [f"block {v.layer}, {v.data}: left out. {v.reason}" for v in results.refused]
    return "\n\n".join(passed + refused)
