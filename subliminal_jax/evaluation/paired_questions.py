"""A student of the trait's teacher against one of the neutral teacher, question by question.

The paper on paraphrases (Gisler et al. 2026, arXiv 2603.09517, section 4) has one student each and
pairs by questions: its interval says nothing about other seeds. Here both are told apart: the
paired t over questions as in the paper, and a two-way t over seeds and questions.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import (
    crossed_interval,
    mean_interval,
    paired_difference,
)


def against_neutral(
    trait: Float[np.ndarray, "seeds questions"], neutral: Float[np.ndarray, "seeds questions"]
) -> dict[str, Any]:
    """Delta(T-N) of one trait: `over_questions` (paired t on each question's mean over seeds, as in
    the paper), `seeds_and_questions` (two-way t), `over_seeds` (paired t on each seed's
    mean over questions), and the seeds' `values`.

    Raises InputError where there is no student or no question.
    """
    if trait.size == 0:
        raise InputError(f"{len(trait)} seeds by {trait.shape[1]} questions: nothing to compare")
    difference = trait - neutral
    return {
        "trait": float(trait.mean()),
        "neutral": float(neutral.mean()),
        "over_questions": paired_difference(trait.mean(axis=0), neutral.mean(axis=0)).to_dict(),
        "over_seeds": paired_difference(trait.mean(axis=1), neutral.mean(axis=1)).to_dict(),
        "seeds_and_questions": crossed_interval(difference).to_dict(),
        "values": difference.mean(axis=1).tolist(),
    }


def pooled(difference: Float[np.ndarray, "traits seeds questions"]) -> dict[str, Any]:
    """The same of the mean over these traits, and `seeds_and_traits`, a two-way t over seeds
    and traits, which speaks of other traits."""
    mean = difference.mean(axis=0)
    return {
        "over_questions": mean_interval(mean.mean(axis=0)).to_dict(),
        "over_seeds": mean_interval(mean.mean(axis=1)).to_dict(),
        "seeds_and_questions": crossed_interval(mean).to_dict(),
        "seeds_and_traits": crossed_interval(difference.mean(axis=2).T).to_dict(),
    }
