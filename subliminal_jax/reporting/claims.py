"""The claims of a run, as its page states them and as its command prints them."""

from collections.abc import Sequence
from dataclasses import asdict

from subliminal_jax.evaluation.claims import Claim
from subliminal_jax.reporting.tables import Column, Table


def claims_paragraphs(claims: Sequence[Claim]) -> str:
    """A paragraph a claim: what is claimed and where, our number, the verdict."""
    return "\n\n".join(
        f"{c.claim[:1].upper()}{c.claim[1:]} ({c.section}). {c.setting}: {c.number}, over "
        f"{c.seeds} seeds. {c.verdict.capitalize()}."
        for c in claims
    )


def claims_table(claims: Sequence[Claim]) -> Table:
    """Claim, number and verdict."""
    columns = [Column("id", "claim"), Column("number", "our number"), Column("verdict", "verdict")]
    return Table("Claims", columns, [asdict(c) for c in claims])
