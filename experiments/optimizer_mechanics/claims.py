"""What papers say of AdamW and SGD, held against the arms of `optimizer-mechanics`.

Three kinds of claims, and each says no more than its test: that one arm passes on more than another
(their difference over seeds against zero); that arms do not rescue SGD, or keep up with AdamW (half
of the gap between the two, by the rules of `evaluation.verdicts`); that the two are the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.verdicts import (
    Test,
    Values,
    closes,
    difference,
    falls,
    gap_between,
)
from subliminal_jax.runs.claims import claim, verdict

from .explanations import CLIPPED, MASKED

# Direction and size of the students' shift, and what it does: the trait rate minus that of the
# control of the same seed.
JUDGED = ("eas", "shift_component", "trait_rate")
MINUS = "\N{MINUS SIGN}"
AT_ADAMW, AT_SGD = "adamw at sgd's loss", "sgd at that loss"
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


def claims(
    values: Mapping[str, Values], matched: Sequence[Mapping[str, Any]], seeds: int, model: str
) -> list[dict[str, Any]]:
    """Each comparison twice, by the trait rate and by the alignment; both rows hold all numbers.

    Args:
      values: metric -> arm -> seed -> value; the trait rate is student minus control.
      matched: rows of arms that were held against AdamW at one training loss, of which that of
        "sgd" has the differences (AdamW minus SGD) of students without controls.
      model: its name.
    """
    rows = []
    setting = (
        f"{model}, a vector's teacher, LoRA students; trait rate: student minus control; EAS and "
        "share of vector: students"
    )

    def add(id: str, says: str, section: str, number: str, verdict: str, of: str = setting) -> None:
        rows.append(claim(f"optimizer_mechanics/{id}", says, section, of, number, seeds, verdict))

    def text(first: str, second: str) -> str:
        found = {m: _difference(values, matched, m, first, second) for m in JUDGED}
        return f"{first} {MINUS} {second}: {_numbers(found)}"

    for metric, suffix, by in BY:
        gap = gap_between(values[metric], "adamw", "sgd")
        for name, says, section, larger, smaller in COMPARED:
            d = _difference(values, matched, metric, larger, smaller)
            if d is not None:
                of = setting
                if larger == AT_ADAMW:
                    of = f"{model}, a vector's teacher, LoRA students (no controls)"
                number = text(larger, smaller)
                add(name + suffix, says + by, section, number, verdict(d.low, d.high), of)
        for name, says, section, arms in RESCUES:
            trained = [arm for arm in arms if values[metric].get(arm)]
            found = {arm: difference(values[metric], arm, "sgd") for arm in trained}
            known = {arm: d for arm, d in found.items() if d is not None}
            if known:
                arm = max(known, key=lambda arm, known=known: known[arm].mean)  # type: ignore[misc]
                chosen = f"the largest of {len(known)}: " if len(known) > 1 else ""
                number = f"{chosen}{text(arm, 'sgd')}; {text('adamw', 'sgd')}"
                sure = {arm: difference(values[metric], arm, "sgd", of=len(known)) for arm in known}
                judged = _by_gap(found, sure, gap, closes)
                add(name + suffix, says + by, section, number, judged)
        for name, says, section, arm in SPARED:
            d = difference(values[metric], arm, "adamw")
            if d is not None:
                number = f"{text(arm, 'adamw')}; {text('adamw', 'sgd')}"
                add(name + suffix, says + by, section, number, _by_gap({arm: d}, {}, gap, falls))
    eas = difference(values["eas"], "adamw", "sgd")
    if eas is not None:
        add(
            "sgd-does-as-well", f"SGD at its best rate does as well as AdamW (EAS within {SAME:g})",
            "Nief et al. 2026", text("adamw", "sgd"), _as_well(eas),
        )  # fmt: skip
    return rows


def _difference(
    values: Mapping[str, Values],
    matched: Sequence[Mapping[str, Any]],
    metric: str,
    first: str,
    second: str,
) -> Interval | None:
    if first != AT_ADAMW:
        return difference(values[metric], first, second)
    found = [row[f"{metric}_difference"] for row in matched if row["optimizer"] == "sgd"]
    return Interval(**found[0]) if found else None


def _by_gap(
    found: Mapping[str, Interval | None],
    sure: Mapping[str, Interval | None],
    gap: float | None,
    test: Test,
) -> str:
    """The claim is that `test` holds of no arm: contradicted where it holds of one (by its interval
    as one of so many, `sure`), reproduced where it is refuted of all, and neither where there is no
    gap to speak of."""
    if gap is None:
        return "not reproduced"
    outcomes = [None if d is None else test(d, gap, sure.get(arm)) for arm, d in found.items()]
    if True in outcomes:
        return "contradicted"
    return "not reproduced" if None in outcomes else "reproduced at toy scale"


def _as_well(d: Interval) -> str:
    """An EAS that is the same up to SAME reproduces it; one clear of zero contradicts it."""
    if d.low > 0 and d.mean >= SAME:
        return "contradicted"
    return "reproduced at toy scale" if d.high < SAME else "not reproduced"


def _numbers(found: Mapping[str, Interval | None]) -> str:
    parts = []
    names = (("trait_rate", "trait rate"), ("eas", "EAS"), ("shift_component", "share of vector"))
    for metric, name in names:
        d = found[metric]
        if d is not None:
            parts.append(f"{name} {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")
    return ", ".join(parts).replace("-", MINUS)
