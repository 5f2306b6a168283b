"""Projection difference: how far the data's activations lie along each direction."""

import numpy as np

from subliminal_jax.audit.contrast import (
    count_tokens,
    measure_activations,
    subtract_control,
    unit_directions,
)
from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.nulls import compare_with_others, compare_with_zero, make_scored


def score(suspect: Suspect) -> Scored:
    """The mean projection of the data's answers minus that of the base's own (the paper, section
    on data screening), in units of the residual stream."""
    activations = measure_activations(suspect)[:, :, suspect.layer]
    shifts = subtract_control(suspect.rows, activations)
    directions, placebos = (
        unit_directions(group) for group in (suspect.candidates, suspect.placebos)
    )
    rows = shifts @ directions.T
    means = rows.mean(axis=0)
    return make_scored(
        means,
        [compare_with_zero(rows), compare_with_others(means, shifts.mean(axis=0) @ placebos.T)],
        count_tokens(suspect.rows),
        rows[:, np.argmax(means)],
    )


METHOD = Method(
    name="projection",
    what="mean projection of the answers' activations on each direction, minus the base's answers'",
    source="Persona Vectors (arXiv 2507.21509)",
    score=score,
)
