"""Concept influence through the optimizer: gradients divided by Adam's scales."""

from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.methods.concept_influence import score_by


def score(suspect: Suspect) -> Scored:
    """Influence through gradients that Adam's second moments divide."""
    return score_by(suspect, by_adam=True)


METHOD = Method(
    name="concept-influence-adam",
    what="first-order influence of the rows on each direction's score, by gradients as Adam scales",
    source="Concept Influence (arXiv 2602.14869), with Adam's second moments",
    score=score,
)
