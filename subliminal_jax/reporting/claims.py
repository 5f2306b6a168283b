"""Claims as paragraphs of a page and as a printed table."""

from collections.abc import Sequence
from dataclasses import asdict

from subliminal_jax.evaluation.claims import Claim
from subliminal_jax.reporting.tables import Column, Table


def claims_paragraphs(claims: Sequence[Claim]) -> str:
    """One paragraph for each claim: the claim and its source, our number, the verdict."""
    return "\n\n".join(
        f"{c.claim[:1].upper()}{c.claim[1:]} ({c.section}). {c.setting}: {c.number}, over "
        f"{c.seeds} seeds. {c.verdict.capitalize()}."
        for c in claims
    )


def claims_table(claims: Sequence[Claim]) -> Table:
    """A table of claims, numbers and verdicts."""
    columns = [Column("id", "claim"), Column("number", "our number"), Column("verdict", "verdict")]
    return Table("Claims", columns, [asdict(c) for c in claims])
