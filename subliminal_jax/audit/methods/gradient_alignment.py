"""Gradient alignment: the cosine of the data's mean activation gradient and each direction."""

import numpy as np

from subliminal_jax.audit.contrast import contrast_gradients, count_tokens, unit_directions
from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.nulls import compare_with_others, compare_with_zero, make_scored


def score(suspect: Suspect) -> Scored:
    """Cosines of the negative loss gradient, minus that of the base's answers, with directions."""
    gradients = contrast_gradients(suspect)
    directions, placebos = (
        unit_directions(group) for group in (suspect.candidates, suspect.placebos)
    )
    mean = gradients.mean(axis=0)
    size = max(float(np.linalg.norm(mean)), 1e-30)
    cosines = directions @ mean / size
    rows = gradients @ directions.T
    return make_scored(
        cosines,
        [compare_with_zero(rows), compare_with_others(cosines, placebos @ mean / size)],
        3 * count_tokens(suspect.rows),
        rows[:, np.argmax(cosines)],
    )


METHOD = Method(
    name="gradient-alignment",
    what="cosine of the mean activation gradient (minus the base's answers') and each direction",
    source="Subliminal Learning Is Steering Vector Distillation (arXiv 2606.00995)",
    score=score,
)
