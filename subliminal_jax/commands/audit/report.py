"""The page of `audit`, from its results alone."""

import math
from typing import Any

from subliminal_jax.audit.power import describe_outlook
from subliminal_jax.audit.results import (
    AuditRun,
    BlindVector,
    CandidateResult,
    CleanedData,
    Likelihoods,
    Proposals,
)
from subliminal_jax.audit.sampling import describe_sampling
from subliminal_jax.data.conversations import describe
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Block, Page, Picture, Text
from subliminal_jax.reporting.tables import Column, Table

SHOWN = 8  # candidates of each form in the picture


def make_page(results: AuditRun) -> Page:
    """The candidates, the likeliest of them as a picture, and the rows that carry most."""
    tables = [candidate_table(results), carrier_table(results)]
    if results.likelihoods is not None:
        tables.insert(0, likelihood_table(results.likelihoods))
    if results.proposals is not None:
        tables.insert(0, proposal_table(results.proposals))
    blocks: list[Block] = [
        *tables[:-1],
        Picture(
            "lean",
            "Which candidates the data lean to",
            "How far the data lean towards the likeliest candidates: 0 writes as the base does, 1 "
            "as the candidate's own teacher; bars are 95% intervals.",
            plots.forest(lean_lines(results), x_label="lean"),
        ),
        tables[-1],
    ]
    cleaned_tables = [] if results.cleaned is None else make_cleaned_tables(results.cleaned)
    blocks += cleaned_tables
    if results.blind is not None:
        blocks.append(nearest_table(results.blind))
    return Page(
        title="What do these data push towards?",
        summary=summarise(results),
        blocks=[*blocks, Text(describe_data(results), "How to read this")],
        printed=(*tables, *cleaned_tables, verdict_table(results)),
    )


def summarise(results: AuditRun) -> str:
    """What came out, in sentences."""
    data = results.data
    parts = [
        f"{results.source}, {data.audited} of {data.rows} rows, read by {results.model}: "
        f"{results.verdict}."
    ]
    found = results.likelihoods
    if found is not None and found.foreign:
        parts.append(
            "The rows are less likely under the likeliest candidate's teacher than its own answers "
            "to these prompts are, by more than it explains of them: another model wrote them. "
            "Their likelihood then names nobody; the verdict is that of the score test."
        )
    elif found is not None and found.named is not None:
        best_row, *others = found.candidates
        text = (
            f"The teacher of {best_row.name} makes the rows likelier by {best_row.likelihood:.0f} "
            f"nats than the base does, if it wrote {found.share:.0%} of them"
        )
        if others:
            text += f"; the next candidate's, {others[0].name}'s, by {others[0].likelihood:.0f}"
        parts.append(f"{text}.")
    if results.proposals is not None:
        proposals = results.proposals
        parts.append(
            f"{len(proposals.proposed)} candidates were proposed out of {proposals.screened} words "
            f"of a vocabulary ({proposals.left_out} others are no words of the model): "
            f"{', '.join(word.name for word in proposals.proposed)}. All p-values are corrected "
            "for the whole vocabulary."
        )
    if not results.verdict.startswith("towards"):
        best = results.best
        parts.append(
            f"By the score test the likeliest candidate was {best.name} ({best.form}), p = "
            f"{best.p:.2f} over all candidates. That is no proof of clean data: a trait that is "
            "not among the candidates, or that this model does not react to, is not seen."
        )
    if results.sampling is not None and results.sampling.collapsed:
        parts.append(f"Few answers again and again: {describe_sampling(results.sampling)}.")
    if data.unmatched:
        parts.append(
            f"The base does not write such answers ({' and '.join(data.unmatched)}), so its own "
            "answers are no match for the data: the verdict rests on the placebos."
        )
    if results.cleaned is not None:
        parts.append(summarise_cleaned(results.cleaned))
    if results.blind is not None:
        blind = results.blind
        first = blind.nearest[0]
        parts.append(
            f"The vector recovered blind is nearest to {first.name} (cosine {first.cosine:.2f}; "
            f"95% of random sets stay under {blind.null_95:.2f}, p = {blind.p:.3f})."
        )
    return "\n\n".join(parts)


def verdict_table(results: AuditRun) -> Table:
    """The verdict, as the command prints it."""
    columns = [Column("source", "data"), Column("verdict", "verdict")]
    return Table("Verdict", columns, [results])


