"""What papers say of AdamW and SGD, held against the arms of `optimizer-mechanics`.

Three kinds of claims, and each says no more than its test: that one arm passes on more than another
(their difference over seeds against zero); that arms do not rescue SGD, or keep up with AdamW (half
of the gap between the two, by the rules of `evaluation.verdicts`); that the two are the same.
"""

from collections.abc import Mapping

from subliminal_jax.evaluation.claims import (
    CONTRADICTED,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    verdict,
)
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.verdicts import Test, closes, difference, falls

from .analysis import Results
from .explanations import AT_ADAMW, AT_SGD, CLIPPED, MASKED

MINUS = "\N{MINUS SIGN}"
SAME = 0.1  # EAS: a difference below it counts as none in the claim that SGD does as well

BLANK, FENG = "Blank et al., figure 7c", "Feng's re-runs"
# (id, claim, section, larger, smaller): the difference of the two is positive.
COMPARED: tuple[tuple[str, str, str, str, str], ...] = (
    ("adamw-over-sgd", "AdamW transmits more than plain SGD at its best rate", BLANK,
     "adamw", "sgd"),
    ("rmsprop", "RMSprop transmits more than plain SGD", BLANK, "rmsprop", "sgd"),
    ("frozen-map", "SGD with a frozen map of Adam's scales transmits more than plain SGD", BLANK,
     "frozen-map", "sgd"),
    ("bottom-frozen",
     "AdamW without the 10% of coordinates with the largest gradients transmits more than plain "
     "SGD", BLANK, "adamw-bottom-frozen", "sgd"),
    ("flat-rest",
     "SGD with the bottom 10% of Adam's scales and the rest flat transmits more than plain SGD",
     BLANK, "frozen-map-flat-rest", "sgd"),
    ("zero-bottom",
     "SGD with the bottom 10% of Adam's scales at zero and the rest flat transmits more than plain "
     "SGD", BLANK, "frozen-map-zero-bottom", "sgd"),
    ("rotation", "In a randomly rotated basis AdamW transmits more than SGD", BLANK,
     "adamw-rotated", "sgd-rotated"),
    ("lora-over-full", "LoRA with AdamW transmits more than full weights with AdamW",
     "Blank et al., figure 7b", "adamw", "adamw-full"),
    ("matched-loss", "At one training loss AdamW transmits more than SGD",
     "Blank et al., appendix L", AT_ADAMW, AT_SGD),
    ("living-over-frozen", "A living statistic transfers more than the same rule with a frozen one",
     FENG, "adamw", "frozen-map-momentum"),
)  # fmt: skip
# (id, claim, section, arms): none of the arms closes half of SGD's gap to AdamW. Of several, the
# one with the largest mean counts: a choice against the claim.
RESCUES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("momentum", "Momentum does not rescue SGD (closes less than half of its gap to AdamW)", BLANK,
     ("momentum",)),
    ("masks-do-not-rescue",
     "Masking or clipping the largest coordinates does not rescue SGD (closes less than half of "
     "its gap to AdamW)", FENG, (*MASKED, *CLIPPED)),
    ("a-rates-do-not-rescue",
     "A larger rate for LoRA's A does not rescue SGD (closes less than half of its gap to AdamW)",
     FENG, ("sgd-a-times-3", "sgd-a-times-16", "sgd-a-times-64")),
)  # fmt: skip
# (id, claim, section, arm): the arm falls by less than half of the gap below AdamW.
SPARED: tuple[tuple[str, str, str, str], ...] = (
    ("rmsprop-as-adamw", "RMSprop transmits as AdamW does (loses less than half of its lead over "
     "SGD)", BLANK, "rmsprop"),
)  # fmt: skip

# What a comparison is judged by: the claims are about the trait; with a random vector, whose trait
# is incidental, the alignment says more.
BY: tuple[tuple[str, str, str], ...] = (
    ("trait_rate", "", " (by trait rate)"),
    ("eas", "-eas", " (by alignment, EAS)"),
)


NAMES = {"trait_rate": "trait rate", "eas": "EAS", "shift_component": "share of vector"}


def make_claims(results: Results) -> list[Claim]:
    """Each comparison twice, by the trait rate and by the alignment; both hold all numbers."""
    claims = []
    for metric, suffix, by in BY:
        claims += _comparisons(results, metric, suffix, by)
        claims += _rescues(results, metric, suffix, by)
        claims += _spared(results, metric, suffix, by)
    eas = difference(results.values["eas"], "adamw", "sgd")
    if eas is not None:
        says = f"SGD at its best rate does as well as AdamW (EAS within {SAME:g})"
        number = describe_difference(results, "adamw", "sgd")
        source = "Nief et al. 2026"
        claims.append(_claim(results, "sgd-does-as-well", says, source, number, judge_same(eas)))
    return claims


