"""The claims of a run, as its page states them and as its command prints them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from subliminal_jax.reporting.page import Text
from subliminal_jax.reporting.tables import Column, Table, print_table


def claims_text(claims: Sequence[Mapping[str, Any]]) -> Text:
    """A paragraph a claim: what is claimed and where, our number, the verdict."""
    return Text(
        "\n\n".join(
            f"{c['claim'][:1].upper()}{c['claim'][1:]} ({c['section']}). {c['setting']}: "
            f"{c['number']}, over {c['seeds']} seeds. {c['verdict'].capitalize()}."
            for c in claims
        ),
        "What the paper claims, and what came out here",
    )


def print_claims(claims: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print claim, number and verdict on the terminal."""
    columns = [Column("id", "claim"), Column("number", "our number"), Column("verdict", "verdict")]
    print_table(Table("Claims", columns, claims), console)
