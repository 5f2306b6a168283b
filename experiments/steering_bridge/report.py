"""The page of `steering-bridge`, from its results alone."""

from subliminal_jax.evaluation.student_kinds import KIND_NAMES
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.student_kinds import (
    describe_kinds,
    describe_unstable,
    rates_table,
)
from subliminal_jax.reporting.tables import Column, Table, format_learning_rate

from .analysis import Results
from .claims import make_claims


def make_page(results: Results) -> Page:
    """Student minus controls for each trait, in pictures and in a table, the correlations, and how
    it was measured."""
    tables = trait_table(results), rank_table(results)
    return Page(
        title="Does learning from a vector's teacher change what the vector does?",
        summary=summarise(results),
        blocks=[
            *difference_pictures(results),
            *tables,
            Text(describe_kinds(results), "How it was measured"),
            rates_table(results),
        ],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    arm = results.arm
    rate = "" if arm.choice.rate is None else f" {format_learning_rate(arm.choice.rate)}"
    parts = [
        f"Students of {results.model} ({KIND_NAMES[arm.adapter]}, {arm.optimizer}{rate}) read "
        f"the number lists of {len(results.traits)} teachers with a trait's vector, controls the "
        "plain model's; then the vector was tried on both."
    ]
    parts += [f"{claim.claim}: {claim.number}." for claim in make_claims(results)]
    if text := describe_unstable(results):
        parts.append(text)
    return "\n\n".join(parts)


def trait_table(results: Results) -> Table:
    """One row a trait; of an unstable student only what the vector does to the base."""
    compared = {
        "preference": results.differences.preference,
        "steerability": results.differences.steerability,
        "log_prob": results.arm.metrics["word_log_prob"],
    }
    rows = [
        {"trait": trait, "base": base}
        | {name: comparison.by_data.get(trait) for name, comparison in compared.items()}
        for trait, base in results.base.items()
    ]
    columns = [
        Column("trait", "trait"),
        Column("base.preference", "base: preference", "number"),
        Column("base.steerability", "base: steerability", "number"),
        Column("base.anti_steerable", "base: works backwards", "rate", digits=1),
        Column("steerability.student", "steerability, student", "number"),
        Column("steerability.control", "steerability, controls", "number"),
        Column("preference.interval", "preference, student - controls", "number", digits=3),
        Column("steerability.interval", "steerability, student - controls", "number", digits=3),
        Column("log_prob.interval", "log P(trait), student - controls", "number", digits=3),
    ]
    caption = (
        "One student each; intervals allow for the draw of data and seed, as the "
        f"{len(results.controls)} controls show it."
    )
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
    """Student minus controls in preference and in steerability, a line a trait."""
    pictures = []
    for name, label, comparison in (
        (
            "preference",
            "preference for the trait in comparisons, student minus controls (logits)",
            results.differences.preference,
        ),
        (
            "steerability",
            "steerability, student minus controls (logits a multiplier)",
            results.differences.steerability,
        ),
    ):
        lines = [
            {"label": trait, "interval": each.interval}
            for trait, each in comparison.by_data.items()
        ]
        if comparison.difference is not None:
            lines.append({"label": "mean over traits", "interval": comparison.difference})
        sentence = (
            f"{label[0].upper()}{label[1:]}. Bars of traits allow for the draw of data and seed, "
            "as controls show it; that of the mean is the 95% interval over traits."
        )
        figure = plots.forest(lines, x_label=label)
        pictures.append(Picture(name, name.capitalize(), sentence, figure))
    return pictures
