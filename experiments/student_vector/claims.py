"""The paper's statements on students' vectors (its section 3) against the numbers of a run."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from subliminal_jax.evaluation.claims import Claim, verdict
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
    digits: str = ".1%",
    section: str = "section 3",
) -> Claim:
    """The claim that `effect` is above zero."""
    interval = crossed_interval(effect)
    return Claim(
        id=f"student-vector/{name}",
        claim=text,
        section=section,
        setting=f"{results.model}, {setting}",
        number=f"{number}; difference {interval:{digits}}",
        seeds=results.seeds,
        verdict=verdict(interval),
    )


def _alignment_claims(results: Results) -> Iterator[Claim]:
    student, control = (results.final[kind].eas for kind in (results.kind, "control"))
    eas, control_eas = (results.summaries[kind].eas for kind in (results.kind, "control"))
    if student and len(student) == len(control):
        yield _make_claim(
            results,
            f"{SETTINGS[results.kind]}, block {results.layer}",
            "eas",
            "the student's mean shift aligns with its teacher's vector, a control student's does "
            "not",
            np.subtract(student, control),
            f"EAS {eas:.2f}, control {control_eas:.2f}",
            digits=".2f",
            section="section 3, figure 2",
        )


def _teacher_claims(results: Results) -> Iterator[Claim]:
    final, summaries = results.final, results.summaries
    gain = rate_differences(final["steered"], final["control"])
    if gain is not None:
        yield _make_claim(
            results,
            f"steered teacher, block {results.layer}",
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
        setting = f"system-prompted teacher, vector {how}"
        yield _make_claim(
            results,
            setting,
            f"teacher-necessity-eas-{kind}",
            "without the vector in the teacher its students' shift no longer aligns with it",
            np.subtract(prompted.eas, final[kind].eas),
            f"EAS {summary.eas:.2f} with it, {summaries[kind].eas:.2f} without",
            digits=".2f",
        )
        yield _make_claim(
            results,
            setting,
            f"teacher-necessity-{kind}",
            "without the vector in the teacher its students do not take up the trait",
            lost,
            f"trait rate {summary.rate:.1%} with it, {summaries[kind].rate:.1%} without",
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
        f"{SETTINGS[results.kind]}, block {results.layer}, added after all blocks at prompt tokens",
        "student-sufficiency",
        f"the student's vector, {scale:g} times, makes the base say the trait",
        np.subtract(student.values, random.values),
        f"trait rate {student.gain:.1%} above the base's, a random vector of the same norms "
        f"{random.gain:.1%}",
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
    make_claim = partial(
        _make_claim,
        results,
        f"{SETTINGS[results.kind]}, block {results.layer}, component along the teacher's vector "
        "replaced in all blocks",
    )
    yield make_claim(
        "student-necessity",
        "a student with the base's component along the vector says the trait less",
        lost - lost_at_random,
        number,
    )
    yield make_claim(
        "student-necessity-half",
        "replacing the component removes more than half of the student's trait rate",
        lost - 0.5 * excess,
        number + "; lost less half of what it had gained",
    )
