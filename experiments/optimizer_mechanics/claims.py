"""What papers say of AdamW and SGD, held against the arms of `optimizer-mechanics`.

Three kinds of claims, and each says no more than its test: that one arm passes on more than another
(their difference over vectors against zero, which takes for granted that the larger one passes
anything on); that arms do not rescue SGD, or keep up with AdamW (half of the gap between the two,
by the rules of `evaluation.verdicts`); that the two are the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from subliminal_jax.evaluation import margins
from subliminal_jax.evaluation.claim_settings import TrainedStudents, describe_setting
from subliminal_jax.evaluation.claims import (
    CONTRADICTED,
    INCONCLUSIVE,
    REPRODUCED,
    Claim,
    Evidence,
    Margin,
    Presupposition,
)
from subliminal_jax.evaluation.excess import METRIC_NAMES, Excess
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.verdicts import Test, closes, difference, falls

from .analysis import Results
from .explanations import CLIPPED, MASKED

MINUS = "\N{MINUS SIGN}"
BLANK, FENG = "Blank et al. 2026, figure 7, c", "Feng 2026, re-runs"
HALF = "half of AdamW's lead over SGD, which has to be clear of zero (evaluation/verdicts.py)"


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
    """What a comparison is judged by, and how small an effect in it counts as none."""

    metric: str
    suffix: str
    words: str
    margin: Margin


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
        "Blank et al. 2026, figure 7, b",
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
    Yardstick("trait_log_prob", "", " (by log P(trait))", margins.LOG_PROB),
    Yardstick("eas", "-eas", " (by alignment, EAS)", margins.EAS),
)


def make_claims(results: Results) -> list[Claim]:
    """Each comparison twice, by log P(trait) and by the alignment; both hold all numbers."""
    values = {metric: results.collect_arms(metric) for metric in METRIC_NAMES}
    writer = _Writer(results, values)
    claims: list[Claim] = []
    for yardstick in YARDSTICKS:
        claims += writer.compare_arms(yardstick)
        claims += writer.bound_arms(yardstick)
    return claims + list(writer.compare_best())


@dataclass(frozen=True)
class _Writer:
    """Writes the rows; `values` are what the arms transmit, by metric."""

    results: Results
    values: Mapping[str, Mapping[str, Excess]]

    def compare_arms(self, by: Yardstick) -> Iterator[Claim]:
        """One arm against another, each minus its controls."""
        for comparison in COMPARISONS:
            larger, smaller = comparison.larger, comparison.smaller
            effect = difference(self.values[by.metric], larger, smaller)
            if effect is None:
                continue
            transmits = Presupposition(
                f"{larger} transmits: student {MINUS} control",
                self.values[by.metric][larger].difference(),
                to_refute=by.margin.size,
            )
            yield self.make_claim(
                comparison.name + by.suffix,
                comparison.claim + by.words,
                comparison.section,
                (larger, smaller),
                self.describe_difference(larger, smaller),
                evidence=Evidence(effect, margin=by.margin, presupposes=(transmits,)),
            )

    def bound_arms(self, by: Yardstick) -> Iterator[Claim]:
        """Arms against half of AdamW's lead."""
        values = self.values[by.metric]
        for bound in BOUNDS:
            reference = bound.reference
            differences = {
                arm: difference(values, arm, reference) for arm in bound.arms if arm in values
            }
            known = {arm: d.mean for arm, d in differences.items() if d is not None}
            if not known:
                continue
            largest = max(known, key=lambda arm, known=known: known[arm])  # type: ignore[misc]
            chosen = f"the largest of {len(known)}: " if len(known) > 1 else ""
            sure = {arm: difference(values, arm, reference, of=len(known)) for arm in known}
            lead = self.describe_difference("adamw", "sgd")
            yield self.make_claim(
                bound.name + by.suffix,
                bound.claim + by.words,
                bound.section,
                (*known, "adamw", "sgd"),
                f"{chosen}{self.describe_difference(largest, reference)}; {lead}",
                outcome=judge_by_gap(differences, sure, self.results.gaps[by.metric], bound.test),
            )

    def compare_best(self) -> Iterator[Claim]:
        """That SGD at its best rate does as well."""
        eas = difference(self.values["eas"], "adamw", "sgd")
        if eas is not None:
            yield self.make_claim(
                "sgd-does-as-well",
                f"SGD at its best rate does as well as AdamW (EAS within {margins.EAS.size:g})",
                "Nief et al. 2026",
                ("adamw", "sgd"),
                self.describe_difference("adamw", "sgd"),
                evidence=Evidence(eas, claimed="same", margin=margins.EAS),
            )

    def make_claim(
        self,
        name: str,
        claim: str,
        section: str,
        arms: tuple[str, ...],
        number: str,
        *,
        evidence: Evidence | None = None,
        outcome: str = "",
    ) -> Claim:
        """One row, with the students of `arms` that it leaves out."""
        results = self.results
        used = [arm for arm in map(results.find_arm, dict.fromkeys(arms)) if arm is not None]
        return Claim(
            id=f"optimizer-mechanics/{name}",
            claim=claim,
            section=section,
            setting=describe_run(results),
            number=number,
            seeds=len(results.traits),
            verdict=outcome,
            evidence=evidence,
            rule="" if evidence is not None else HALF,
            unstable=sum(len(arm.unstable) for arm in used),
            model=results.model,
        )

    def describe_difference(self, first: str, second: str) -> str:
        """first - second in every metric, as text."""
        differences = {
            name: difference(self.values[metric], first, second)
            for metric, name in METRIC_NAMES.items()
        }
        parts = [f"{name} {d:+.3f}" for name, d in differences.items() if d is not None]
        return f"{first} {MINUS} {second}, each minus its controls: {', '.join(parts)}"


def describe_run(results: Results) -> str:
    """What was trained on what, in one line."""
    return describe_setting(
        model=results.model,
        layer=results.layer,
        vectors=f"vectors of {len(results.traits)} traits",
        carrier=results.describe_carrier(),
        students=TrainedStudents(
            adapter=f"LoRA (rank {results.rank})",
            steps=results.steps,
            optimizer=f"each arm in batches of {results.batch_size} rows with "
            f"{results.warmup:.0%} warm-up and {results.schedule} decay",
            rate=f"rates chosen by held-out loss on {len(results.tuning_traits)} other vectors",
        ),
    )


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
        return INCONCLUSIVE
    outcomes = [
        None if d is None else test(d, gap, sure.get(arm)) for arm, d in differences.items()
    ]
    if True in outcomes:
        return CONTRADICTED
    return INCONCLUSIVE if None in outcomes else REPRODUCED
