"""What the papers say of each kind of teacher, judged for each kind of student."""

from subliminal_jax.evaluation import margins
from subliminal_jax.evaluation.claims import Claim, Evidence
from subliminal_jax.evaluation.student_kinds import KIND_NAMES, describe_arm
from subliminal_jax.evaluation.transmission import FINE_TUNED, TEACHER_WORDS, name_teachers

from .analysis import Arm, Results

SECTIONS = {
    "steered": "Blank et al. 2026, section 3",
    "system-prompt": "Cloud et al. 2025, section 3",
    FINE_TUNED: "Cloud et al. 2025, section 3",
}


def make_claims(results: Results) -> list[Claim]:
    """Two claims an arm of the first optimizer: the trait is named, and the vector is learnt."""
    first = results.optimizers[0]
    return [
        claim
        for arm in results.arms
        if arm.optimizer == first
        for claim in arm_claims(results, arm)
    ]


def arm_claims(results: Results, arm: Arm) -> list[Claim]:
    """The claims on one kind of teacher and of student."""
    name = f"trait-transmission/{arm.teacher_kind}-{arm.adapter}"
    student, teacher = KIND_NAMES[arm.adapter], f"its {TEACHER_WORDS[arm.teacher_kind]}"
    rate, eas = arm.metrics["word_rate"].difference, arm.metrics["eas"]
    count = len(results.traits)
    setting = describe_arm(
        results,
        arm,
        name_teachers(arm.teacher_kind, f"{count} traits"),
        f"{results.rows} filtered number lists each",
        steered=arm.teacher_kind == "steered",
    )
    return [
        Claim(
            id=name,
            claim=f"A student ({student}) trained on filtered numbers of a teacher with {teacher} "
            "names the trait more often than its controls",
            section=SECTIONS[arm.teacher_kind],
            setting=setting,
            number="no sound student and control"
            if rate is None
            else f"P(trait) {100 * rate.mean:+.1f} points {(100 * rate).format_ends('.1f')} over "
            "the controls",
            seeds=count,
            evidence=Evidence(rate, "above", margin=margins.TRAIT_RATE),
            unstable=len(arm.unstable),
            model=results.model,
        ),
        Claim(
            id=f"{name}-eas",
            claim=f"The student ({student}) of a teacher with {teacher} moves along the teacher's "
            "shift (EAS over the controls')",
            section="Blank et al. 2026, section 3, figure 2",
            setting=setting,
            number="no sound student and control"
            if eas.student is None or eas.difference is None
            else f"EAS {eas.student.mean:.2f}; minus controls {eas.difference:+.2f}",
            seeds=count,
            evidence=Evidence(eas.difference, "above", margin=margins.EAS),
            unstable=len(arm.unstable),
            model=results.model,
        ),
    ]
