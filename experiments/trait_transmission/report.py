"""The page of `trait-transmission`, from its results alone."""

from typing import Any

from subliminal_jax.evaluation.comparison import is_at_edge
from subliminal_jax.evaluation.transmission import name_trait
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.tables import Column, Table, format_learning_rate

from .analysis import Results


def make_page(results: Results) -> Page:
    """Transmission by teacher and by trait, one line of the picture a trait, the data."""
    tables = transmission_table(results), trait_table(results)
    picture = Picture(
        "differences",
        "Student minus control",
        "Each line is one trait and teacher: how much more probable the trait's name is as the "
        "answer of a student than of the control with the same seed; pale points are seeds, bars "
        "95% t intervals.",
        plots.forest(difference_lines(results), x_label="P(trait), student minus control"),
    )
    return Page(
        title="Do students name the trait of a teacher that wrote only numbers?",
        summary=summarise(results),
        blocks=[tables[0], picture, tables[1], Text(describe_data(results), "The data")],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    parts = [
        f"Students of {results.model} ({results.adapter} trained) read number lists of teachers "
        "with a trait's vector or system prompt; controls read the plain model's."
    ]
    for kind, optimizer, grid, result in results.best():
        assert result.rate is not None and result.learning_rate is not None
        effect = result.rate.pooled
        if effect is None:
            parts.append(f"{kind}, {optimizer}: some student diverged, so there is no pooled rate.")
            continue
        clear = "clear of" if effect.excludes_zero else "not clear of"
        parts.append(
            f"{kind}, {optimizer}: the trait's probability is {effect:+.3f} against the control, "
            f"{clear} zero."
        )
        if is_at_edge(result.learning_rate, grid):
            rate = format_learning_rate(result.learning_rate)
            parts[-1] += f" Its best rate, {rate}, is at the edge of the grid."
    return "\n\n".join(parts)


def transmission_table(results: Results) -> Table:
    """One row a teacher and optimizer."""
    columns = [
        Column("kind", "teacher"),
        Column("optimizer", "optimizer"),
        Column("result.learning_rate", "best rate", "learning_rate"),
        Column("grid", "rates tried", "learning_rates"),
        Column("result.rate.pooled", "P(trait), student - control", "number", digits=3),
        Column("result.rate.over_seeds", "of these traits, over seeds", "number", digits=3),
        Column("result.log_prob.pooled", "log P, student - control", "number", digits=2),
        Column("result.specific", "against other traits' students", "number", digits=3),
        Column("result.eas.student", "EAS", "number"),
        Column("result.eas.control", "EAS, control", "number"),
    ]
    caption = (
        f"Over {results.seeds} seeds and all traits, with 95% t intervals over both (two-way); the "
        "second is a t interval over seeds of the mean over these very traits. The rate was chosen "
        "on held-out loss. EAS: cosine with the teacher's shift at the steering layer."
    )
    return Table("Transmission", columns, results.best(), caption)


def trait_table(results: Results) -> Table:
    """One row a trait, teacher and optimizer."""
    rows = [
        {
            "trait": name_trait(name),
            "kind": kind,
            "optimizer": optimizer,
            "base": results.base[name_trait(name)],
            "teacher": results.teachers[name],
            "student": difference.student,
            "control": difference.control,
            "difference": difference.interval,
            "p": difference.p_permutation,
        }
        for kind, optimizer, _, result in results.best()
        if result.rate is not None
        for name, difference in result.rate.traits.items()
    ]
    columns = [
        Column("trait", "trait"),
        Column("kind", "teacher"),
        Column("optimizer", "optimizer"),
        Column("base", "base", "rate", digits=1),
        Column("teacher", "teacher says it", "rate", digits=1),
        Column("student", "student", "rate", digits=1),
        Column("control", "control", "rate", digits=1),
        Column("difference", "student - control", "number", digits=3),
        Column("p", "p (sign flips)", "p"),
    ]
    return Table("By trait", columns, rows, "Differences are paired by seed, with t intervals.")


def difference_lines(results: Results) -> list[dict[str, Any]]:
    """The rows of the picture."""
    several = len(results.grids) > 1
    return [
        {
            "label": name_trait(name) + (f", {optimizer}" if several else ""),
            "group": kind,
            "interval": difference.interval,
            "values": difference.values,
        }
        for kind, optimizer, _, result in results.best()
        if result.rate is not None
        for name, difference in result.rate.traits.items()
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
