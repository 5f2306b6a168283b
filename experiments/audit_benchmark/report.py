"""The report of `audit-benchmark`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from subliminal_jax.reporting.claims import claims_text, print_claims
from subliminal_jax.reporting.page import Picture, Text, write_page
from subliminal_jax.reporting.style import AXIS, NEUTRAL, PALETTE, legend_above, new_axes, styled
from subliminal_jax.reporting.tables import Column, Table, print_table, wide_console

Results = Mapping[str, Any]


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the tables and write report.html and its PNG; returns the page's path."""
    console = wide_console()
    tables = [by_scale(results), sets(results)]
    if results["foreign"]:
        tables.append(foreign(results))
    for shown in tables:
        print_table(shown, console)
    print_claims(results["claims"], console)
    return write_page(
        folder,
        title="Does an audit find the trait of a steered teacher, and nothing in clean data?",
        summary=summary(results),
        command=command,
        config=settings,
        blocks=[
            tables[0],
            Picture(
                "evidence",
                "Evidence against the teacher's strength",
                "Each point is one data set: minus the decimal logarithm of the best candidate's "
                "p-value (before the correction). Filled where the true trait was ranked first; "
                "grey are clean sets and number lists of other models.",
                evidence(results),
            ),
            *tables[1:],
            claims_text(results["claims"]),
            Text(notes(results), "How it was measured"),
        ],
    )


def summary(results: Results) -> str:
    """What came out, in sentences."""
    auc, first, alarms = results["auc"], results["first"], results["false_alarms"]
    wrong = sum(s["others_named"] for s in results["by_scale"])
    parts = [
        "The audit's evidence tells data of steered teachers from clean data with an AUC of "
        f"{auc['mean']:.2f} [{auc['low']:.2f}, {auc['high']:.2f}] ({auc['n']} sets). The true "
        f"trait came first in {first['mean']:.0%} of the steered sets and was named at 5% in "
        f"{results['named']['mean']:.0%} (another one in {wrong} sets); {alarms['count']} of "
        f"{alarms['sets']} clean sets raised an alarm."
    ]
    if results["foreign_alarms"]:
        of = results["foreign_alarms"]
        parts.append(
            f"On number lists of larger models, read by models that are not their teachers, "
            f"{of['count']} of {of['sets']} files raised an alarm with any of {of['audits']} "
            "readers."
        )
    return "\n\n".join(parts)


def by_scale(results: Results) -> Table:
    """One row a strength."""
    rows = [
        {
            **s,
            "traits": ", ".join(s["traits"]),
            "ranks": ", ".join(map(str, s["ranks"])),
        }
        for s in results["by_scale"]
    ]
    columns = [
        Column("scale", "scale", "number"),
        Column("traits", "traits"),
        Column("ranks", "rank of the true trait"),
        Column("named", "named at 5%", "count"),
        Column("others_named", "with another named", "count"),
        Column("auc", "AUC against clean", "number"),
    ]
    n = results["sets"][0]["candidates"]
    return Table("By strength", columns, rows, f"Ranks are among {n} candidates.")


def sets(results: Results) -> Table:
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
    return Table("The data sets", columns, results["sets"])


def foreign(results: Results) -> Table:
    """One row a real set and reader."""
    rows = [{**r, "unmatched": ", ".join(r["unmatched"]) or "-"} for r in results["foreign"]]
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
    return Table("Number lists of larger models", columns, rows, caption)


@styled
def evidence(results: Results) -> Figure:
    """Evidence of each data set against the strength of its teacher."""
    figure, axes = new_axes()
    handles: dict[str, Any] = {}
    at = {s["scale"]: i + 1 for i, s in enumerate(results["by_scale"])}
    for s in results["sets"]:
        height = s["evidence"] / 2.302585
        if s["trait"] is None:
            (handles["clean"],) = axes.plot(0, height, "s", color=NEUTRAL, alpha=0.5)
            continue
        first = s["rank"] == 1
        label = "steered, true trait first" if first else "steered, another first"
        (handles[label],) = axes.plot(
            at[s["scale"]], height, "o", color=PALETTE[0], mfc=PALETTE[0] if first else "none", ms=8
        )
        axes.annotate(
            s["trait"], (at[s["scale"]], height), xytext=(7, -3), textcoords="offset points",
            fontsize=9,
        )  # fmt: skip
    for r in results["foreign"]:
        (handles["other models' lists"],) = axes.plot(
            -1, r["evidence"] / 2.302585, "^", color=NEUTRAL, alpha=0.5
        )
    ticks = {0: "clean", **{i: f"{scale:g}" for scale, i in at.items()}}
    if results["foreign"]:
        ticks[-1] = "other models"
    axes.set_xticks(sorted(ticks), [ticks[i] for i in sorted(ticks)])
    axes.axhline(0, color=AXIS, linewidth=0.8)
    axes.set_xlabel("scale of the teacher's steering vector")
    axes.set_ylabel("evidence, $-\\log_{10}\\,p$")
    legend_above(figure, handles)
    return figure


def notes(results: Results) -> str:
    """What a reader should know about the numbers."""
    return (
        "The candidates' directions are taken from the prompts of each data set, not from the "
        "teacher's. A p-value is the largest over three nulls (the base wrote it; the other "
        "candidates and placebo nouns; for directions random ones), so clean data give p-values "
        "near 1 more often than 5% levels would need: the audit is conservative. One data set for "
        "each trait: strength and trait are not told apart."
    )
