"""Concept influence: what a step of gradient descent on the rows adds along each direction."""

import numpy as np

from subliminal_jax.audit.contrast import count_tokens, unit_directions
from subliminal_jax.audit.influence import (
    attribute_rows,
    count_probe_tokens,
    make_blocks,
    make_data_probe,
    measure_influence,
)
from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.nulls import compare_with_others, compare_with_zero, make_scored


def score_by(suspect: Suspect, *, by_adam: bool) -> Scored:
    """Influence of the mean row (minus that of the base's answers) on the steering score of each
    candidate, without the Hessian; rows are attributed to the candidate of the largest."""
    blocks, probe = make_blocks(suspect), make_data_probe(suspect)
    influence = measure_influence(suspect, blocks, probe, by_adam=by_adam)
    directions, placebos = (
        unit_directions(group) for group in (suspect.candidates, suspect.placebos)
    )
    by_block = influence.shifts @ directions.T
    scores = by_block.mean(axis=0)
    best = directions[np.argmax(scores)]
    # A backward pass over the answers, then for the rows' own components one with tangents.
    over_answers = 6 * count_tokens(suspect.rows)
    return make_scored(
        scores,
        [
            compare_with_zero(by_block),
            compare_with_others(scores, influence.shifts.mean(axis=0) @ placebos.T),
        ],
        over_answers + 3 * (len(blocks) + 1) * count_probe_tokens(suspect),
        attribute_rows(suspect, blocks, probe, influence.scales, best),
    )


def score(suspect: Suspect) -> Scored:
    """Influence through plain gradients."""
    return score_by(suspect, by_adam=False)


METHOD = Method(
    name="concept-influence",
    what="first-order influence of the rows on each direction's score, by plain gradients",
    source="Concept Influence (arXiv 2602.14869)",
    score=score,
)
