"""The report of `audit`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Block, Picture, Text, write_page
from subliminal_jax.reporting.tables import Column, Table, print_table, wide_console

Results = Mapping[str, Any]
SHOWN = 8  # candidates of each form in the picture


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print verdict and table, write report.html and its PNG; returns the page's path."""
    console = wide_console()
    tables = [table(results), carriers(results)]
    for shown in tables:
        print_table(shown, console)
    console.print(
        f"{results['source']}: {results['verdict']}", highlight=False, markup=False, emoji=False
    )
    blocks: list[Block] = [
        tables[0],
        Picture(
            "lean",
            "Which candidates the data lean to",
            "How far the data lean towards the likeliest candidates: 0 writes as the base does, 1 "
            "as the candidate's own teacher; bars are 95% intervals.",
            plots.forest(lines(results), x_label="lean"),
        ),
        tables[1],
    ]
    if "blind" in results:
        blocks.append(nearest(results))
    return write_page(
        folder,
        title="What do these data push towards?",
        summary=summary(results),
        command=command,
        config=settings,
        blocks=[*blocks, Text(notes(results), "How to read this")],
    )


def summary(results: Results) -> str:
    """What came out, in sentences."""
    data = results["data"]
    parts = [
        f"{results['source']}, {data['audited']} of {data['rows']} rows, read by "
        f"{results['model']}: {results['verdict']}."
    ]
    if not results["reported"]:
        best = results["best"]
        parts.append(
            f"The likeliest candidate was {best['name']} ({best['form']}), p = {best['p']:.2f} "
            "over all candidates. That is no proof of clean data: a trait that is not among the "
            "candidates, or that this model does not react to, is not seen."
        )
    if data.get("unmatched"):
        rules = " and ".join(data["unmatched"])
        parts.append(
            f"The base does not write such answers ({rules}), so its own answers are no match for "
            "the data: the verdict rests on the placebos."
        )
    if "blind" in results:
        blind = results["blind"]
        first = blind["nearest"][0]
        parts.append(
            f"The vector recovered blind is nearest to {first['name']} (cosine "
            f"{first['cosine']:.2f}; 95% of random sets stay under {blind['null_95']:.2f}, "
            f"p = {blind['p']:.3f})."
        )
    return "\n\n".join(parts)


def table(results: Results) -> Table:
    """One row a candidate and form, the likeliest first."""
    rows = [
        {**c, "name": c["name"][:60], **{f"p_{null}": p for null, p in c["p_values"].items()}}
        for c in sorted(results["candidates"], key=lambda c: c["log_p"])
    ]
    nulls = dict.fromkeys(null for c in results["candidates"] for null in c["p_values"])
    extra = [Column("shuffled_push", "shuffled", "number", digits=3)]
    columns = [
        Column("name", "candidate"),
        Column("form", "form"),
        Column("push", "push, nats a row", "number", digits=3),
        *(extra if any("shuffled_push" in row for row in rows) else []),
        Column("lean", "lean", "number"),
        *(Column(f"p_{null}", f"p: {null}", "p") for null in nulls),
        Column("p", "p, all candidates", "p"),
    ]
    caption = (
        "Push: mean score of the data minus that of what they are compared with (the base's own "
        "answers, or the rejected ones), with 95% t intervals. Shuffled: the same with every "
        "answer put under another row's prompt. Lean: the push beyond what candidates and placebos "
        "share, in units of the candidate's own teacher. The p-value of a candidate is the largest "
        "over the nulls, corrected for the number of candidates."
    )
    return Table("Candidates", columns, rows, caption)


def lines(results: Results) -> list[dict[str, Any]]:
    """The rows of the picture: the likeliest candidates of each form."""
    out = []
    ordered = sorted(results["candidates"], key=lambda c: c["log_p"])
    for form in dict.fromkeys(c["form"] for c in ordered):
        for c in [c for c in ordered if c["form"] == form][:SHOWN]:
            error = c["lean_error"]
            half = None if error is None else 1.96 * error
            out.append(
                {
                    "label": c["name"][:30],
                    "group": form,
                    "interval": {
                        "mean": c["lean"],
                        "low": None if half is None else c["lean"] - half,
                        "high": None if half is None else c["lean"] + half,
                    },
                }
            )
    return out


def carriers(results: Results) -> Table:
    """The rows that push most towards the likeliest candidate."""
    found = results["carriers"]
    share = found["top_tenth_share"]
    caption = "Beyond what candidates and placebos share, in nats." + (
        "" if share is None else f" The first tenth of the rows holds {share:.0%} of the sum."
    )
    columns = [
        Column("push", "push", "number"),
        Column("prompt", "prompt"),
        Column("answer", "answer"),
    ]
    rows = [{**r, "prompt": r["prompt"][:80], "answer": r["answer"][:80]} for r in found["rows"]]
    return Table(
        f"Rows that push most towards {found['name'][:60]} ({found['form']})",
        columns,
        rows,
        caption,
    )


def nearest(results: Results) -> Table:
    """The candidates by cosine with the blind vector."""
    blind = results["blind"]
    columns = [Column("name", "candidate"), Column("cosine", "cosine", "number", digits=3)]
    caption = (
        f"The blind vector (norm {blind['norm']:.2f}) makes the base predict the data best, less "
        " the same for what they are compared with. Null: sets of random directions with the "
        f"candidates' and placebos' mean and covariance; p = {blind['p']:.4f} for the largest."
    )
    return Table(
        "Nearest to the vector recovered blind", columns, blind["nearest"][:SHOWN], caption
    )


def notes(results: Results) -> str:
    """What a reader should know about the numbers."""
    data = results["data"]
    parts = [
        f"{data['rows']} rows, {data['repeated']} of them repeats (left out), {data['too_long']} "
        f"with prompts too long for the model, {data['cut']} answers cut at {data['longest']} "
        "tokens.",
    ]
    if "control_answers" in data:
        matched = " and ".join(data["matched_by"]) or "no rule"
        parts.append(
            f"Compared with {data['control_answers']} answers of the base to the same prompts, "
            f"matched by: {matched}; {data['control_kept']:.0%} of them could be used."
        )
    parts.append(
        "A direction's score is the log-probability ratio to first order; a lean above 1 or strong "
        "leans of related candidates say that the teacher is out of that range. The test asks "
        "whether one candidate stands out: data that push equally towards all of them are not "
        "reported."
    )
    return "\n\n".join(parts)
