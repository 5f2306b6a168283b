"""The paper's statements on students' vectors (its section 3) against the numbers of a run."""

from collections.abc import Iterator

from subliminal_jax.evaluation.claim_settings import TrainedStudents, describe_setting
from subliminal_jax.evaluation.claims import Claim, Evidence, Margin, Presupposition
from subliminal_jax.evaluation.margins import EAS, TRAIT_RATE
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.transmission import FINE_TUNED

from .analysis import WITHOUT_VECTOR, Results, find_gain

SETTINGS = {
    "steered": "steered teacher",
    "system-prompt": "system-prompted teacher",
    FINE_TUNED: "fine-tuned teacher",
}


def make_claims(results: Results) -> list[Claim]:
    """Those on students, on teachers without the vector, and on the two causal tests."""
    return [
        _alignment_claim(results),
        _sufficient_teacher_claim(results),
        *_necessary_teacher_claims(results),
        _sufficiency_claim(results),
        *_necessity_claims(results),
    ]


def _make_claim(
    results: Results,
    setting: str,
    name: str,
    text: str,
    effect: Interval | None,
    number: str,
    *,
    kinds: tuple[str, ...] = (),
    presupposes: tuple[Presupposition, ...] = (),
    digits: str = ".1%",
    margin: Margin = TRAIT_RATE,
    section: str = "section 3",
) -> Claim:
    """The claim that `effect` is above zero; `kinds` are the teachers whose students it is about,
    by default those that are studied in full."""
    arms = [results.arms[kind] for kind in kinds or (results.kind,)]
    choice = arms[0].choice
    rate = "no sound rate" if choice.rate is None else f"{choice.rate:g}"
    chosen = results.describe_choice()
    if results.tuning_traits:
        chosen += f" ({SETTINGS[results.kind]}s)"
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
                results.trained, results.steps, f"{choice.optimizer} {rate}", chosen
            ),
        ),
        number="no sound students to compare"
        if effect is None
        else f"{number}; difference {effect:{digits}}",
        seeds=len(results.traits) if effect is None else effect.n,
        evidence=Evidence(effect, margin=margin, presupposes=presupposes),
        unstable=len({name for arm in arms for name in arm.unstable}),
        model=results.model,
    )


def _format(value: Interval | float | None, digits: str) -> str:
    return "none" if value is None else f"{value:{digits}}"


def _alignment_claim(results: Results) -> Claim:
    eas, control = results.arms[results.kind].metrics["eas"], results.control_eas
    return _make_claim(
        results,
        SETTINGS[results.kind],
        "eas",
        "the student's mean shift aligns with its teacher's vector, a control student's does not",
        eas.difference,
        f"EAS {_format(eas.student, '.2f')}, control {_format(control, '.2f')}",
        presupposes=(
            Presupposition("the student's EAS is above zero", eas.student, to_refute=None),
            Presupposition(
                f"the control's is below {EAS.size:g}",
                None if control is None else -control,
                -EAS.size,
                to_refute=None,
            ),
        ),
        digits=".2f",
        margin=EAS,
        section="section 3, figure 2",
    )


def _sufficient_teacher_claim(results: Results) -> Claim:
    rate = results.arms["steered"].metrics["word_rate"]
    return _make_claim(
        results,
        SETTINGS["steered"],
        "teacher-sufficiency",
        "adding the vector to the teacher suffices for its students to take up the trait",
        rate.difference,
        f"trait rate {_format(rate.student, '.1%')}, control {_format(rate.control, '.1%')}",
        kinds=("steered",),
    )


def _necessary_teacher_claims(results: Results) -> Iterator[Claim]:
    prompted = results.arms["system-prompt"].metrics
    component = sum(results.base_component.values()) / len(results.base_component)
    ways = {
        "projected": f"projected out (the base has {component:.1f} |v| along it)",
        "subtracted": "subtracted",
    }
    for kind in WITHOUT_VECTOR:
        without, lost = results.arms[kind].metrics, results.lost[kind]
        setting, kinds = f"system-prompted teacher, vector {ways[kind]}", ("system-prompt", kind)
        yield _make_claim(
            results,
            setting,
            f"teacher-necessity-eas-{kind}",
            "without the vector in the teacher its students' shift no longer aligns with it",
            lost["eas"],
            f"EAS {_format(prompted['eas'].student, '.2f')} with it, "
            f"{_format(without['eas'].student, '.2f')} without",
            kinds=kinds,
            presupposes=(
                Presupposition(
                    "with the vector they align more than controls",
                    prompted["eas"].difference,
                    to_refute=EAS.size,
                ),
            ),
            digits=".2f",
            margin=EAS,
        )
        yield _make_claim(
            results,
            setting,
            f"teacher-necessity-{kind}",
            "without the vector in the teacher its students do not take up the trait",
            lost["word_rate"],
            f"trait rate {_format(prompted['word_rate'].student, '.1%')} with it, "
            f"{_format(without['word_rate'].student, '.1%')} without",
            kinds=kinds,
            presupposes=(
                Presupposition(
                    "with the vector they name the trait more often than controls",
                    prompted["word_rate"].difference,
                    to_refute=TRAIT_RATE.size,
                ),
            ),
        )


def _sufficiency_claim(results: Results) -> Claim:
    found = (find_gain(results, source) for source in ("student", "random"))
    student, random = (None if gain is None else gain.gain for gain in found)
    return _make_claim(
        results,
        f"{SETTINGS[results.kind]}, the shift added after all blocks at prompt tokens",
        "student-sufficiency",
        f"the student's vector, {results.scales[0]:g} times, makes the base say the trait",
        results.gain_beyond_random,
        f"trait rate {_format(student, '.1%')} above the base's, a random vector of the same norms "
        f"{_format(random, '.1%')}",
        presupposes=(Presupposition("it makes the base say the trait", student, to_refute=None),),
    )


def _necessity_claims(results: Results) -> Iterator[Claim]:
    excess = results.arms[results.kind].metrics["word_rate"].difference
    lost, at_random = (results.replacements[name].lost for name in ("teacher", "random"))
    number = (
        f"it loses {_format(lost, '.1%')} of a trait rate {_format(excess, '.1%')} above the "
        f"control's, and {_format(at_random, '.1%')} along a random vector"
    )
    for name, text, effect, end in (
        (
            "student-necessity",
            "a student with the base's component along the vector says the trait less",
            results.lost_beyond_random,
            "",
        ),
        (
            "student-necessity-half",
            "replacing the component removes more than half of the student's trait rate",
            results.lost_beyond_half,
            "; lost less half of what it had gained",
        ),
    ):
        yield _make_claim(
            results,
            f"{SETTINGS[results.kind]}, component along the teacher's vector replaced in all "
            "blocks",
            name,
            text,
            effect,
            number + end,
            presupposes=(
                Presupposition(
                    "students name the trait more than controls", excess, to_refute=TRAIT_RATE.size
                ),
            ),
        )
