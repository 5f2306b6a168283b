"""What papers say of AdamW and SGD, held against the arms of `optimizer-mechanics`.

Three kinds of claims, and each says no more than its test: that one arm passes on more than another
(their difference over seeds against zero); that arms do not rescue SGD, or keep up with AdamW (half
of the gap between the two, by the rules of `evaluation.verdicts`); that the two are the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Comparison:
    """A claim that one arm transmits more than another, SGD if no other is named."""

    name: str
    claim: str
    larger: str
    smaller: str = "sgd"
    section: str = BLANK


@dataclass(frozen=True)
class Bound:
    """A claim that no arm differs from a reference arm by half of SGD's gap to AdamW.

    Of several arms the one with the largest mean counts: a choice against the claim.

    Attributes:
      test: of the difference to the reference and the gap: the claim is that it holds of no arm.
    """

    name: str
    claim: str
    arms: tuple[str, ...]
    reference: str = "sgd"
    test: Test = closes
    section: str = BLANK


@dataclass(frozen=True)
class Yardstick:
    """What a comparison is judged by. The claims are about the trait; with a random vector, whose
    trait is incidental, the alignment says more."""

    metric: str
    suffix: str
    words: str


COMPARISONS = (
    Comparison("adamw-over-sgd", "AdamW transmits more than plain SGD at its best rate", "adamw"),
    Comparison("rmsprop", "RMSprop transmits more than plain SGD", "rmsprop"),
    Comparison(
        "frozen-map",
        "SGD with a frozen map of Adam's scales transmits more than plain SGD",
        "frozen-map",
    ),
    Comparison(
        "bottom-frozen",
        "AdamW without the 10% of coordinates with the largest gradients transmits more than plain "
        "SGD",
        "adamw-bottom-frozen",
    ),
    Comparison(
        "flat-rest",
        "SGD with the bottom 10% of Adam's scales and the rest flat transmits more than plain SGD",
        "frozen-map-flat-rest",
    ),
    Comparison(
        "zero-bottom",
        "SGD with the bottom 10% of Adam's scales at zero and the rest flat transmits more than "
        "plain SGD",
        "frozen-map-zero-bottom",
    ),
    Comparison(
        "rotation",
        "In a randomly rotated basis AdamW transmits more than SGD",
        "adamw-rotated",
        "sgd-rotated",
    ),
    Comparison(
        "lora-over-full",
        "LoRA with AdamW transmits more than full weights with AdamW",
        "adamw",
        "adamw-full",
        "Blank et al., figure 7b",
    ),
    Comparison(
        "matched-loss",
        "At one training loss AdamW transmits more than SGD",
        AT_ADAMW,
        AT_SGD,
        "Blank et al., appendix L",
    ),
    Comparison(
        "living-over-frozen",
        "A living statistic transfers more than the same rule with a frozen one",
        "adamw",
        "frozen-map-momentum",
        FENG,
    ),
)
BOUNDS = (
    Bound(
        "momentum",
        "Momentum does not rescue SGD (closes less than half of its gap to AdamW)",
        ("momentum",),
    ),
    Bound(
        "masks-do-not-rescue",
        "Masking or clipping the largest coordinates does not rescue SGD (closes less than half of "
        "its gap to AdamW)",
        (*MASKED, *CLIPPED),
        section=FENG,
    ),
    Bound(
        "a-rates-do-not-rescue",
        "A larger rate for LoRA's A does not rescue SGD (closes less than half of its gap to "
        "AdamW)",
        ("sgd-a-times-3", "sgd-a-times-16", "sgd-a-times-64"),
        section=FENG,
    ),
    Bound(
        "rmsprop-as-adamw",
        "RMSprop transmits as AdamW does (loses less than half of its lead over SGD)",
        ("rmsprop",),
        "adamw",
        falls,
    ),
)
YARDSTICKS = (
    Yardstick("trait_rate", "", " (by trait rate)"),
    Yardstick("eas", "-eas", " (by alignment, EAS)"),
)
METRIC_NAMES = {"trait_rate": "trait rate", "eas": "EAS", "shift_component": "share of vector"}


def make_claims(results: Results) -> list[Claim]:
    """Each comparison twice, by the trait rate and by the alignment; both hold all numbers."""
    claims: list[Claim] = []
    for yardstick in YARDSTICKS:
        claims += _comparison_claims(results, yardstick)
        claims += _bound_claims(results, yardstick)
    eas = difference(results.values["eas"], "adamw", "sgd")
    if eas is not None:
        says = f"SGD at its best rate does as well as AdamW (EAS within {SAME:g})"
        number = describe_difference(results, "adamw", "sgd")
        source = "Nief et al. 2026"
        claims.append(
            _make_claim(results, "sgd-does-as-well", says, source, number, judge_same(eas))
        )
    return claims


def _comparison_claims(results: Results, by: Yardstick) -> Iterator[Claim]:
    for comparison in COMPARISONS:
        larger, smaller = comparison.larger, comparison.smaller
        interval = find_difference(results, by.metric, larger, smaller)
        if interval is not None:
            yield _make_claim(
                results,
                comparison.name + by.suffix,
                comparison.claim + by.words,
                comparison.section,
                describe_difference(results, larger, smaller),
                verdict(interval),
                controls=larger != AT_ADAMW,
            )


def _bound_claims(results: Results, by: Yardstick) -> Iterator[Claim]:
    values = results.values[by.metric]
    lead = describe_difference(results, "adamw", "sgd")
    for bound in BOUNDS:
        reference = bound.reference
        differences = {
            arm: difference(values, arm, reference) for arm in bound.arms if values.get(arm)
        }
        known = {arm: d.mean for arm, d in differences.items() if d is not None}
        if not known:
            continue
        largest = max(known, key=lambda arm, known=known: known[arm])  # type: ignore[misc]
        chosen = f"the largest of {len(known)}: " if len(known) > 1 else ""
        sure = {arm: difference(values, arm, reference, of=len(known)) for arm in known}
        yield _make_claim(
            results,
            bound.name + by.suffix,
            bound.claim + by.words,
            bound.section,
            f"{chosen}{describe_difference(results, largest, reference)}; {lead}",
            judge_by_gap(differences, sure, results.gaps[by.metric], bound.test),
        )


def _make_claim(
    results: Results,
    name: str,
    claim: str,
    section: str,
    number: str,
    outcome: str,
    controls: bool = True,
) -> Claim:
    tested = "LoRA students (no controls)"
    if controls:
        tested = (
            "LoRA students; trait rate: student minus control; EAS and share of vector: students"
        )
    return Claim(
        id=f"optimizer-mechanics/{name}",
        claim=claim,
        section=section,
        setting=f"{results.model}, a vector's teacher, {tested}",
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
    differences = {
        name: find_difference(results, m, first, second) for m, name in METRIC_NAMES.items()
    }
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
