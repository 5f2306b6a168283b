"""From students of the optimizer dispute to its numbers: arms, matched losses and verdicts."""

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
from subliminal_jax.evaluation.statistics import mean_interval, paired_difference
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.evaluation.verdicts import Values, difference, gap_between, judge
from subliminal_jax.runs.waves import METRICS, Row

from .claims import AT_ADAMW, AT_SGD, JUDGED, MINUS, claims
from .explanations import explanations_of
from .students import Plan

Histories = Mapping[tuple[str, int], Sequence[Row]]


def analyse(
    rows: Sequence[StudentRow], best: Mapping[str, float | None], histories: Histories,
    plans: Sequence[Plan], model: str,
) -> dict[str, Any]:  # fmt: skip
    """All numbers of the report but the data's; `model` is the name that the claims give."""
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
        "claims": claims(values, matched, max(row["eas"]["n"] for row in table), model),
    }


def by_seed(rows: Sequence[StudentRow], best: Mapping[str, float | None]) -> dict[str, dict]:
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
