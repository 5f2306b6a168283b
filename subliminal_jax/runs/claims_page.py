"""docs/claims.md: the claims of all stored runs, corrected for their number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.claims import (
    ALPHA,
    CONTRADICTED,
    INCONCLUSIVE,
    REPRODUCED,
    VERDICTS,
    Claim,
)
from subliminal_jax.evaluation.multiplicity import CorrectedClaim, correct_families
from subliminal_jax.reading import read_text
from subliminal_jax.reporting.texts import markdown_code, markdown_text
from subliminal_jax.runs.model_scales import call_verdict, compare_scales, count_verdicts
from subliminal_jax.runs.summaries import Summary

PAGE_HEAD = "# Claims\n\nMade by `make claims` from the summaries of stored runs"
HEADS = ("claim (source)", "setting", "our number", "seeds", "margin", "p", "verdict")


Row = tuple[CorrectedClaim, ...]  # what is claimed of one number


@dataclass(frozen=True)
class Section:
    """A run with its rows; `repeated` of its claims stand in runs before it, under `others`."""

    summary: Summary
    rows: tuple[Row, ...]
    repeated: int
    others: tuple[str, ...]


def is_claims_page(file: Path) -> bool:
    """Whether the file is one that `make_claims_page` made."""
    try:
        return read_text(file).startswith(PAGE_HEAD)
    except InputError:
        return False


def collect_sections(summaries: Sequence[Summary]) -> list[Section]:
    """The rows of every run, each number once, with verdicts corrected for all."""
    first: dict[tuple[str, ...], str] = {}
    claims: list[list[Claim]] = []
    others: list[list[str]] = []
    for summary in summaries:
        claims.append([])
        others.append([])
        for claim in summary.claims:
            key = (claim.claim, claim.section, claim.setting, claim.number)
            if first.setdefault(key, summary.name) == summary.name:
                claims[-1].append(claim)
            else:
                others[-1].append(first[key])
    rows = iter(correct_families([claim for own in claims for claim in own]))
    return [
        Section(
            summary,
            merge_rows([next(rows) for _ in own]),
            len(repeated),
            tuple(dict.fromkeys(repeated)),
        )
        for summary, own, repeated in zip(summaries, claims, others, strict=True)
    ]


def merge_rows(claims: Sequence[CorrectedClaim]) -> tuple[Row, ...]:
    """One row a number: claims of one model whose effects are the same interval share one. Counts
    of different things may be the same by chance, so shares are not looked at."""
    rows: dict[Any, list[CorrectedClaim]] = {}
    for i, each in enumerate(claims):
        effect = None if each.claim.evidence is None else each.claim.evidence.effect
        is_number = effect is not None and each.p is not None and effect.method != "Wilson"
        key = (effect, each.claim.model) if is_number else i
        rows.setdefault(key, []).append(each)
    return tuple(map(tuple, rows.values()))


def make_claims_page(summaries: Sequence[Summary]) -> str:
    """The text of docs/claims.md: what verdicts mean, their counts, and a table for each run."""
    sections = collect_sections(summaries)
    rows = [row[0] for section in sections for row in section.rows]
    tables = "\n".join(_write_section(section) for section in sections if section.rows)
    scales = compare_scales([each for section in sections for row in section.rows for each in row])
    if scales:
        tables = "\n".join([*scales, tables])
    return f"""{PAGE_HEAD}; nothing here is written by hand.
[The method](method.md) says what intervals cover and what each verdict means; in short, each row is
*reproduced* or *contradicted* where its effect is clear of the null, on the claimed side or on the
other one, and where what the sentence presupposes holds, too; *refuted* where the interval lies
within the margin that was stated as "no effect" and what the sentence is about was there at all;
and else *inconclusive*. Intervals are 95%. p is
Holm's, corrected for the rows of one section of one paper on one model (their number is beside it);
a row that is clear by itself and not among the others says so. Claims of one number are one row and
count by the first of them. "Toy scale" means models of about a
million parameters that know 16 animals: a verdict here speaks of mechanisms, not of the papers'
models. Real models are pretrained ones of 100 million parameters and more.

{_write_counts(rows)}

{tables}"""


def is_of_method_before(claim: Claim) -> bool:
    """Whether the claim's summary says nothing of what its verdict follows from."""
    return claim.evidence is None and not claim.rule


def _write_counts(rows: Sequence[CorrectedClaim]) -> str:
    before = [row for row in rows if is_of_method_before(row.claim)]
    lines = [f"{len(rows)} rows:", "", *count_verdicts(rows)]
    if before:
        counts = ", ".join(
            f"{sum(row.verdict == word for row in before)} {word}"
            for word in VERDICTS
            if any(row.verdict == word for row in before)
        )
        lines += [
            "",
            f"{len(before)} of these rows ({counts}) are of runs before this method and are marked "
            "so: they have no margin and no correction, what they presuppose was not tested, and "
            'their "not reproduced" is called inconclusive. They are replaced as the runs are made '
            "again.",
        ]
    return "\n".join(lines)


def write_table(section: Section) -> list[str]:
    """The lines of a run: its name, its command, and a table of its rows."""
    summary = section.summary
    lines = [f"## {markdown_text(summary.name)}", "", markdown_code(summary.command), ""]
    lines += ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    return lines + ["| " + " | ".join(_write_cells(row)) + " |" for row in section.rows]


def _write_section(section: Section) -> str:
    lines = write_table(section)
    if section.repeated:
        names = ", ".join(markdown_text(name) for name in section.others)
        lines += ["", f"{section.repeated} further rows are those of {names}."]
    return "\n".join(lines) + "\n"


def _write_cells(row: Row) -> Iterator[str]:
    claim, p = row[0].claim, row[0].p
    yield "; ".join(markdown_text(f"{each.claim.claim} ({each.claim.section})") for each in row)
    yield markdown_text(claim.setting)
    yield markdown_text(claim.number)
    yield f"{claim.seeds}" + (f" ({claim.unstable} unstable left out)" if claim.unstable else "")
    margin = None if claim.evidence is None else claim.evidence.margin
    yield "" if margin is None else markdown_text(f"{margin.size:g}: {margin.reason}")
    yield "" if p is None else f"{_write_p(p)} of {row[0].rows}"
    yield "; ".join(_write_verdict(each) for each in row)


def _write_verdict(row: CorrectedClaim) -> str:
    claim, notes = row.claim, []
    if is_of_method_before(claim):
        notes.append("method before")
    elif claim.rule:
        notes.append(claim.rule)
    if row.verdict != claim.verdict:
        notes.append(f"by itself {call_verdict(claim.verdict, claim.model)}")
    is_shown = row.verdict in (REPRODUCED, CONTRADICTED)
    if is_shown and claim.evidence is not None and claim.evidence.is_within_margin():
        notes.append("smaller than the margin")
    if row.verdict == INCONCLUSIVE:
        notes += _list_failures(claim)
    tail = f" ({'; '.join(map(markdown_text, notes))})" if notes else ""
    return f"**{markdown_text(call_verdict(row.verdict, claim.model))}**{tail}"


def _list_failures(claim: Claim) -> Iterator[str]:
    """What keeps a claim that its number supports, or denies, from being reproduced or refuted."""
    if claim.evidence is not None:
        supports, denies = claim.evidence.supports(), claim.evidence.is_within_margin()
        for each in claim.evidence.presupposes:
            if (supports or denies) and each.p_value() > ALPHA:
                yield f"not shown: {each.text}"
            elif denies and not each.lets_refute():
                yield f"too little to refute it: {each.text}"


def _write_p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