def sort_candidates(results: AuditRun) -> list[CandidateResult]:
    """The likeliest first."""
    return sorted(results.candidates, key=lambda c: c.log_p)


def candidate_table(results: AuditRun) -> Table:
    """One row a candidate and form."""
    rows = [
        {
            "name": c.name[:60],
            "form": c.form,
            "push": c.push,
            "shuffled_push": c.shuffled_push,
            "lean": c.lean,
            **{f"p_{null}": p for null, p in c.p_values.items()},
            "p": c.p,
        }
        for c in sort_candidates(results)
    ]
    nulls = dict.fromkeys(null for c in results.candidates for null in c.p_values)
    has_shuffled = any(c.shuffled_push is not None for c in results.candidates)
    shuffled = [Column("shuffled_push", "shuffled", "number", digits=3)]
    columns = [
        Column("name", "candidate"),
        Column("form", "form"),
        Column("push", "push, nats a row", "number", digits=3),
        *(shuffled if has_shuffled else []),
        Column("lean", "lean", "number"),
        *(Column(f"p_{null}", f"p: {null}", "p") for null in nulls),
        Column("p", "p, all candidates", "p"),
    ]
    caption = (
        "Push: mean score of the data minus that of what they are compared with (the base's own "
        "answers, or the rejected ones), with 95% t intervals. Shuffled: the same with every "
        "answer put under another row's prompt. Lean: the push beyond what candidates and placebos "
        "share, in units of the candidate's own teacher. The p-value of a candidate is the largest "
        "over the nulls, corrected for the number of candidates (and of words to choose them from)."
    )
    return Table("Candidates", columns, rows, caption)


def likelihood_table(found: Likelihoods) -> Table:
    """One row a candidate, the likeliest first."""
    columns = [
        Column("name", "candidate"),
        Column("likelihood", "likelihood ratio, nats", "number", digits=1),
        Column("p", "p, all candidates", "p"),
    ]
    caption = (
        "By how much the candidate's teacher (the base with its direction, at the best of four "
        "strengths, or with its system prompt) makes the rows likelier than the base does, at the "
        "best share of the rows that it may have written. The likeliest is tested against the "
        "base's own answers, the others also against the likeliest."
    )
    if found.foreign:
        caption += " Another model wrote these rows: nothing follows from the ratios."
    return Table("Likelihood under each candidate's teacher", columns, found.candidates, caption)


def proposal_table(proposals: Proposals) -> Table:
    """One row a candidate that was proposed."""
    columns = [
        Column("name", "candidate"),
        Column("slope", "slope, standard errors", "number", digits=1),
    ]
    caption = (
        "The words of the vocabulary with the largest mean slope of the rows' log-probability "
        "along their direction, less that of what the rows are compared with."
    )
    return Table("Proposed candidates", columns, proposals.proposed, caption)


def lean_lines(results: AuditRun) -> list[dict[str, Any]]:
    """The rows of the picture: the likeliest candidates of each form."""
    ordered = sort_candidates(results)
    lines = []
    for form in dict.fromkeys(c.form for c in ordered):
        for c in [c for c in ordered if c.form == form][:SHOWN]:
            half = 1.96 * c.lean_error if math.isfinite(c.lean_error) else math.nan
            rows = results.data.audited
            interval = Interval(c.lean, c.lean - half, c.lean + half, rows, 0.95, "normal")
            lines.append({"label": c.name[:30], "group": form, "interval": interval})
    return lines


def carrier_table(results: AuditRun) -> Table:
    """The rows that push most towards the likeliest candidate."""
    carriers = results.carriers
    share = carriers.top_tenth_share
    caption = "Beyond what candidates and placebos share, in nats."
    if share is not None:
        caption += f" The first tenth of the rows holds {share:.0%} of the sum."
    columns = [
        Column("push", "push", "number"),
        Column("prompt", "prompt"),
        Column("answer", "answer"),
    ]
    rows = [
        {"push": row.push, "prompt": row.prompt[:80], "answer": row.answer[:80]}
        for row in carriers.rows
    ]
    title = f"Rows that push most towards {carriers.name[:60]} ({carriers.form})"
    return Table(title, columns, rows, caption)


