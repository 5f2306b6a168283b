"""Students of a trait's teacher against students of the neutral teacher, question by question.

The paper on paraphrases (Gisler et al. 2026, arXiv 2603.09517, section 4) trains one student of
each and pairs by questions: its interval does not cover other seeds. Both are reported here: the
paired t over questions as in the paper, and a two-way t over seeds and questions.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import (
    Interval,
    PairedDifference,
    crossed_interval,
    mean_interval,
    paired_difference,
)


@dataclass(frozen=True)
class NeutralDifference:
    """Delta(T-N) of one trait: P(trait) of its teacher's students minus the neutral teacher's.

    Attributes:
      trait, neutral: mean over seeds and questions of either.
      over_questions: paired t on each question's mean over seeds, as in the paper.
      over_seeds: paired t on each seed's mean over questions.
      seeds_and_questions: two-way t.
      values: the difference by seed, mean over questions.
    """

    trait: float
    neutral: float
    over_questions: PairedDifference
    over_seeds: PairedDifference
    seeds_and_questions: Interval
    values: tuple[float, ...]


@dataclass(frozen=True)
class PooledDifference:
    """Delta(T-N), mean over traits. `seeds_and_traits` is a two-way t that covers other traits, the
    other intervals are of these traits."""

    over_questions: Interval
    over_seeds: Interval
    seeds_and_questions: Interval
    seeds_and_traits: Interval


def compare_with_neutral(
    trait: Float[np.ndarray, "seeds questions"], neutral: Float[np.ndarray, "seeds questions"]
) -> NeutralDifference:
    """Delta(T-N) of one trait from P(trait) of each student at each question.

    Raises InputError where there is no student or no question.
    """
    if trait.size == 0:
        raise InputError(f"{len(trait)} seeds by {trait.shape[1]} questions: nothing to compare")
    difference = trait - neutral
    return NeutralDifference(
        trait=float(trait.mean()),
        neutral=float(neutral.mean()),
        over_questions=paired_difference(trait.mean(axis=0), neutral.mean(axis=0)),
        over_seeds=paired_difference(trait.mean(axis=1), neutral.mean(axis=1)),
        seeds_and_questions=crossed_interval(difference),
        values=tuple(difference.mean(axis=1).tolist()),
    )


def pool_traits(difference: Float[np.ndarray, "traits seeds questions"]) -> PooledDifference:
    """Delta(T-N) over several traits, from each student's difference at each question."""
    mean = difference.mean(axis=0)
    return PooledDifference(
        over_questions=mean_interval(mean.mean(axis=0)),
        over_seeds=mean_interval(mean.mean(axis=1)),
        seeds_and_questions=crossed_interval(mean),
        seeds_and_traits=crossed_interval(difference.mean(axis=2).T),
    )
