"""The page of `coverage`, from its results alone."""

from typing import Any

from subliminal_jax.evaluation.student_kinds import KIND_NAMES
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.student_kinds import (
    describe_kinds,
    describe_unstable,
    rates_table,
)
from subliminal_jax.reporting.tables import Column, Table

from .analysis import METRICS, TIE, Results
from .claims import NAMES, TEACHERS, make_claims

FORECASTS = {
    "coverage": "coverage",
    "component": "size along the displacement",
    "gradient": "the gradient's alignment",
}
SCOPES = {
    "teachers": "over teachers",
    "pooled": "over teachers and rules",
    "rules": "over the rules of a teacher",
    "added": "coverage less the gradient's",
}


def make_page(results: Results) -> Page:
    """Forecasts against what came, by rule and over rules, and how it was measured."""
    tables = correlation_table(results), arm_table(results)
    return Page(
        title="Does the first update forecast what a student takes up?",
        summary=summarise(results),
        blocks=[
            *correlation_pictures(results),
            *tables,
            teacher_table(results),
            Text(describe_method(results), "How it was measured"),
            rates_table(results),
        ],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    kinds = " and ".join(results.teacher_kinds)
    parts = [
        f"Students of {results.model} read the number lists of {kinds} teachers of "
        f"{len(results.traits)} traits, with each of {len(results.optimizers)} rules. Coverage is "
        "the cosine of a rule's first update, as a change of weights, with the teacher's "
        "displacement."
    ]
    parts += [f"{claim.claim}: {claim.number}." for claim in make_claims(results)]
    if text := describe_unstable(results):
        parts.append(text)
    return "\n\n".join(parts)


def correlation_table(results: Results) -> Table:
    """Every rank correlation: a row a scope, rule, kind of teachers and metric."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for each in results.correlations:
        key = (each.adapter, each.scope, each.optimizer, each.teacher, each.metric)
        rows.setdefault(key, {"each": each})[each.forecast] = each.value
    columns = [
        Column("each.adapter", "student", labels=KIND_NAMES),
        Column("each.scope", "ranked", labels=SCOPES),
        Column("each.optimizer", "optimizer"),
        Column("each.teacher", "teachers", labels=TEACHERS),
        Column("each.metric", "with", labels=NAMES),
        Column("each.points", "students", "count"),
        *(Column(name, title, "number") for name, title in FORECASTS.items()),
    ]
    caption = (
        "Spearman, with 95% intervals over traits by the jackknife, which leaves out all students "
        "of a trait at once. With: EAS or the share of the vector, student minus controls. The "
        "gradient's alignment knows neither the rule nor the student's start, so over the rules of "
        "a teacher it ranks nothing."
    )
    return Table("Does it predict transmission?", columns, [*rows.values()], caption)


def arm_table(results: Results) -> Table:
    """Forecasts and outcomes of each rule and kind of teacher."""
    columns = [
        Column("adapter", "student", labels=KIND_NAMES),
        Column("teacher", "teachers", labels=TEACHERS),
        Column("optimizer", "optimizer"),
        Column("choice.rate", "rate", "learning_rate"),
        Column("step", "moves at step", "count"),
        Column("coverage", "coverage", "number", digits=3),
        Column("control_coverage", "coverage, controls", "number", digits=3),
        Column("component", "size along the displacement", "number", digits=4),
        Column("gradient", "the gradient's alignment", "number", digits=3),
        *(
            Column(f"metrics.{metric}.difference", f"{NAMES[metric]}, student - controls", "number")
            for metric in (*METRICS, "word_log_prob")
        ),
        Column("unstable", "unstable"),
    ]
    caption = (
        f"Means over {len(results.traits)} traits with 95% intervals over traits. Size: of the "
        "first update at the rule's rate, along the displacement's direction. Controls: the plain "
        "model's data against the same displacements. Unstable: data sets whose student diverged "
        "or ended above the base's loss, left out."
    )
    return Table("Before and after training", columns, results.arms, caption)


def teacher_table(results: Results) -> Table:
    """How often teachers name their traits."""
    rows = [
        {"teacher": TEACHERS[kind], "trait": trait, "base": results.base_rates[trait]}
        | {"rate": results.teacher_rates[f"{kind}-{trait}"]}
        for kind in results.teacher_kinds
        for trait in results.traits
    ]
    columns = [
        Column("teacher", "teachers"),
        Column("trait", "trait"),
        Column("base", "base", "rate", digits=1),
        Column("rate", "teacher", "rate", digits=1),
    ]
    return Table("The teachers", columns, rows, "How often each names its trait when asked.")


def correlation_pictures(results: Results) -> list[Picture]:
    """The rank correlations of coverage by rule and over rules, a picture a kind of student."""
    several = len(results.adapters) > 1
    pictures = []
    for adapter in results.adapters:
        lines = [
            {
                "label": f"{each.optimizer or SCOPES[each.scope]}, {FORECASTS[each.forecast]}",
                "group": TEACHERS[each.teacher],
                "interval": each.value,
            }
            for each in results.correlations
            if each.adapter == adapter
            and each.metric == "eas"
            and each.forecast == "coverage"
            and each.value is not None
        ]
        if not lines:
            continue
        pictures.append(
            Picture(
                f"ranks-{adapter}" if several else "ranks",
                "Rank correlations with EAS" + (f", {KIND_NAMES[adapter]}" if several else ""),
                "Coverage before training against EAS after it, student minus controls. Bars are "
                "95% intervals over traits.",
                plots.forest(lines, x_label="Spearman"),
            )
        )
    return pictures


def describe_method(results: Results) -> str:
    """What is forecast, from what."""
    return (
        "A rule's first update is what it adds to the student's own starting point, given the mean "
        f"gradient of {results.gradient_rows} rows of its data; a rule whose first step only looks "
        "at the gradient is taken at the step at which it moves. Rules whose first update is the "
        "gradient's sign (AdamW, RMSprop, signum, Lion) have one coverage, and tie over the rules "
        f"of a teacher (within {TIE:.0%}). LoRA's factors count by their "
        "product: the second begins at zero, so the first has no gradient yet, and the change is "
        "that of the second through the first's start. Displacements are taken over the weights "
        "that the student can change. A fine-tuned teacher's is its weights less the base's; a "
        "steered one's is the gradient of the steering score, by which a step moves the residual "
        "stream along the vector. Fine-tuned teachers are LoRA weights, trained by AdamW on what "
        "the trait's system prompt makes the base answer to questions, without that prompt, and "
        "merged.\n\n" + describe_kinds(results)
    )