def summarise_cleaned(cleaned: CleanedData) -> str:
    """How many rows are flagged, and whether the rest was written, in sentences."""
    outcome = f"{cleaned.outcome[:1].upper()}{cleaned.outcome[1:]}."
    if cleaned.named is None:
        return outcome
    text = (
        f"{len(cleaned.flagged)} of {cleaned.rows} rows are flagged: each was written by the "
        f"teacher of {cleaned.named} with a probability of {cleaned.above:g} or more. Of its rows, "
        f"{cleaned.teacher_flagged:.1f} are expected among them and {cleaned.teacher_rest:.1f} "
        f"among the others. {outcome}"
    )
    return f"{text} No students: {cleaned.no_students}." if cleaned.no_students else text


def make_cleaned_tables(cleaned: CleanedData) -> list[Table]:
    """The rows likeliest to be the teacher's, and what students of the rest became."""
    if cleaned.named is None:
        return []
    judged = cleaned.rows - cleaned.unjudged
    caption = (
        f"Row: its line in the file. Of {cleaned.rows} rows, {judged} were judged; the others are "
        "too long or no single question with its answer, and stay."
    )
    columns = [
        Column("number", "row", "count"),
        Column("posterior", "probability", "number", digits=3),
        Column("prompt", "prompt"),
        Column("answer", "answer"),
    ]
    rows = [
        {**vars(row), "prompt": row.prompt[:80], "answer": row.answer[:80]}
        for row in cleaned.highest
    ]
    title = f"Rows that the teacher of {cleaned.named[:60]} most probably wrote"
    tables = [Table(title, columns, rows, caption)]
    if cleaned.students:
        columns = [
            Column("trained_on", "trained on"),
            Column("rows", "rows", "count"),
            Column("rise", "rise, nats", "number"),
            Column("beyond_random", "beyond as many at random, nats", "number"),
        ]
        caption = (
            f"Short LoRA fine-tunes. Rise: of log P({cleaned.named[:60]}) on favourite questions, "
            "over the base, with 95% t intervals over seeds, each another draw of batches. Fewer "
            "rows alone also change a student: what leaving out the flagged ones is worth is the "
            "rest's difference to as many rows at random."
        )
        tables.append(Table("What short students became", columns, cleaned.students, caption))
    return tables


def nearest_table(blind: BlindVector) -> Table:
    """The candidates by cosine with the blind vector."""
    columns = [Column("name", "candidate"), Column("cosine", "cosine", "number", digits=3)]
    caption = (
        f"The blind vector (norm {blind.norm:.2f}) makes the base predict the data best, minus the "
        "same for what they are compared with. Null: sets of random directions with the "
        f"candidates' and placebos' mean and covariance; p = {blind.p:.4f} for the largest."
    )
    return Table("Nearest to the vector recovered blind", columns, blind.nearest[:SHOWN], caption)


def describe_data(results: AuditRun) -> str:
    """What a reader should know about the numbers."""
    data = results.data
    parts = [] if results.outlook is None else [f"{describe_outlook(results.outlook)}."]
    parts.append(
        f"{data.rows} rows, {data.repeated} of them repeats (left out), {data.too_long} with "
        f"prompts too long for the model, {data.cut} answers cut at {data.longest} tokens."
    )
    if data.dropped:
        parts.append(f"Rows of the source that were dropped: {describe(data.dropped)}.")
    if data.control_answers is not None and data.control_kept is not None:
        matched = " and ".join(data.matched_by or ()) or "no rule"
        parts.append(
            f"Compared with {data.control_answers} answers of the base to the same prompts, "
            f"matched by: {matched}; {data.control_kept:.0%} of them could be used."
        )
    if data.control_unwritable:
        parts.append(
            f"{data.control_unwritable} answers of the base are left out: the chat template does "
            "not write them as they are."
        )
    parts.append(
        "A direction's score is the log-probability ratio to first order; a lean above 1 or strong "
        "leans of related candidates say that the teacher is out of that range. The test asks "
        "whether one candidate stands out: data that push equally towards all of them are not "
        "reported."
    )
    parts.append(
        "What it cannot see: traits that are neither a direction nor a system prompt among the "
        "candidates; traits such as sycophancy that show in prompts alone which the data lack; and "
        "what another model's tokenizer writes by other tokens."
    )
    return "\n\n".join(parts)
