"""The page of `steering-bridge`, from its results alone."""

from subliminal_jax.evaluation.comparison import is_at_edge
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture
from subliminal_jax.reporting.tables import Column, Table, format_learning_rate

from .analysis import Results, make_claims


def make_page(results: Results) -> Page:
    """Student minus control for each trait, in pictures and in a table, and the correlations."""
    tables = trait_table(results), rank_table(results)
    return Page(
        title="Does learning from a vector's teacher change what the vector does?",
        summary=summarise(results),
        blocks=[*difference_pictures(results), *tables],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    rate = format_learning_rate(results.learning_rate)
    edge = ", the edge of its grid" if is_at_edge(results.learning_rate, results.grid) else ""
    parts = [
        f"Students of {results.model} ({results.adapter}, {results.optimizer} {rate}{edge}) read "
        f"the number lists of {len(results.traits)} teachers with a trait's vector, controls the "
        "plain model's; then the vector was tried on both."
    ]
    parts += [f"{claim.claim}: {claim.number}." for claim in make_claims(results)]
    return "\n\n".join(parts)


def trait_table(results: Results) -> Table:
    """One row a trait."""
    rows = [
        {
            "trait": trait,
            "base": results.base[trait],
            "summary": summary,
            "log_prob": results.log_prob[trait],
        }
        for trait, summary in results.by_trait.items()
    ]
    columns = [
        Column("trait", "trait"),
        Column("base.preference", "base: preference", "number"),
        Column("base.steerability", "base: steerability", "number"),
        Column("base.anti_steerable", "base: works backwards", "rate", digits=1),
        Column("summary.student_steerability", "steerability, student", "number"),
        Column("summary.control_steerability", "steerability, control", "number"),
        Column("summary.preference", "preference, student - control", "number", digits=3),
        Column("summary.steerability", "steerability, student - control", "number", digits=3),
        Column("log_prob", "log P(trait), student - control", "number", digits=3),
    ]
    caption = f"Differences with 95% t intervals over {results.seeds} seeds."
    return Table("By trait", columns, rows, caption)


def rank_table(results: Results) -> Table:
    """The rank correlations over traits."""
    prediction = results.prediction
    rows = [
        {"base": base, "students": students, "correlation": correlation}
        for base, students, correlation in (
            ("steerability", "preference", prediction.steerability_preference),
            ("steerability", "log P(trait)", prediction.steerability_log_prob),
            ("reliability", "preference", prediction.reliability_preference),
            ("reliability", "log P(trait)", prediction.reliability_log_prob),
        )
    ]
    columns = [
        Column("base", "of the base"),
        Column("students", "with the students'"),
        Column("correlation", "Spearman", "number"),
    ]
    return Table("Does it predict transmission?", columns, rows, "Over traits, 95% intervals.")


def difference_pictures(results: Results) -> list[Picture]:
    """Student minus control in preference and in steerability, a line a trait."""
    pictures = []
    for name, label, difference in (
        (
            "preference",
            "preference for the trait in comparisons, student minus control (logits)",
            results.differences.preference,
        ),
        (
            "steerability",
            "steerability, student minus control (logits a multiplier)",
            results.differences.steerability,
        ),
    ):
        lines = [
            {
                "label": trait,
                "interval": getattr(results.by_trait[trait], name),
                "values": values,
            }
            for trait, values in difference.traits.items()
        ]
        sentence = f"{label[0].upper()}{label[1:]}; pale points are seeds, bars 95% t intervals."
        figure = plots.forest(lines, x_label=label)
        pictures.append(Picture(name, name.capitalize(), sentence, figure))
    return pictures
