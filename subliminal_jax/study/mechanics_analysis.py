"""From students of the optimizer dispute to its numbers: arms, matched losses, verdicts, claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from subliminal_jax.evaluation.comparison import (
    anatomies,
    at_best_rate,
    at_matched_loss,
    curves,
)
from subliminal_jax.evaluation.statistics import Interval, mean_interval, paired_difference
from subliminal_jax.evaluation.verdicts import Values, difference, gap_between, judge
from subliminal_jax.evaluation.waves import METRICS, Row
from subliminal_jax.study.claims import claim, verdict
from subliminal_jax.study.explanations import CLIPPED, MASKED, explanations_of
from subliminal_jax.study.mechanics import Plan

Histories = Mapping[tuple[str, int], Sequence[Row]]
# Direction and size of the shift, and what it does: student minus control of the same seed.
JUDGED = ("eas", "shift_component", "trait_rate")
MINUS = "\N{MINUS SIGN}"
AT_ADAMW, AT_SGD = "adamw at sgd's loss", "sgd at that loss"
SAME = 0.1  # EAS: a difference below it counts as none in the claim that SGD does as well


def analyse(
    rows: Sequence[Row], best: Mapping[str, float | None], histories: Histories,
    plans: Sequence[Plan],
) -> dict[str, Any]:  # fmt: skip
    """All numbers of the report but the data's."""
    values = by_seed(rows, best)
    matched, at_loss = matched_losses(histories, plans)
    table = at_best_rate(rows, best, METRICS)
    family = {plan.name: plan for plan in plans}
    for row in table:
        plan = family[row["optimizer"]]
        row |= {"family": plan.family, "rule": plan.rule, "setting": plan.setting}
        for metric in JUDGED:
            for other, key in (("sgd", "minus_sgd"), (plan.upper, "minus_upper")):
                found = difference(values[metric], plan.name, other)
                row[f"{metric}_{key}"] = None if found is None else found.to_dict()
    for metric in JUDGED:
        values[metric] |= at_loss.get(metric, {})
    logged = anatomies(histories)
    return {
        "best": table,
        "gaps": {metric: gap_between(values[metric], "adamw", "sgd") for metric in JUDGED},
        "matched_loss": matched,
        "anatomy": logged,
        "curves": curves(histories, best),
        "gradient_norms": gradient_norms(histories),
        "verdicts": judge(
            explanations_of(set(family) | {AT_ADAMW, AT_SGD}),
            values,
            measured=measured(histories, values["eas"]),
        ),
        "claims": claims(values, max(row["eas"]["n"] for row in table)),
    }


def by_seed(rows: Sequence[Row], best: Mapping[str, float | None]) -> dict[str, dict]:
    """metric -> arm -> seed -> value at the best rate; the trait rate is student minus control."""
    values: dict[str, dict[str, dict[int, float]]] = {metric: {} for metric in JUDGED}
    at_best = [r for r in rows if r["learning_rate"] == best[r["optimizer"]] and not r["diverged"]]
    control = {(r["optimizer"], r["seed"]): r for r in at_best if r["data"] == "control"}
    for row in at_best:
        key = (row["optimizer"], row["seed"])
        if row["data"] == "control":
            continue
        for metric in ("eas", "shift_component"):
            values[metric].setdefault(key[0], {})[key[1]] = row[metric]
        if key in control:
            passed = row["trait_rate"] - control[key]["trait_rate"]
            values["trait_rate"].setdefault(key[0], {})[key[1]] = passed
    return values


