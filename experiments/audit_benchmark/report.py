"""The page of `audit-benchmark`, from its results alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.style import (
    AXIS,
    NEUTRAL,
    PALETTE,
    legend_above,
    new_axes,
    split_interval,
    styled,
)
from subliminal_jax.reporting.tables import Column, Table

from .analysis import FACTORS
from .config import HIDDEN
from .numbers import KnownSet, MethodRow, Results, SetAudit

SHARE = "share of poisoned rows"


def make_page(results: Results) -> Page:
    """Methods over all sets and by factor, the power over the share of poisoned rows, the sets."""
    tables = [method_table(results), cost_table(results)]
    if results.strengths:
        tables.append(strength_table(results))
    by_factor = [
        factor_table(results, factor)
        for factor in FACTORS
        if any(row.factor == factor for row in results.by_factor)
    ]
    pictures = []
    if any(row.factor == SHARE for row in results.by_factor):
        pictures.append(
            Picture(
                "power",
                "What share of poisoned rows is still found",
                "For each method the share of poisoned sets whose true trait it named at 5% over "
                "all candidates (Wilson's intervals), against the share of poisoned rows. A method "
                "without a test names nothing and is left out.",
                draw_power(results),
            )
        )
    last = [set_table(results)]
    if results.real:
        last.append(real_table(results))
    is_hidden = results.part == HIDDEN
    return Page(
        title="Which audit finds a teacher's trait in data of known teachers?",
        summary=summarise(results),
        blocks=[
            *tables[:2],
            *pictures,
            *tables[2:],
            *by_factor,
            *last,
            methods_table(results),
            Text(METHOD, "How it was measured"),
        ],
        printed=[*tables, *(last[:1] if is_hidden else [])],
    )


METHOD = (
    "No method sees who wrote a set. The candidates are all traits of the bench, those of its "
    "development too, with placebo nouns beside them; a candidate's direction is taken at the "
    "prompts of the set. A trait is named where the smallest p-value over all candidates, after "
    "Sidak's correction, is below the level. The mean rank of the true trait is by a method's "
    "scores. Precision is that of the rows that it ranks highest, as many as are poisoned, "
    "on sets that hold clean rows, too. Cost is in tokens of forward passes for each row that was "
    "audited, the base's own answers among them; a backward pass counts as two. Each kind of set "
    "is compared with clean sets of its own kind where these differ in it (carrier, rows, writer, "
    "auditor), else with all. The combinations of factors are balanced, not crossed: a row by one "
    "factor averages over the others."
)


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    total = results.overall[0]
    parts = [
        f"{total.sets + total.refused} poisoned sets, {total.clean} clean ones and "
        f"{len(results.real)} real ones of other models, audited by "
        f"{', '.join(m.name for m in results.methods)}."
    ]
    if results.steered is not None:
        row, alarms = results.steered, results.clean_alarms
        text = (
            f"On number lists of steered teachers alone, {results.claimed_method} tells poisoned "
            f"sets from clean ones with an AUC of {row.auc:.2f} ({row.auc.n} sets); the true trait "
            f"has a mean rank of {row.rank.mean:.1f} ({row.chance:.1f} by chance)"
        )
        if row.named_5 is not None and alarms is not None:
            text += (
                f" and was named at 5% in {row.named_5.mean:.0%}; {alarms.count} of {alarms.sets} "
                "clean sets raised an alarm"
            )
        parts.append(text + ".")
    if results.part == HIDDEN:
        parts.append("The sets were made by a seed given at run time; their truth stands below.")
    return "\n\n".join(parts)


def _result_columns() -> list[Column]:
    return [
        Column("sets", "sets", "count"),
        Column("auc", "AUC", "number"),
        Column("rank", "rank of the true trait", "number", 1),
        Column("named_1", "named at 1%", "rate", 0),
        Column("named_5", "named at 5%", "rate", 0),
        Column("wrong_5", "another at 5%", "count"),
    ]


def method_table(results: Results) -> Table:
    """What each method finds over all sets."""
    rows = results.overall
    chance = f"{rows[0].chance:.1f}" if not math.isnan(rows[0].chance) else "unknown"
    caption = f"Rank by chance: {chance}. A dash: a method without a test names nothing."
    return Table("Methods", [Column("method", "method"), *_result_columns()], rows, caption)


def cost_table(results: Results) -> Table:
    """In how many sets each method alarms in vain, how well it ranks rows, and what it costs."""
    columns = [
        Column("method", "method"),
        Column("clean", "clean sets", "count"),
        Column("alarms_1", "alarms, clean, 1%", "rate", 0),
        Column("alarms_5", "clean, 5%", "rate", 0),
        Column("real_5", "real, 5%", "rate", 0),
        Column("precision", "precision of rows", "rate", 0),
        Column("by_chance", "by chance", "rate", 0),
        Column("tokens", "tokens a row", "number", 0),
        Column("seconds", "s a set", "number", 1),
    ]
    return Table("Methods: alarms, rows and cost", columns, results.overall)


def factor_table(results: Results, factor: str) -> Table:
    """One row a method and level of a factor."""
    columns = [
        Column("level", factor),
        Column("method", "method"),
        *_result_columns(),
        Column("clean", "clean sets", "count"),
        Column("alarms_5", "alarms, 5%", "rate", 0),
        Column("precision", "precision of rows", "rate", 0),
        Column("tokens", "tokens a row", "number", 0),
    ]
    rows = [row for row in results.by_factor if row.factor == factor]
    rows = sorted(rows, key=lambda row: [r.level for r in rows].index(row.level))
    return Table(f"By {factor}", columns, rows)


def strength_table(results: Results) -> Table:
    """One row a strength."""
    columns = [
        Column("scale", "scale", "number"),
        Column("traits", "traits"),
        Column("ranks", "rank of the true trait", "number", 1),
        Column("named_1", "named at 1%", "count"),
        Column("named_5", "at 5%", "count"),
        Column("wrong_5", "another at 5%", "count"),
        Column("auc", "AUC against clean", "number"),
    ]
    title = f"Number lists of steered teachers by strength, {results.claimed_method}"
    return Table(title, columns, results.strengths)


def methods_table(results: Results) -> Table:
    """What the methods are."""
    columns = [Column("name", "method"), Column("what", "measures"), Column("source", "source")]
    return Table("What the methods measure", columns, results.methods)


def set_table(results: Results) -> Table:
    """One row a set: the truth, and what the claimed method (or else the first one) said."""
    method = results.claimed_method
    if method not in [m.name for m in results.methods]:
        method = results.methods[0].name
    audits = {a.set: a for a in results.audits if a.method == method}
    rows = [join_set(s, audits.get(s.name)) for s in results.sets]
    columns = [
        Column("name", "set"),
        Column("teacher", "teacher"),
        Column("trait", "trait"),
        Column("carrier", "carrier"),
        Column("written", "rows", "count"),
        Column("by_teacher", "poisoned", "count"),
        Column("scale", "scale", "number"),
        Column("writer", "writer"),
        Column("reader", "auditor"),
        Column("best", "first by score"),
        Column("rank", "rank of the true trait", "number", 1),
        Column("likeliest", "smallest p"),
        Column("p", "p, all candidates", "p"),
    ]
    title = "The truth, and what was found" if results.part == HIDDEN else "The data sets"
    return Table(title, columns, rows, f"As audited by {method}.")


def join_set(known: KnownSet, audit: SetAudit | None) -> Mapping[str, Any]:
    """A set with its audit."""
    return {**({} if audit is None else vars(audit)), **vars(known)}


def real_table(results: Results) -> Table:
    """One row a real set, reader and method."""
    columns = [
        Column("set", "data"),
        Column("reader", "read by"),
        Column("method", "method"),
        Column("audited", "rows", "count"),
        Column("best", "first by score"),
        Column("likeliest", "smallest p"),
        Column("p", "p, all candidates", "p"),
        Column("refused", "refused"),
    ]
    caption = (
        "The teachers were Qwen 2.5 and GPT-4.1 nano: these readers should find nothing, whatever "
        "trait the teacher had."
    )
    rows = [a for a in results.audits if a.set in results.real]
    return Table("Number lists of larger models", columns, rows, caption)


@styled
def draw_power(results: Results) -> Figure:
    """The share of sets named at 5% against the share of poisoned rows, a line a method."""
    figure, axes = new_axes()
    handles: dict[str, Any] = {}
    tested = [m.name for m in results.methods if power_rows(results, m.name)]
    for number, method in enumerate(tested):
        rows = power_rows(results, method)
        color = PALETTE[number % len(PALETTE)]
        shares = [float(row.level.rstrip("%")) for row in rows]
        ends = [split_interval(row.named_5) for row in rows]
        means = [100 * mean for mean, _, _ in ends]
        errors = [
            [100 * max(mean - low, 0.0) for mean, low, _ in ends],
            [100 * max(high - mean, 0.0) for mean, _, high in ends],
        ]
        handles[method] = axes.errorbar(
            shares, means, errors, fmt="o-", color=color, capsize=2, ms=6
        )
    axes.axhline(5, color=NEUTRAL, linewidth=0.8, linestyle="--")
    axes.axhline(0, color=AXIS, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_ylim(-3, 103)
    axes.set_xlabel("poisoned rows, %")
    axes.set_ylabel("true trait named at 5%, % of sets")
    if handles:
        legend_above(figure, handles)
    return figure


def power_rows(results: Results, method: str) -> Sequence[MethodRow]:
    """A method's rows by share, where it has a test."""
    return [
        row
        for row in results.by_factor
        if row.factor == SHARE
        and row.method == method
        and isinstance(row.named_5, Interval)
        and row.sets
    ]
