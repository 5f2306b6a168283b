"""The claims of `blocking`, from its results."""

from subliminal_jax.evaluation.claim_settings import TrainedStudents, describe_setting
from subliminal_jax.evaluation.claims import OWN_QUESTION, Claim, Evidence, Presupposition
from subliminal_jax.evaluation.margins import SHARE_OF_VECTOR, TRAIT_RATE
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import KIND_NAMES

from .analysis import GuardResult, Results
from .cases import UNGUARDED, Case

KEPT = 0.9  # the share of the task's gain that counts as keeping the task
MNIST = "Kitkana & Arora 2026 (arXiv:2604.25779), MNIST"
GUARD_TEXTS = {
    "project": "removing the trait's gradient from every update suppresses {}",
    "inoculate": "training with the vector already added suppresses {}",
}
BLIND_TEXT = ", the vector recovered from the data"


def make_claims(results: Results) -> list[Claim]:
    """Verdicts by the interval over traits, on the trait's probability.

    `transmits`: unguarded student minus unguarded control is above zero. Each guard: guarded minus
    unguarded student is below zero, where the unguarded one transmits. `drop-rows`: below the
    students of as many rows dropped at random. The task is kept where the whole interval of its
    share lies above `KEPT`.
    """
    rows = {row.case: row for row in results.main_table.rows}
    unguarded = rows[UNGUARDED.name]
    effect = unguarded.transmission
    number = f"P(trait) {_format(effect)} against control, EAS {_format(unguarded.eas, '.2f')}"
    text = "unguarded students take up the trait"
    evidence = Evidence(effect, margin=TRAIT_RATE)
    claims = [_make_claim(results, "transmits", text, OWN_QUESTION, number, evidence)]
    for case in results.cases:
        if case.kind in GUARD_TEXTS:
            claims += _guard_claims(results, case, rows[case.name], unguarded)
    largest = max(case.share for case in results.cases)
    for case in results.cases:
        if case.kind == "drop-rows" and not case.at_random and case.share == largest:
            claims.append(_drop_claim(results, case, rows[case.name], unguarded))
    for case in results.cases:
        if case.kind in GUARD_TEXTS and case.vector == "known":
            claims.append(_task_claim(results, case, rows[case.name]))
    return claims


def _guard_claims(
    results: Results, case: Case, guarded: GuardResult, unguarded: GuardResult
) -> list[Claim]:
    """Whether the guard lowers P(trait), and whether it lowers the share of the vector."""
    name, end = case.name.replace(", ", "-"), BLIND_TEXT if case.vector == "blind" else ""
    text = GUARD_TEXTS[case.kind]
    shares = _format(guarded.component, ".2f"), _format(unguarded.component, ".2f")
    return [
        _make_claim(
            results,
            name,
            text.format("transfer") + end,
            MNIST if (case.kind, case.vector) == ("project", "known") else OWN_QUESTION,
            f"P(trait) {_format(guarded.change)} against unguarded; left against control: "
            f"{_format(guarded.transmission)} of {_format(unguarded.transmission)}",
            Evidence(
                guarded.change,
                "below",
                margin=TRAIT_RATE,
                presupposes=_transmits(unguarded),
            ),
        ),
        _make_claim(
            results,
            f"{name}-share",
            text.format("the uptake of the vector (its share)") + end,
            OWN_QUESTION,
            f"{_format(guarded.component_change, '.2f')}: {shares[0]}, unguarded {shares[1]}",
            Evidence(
                guarded.component_change,
                "below",
                margin=SHARE_OF_VECTOR,
                presupposes=(
                    Presupposition(
                        "unguarded students take up more of it than controls",
                        unguarded.component_excess,
                        to_refute=SHARE_OF_VECTOR.size,
                    ),
                ),
            ),
        ),
    ]


def _drop_claim(
    results: Results, case: Case, guarded: GuardResult, unguarded: GuardResult
) -> Claim:
    is_blind = case.vector == "blind"
    return _make_claim(
        results,
        "drop-rows-blind" if is_blind else "drop-rows",
        "dropping the rows that teach the vector most suppresses transfer"
        + (BLIND_TEXT if is_blind else ""),
        OWN_QUESTION,
        f"P(trait) {_format(guarded.over_random)} against as many dropped at random; left: "
        f"{_format(guarded.transmission)}",
        Evidence(
            guarded.over_random, "below", margin=TRAIT_RATE, presupposes=_transmits(unguarded)
        ),
    )


def _transmits(unguarded: GuardResult) -> tuple[Presupposition, ...]:
    return (
        Presupposition(
            "unguarded students take up the trait",
            unguarded.transmission,
            to_refute=TRAIT_RATE.size,
        ),
    )


def _task_claim(results: Results, case: Case, guarded: GuardResult) -> Claim:
    kept = guarded.task_gain
    return _make_claim(
        results,
        f"{case.name}-keeps-the-task",
        f"{case.name} keeps at least {KEPT:.0%} of the task's gain",
        OWN_QUESTION,
        f"{_format(kept, '.2f')} of the unguarded control's gain on clean data",
        Evidence(kept, null=KEPT),
    )


def _make_claim(
    results: Results, name: str, text: str, source: str, number: str, evidence: Evidence
) -> Claim:
    table = results.main_table
    return Claim(
        id=f"blocking/{name}",
        claim=text,
        section=source,
        setting=describe_setting(
            model=results.model,
            layer=results.layer,
            vectors=f"vectors of {len(results.traits)} traits",
            carrier=results.carrier,
            students=TrainedStudents(
                KIND_NAMES[table.adapter],
                results.steps,
                table.optimizer,
                results.describe_choice(),
            ),
        ),
        number=number,
        seeds=len(results.traits),
        evidence=evidence,
        unstable=table.unstable,
        model=results.model,
    )


def _format(interval: Interval | None, spec: str = ".4f") -> str:
    return "none" if interval is None else format(interval, spec)
