"""Chen et al.'s statements on hard and soft labels, and whether students name the trait."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation import margins
from subliminal_jax.evaluation.claim_settings import describe_setting
from subliminal_jax.evaluation.claims import Claim, Evidence, Presupposition
from subliminal_jax.evaluation.metric_ranges import COSINE
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.student_kinds import KIND_NAMES, describe_arm

from .analysis import LABELS, Arm, Results, group_curves, subtract_eas

CHEN = "Chen et al. 2026, abstract"
# Kind of teacher: the ends of the claims' ids, the teacher and its direction in words.
TEACHERS = {
    "steered": ("vector", "a steered teacher", "vector"),
    "system-prompt": ("system-prompt", "a system-prompted teacher", "shift"),
}
SECTIONS = {
    "steered": "Blank et al. 2026, section 3",
    "system-prompt": "Cloud et al. 2025, section 3",
}


def make_claims(results: Results) -> list[Claim]:
    """Of the first optimizer; students' claims for each kind of them."""
    claims: list[Claim] = []
    for teacher in TEACHERS:
        if teacher in results.teacher_kinds:
            for adapter in results.adapters:
                claims += _student_claims(results, teacher, adapter)
            claims += _gradient_claims(results, teacher)
    return claims


def _student_claims(results: Results, teacher: str, adapter: str) -> Iterator[Claim]:
    curves = group_curves(results.arms)
    hard, soft = (
        curves[objective, adapter, results.optimizers[0], teacher]
        for objective in ("cross_entropy", "kl")
    )
    key, name, direction = TEACHERS[teacher]
    few, many = soft[0], hard[-1]
    gain = subtract_eas(few, many)
    aligned = few.metrics["eas"].difference
    number = "no sound student"
    if gain is not None:
        number = f"EAS {gain:+.2f}: KL from {few.rows} rows minus cross-entropy from {many.rows}"
        if aligned is not None:
            number += f"; KL over its controls {aligned:+.2f}"
    yield Claim(
        id=f"objective/few-samples-{key}-{adapter}",
        claim=f"KL to the teacher's distribution recovers {name}'s {direction} from few samples, "
        f"hard labels do not from many more (student: {KIND_NAMES[adapter]})",
        section=CHEN,
        setting=_describe(results, few, "number lists"),
        number=number,
        seeds=len(results.traits),
        evidence=Evidence(
            gain,
            "above",
            margin=margins.EAS,
            presupposes=(Presupposition("KL's students move along it", aligned, to_refute=None),),
        ),
        unstable=len(few.unstable) + len(many.unstable),
        model=results.model,
    )
    for arm in (hard[-1], soft[-1]):
        difference = arm.metrics["word_log_prob"].difference
        yield Claim(
            id=f"objective/names-trait-{arm.objective.replace('_', '-')}-{key}-{adapter}",
            claim=f"A student ({KIND_NAMES[adapter]}) of {LABELS[arm.objective]} on the numbers of "
            f"{name} names the trait more often than its controls",
            section=SECTIONS[teacher],
            setting=_describe(results, arm, f"{arm.rows} number lists"),
            number="no sound student and control"
            if difference is None
            else f"log P(trait) {difference:+.2f} over the controls",
            seeds=len(results.traits),
            evidence=Evidence(difference, "above", margin=margins.LOG_PROB),
            unstable=len(arm.unstable),
            model=results.model,
        )


def _describe(results: Results, arm: Arm, carrier: str) -> str:
    kind = {"steered": "vectors", "system-prompt": "system prompts"}[arm.teacher]
    return describe_arm(
        results,
        arm,
        f"{kind} of {len(results.traits)} traits",
        carrier,
        steered=arm.teacher == "steered",
    )


def _gradient_claims(results: Results, teacher: str) -> list[Claim]:
    key, name, direction = TEACHERS[teacher]
    largest = max(row.n for row in results.gradients)

    def cosines(pair: str) -> Float[np.ndarray, " traits"]:
        """Each trait's cosine over the largest n."""
        (row,) = (
            row
            for row in results.gradients
            if (row.teacher, row.pair, row.n) == (teacher, pair, largest)
        )
        return np.array(row.values)

    hard_soft, hard_v, soft_v = cosines("hard-soft"), cosines("hard-v"), cosines("soft-v")
    soft_fisher = cosines("soft-fisher")
    clip = COSINE.difference().clip
    collinear = clip(vector_interval(hard_soft - np.maximum(hard_v, soft_v)))
    fisher = clip(vector_interval(soft_fisher - soft_v))
    setting = describe_setting(
        model=results.model,
        layer=results.layer,
        vectors=f"{direction}s of {len(soft_v)} traits",
        carrier=f"mean over {largest} number lists each",
        students=None,
    )
    return [
        Claim(
            id=f"objective/collinear-gradients-{key}",
            claim="The first gradients of hard and soft labels agree more with each other than "
            f"either does with {name}'s {direction}",
            section=CHEN,
            setting=setting,
            number=f"cosines {hard_soft.mean():.2f} against {hard_v.mean():.2f} (hard) and "
            f"{soft_v.mean():.2f} (soft); difference {collinear:+.2f}",
            seeds=len(soft_v),
            evidence=Evidence(collinear, "above", margin=margins.COSINE),
            model=results.model,
        ),
        Claim(
            id=f"objective/fisher-direction-{key}",
            claim=f"The first gradient points to F times {name}'s {direction} rather than to it",
            section=CHEN,
            setting=setting,
            number=f"cosine of the soft gradient {soft_fisher.mean():.2f} with F v, "
            f"{soft_v.mean():.2f} with v; difference {fisher:+.2f}",
            seeds=len(soft_v),
            evidence=Evidence(fisher, "above", margin=margins.COSINE),
            model=results.model,
        ),
    ]
