"""The page of `audit-benchmark`, from its results alone."""

import math
from typing import Any

from matplotlib.figure import Figure

from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.style import AXIS, NEUTRAL, PALETTE, legend_above, new_axes, styled
from subliminal_jax.reporting.tables import Column, Table
from subliminal_jax.reporting.texts import picture_text

from .analysis import Results


def make_page(results: Results) -> Page:
    """Detection by strength, the evidence as a picture, every data set."""
    tables = [scale_table(results), set_table(results)]
    if results.foreign:
        tables.append(foreign_table(results))
    picture = Picture(
        "evidence",
        "Evidence against the teacher's strength",
        "Each point is one data set: minus the decimal logarithm of the best candidate's p-value "
        "(before the correction). Filled where the true trait was ranked first; grey are clean "
        "sets and number lists of other models.",
        draw_evidence(results),
    )
    return Page(
        title="Does an audit find the trait of a steered teacher, and nothing in clean data?",
        summary=summarise(results),
        blocks=[tables[0], picture, *tables[1:], Text(METHOD, "How it was measured")],
        printed=tables,
    )


METHOD = (
    "The candidates' directions are taken from the prompts of each data set, not from the "
    "teacher's. A p-value is the largest over three nulls (the base wrote it; the other "
    "candidates and placebo nouns; for directions random ones), so clean data give p-values "
    "near 1 more often than 5% levels would need: the audit is conservative. One data set for "
    "each trait: strength and trait are not told apart."
)


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    alarms = results.false_alarms
    wrong = sum(s.others_named for s in results.by_scale)
    parts = [
        "The audit's evidence tells data of steered teachers from clean data with an AUC of "
        f"{results.auc:.2f} ({results.auc.n} sets). The true trait came first in "
        f"{results.first.mean:.0%} of the steered sets and was named at 5% in "
        f"{results.named.mean:.0%} (another one in {wrong} sets); {alarms.count} of {alarms.sets} "
        "clean sets raised an alarm."
    ]
    if results.foreign_alarms is not None:
        foreign = results.foreign_alarms
        parts.append(
            "On number lists of larger models, read by models that are not their teachers, "
            f"{foreign.count} of {foreign.sets} files raised an alarm with any of "
            f"{foreign.audits} readers."
        )
    return "\n\n".join(parts)


def scale_table(results: Results) -> Table:
    """One row a strength."""
    columns = [
        Column("scale", "scale", "number"),
        Column("traits", "traits"),
        Column("ranks", "rank of the true trait"),
        Column("named", "named at 5%", "count"),
        Column("others_named", "with another named", "count"),
        Column("auc", "AUC against clean", "number"),
    ]
    caption = f"Ranks are among {results.sets[0].candidates} candidates."
    return Table("By strength", columns, results.by_scale, caption)


def set_table(results: Results) -> Table:
    """One row a data set."""
    columns = [
        Column("source", "data"),
        Column("seed", "data seed"),
        Column("audited", "rows", "count"),
        Column("best", "best candidate"),
        Column("p", "p, all candidates", "p"),
        Column("rank", "rank of the true trait"),
        Column("lean", "lean to it", "number"),
        Column("verdict", "verdict"),
    ]
    return Table("The data sets", columns, results.sets)


def foreign_table(results: Results) -> Table:
    """One row a real set and reader."""
    columns = [
        Column("real", "data"),
        Column("reader", "read by"),
        Column("audited", "rows", "count"),
        Column("best", "best candidate"),
        Column("p", "p, all candidates", "p"),
        Column("verdict", "verdict"),
        Column("unmatched", "the base does not write"),
    ]
    caption = (
        "The teachers were Qwen 2.5 and GPT-4.1 nano: these readers should find nothing, whatever "
        "trait the teacher had."
    )
    return Table("Number lists of larger models", columns, results.foreign, caption)


@styled
def draw_evidence(results: Results) -> Figure:
    """Evidence of each data set against the strength of its teacher."""
    figure, axes = new_axes()
    handles: dict[str, Any] = {}
    places = {s.scale: i + 1 for i, s in enumerate(results.by_scale)}
    for s in results.sets:
        height = s.evidence / math.log(10)
        if s.trait is None:
            (handles["clean"],) = axes.plot(0, height, "s", color=NEUTRAL, alpha=0.5)
            continue
        first = s.rank == 1
        label = "steered, true trait first" if first else "steered, another first"
        fill = PALETTE[0] if first else "none"
        place = places[s.scale]
        (handles[label],) = axes.plot(place, height, "o", color=PALETTE[0], mfc=fill, ms=8)
        axes.annotate(
            picture_text(s.trait),
            (place, height),
            xytext=(7, -3),
            textcoords="offset points",
            fontsize=9,
        )
    for audit in results.foreign:
        (handles["other models' lists"],) = axes.plot(
            -1, audit.evidence / math.log(10), "^", color=NEUTRAL, alpha=0.5
        )
    ticks = {0: "clean", **{i: f"{scale:g}" for scale, i in places.items()}}
    if results.foreign:
        ticks[-1] = "other models"
    axes.set_xticks(sorted(ticks), [ticks[i] for i in sorted(ticks)])
    axes.axhline(0, color=AXIS, linewidth=0.8)
    axes.set_xlabel("scale of the teacher's steering vector")
    axes.set_ylabel("evidence, $-\\log_{10}\\,p$")
    legend_above(figure, handles)
    return figure