def matched_losses(
    histories: Histories, plans: Sequence[Plan]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, dict[int, float]]]]:
    """Each arm and the AdamW that it is held against, where the training loss of the two of one
    seed first reaches the lowest level that both reach; and by seed what the verdicts need."""
    table, kept = [], {metric: {} for metric in JUDGED}  # type: ignore[var-annotated]
    for plan in plans:
        if plan.name == plan.upper:
            continue
        pairs: dict[int, tuple[dict, dict]] = {}
        levels = []
        for seed in sorted(s for name, s in histories if name == plan.name):
            two = {(n, seed): histories.get((n, seed), ()) for n in (plan.upper, plan.name)}
            if not all(two.values()):
                continue
            found = at_matched_loss(two, JUDGED)
            upper, own = found["rows"]
            pairs[seed] = tuple({m: r[m]["mean"] for m in JUDGED} for r in (upper, own))  # type: ignore[assignment]
            levels.append(found["loss"])
        if not pairs:
            continue
        row: dict[str, Any] = {
            "optimizer": plan.name, "family": plan.family, "upper": plan.upper,
            "loss": mean_interval(levels).to_dict(),
        }  # fmt: skip
        for metric in JUDGED:
            upper_values, own_values = zip(
                *((u[metric], o[metric]) for u, o in pairs.values()), strict=True
            )
            row[metric] = mean_interval(own_values).to_dict()
            row[f"upper_{metric}"] = mean_interval(upper_values).to_dict()
            gap = paired_difference(upper_values, own_values).interval
            row[f"{metric}_difference"] = gap.to_dict()
            if plan.name == "sgd":
                seeds = list(pairs)
                kept[metric][AT_ADAMW] = dict(zip(seeds, upper_values, strict=True))
                kept[metric][AT_SGD] = dict(zip(seeds, own_values, strict=True))
        table.append(row)
    return table, kept


def measured(histories: Histories, eas: Values) -> dict[str, list[float]]:
    """What the verdicts need beside the arms' metrics, by seed.

    The share of the squared gradient that SGD's largest 1% of coordinates hold, less their share of
    the component along the steering score; and over arms the rank correlation of how equal a step's
    coordinates are (less the share of its square in the largest 10%) with the alignment.
    """
    top, correlation = [], []
    for seed in sorted({seed for _, seed in histories}):
        own = {key: rows for key, rows in histories.items() if key[1] == seed}
        by_arm = {row["optimizer"]: row for row in anatomies(own)}
        if (sgd := by_arm.get("sgd")) is not None:
            top.append(float(sgd["gradient_top_mass"][1] - sgd["gradient_top_component"][1]))
        shown = [name for name in by_arm if seed in eas.get(name, {}) and "full" not in name]
        if len(shown) > 3:
            equal = [-by_arm[name]["update_top_mass"][2] for name in shown]
            aligned = [eas[name][seed] for name in shown]
            correlation.append(float(stats.spearmanr(equal, aligned).statistic))
    return {
        f"top 1%: share of mass {MINUS} share of signal": top,
        "rank correlation of equal steps with alignment": correlation,
    }


def gradient_norms(histories: Histories) -> dict[str, float]:
    """The mean over logged steps of each arm's gradient norm before clipping."""
    names = dict.fromkeys(name for name, _ in histories)
    return {
        name: float(
            np.mean([r["gradient_norm"] for (n, _), h in histories.items() if n == name for r in h])
        )
        for name in names
    }


# -- claims ------------------------------------------------------------------------------------

