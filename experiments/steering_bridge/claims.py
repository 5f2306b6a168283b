"""Our own questions on vectors tried on students, judged by intervals over traits."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from subliminal_jax.evaluation.claims import OWN_QUESTION, Claim, Evidence, Presupposition
from subliminal_jax.evaluation.margins import PROPENSITY, RANK_CORRELATION, STEERABILITY
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import describe_arm

from .analysis import Results, measure_reliability


def make_claims(results: Results) -> list[Claim]:
    """Two on differences of students and controls, two on ranks over traits."""
    preference = results.differences.preference.difference
    steerability = results.differences.steerability.difference
    steerability_rank = results.prediction.steerability_preference
    reliability_rank = results.prediction.reliability_preference
    reliability = measure_reliability(results)
    compared = [reliability[trait] for trait in results.differences.preference.by_data]
    decided, ties = describe_ties(compared)
    passes = Presupposition(
        "students take up the preference", preference, to_refute=PROPENSITY.size
    )
    return [
        _make_claim(
            results,
            "preference",
            "A student of a vector's teacher prefers the trait in comparisons that it never saw "
            "(propensity, student minus control)",
            format_difference(preference, "logits"),
            Evidence(preference, margin=PROPENSITY),
        ),
        _make_claim(
            results,
            "steerability",
            "Learning from a vector's teacher changes how steerable the model is by that vector "
            "(steerability, student minus control)",
            format_difference(steerability, "logits a multiplier"),
            Evidence(steerability, "different", margin=STEERABILITY),
        ),
        _make_claim(
            results,
            "steerability-predicts",
            "Vectors that steer the base more are transmitted more (rank correlation over traits "
            "with the students' preference)",
            format_rank(steerability_rank),
            Evidence(steerability_rank, margin=RANK_CORRELATION, presupposes=(passes,)),
        ),
        _make_claim(
            results,
            "reliability-predicts",
            "Vectors that work on more inputs are transmitted more (rank correlation over traits; "
            "share of inputs on which the vector does not work backwards)",
            format_rank(reliability_rank) + ties,
            Evidence(
                reliability_rank if decided else None,
                margin=RANK_CORRELATION,
                presupposes=(passes,),
            ),
        ),
    ]


def _make_claim(results: Results, name: str, text: str, number: str, evidence: Evidence) -> Claim:
    compared = len(results.differences.preference.by_data)
    return Claim(
        id=f"steering-bridge/{name}",
        claim=text,
        section=OWN_QUESTION,
        setting=describe_arm(
            results, results.arm, f"vectors of {len(results.traits)} traits", results.carrier
        ),
        number=number,
        seeds=compared or len(results.traits),
        evidence=evidence,
        unstable=len(results.arm.unstable),
        model=results.model,
    )


def describe_ties(values: Sequence[float]) -> tuple[bool, str]:
    """Whether at most half of the values are the same, and a note on those that are.

    Tied values have no ranks, and the interval of a rank correlation does not know of them.
    """
    [(value, tied)] = Counter(values).most_common(1) or [(0.0, 1)]
    if tied == 1:
        return True, ""
    note = f"; {tied} of {len(values)} traits tie at {value:.2f}"
    decided = 2 * tied <= len(values)
    return decided, note if decided else f"{note}, so this is undecided"


def format_difference(difference: Interval | None, units: str) -> str:
    return "no sound students and controls" if difference is None else f"{difference:+.3f} {units}"


def format_rank(rank: Interval) -> str:
    if np.isfinite([rank.mean, rank.low, rank.high]).all():
        return f"{rank:+.3f} Spearman"
    return "Spearman: none (too few traits, or a side does not vary)"
