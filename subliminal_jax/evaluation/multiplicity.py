"""Verdicts on many claims at once: Holm's correction among the rows of a family."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subliminal_jax.evaluation.claims import Claim
from subliminal_jax.evaluation.p_values import correct_holm


@dataclass(frozen=True)
class CorrectedClaim:
    """A claim among the others of its family (`Claim.family`).

    Attributes:
      verdict: by the corrected p-value; the claim's own where no interval decides.
      p: the corrected p-value; None where there is no interval.
      rows: of the family that have one.
    """

    claim: Claim
    verdict: str
    p: float | None = None
    rows: int = 0


def correct_families(claims: Sequence[Claim]) -> list[CorrectedClaim]:
    """Every claim with the verdict by its p-value, corrected for the rows of its family.

    Rows without an interval test nothing and do not count.
    """
    families: dict[tuple[str, str], list[int]] = {}
    for i, claim in enumerate(claims):
        if _has_interval(claim):
            families.setdefault(claim.family, []).append(i)
    corrected = [CorrectedClaim(claim, claim.verdict) for claim in claims]
    for rows in families.values():
        evidence = [e for i in rows if (e := claims[i].evidence) is not None]
        p_values = correct_holm([each.p_value() for each in evidence])
        for i, each, p in zip(rows, evidence, p_values, strict=True):
            corrected[i] = CorrectedClaim(claims[i], each.judge(p), p, len(rows))
    return corrected


def _has_interval(claim: Claim) -> bool:
    effect = None if claim.evidence is None else claim.evidence.effect
    return effect is not None and bool(np.isfinite([effect.low, effect.high]).all())