SETTING = "a vector's teacher, LoRA students, student minus control"
# (id, claim, section, larger, smaller): the claim is that the first arm passes the trait on more.
# Of several arms, the one with the largest mean counts: a choice in favour of "smaller".
Compared = tuple[str, str, str, str, tuple[str, ...]]
COMPARED: tuple[Compared, ...] = (
    (
        "adamw-over-sgd", "AdamW transmits the trait, plain SGD at its best rate does not",
        "Blank et al., figure 7c", "adamw", ("sgd",),
    ),
    ("rmsprop", "RMSprop transmits as AdamW does, SGD does not", "Blank et al., figure 7c",
     "rmsprop", ("sgd",)),
    ("momentum", "Momentum does not rescue SGD", "Blank et al., figure 7c", "adamw",
     ("momentum",)),
    ("frozen-map", "A frozen map of Adam's scales restores part of the transfer to SGD",
     "Blank et al., figure 7c", "frozen-map", ("sgd",)),
    ("bottom-frozen", "AdamW transmits without the 10% of coordinates with the largest gradients",
     "Blank et al., figure 7c", "adamw-bottom-frozen", ("sgd",)),
    ("flat-rest", "SGD transmits with the bottom 10% of Adam's scales kept and the rest flat",
     "Blank et al., figure 7c", "frozen-map-flat-rest", ("sgd",)),
    ("zero-bottom", "SGD transmits with the bottom 10% of Adam's scales at zero and the rest flat",
     "Blank et al., figure 7c", "frozen-map-zero-bottom", ("sgd",)),
    ("rotation", "AdamW transmits in a randomly rotated basis", "Blank et al., figure 7c",
     "adamw-rotated", ("sgd-rotated",)),
    ("lora-over-full", "LoRA with AdamW transmits more than full weights with AdamW",
     "Blank et al., figure 7b", "adamw", ("adamw-full",)),
    ("matched-loss", "At one training loss AdamW transmits and SGD does not",
     "Blank et al., appendix L", AT_ADAMW, (AT_SGD,)),
    ("masks-do-not-rescue", "Masking or clipping the largest coordinates does not rescue SGD",
     "Feng's re-runs", "adamw", (*MASKED, *CLIPPED)),
    ("living-over-frozen", "A living statistic transfers more than the same rule with a frozen one",
     "Feng's re-runs", "adamw", ("frozen-map-momentum",)),
    ("a-rates-do-not-rescue", "A larger rate for LoRA's A does not rescue SGD", "Feng's re-runs",
     "adamw", ("sgd-a-times-3", "sgd-a-times-16", "sgd-a-times-64")),
)  # fmt: skip


# What a comparison is judged by: the claims are about the trait; with a random vector, whose trait
# is incidental, the alignment says more.
BY: tuple[tuple[str, str, str], ...] = (
    ("trait_rate", "", " (by trait rate)"),
    ("eas", "-eas", " (by alignment, EAS)"),
)


def claims(values: Mapping[str, Values], seeds: int) -> list[dict[str, Any]]:
    """Each comparison twice, by the trait rate and by the alignment; both rows hold all numbers."""
    rows = []
    for name, says, section, larger, smaller in COMPARED:
        for metric, suffix, by in BY:
            found = {arm: difference(values[metric], larger, arm) for arm in smaller}
            known = {arm: d for arm, d in found.items() if d is not None}
            if not known:
                continue
            arm = min(known, key=lambda a, known=known: known[a].mean)  # type: ignore[misc]
            d = known[arm]
            number = f"{larger} {MINUS} {arm}: {_numbers(values, larger, arm)}"
            id = f"optimizer_mechanics/{name}{suffix}"
            rows.append(
                claim(id, says + by, section, SETTING, number, seeds, verdict(d.low, d.high))
            )
    eas = difference(values["eas"], "adamw", "sgd")
    if eas is not None:
        rows.append(
            claim(
                "optimizer_mechanics/sgd-does-as-well",
                "SGD at its best rate does as well as AdamW",
                "Nief et al. 2026",
                SETTING,
                f"adamw {MINUS} sgd: {_numbers(values, 'adamw', 'sgd')}",
                seeds,
                _as_well(eas),
            )
        )
    return rows


def _as_well(d: Interval) -> str:
    """An EAS that is the same up to SAME reproduces it; one clear of zero contradicts it."""
    if d.low > 0 and d.mean >= SAME:
        return "contradicted"
    return "reproduced at toy scale" if d.high < SAME else "not reproduced"


def _numbers(values: Mapping[str, Values], first: str, second: str) -> str:
    parts = []
    names = (("trait_rate", "trait rate"), ("eas", "EAS"), ("shift_component", "share of vector"))
    for metric, name in names:
        d = difference(values[metric], first, second)
        if d is not None:
            parts.append(f"{name} {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")
    return ", ".join(parts).replace("-", MINUS)
