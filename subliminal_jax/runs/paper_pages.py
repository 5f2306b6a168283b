"""docs/papers/: a page for each paper, with its claims, the commands that test them, and verdicts.

They are made from the same rows as docs/claims.md, corrected for the number of all of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.claims import VERDICTS
from subliminal_jax.reading import read_text
from subliminal_jax.reporting.texts import markdown_text
from subliminal_jax.runs.claims_page import Row, Section, collect_sections, write_table
from subliminal_jax.runs.summaries import Summary

MADE = "Made by `make claims` from the summaries of stored runs"
INDEX = "index"


@dataclass(frozen=True)
class Paper:
    """A paper: its page's name, how the source of each of its claims begins ("" of no paper's), its
    title (or "On" and what it is about, where that is not known here), and where it is."""

    name: str
    author: str
    title: str
    source: str


PAPERS = (
    Paper("cloud-2025", "Cloud", "Subliminal Learning", "Cloud et al. 2025, arXiv 2507.14805"),
    Paper(
        "blank-2026",
        "Blank",
        "Subliminal Learning Is Steering Vector Distillation",
        "Blank et al. 2026, arXiv 2606.00995",
    ),
    Paper(
        "chen-2026", "Chen", "On objectives of distillation", "Chen et al. 2026, arXiv 2610.04907"
    ),
    Paper(
        "aden-ali-2026",
        "Aden-Ali",
        "Subliminal Effects in Your Data: A General Mechanism via Log-Linearity",
        "Aden-Ali et al. 2026, arXiv 2602.04863",
    ),
    Paper(
        "gisler-2026",
        "Gisler",
        "You Didn't Have to Say It like That: Subliminal Learning from Faithful Paraphrases",
        "Gisler, He and Qiu 2026, arXiv 2603.09517",
    ),
    Paper(
        "kitkana-2026",
        "Kitkana",
        "Sustained Gradient Alignment Mediates Subliminal Learning in a Multi-Step Setting",
        "Kitkana and Arora 2026, arXiv 2604.25779",
    ),
    Paper(
        "tan-2024",
        "Tan",
        "Analysing the Generalisation and Reliability of Steering Vectors",
        "Tan et al. 2024, arXiv 2407.12404",
    ),
    Paper(
        "schrodi-2025",
        "Schrodi",
        "Towards Understanding Subliminal Learning: When and How Hidden Biases Transfer",
        "Schrodi et al. 2025, arXiv 2509.23886",
    ),
    Paper(
        "nief-2026",
        "Nief",
        "Subliminal Learning is a LoRA Artifact",
        "Nief et al. 2026, arXiv 2606.00831",
    ),
    Paper(
        "kunstner-2024",
        "Kunstner",
        "Heavy-Tailed Class Imbalance and Why Adam Outperforms Gradient Descent on Language Models",
        "Kunstner et al. 2024, arXiv 2402.19449",
    ),
    Paper(
        "brown-2026",
        "Brown",
        "Evil Spectra: How Optimisers can Amplify or Suppress Emergent Misalignment",
        "Brown, Leask and McKinney 2026, arXiv 2606.31591",
    ),
    Paper("feng-2026", "Feng", "On re-runs of the comparison of optimizers", "Feng 2026"),
    Paper("others", "", "Questions of no paper", "our own, and those whose source names no paper"),
)


def make_paper_pages(summaries: Sequence[Summary]) -> dict[str, str]:
    """The text of each page by its name, of `INDEX` and of papers with claims among them."""
    sections = collect_sections(summaries)
    papers = {
        paper: runs
        for paper in PAPERS
        if (runs := [run for section in sections if (run := _select(section, paper)).rows])
    }
    pages = {paper.name: _write_paper(paper, rows) for paper, rows in papers.items()}
    return {INDEX: _write_index(papers), **pages}


def find_paper(section: str) -> Paper:
    """The paper that a claim's source names; the last of `PAPERS` for none."""
    return next(paper for paper in PAPERS if section.startswith(paper.author))


def _select(section: Section, paper: Paper) -> Section:
    """The rows of a run that a paper has a part in."""
    rows = [
        row for row in section.rows if any(find_paper(each.claim.section) is paper for each in row)
    ]
    return replace(section, rows=tuple(rows))


def is_paper_page(file: Path) -> bool:
    """Whether the file is one that `make_paper_pages` made."""
    try:
        return MADE in read_text(file)
    except InputError:
        return False


def _write_index(papers: Mapping[Paper, Sequence[Section]]) -> str:
    lines = [
        "# Papers",
        "",
        f"{MADE}. A page has every claim of a paper that an experiment tests, the commands, and "
        "the verdicts, which the [table of all claims](../claims.md) corrects for their number "
        "([how](../method.md)).",
        "",
        f"| paper | rows | {' | '.join(VERDICTS)} |",
        "|" + "---|" * (2 + len(VERDICTS)),
    ]
    for paper, sections in papers.items():
        counts = _count([row for section in sections for row in section.rows])
        title = f"[{markdown_text(paper.title)}]({paper.name}.md), {markdown_text(paper.source)}"
        lines.append(f"| {title} | {counts.total()} | {_write_counts(counts)} |")
    return "\n".join(lines) + "\n"


def _write_paper(paper: Paper, sections: Sequence[Section]) -> str:
    by_model: dict[str, list[Row]] = {}
    for row in (row for section in sections for row in section.rows):
        by_model.setdefault(row[0].claim.model, []).append(row)
    lines = [
        f"# {markdown_text(paper.title)}",
        "",
        f"{markdown_text(paper.source)}. {MADE}; [how verdicts come about](../method.md).",
        "",
        f"| model | {' | '.join(VERDICTS)} |",
        "|" + "---|" * (1 + len(VERDICTS)),
    ]
    lines += [
        f"| {markdown_text(model) or 'not named (method before)'} | {_write_counts(_count(own))} |"
        for model, own in by_model.items()
    ]
    for section in sections:
        lines += ["", *write_table(section)]
    return "\n".join(lines) + "\n"


def _count(rows: Sequence[Row]) -> Counter[str]:
    """Rows by verdict; a row counts by the first of its claims."""
    return Counter(row[0].verdict for row in rows)


def _write_counts(counts: Counter[str]) -> str:
    return " | ".join(str(counts[verdict]) for verdict in VERDICTS)
