"""Toy and real models in the table of claims: how a verdict is called, and both side by side."""

from collections.abc import Iterator, Sequence

from subliminal_jax.evaluation.claims import REPRODUCED, VERDICTS
from subliminal_jax.evaluation.multiplicity import CorrectedClaim
from subliminal_jax.models.places import SHIPPED_MODELS
from subliminal_jax.reporting.texts import markdown_text

# Of a million parameters or less, by how claims name them; and what is no language model.
TOYS = (*SHIPPED_MODELS, "tinystories-656k", "exact toy", "MLP")
REPRODUCED_REAL = "reproduced on a real model"


def is_real(model: str) -> bool:
    """Whether one of the models that a claim names ("A and B") is no toy."""
    names = [name.rpartition("/")[2] for name in model.split(" and ")]
    return any(name and not name.startswith(TOYS) for name in names)


def call_verdict(verdict: str, model: str) -> str:
    """A verdict on a model, in words."""
    return REPRODUCED_REAL if verdict == REPRODUCED and is_real(model) else verdict


def count_verdicts(rows: Sequence[CorrectedClaim]) -> list[str]:
    """The lines of a table of rows by verdict; toy and real models apart, where there are both."""
    real = [row for row in rows if is_real(row.claim.model)]
    if not real:
        counts = [f"| {word} | {sum(row.verdict == word for row in rows)} |" for word in VERDICTS]
        return ["| verdict | rows |", "|---|---|", *counts]
    lines = ["| verdict | toy models | real models |", "|---|---|---|"]
    for word in VERDICTS:
        every, of_real = (sum(row.verdict == word for row in some) for some in (rows, real))
        name = "reproduced" if word == REPRODUCED else word
        lines.append(f"| {name} | {every - of_real} | {of_real} |")
    return lines


def compare_scales(rows: Sequence[CorrectedClaim]) -> list[str]:
    """The lines of a table of the claims that were tested on real models, with what toy models say
    of them; none where no real model was tried."""
    claims = dict.fromkeys(key_claim(row) for row in rows if is_real(row.claim.model))
    if not claims:
        return []
    lines = [
        "## Toy and real models side by side",
        "",
        "Claims that were tested on a real model. Settings, margins and p-values stand in the "
        "tables of the runs.",
        "",
        "| claim (source) | toy models | real models |",
        "|---|---|---|",
    ]
    for claim, section in claims:
        own = [row for row in rows if key_claim(row) == (claim, section)]
        cells = (
            "<br>".join(_write_results(row for row in own if is_real(row.claim.model) is real))
            for real in (False, True)
        )
        lines.append(f"| {markdown_text(f'{claim} ({section})')} | {' | '.join(cells)} |")
    return [*lines, ""]


def key_claim(row: CorrectedClaim) -> tuple[str, str]:
    """What a claim states, and where."""
    return row.claim.claim, row.claim.section


def _write_results(rows: Iterator[CorrectedClaim]) -> Iterator[str]:
    for row in rows:
        model, number = row.claim.model, row.claim.number
        yield f"{markdown_text(f'{model}: {number}:')} **{call_verdict(row.verdict, model)}**"
