"""The page of `cross-model`, from its results alone."""

from typing import Any

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.tables import Column, Table

from .analysis import Results

KINDS = {"numbers": "number lists", "semantic": "chat answers"}
SENTENCES = {
    "numbers": "Number lists that passed the filter: how many nats a token each model's own "
    "vector adds to their likelihood, over what it adds to plain lists and what a random vector "
    "does.",
    "semantic": "Chat answers, which name the trait openly: the same gain. A vector's meaning is "
    "shared between models as far as it raises the likelihood of another model's answers.",
}


def make_page(results: Results) -> Page:
    """Own against foreign data, every model on every model's texts, and how it was measured."""
    scores, contrasts = score_table(results), contrast_table(results)
    pictures = [
        Picture(
            f"gain_{kind}",
            f"Gain on {name}",
            f"{SENTENCES[kind]} Points are traits, bars 95% intervals over them.",
            plots.forest(gain_lines(results, kind), x_label="specific gain, nats a token"),
        )
        for kind, name in KINDS.items()
    ]
    method = Text(describe_method(results), "How it was measured")
    return Page(
        title="Does a vector explain another model's numbers?",
        summary=summarise(results),
        blocks=[contrasts, *pictures, scores, method],
        printed=(scores, contrasts),
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    parts = [
        f"{' and '.join(results.models)} each score what teachers of all of them wrote, with their "
        "own vectors of the same traits."
    ]
    parts += [
        f"{KINDS[contrast.kind].capitalize()} of {contrast.teacher} teachers: specific gain "
        f"{contrast.own_data:+.4f} on a model's own, {contrast.foreign_data:+.4f} on foreign ones; "
        f"difference {contrast.own_minus_foreign:+.4f} nats a token."
        for contrast in results.summaries
    ]
    return "\n\n".join(parts)


def gain_lines(results: Results, kind: str) -> list[dict[str, Any]]:
    """The rows of a picture: which model reads which, by kind of teacher."""
    return [
        {
            "label": f"{cell.scorer} reads {'its own' if cell.own_data else cell.source}",
            "group": f"{contrast.teacher} teachers",
            "interval": cell.specific_gain,
            "values": [
                score.specific_gain
                for score in results.cells
                if (score.kind, score.teacher) == (kind, contrast.teacher)
                and (score.scorer, score.source) == (cell.scorer, cell.source)
            ],
        }
        for contrast in results.summaries
        if contrast.kind == kind
        for cell in contrast.cells
    ]


def score_table(results: Results) -> Table:
    """One row for each scorer, source, kind of data and kind of teacher."""
    rows = [
        {**vars(cell), "kind": contrast.kind, "teacher": contrast.teacher}
        for contrast in results.summaries
        for cell in contrast.cells
    ]
    columns = [
        Column("kind", "data", labels=KINDS),
        Column("teacher", "teachers"),
        Column("scorer", "scorer"),
        Column("source", "written by"),
        Column("gain", "gain", "number", digits=4),
        Column("plain_gain", "on plain data", "number", digits=4),
        Column("random_gain", "of a random vector", "number", digits=4),
        Column("random_plain_gain", "random vector, plain data", "number", digits=4),
        Column("specific_gain", "specific gain", "number", digits=4),
        Column("gain_per_completion", "gain a completion", "number", digits=3),
    ]
    caption = (
        "Gain: NLL(base) - NLL(steered by the scorer's own vector), nats a token, means over "
        f"{len(results.traits)} traits with 95% t intervals; {results.rows} rows a data set. Plain "
        "data: what the source wrote to such prompts without prompt or vector. Specific gain: gain "
        "minus that on plain data, minus the same difference for a random vector of the same norm."
    )
    return Table("Every model reads every model", columns, rows, caption)


def contrast_table(results: Results) -> Table:
    """One row for each kind of data and of teacher."""
    columns = [
        Column("kind", "data", labels=KINDS),
        Column("teacher", "teachers"),
        Column("own_data", "own teachers'", "number", digits=4),
        Column("foreign_data", "foreign teachers'", "number", digits=4),
        Column("own_minus_foreign", "own - foreign", "number", digits=4),
        Column("raw_own_minus_foreign", "own - foreign, raw gain", "number", digits=4),
    ]
    caption = (
        "Specific gain in nats a token, all scorers and sources in balance, with 95% t intervals "
        "over traits."
    )
    return Table("Own against foreign data", columns, results.summaries, caption)


def describe_method(results: Results) -> str:
    """How models were steered, and what the numbers do not say."""
    parts = [
        f"{name}: layer {model.layer}, scale {model.scale:g}, norm of the steering "
        f"{min(model.norm.values()):.2f} to {max(model.norm.values()):.2f} over traits, width "
        f"{model.width}."
        for name, model in results.models.items()
    ]
    parts.append(
        f"Vectors were taken at the end of {results.extraction} prompts. What a steered teacher "
        "wrote has by construction a gain for the vector that steered it (its mean is a KL "
        "divergence); of a system-prompted teacher that is not so. The random vector was added to "
        "the contrast after a first run, in which it gained as much as the trait's own on the "
        "unusual lists of system-prompted teachers. The intervals are over traits: they do not "
        "cover other models."
    )
    return "\n\n".join(parts)
