"""Claims as a section of a page and as a printed table."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from subliminal_jax.evaluation.claims import VERDICTS, Claim
from subliminal_jax.reporting.tables import Column, Table


def describe_claims(claims: Sequence[Claim]) -> dict[str, Any]:
    """The template's variables: each claim with its source, verdict and number, and the counts of
    verdicts in a sentence."""
    counts = ", ".join(
        f"{count} {verdict}"
        for verdict in VERDICTS
        if (count := sum(claim.verdict == verdict for claim in claims))
    )
    described = [
        {
            "verdict": c.verdict.capitalize(),
            "css_class": c.verdict.partition(" ")[0],
            "sentence": f"{c.claim[:1].upper()}{c.claim[1:]} ({c.section}).",
            "number": f"{c.number}, over {c.seeds} seeds. {c.setting}.",
        }
        for c in claims
    ]
    return {"claims": described, "counts": counts}


def claims_table(claims: Sequence[Claim]) -> Table:
    """A table of claims, numbers and verdicts."""
    columns = [Column("id", "claim"), Column("number", "our number"), Column("verdict", "verdict")]
    return Table("Claims", columns, [asdict(c) for c in claims])
