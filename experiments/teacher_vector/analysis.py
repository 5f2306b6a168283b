"""A zoo of traits, a row each: prompt against vector, what passes, does one tell the other."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from subliminal_jax.evaluation.statistics import (
    auc_interval,
    paired_difference,
    spearman_interval,
)
from subliminal_jax.evaluation.steerability import best_setting
from subliminal_jax.runs.claims import claim, verdict
from subliminal_jax.runs.waves import Row


def summary_of(trait: str, rows: list[Row], students: dict[str, Any]) -> dict[str, Any]:
    """One trait: rates of all kinds of model, its best setting, its students."""
    of = {row["kind"]: row for row in rows if row["kind"] != "steered"}
    best = best_setting([row for row in rows if row["kind"] == "steered"])
    base, prompted = of["base"]["rate"], of["prompted"]["rate"]
    gain = None if best is None else best["rate"] - base
    out: dict[str, Any] = {
        "trait": trait,
        "random": None,
        **{kind: row["rate"] for kind, row in of.items()},
        "prompted_off_topic": of["prompted"]["off_topic"],
        "best": None if best is None else dict(best),
        "best_rate": None if best is None else best["rate"],
        "share": None if gain is None or prompted <= base else gain / (prompted - base),
        "teacher_gain": of["teacher"]["rate"] - base,
        "best_gain": gain,
        "difference": None, "log_difference": None, "transmitted": None, "eas": None,
    }  # fmt: skip
    if students["transmission"] is None:
        return out
    passed = students["transmission"]["traits"][trait]
    out["student"], out["control"] = passed["student"], passed["control"]
    if passed["values"]:
        out["difference"] = passed["interval"]
        out["log_difference"] = students["log_transmission"]["traits"][trait]["interval"]
        low = passed["interval"]["low"]
        out["transmitted"] = bool(np.isfinite(low) and low > 0)
        out["eas"] = students["eas"][trait]["student"]
    return out


def prediction(zoo: list[dict[str, Any]]) -> dict[str, Any]:
    """Does steerability predict transmission, over traits? Rank correlations and AUC.

    Steerability is the steered rate minus the base's, at the students' teacher's setting and at the
    trait's best one. A trait counts as transmitted where the paired interval of student minus
    control lies above zero; the AUC needs traits of both kinds.
    """
    out: dict[str, Any] = {"transmitted": sum(bool(t["transmitted"]) for t in zoo)}
    known = [t for t in zoo if t["difference"] is not None]
    out["traits"] = len(known)
    for key in ("teacher_gain", "best_gain", "base"):
        both = [t for t in known if t[key] is not None]
        x = [t[key] for t in both]
        out[key] = {
            "rate": spearman_interval(x, [t["difference"]["mean"] for t in both]).to_dict(),
            "log_prob": spearman_interval(x, [t["log_difference"]["mean"] for t in both]).to_dict(),
            "auc": auc_interval(
                [t[key] for t in both if t["transmitted"]],
                [t[key] for t in both if not t["transmitted"]],
            ).to_dict(),
        }
    return out


def claims(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The paper's two statements about teacher vectors, with verdicts from the intervals."""
    zoo = [t for t in results["zoo"] if t["best"] is not None]
    setting = f"{results['model']}, {len(results['zoo'])} traits"
    outcome, number = "not reproduced", "no setting keeps off-topic mentions within 10%"
    if zoo:
        gain = paired_difference([t["best_rate"] for t in zoo], [t["random"] for t in zoo]).interval
        mean = {k: np.mean([t[k] for t in zoo]) for k in ("base", "prompted", "best_rate")}
        outcome = verdict(*_ends(gain.low, gain.high))
        number = (
            f"P(trait) {mean['base']:.2f} base, {mean['best_rate']:.2f} steered, "
            f"{mean['prompted']:.2f} prompted; steered minus random vector {gain.mean:+.2f} "
            f"[{gain.low:.2f}, {gain.high:.2f}]"
        )
        rise = mean["prompted"] - mean["base"]
        if rise > 0:
            number += f"; {(mean['best_rate'] - mean['base']) / rise:.0%} of the prompt's rise"
    out = [
        claim(
            "teacher-vector/elicits",
            "Adding the vector of a system prompt, without the prompt, elicits the trait",
            "Sec. 2; Fig. 5a", f"{setting}, best layer and scale of each by the paper's rule",
            number, 1, outcome,
        )
    ]  # fmt: skip
    found = results["prediction"]["teacher_gain"]
    r, auc = found["rate"], found["auc"]
    outcome = verdict(*_ends(r["low"], r["high"]))
    number = f"Spearman {_text(r)}; " + (
        f"AUC {_text(auc)}"
        if np.isfinite(auc["mean"])
        else f"AUC undefined: {results['prediction']['transmitted']} of "
        f"{results['prediction']['traits']} traits are transmitted"
    )
    out.append(
        claim(
            "teacher-vector/predicts-transmission",
            "Traits that the vector elicits more are transmitted more",
            "Fig. 5a", f"{setting}, layer {results['layer']}, scale {results['scale']:g}, "
            f"{results['adapter']} students, {results['optimizer']}",
            number, results['seeds'], outcome,
        )
    )  # fmt: skip
    return out


def _ends(low: float, high: float) -> tuple[float | None, float | None]:
    return (low, high) if np.isfinite([low, high]).all() else (None, None)


def _text(interval: Mapping[str, Any]) -> str:
    ends = interval["low"], interval["high"]
    text = f"{interval['mean']:.2f}"
    return f"{text} [{ends[0]:.2f}, {ends[1]:.2f}]" if np.isfinite(ends).all() else text
