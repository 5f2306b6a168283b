"""The claims of a run, as its page states them and as its command prints them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from subliminal_jax.evaluation.claims import Claim
from subliminal_jax.reporting.tables import Column, Table, print_table


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


def claims_text(claims: Sequence[Mapping[str, Any]]) -> Any:
    """`claims_paragraphs` of claims as dictionaries, as a block of a page."""
    from subliminal_jax.reporting.page import Text

    title = "What the paper claims, and what came out here"
    return Text(claims_paragraphs([Claim(**c) for c in claims]), title)


def print_claims(claims: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print claim, number and verdict on the terminal."""
    print_table(claims_table([Claim(**c) for c in claims]), console)
