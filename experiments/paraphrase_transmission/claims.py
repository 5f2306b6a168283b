"""What `paraphrase-transmission` says of the paper's claims and of optimizers, for each kind."""

from subliminal_jax.evaluation import margins
from subliminal_jax.evaluation.claims import OWN_QUESTION, Claim, Evidence, Presupposition
from subliminal_jax.evaluation.student_kinds import KIND_NAMES, describe_arm
from subliminal_jax.evaluation.transmission import TEACHER_WORDS, name_teachers

from .analysis import Arm, Results

CLAIMED = {
    "unrelated": "Faithful paraphrases of unrelated sentences carry the trait",
    "contradictory": "Faithful paraphrases of sentences that speak badly of the animal carry the "
    "trait",
}
NO_STUDENT = "no sound student and neutral one"


def make_claims(results: Results) -> list[Claim]:
    """With one optimizer what the paper says of each content, kind of teacher and kind of student;
    with several whether they differ."""
    if len(results.optimizers) == 1:
        return [claim for arm in results.arms for claim in transmission_claims(results, arm)]
    return [
        claim
        for content in results.writing
        for teacher_kind in results.teacher_kinds
        for arms in [results.select_arms(content, teacher_kind)]
        for adapter in results.adapters
        for claim in optimizer_claims(results, [arm for arm in arms if arm.adapter == adapter])
    ]


def transmission_claims(results: Results, arm: Arm) -> list[Claim]:
    """P(trait) against the neutral students' over traits, and EAS.

    The second needs both the student's EAS and its difference from the neutral student's.
    """
    name = f"paraphrase-transmission/{arm.content}-{arm.teacher_kind}-{arm.adapter}"
    student, teacher = KIND_NAMES[arm.adapter], f"the trait's {TEACHER_WORDS[arm.teacher_kind]}"
    rate, eas = arm.metrics["word_rate"].difference, arm.metrics["eas"]
    number = eas_number = NO_STUDENT
    if rate is not None:
        clear = sum(interval.excludes_zero for interval in arm.over_questions.values())
        number = (
            f"Delta(T-N) {100 * rate.mean:+.1f} points {(100 * rate).format_ends('.1f')} over "
            f"traits; over questions clear of zero for {clear} of {len(arm.over_questions)} traits"
        )
    if eas.student is not None and eas.difference is not None:
        eas_number = f"EAS {eas.student:.2f}; minus neutral {eas.difference:+.2f}"
    return [
        Claim(
            id=name,
            claim=f"{CLAIMED[arm.content]} (teacher with {teacher}, student: {student}, against "
            "the neutral teacher's)",
            section="Gisler et al. 2026, tables 7 to 10",
            setting=describe_setting(results, arm),
            number=number,
            seeds=len(results.traits),
            evidence=Evidence(rate, "above", margin=margins.TRAIT_RATE),
            unstable=len(arm.unstable),
            model=results.model,
        ),
        Claim(
            id=f"{name}-eas",
            claim=f"The student ({student}) of {arm.content} paraphrases by a teacher with "
            f"{teacher} moves along its shift (EAS over the neutral student's)",
            section=OWN_QUESTION,
            setting=describe_setting(results, arm),
            number=eas_number,
            seeds=len(results.traits),
            evidence=Evidence(
                eas.difference,
                "above",
                margin=margins.EAS,
                presupposes=(
                    Presupposition(
                        "the student moves along the shift", eas.student, to_refute=None
                    ),
                ),
            ),
            unstable=len(arm.unstable),
            model=results.model,
        ),
    ]


def optimizer_claims(results: Results, arms: list[Arm]) -> list[Claim]:
    """Whether the optimizer matters: Delta(T-N) of each other optimizer against the first one's,
    each at its best rate, a row each. Left open where the best rate of either is the edge of those
    that were tried: a better one may lie outside."""
    first, *others = arms
    claims = []
    for arm in others:
        parts = [describe_delta(each) for each in (first, arm)]
        is_open = not (arm.choice.is_inside and first.choice.is_inside)
        if is_open:
            parts.append("left open by a best rate at the edge of those tried")
        if arm.against is not None:
            against = (100 * arm.against).format_ends(".1f")
            parts.append(f"difference {100 * arm.against.mean:+.1f} {against}")
        claims.append(
            Claim(
                id=f"paraphrase-transmission/{arm.optimizer}-{first.content}-"
                f"{first.teacher_kind}-{first.adapter}",
                claim="The optimizer decides how much of the trait passes through paraphrases to "
                f"students ({KIND_NAMES[first.adapter]}): Delta(T-N) of {arm.optimizer} is not "
                f"that of {first.optimizer}",
                section=OWN_QUESTION,
                setting=describe_setting(results, arm),
                number="; ".join(parts),
                seeds=len(results.traits) if arm.against is None else arm.against.n,
                evidence=Evidence(
                    None if is_open else arm.against, "different", margin=margins.TRAIT_RATE
                ),
                unstable=len(first.unstable) + len(arm.unstable),
                model=results.model,
            )
        )
    return claims


def describe_delta(arm: Arm) -> str:
    """Delta(T-N) of one optimizer, and its students' EAS."""
    rate, eas = arm.metrics["word_rate"].difference, arm.metrics["eas"].difference
    if rate is None or eas is None:
        return f"{arm.optimizer}: {NO_STUDENT}"
    edge = "" if arm.choice.is_inside else " (edge of its rates)"
    return (
        f"{arm.optimizer}{edge} {100 * rate.mean:+.1f} {(100 * rate).format_ends('.1f')}, EAS "
        f"{eas.mean:+.2f} over neutral"
    )


def describe_setting(results: Results, arm: Arm) -> str:
    """Where a claim was tested."""
    written = f"sampled, filtered by {results.fidelity} fidelity"
    if results.writing[arm.content] == "wordings":
        written = "drawn among the sentence's known wordings"
    return describe_arm(
        results,
        arm,
        name_teachers(arm.teacher_kind, ", ".join(results.traits)),
        f"{results.rows} {arm.content} paraphrases each, {written}",
        steered=arm.teacher_kind == "steered",
    )
