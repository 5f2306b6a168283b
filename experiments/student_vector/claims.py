"""The paper's statements on students' vectors (its section 3) against the numbers of a run."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from subliminal_jax.evaluation.claim_settings import (
    TrainedStudents,
    describe_grids,
    describe_setting,
)
from subliminal_jax.evaluation.claims import Claim, Evidence, Margin, Presupposition
from subliminal_jax.evaluation.margins import EAS, TRAIT_RATE
from subliminal_jax.evaluation.statistics import crossed_interval

from .analysis import Matrix, Results, rate_differences

SETTINGS = {"steered": "steered teacher", "system-prompt": "system-prompted teacher"}


def make_claims(results: Results) -> list[Claim]:
    """A claim of which no seed is left to all traits (students diverged) is left out."""
    return [
        *_alignment_claims(results),
        *_teacher_claims(results),
        *_sufficiency_claims(results),
        *_necessity_claims(results),
    ]


def _make_claim(
    results: Results,
    setting: str,
    name: str,
    text: str,
    effect: Matrix,
    number: str,
    *,
    presupposes: tuple[Presupposition, ...] = (),
    digits: str = ".1%",
    margin: Margin = TRAIT_RATE,
    section: str = "section 3",
) -> Claim:
    """The claim that `effect` is above zero."""
    interval = crossed_interval(effect)
    return Claim(
        id=f"student-vector/{name}",
        claim=text,
        section=f"Blank et al. 2026, {section}",
        setting=describe_setting(
            model=results.model,
            layer=results.layer,
            vectors=f"{setting}, vectors of {len(results.traits)} traits",
            carrier=results.carrier,
            students=TrainedStudents(
                results.trained,
                results.steps,
                f"{results.optimizer} {results.learning_rate:g}",
                describe_grids({results.optimizer: results.grid}),
            ),
        ),
        number=f"{number}; difference {interval:{digits}}",
        seeds=results.seeds,
        evidence=Evidence(interval, margin=margin, presupposes=presupposes),
        model=results.model,
    )


def _alignment_claims(results: Results) -> Iterator[Claim]:
    student, control = (results.final[kind].eas for kind in (results.kind, "control"))
    eas, control_eas = (results.summaries[kind].eas for kind in (results.kind, "control"))
    if student and len(student) == len(control):
        yield _make_claim(
            results,
            SETTINGS[results.kind],
            "eas",
            "the student's mean shift aligns with its teacher's vector, a control student's does "
            "not",
            np.subtract(student, control),
            f"EAS {eas:.2f}, control {control_eas:.2f}",
            presupposes=(
                Presupposition("the student's EAS is above zero", eas),
                Presupposition(
                    f"the control's is below {EAS.size:g}",
                    None if control_eas is None else -control_eas,
                    -EAS.size,
                ),
            ),
            digits=".2f",
            margin=EAS,
            section="section 3, figure 2",
        )


def _teacher_claims(results: Results) -> Iterator[Claim]:
    final, summaries = results.final, results.summaries
    gain = rate_differences(final["steered"], final["control"])
    if gain is not None:
        yield _make_claim(
            results,
            "steered teacher",
            "teacher-sufficiency",
            "adding the vector to the teacher suffices for its students to take up the trait",
            gain,
            f"trait rate {summaries['steered'].rate:.1%}, control {summaries['control'].rate:.1%}",
        )
    prompted, summary = final["system-prompt"], summaries["system-prompt"]
    component = float(np.mean(list(results.base_component.values())))
    for kind, how in (
        ("projected", f"projected out (the base has {component:.1f} |v| along it)"),
        ("subtracted", "subtracted"),
    ):
        lost = rate_differences(prompted, final[kind])
        if lost is None:
            continue
        controls = final["control"]
        has_controls = len(controls.eas) == len(prompted.eas)
        aligned = Presupposition(
            "with the vector they align more than controls",
            crossed_interval(np.subtract(prompted.eas, controls.eas)) if has_controls else None,
        )
        names_trait = Presupposition(
            "with the vector they name the trait more often than controls", summary.difference
        )
        setting = f"system-prompted teacher, vector {how}"
        yield _make_claim(
            results,
            setting,
            f"teacher-necessity-eas-{kind}",
            "without the vector in the teacher its students' shift no longer aligns with it",
            np.subtract(prompted.eas, final[kind].eas),
            f"EAS {summary.eas:.2f} with it, {summaries[kind].eas:.2f} without",
            presupposes=(aligned,),
            digits=".2f",
            margin=EAS,
        )
        yield _make_claim(
            results,
            setting,
            f"teacher-necessity-{kind}",
            "without the vector in the teacher its students do not take up the trait",
            lost,
            f"trait rate {summary.rate:.1%} with it, {summaries[kind].rate:.1%} without",
            presupposes=(names_trait,),
        )


def _sufficiency_claims(results: Results) -> Iterator[Claim]:
    scale = results.sufficiency[0].scale
    student, random = (
        next(
            gain
            for gain in results.sufficiency
            if (gain.read, gain.layers, gain.positions, gain.scale, gain.source)
            == ("last", "all", "prompt", scale, source)
        )
        for source in ("student", "random")
    )
    yield _make_claim(
        results,
        f"{SETTINGS[results.kind]}, the shift added after all blocks at prompt tokens",
        "student-sufficiency",
        f"the student's vector, {scale:g} times, makes the base say the trait",
        np.subtract(student.values, random.values),
        f"trait rate {student.gain:.1%} above the base's, a random vector of the same norms "
        f"{random.gain:.1%}",
        presupposes=(Presupposition("it makes the base say the trait", student.gain),),
    )


def _necessity_claims(results: Results) -> Iterator[Claim]:
    necessity = results.necessity
    lost = np.subtract(necessity.student, necessity.teacher_replaced)
    lost_at_random = np.subtract(necessity.student, necessity.random_replaced)
    excess = np.subtract(necessity.student, necessity.control)
    number = (
        f"it loses {results.replacements['teacher'].lost:.1%} of a trait rate "
        f"{crossed_interval(excess):.1%} above the control's, and "
        f"{results.replacements['random'].lost:.1%} along a random vector"
    )
    names_trait = (
        Presupposition("students name the trait more than controls", crossed_interval(excess)),
    )
    make_claim = partial(
        _make_claim,
        results,
        f"{SETTINGS[results.kind]}, component along the teacher's vector replaced in all blocks",
    )
    yield make_claim(
        "student-necessity",
        "a student with the base's component along the vector says the trait less",
        lost - lost_at_random,
        number,
        presupposes=names_trait,
    )
    yield make_claim(
        "student-necessity-half",
        "replacing the component removes more than half of the student's trait rate",
        lost - 0.5 * excess,
        number + "; lost less half of what it had gained",
        presupposes=names_trait,
    )