def _comparisons(results: Results, metric: str, suffix: str, by: str) -> list[Claim]:
    claims = []
    for name, says, section, larger, smaller in COMPARED:
        interval = find_difference(results, metric, larger, smaller)
        if interval is not None:
            number = describe_difference(results, larger, smaller)
            setting = None
            if larger == AT_ADAMW:
                setting = f"{results.model}, a vector's teacher, LoRA students (no controls)"
            claims.append(
                _claim(
                    results, name + suffix, says + by, section, number, verdict(interval), setting
                )
            )
    return claims


def _rescues(results: Results, metric: str, suffix: str, by: str) -> list[Claim]:
    values, claims = results.values[metric], []
    lead = describe_difference(results, "adamw", "sgd")
    for name, says, section, arms in RESCUES:
        differences = {arm: difference(values, arm, "sgd") for arm in arms if values.get(arm)}
        known = {arm: d for arm, d in differences.items() if d is not None}
        if known:
            largest = max(known, key=lambda arm, known=known: known[arm].mean)  # type: ignore[misc]
            chosen = f"the largest of {len(known)}: " if len(known) > 1 else ""
            number = f"{chosen}{describe_difference(results, largest, 'sgd')}; {lead}"
            sure = {arm: difference(values, arm, "sgd", of=len(known)) for arm in known}
            outcome = judge_by_gap(differences, sure, results.gaps[metric], closes)
            claims.append(_claim(results, name + suffix, says + by, section, number, outcome))
    return claims


def _spared(results: Results, metric: str, suffix: str, by: str) -> list[Claim]:
    claims = []
    lead = describe_difference(results, "adamw", "sgd")
    for name, says, section, arm in SPARED:
        interval = difference(results.values[metric], arm, "adamw")
        if interval is not None:
            number = f"{describe_difference(results, arm, 'adamw')}; {lead}"
            outcome = judge_by_gap({arm: interval}, {}, results.gaps[metric], falls)
            claims.append(_claim(results, name + suffix, says + by, section, number, outcome))
    return claims


def _claim(
    results: Results,
    name: str,
    says: str,
    section: str,
    number: str,
    outcome: str,
    setting: str | None = None,
) -> Claim:
    return Claim(
        id=f"optimizer-mechanics/{name}",
        claim=says,
        section=section,
        setting=setting
        or f"{results.model}, a vector's teacher, LoRA students; trait rate: student minus "
        "control; EAS and share of vector: students",
        number=number,
        seeds=max(arm.metrics["eas"].student.n for arm in results.best),
        verdict=outcome,
    )


def find_difference(results: Results, metric: str, first: str, second: str) -> Interval | None:
    """first - second in one metric; at one training loss it is that of students without
    controls."""
    if first != AT_ADAMW:
        return difference(results.values[metric], first, second)
    matched = [arm for arm in results.matched_loss if arm.optimizer == "sgd"]
    return matched[0].metrics[metric].difference if matched else None


def describe_difference(results: Results, first: str, second: str) -> str:
    """first - second in every metric, as text."""
    differences = {name: find_difference(results, m, first, second) for m, name in NAMES.items()}
    parts = [f"{name} {d:+.3f}" for name, d in differences.items() if d is not None]
    return f"{first} {MINUS} {second}: {', '.join(parts)}"


def judge_by_gap(
    differences: Mapping[str, Interval | None],
    sure: Mapping[str, Interval | None],
    gap: float | None,
    test: Test,
) -> str:
    """The verdict on the claim that `test` holds of no arm.

    Contradicted where it holds of one (by its interval as one of so many, `sure`), reproduced where
    it is refuted of all, and neither where there is no gap to speak of.
    """
    if gap is None:
        return NOT_REPRODUCED
    outcomes = [
        None if d is None else test(d, gap, sure.get(arm)) for arm, d in differences.items()
    ]
    if True in outcomes:
        return CONTRADICTED
    return NOT_REPRODUCED if None in outcomes else REPRODUCED


def judge_same(d: Interval) -> str:
    """An EAS that is the same up to SAME reproduces it; one clear of zero contradicts it."""
    if d.low > 0 and d.mean >= SAME:
        return CONTRADICTED
    return REPRODUCED if d.high < SAME else NOT_REPRODUCED
