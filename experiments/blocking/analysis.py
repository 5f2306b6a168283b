"""What guards block and what they cost, from the rows of guarded and unguarded students.

A row is one student of `experiments/blocking.py`: case (the guard, "none" without one), adapter,
optimizer, learning_rate, data (a trait's name, or the name with " control"), seed, and its numbers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.runs.claims import claim, verdict
from subliminal_jax.runs.settings import GuardKind

Row = Mapping[str, Any]
KEPT = 0.9  # the share of the task's gain that counts as keeping the task
MNIST = "Kitkana & Arora 2026 (arXiv:2604.25779), MNIST"
OWN = "our own question"


class Case(NamedTuple):
    """One guard: what it does, with which vector, and whether controls are trained with it too."""

    name: str
    kind: GuardKind
    vector: Literal["known", "blind", "none"] = "known"
    share: float = 0.0
    at_random: bool = False
    controls: bool = False


UNGUARDED = Case("none", "none", "none")


def cases(shares: Sequence[float]) -> list[Case]:
    """Every guard with the known vector and with the blind one; the largest share of rows is also
    dropped at random, and also by the blind vector. Raises InputError for shares that are none,
    and where the cases of two would have one name."""
    if not shares or not all(0 < share < 1 for share in shares):
        raise InputError(f"shares {shares} must be shares of the rows, between 0 and 1")
    most = max(shares)
    percents = [f"{share:.0%}" for share in sorted(shares)]
    if len(set(percents)) < len(percents):
        raise InputError(f"shares {shares} are {' '.join(percents)}: no two may be one in percent")
    return [
        Case("project", "project", controls=True),
        Case("inoculate", "inoculate", controls=True),
        *(Case(f"drop {s:.0%}", "drop-rows", share=s, controls=s == most) for s in sorted(shares)),
        Case(f"drop {most:.0%} at random", "drop-rows", "none", most, at_random=True),
        Case("project, blind", "project", "blind"),
        Case("inoculate, blind", "inoculate", "blind"),
        Case(f"drop {most:.0%}, blind", "drop-rows", "blind", most),
    ]


def control_of(trait: str) -> str:
    """The data set of a trait's controls: the plain base's rows, guarded as the trait's are."""
    return f"{trait} control"


def is_control(row: Row) -> bool:
    return row["data"].endswith(control_of(""))


def of_point(
    rows: Sequence[dict[str, Any]], adapter: str, optimizer: str, rate: float
) -> list[dict[str, Any]]:
    """The students of one adapter, optimizer and rate."""
    at = (adapter, optimizer, rate)
    return [r for r in rows if (r["adapter"], r["optimizer"], r["learning_rate"]) == at]


def pool_size(rows: int, share: float) -> int:
    """How many rows leave `rows` of them when `share` is dropped."""
    return math.ceil(rows / (1 - share))


class Compared(NamedTuple):
    """The rows of one adapter and optimizer at one rate, to be compared by trait and seed."""

    rows: Sequence[Row]
    traits: Sequence[str]

    def values(
        self, case: str, metric: str, *, control: bool = False
    ) -> Float[np.ndarray, "seeds traits"]:
        """NaN for students that diverged or are not there."""
        seeds = sorted({r["seed"] for r in self.rows})
        names = [control_of(t) if control else t for t in self.traits]
        found = {(r["data"], r["seed"]): r[metric] for r in self.rows if r["case"] == case}
        return np.array([[found.get((n, s)) for n in names] for s in seeds], float)


def interval(values: Float[np.ndarray, "seeds traits"]) -> dict[str, Any] | None:
    """A t interval over seeds of the mean over these traits; seeds that lack one are left out."""
    whole = values[~np.isnan(values).any(axis=1)]
    return mean_interval(whole.mean(axis=1)).to_dict() if len(whole) else None


def table_row(students: Compared, case: str) -> dict[str, Any]:
    """What one guard does, against unguarded students and unguarded controls of the same seeds.

    transmission (P(trait), student - unguarded control) and change (guarded - unguarded student),
    each also as _log_prob; eas and component of students and their guarded controls;
    control_shift (P(trait), guarded - unguarded control); gain and task_gain: the shares kept of
    what unguarded training gains on the teacher's held-out data, and of what unguarded controls
    gain on clean held-out data.
    """
    out: dict[str, Any] = {"case": case}
    for metric, end in (("trait_rate", ""), ("trait_log_prob", "_log_prob")):
        own = students.values(case, metric)
        plain, control = (students.values("none", metric, control=c) for c in (False, True))
        guarded_control = students.values(case, metric, control=True)
        out[f"transmission{end}"] = interval(own - control)
        out[f"change{end}"] = interval(own - plain)
        out[f"control_shift{end}"] = interval(guarded_control - control)
    out["transmission_values"] = _seed_means(
        students.values(case, "trait_rate") - students.values("none", "trait_rate", control=True)
    )
    for metric in ("eas", "component"):
        out[metric] = interval(students.values(case, metric))
        out[f"control_{metric}"] = interval(students.values(case, metric, control=True))
    for metric in ("heldout_loss", "clean_loss"):
        out[metric] = interval(students.values(case, metric))
    out["gain"] = interval(
        _ratio(students.values(case, "heldout_gain"), students.values("none", "heldout_gain"))
    )
    task = students.values("none", "clean_gain", control=True)
    out["task_gain"] = interval(_ratio(students.values(case, "clean_gain"), task))
    out["control_task_gain"] = interval(
        _ratio(students.values(case, "clean_gain", control=True), task)
    )
    return out


def _seed_means(values: Float[np.ndarray, "seeds traits"]) -> list[float]:
    return values[~np.isnan(values).any(axis=1)].mean(axis=1).tolist()


def _ratio(
    kept: Float[np.ndarray, "seeds traits"], whole: Float[np.ndarray, "seeds traits"]
) -> Float[np.ndarray, "seeds traits"]:
    """Shares of the mean gain: gains of single students may be close to zero. NaN where the mean
    gain is not clear of zero: there is nothing to keep."""
    mean = interval(whole)
    if mean is None or not (mean["low"] > 0 or (mean["n"] == 1 and mean["mean"] > 0)):
        return np.full_like(kept, np.nan)
    return kept / mean["mean"]


def claims(
    students: Compared, made: Sequence[Case], setting: str, seeds: int
) -> list[dict[str, Any]]:
    """Verdicts by the t interval over seeds of the mean over traits, on the trait's probability:

    transmits: unguarded student - unguarded control above zero; each guard: guarded - unguarded
    student below zero; drop-rows: below the students of as many rows dropped at random; the task
    is kept where the whole interval of its share lies above KEPT.
    """
    rows = {name: table_row(students, name) for name in ("none", *(c.name for c in made))}

    def one(name: str, text: str, source: str, effect: Any, sign: int, number: str) -> Any:
        low, high = (None, None) if effect is None else (effect["low"], effect["high"])
        found = verdict(_finite(low), _finite(high), sign)
        return claim(f"blocking/{name}", text, source, setting, number, seeds, found)

    none = rows["none"]
    effect = none["transmission"]
    number = f"P(trait) {_text(effect)} against control, EAS {_text(none['eas'], 2)}"
    text = "unguarded students take up the trait"
    out = [one("transmits", text, OWN, effect, 1, number)]
    texts = {
        "project": "removing the trait's gradient from every update suppresses transfer",
        "inoculate": "training with the vector already added suppresses transfer",
    }
    for case in made:
        if case.kind == "drop-rows":
            continue
        row, blind = rows[case.name], case.vector == "blind"
        out.append(
            one(
                case.name.replace(", ", "-"),
                texts[case.kind] + (", the vector recovered from the data" if blind else ""),
                MNIST if case.kind == "project" and not blind else OWN,
                row["change"], -1, _change(row, none),
            )
        )  # fmt: skip
        own, other = (students.values(name, "component") for name in (case.name, "none"))
        fewer = interval(own - other)
        number = f"{_text(fewer, 2)}: {_text(row['component'], 2)}, unguarded "
        out.append(
            one(
                case.name.replace(", ", "-") + "-share",
                texts[case.kind].replace("transfer", "the uptake of the vector (its share)")
                + (", the vector recovered from the data" if blind else ""),
                OWN, fewer, -1, number + _text(none["component"], 2),
            )
        )  # fmt: skip
    random = next(c for c in made if c.at_random)
    for case in made:
        if case.kind == "drop-rows" and not case.at_random and case.share == random.share:
            blind = case.vector == "blind"
            own, other = (students.values(c.name, "trait_rate") for c in (case, random))
            effect = interval(own - other)
            left = _text(rows[case.name]["transmission"])
            text = "dropping the rows that teach the vector most suppresses transfer"
            number = f"P(trait) {_text(effect)} against as many dropped at random; left: {left}"
            out.append(
                one(
                    "drop-rows" + ("-blind" if blind else ""),
                    text + (", the vector recovered from the data" if blind else ""),
                    OWN, effect, -1, number,
                )
            )  # fmt: skip
    for case in made:
        if case.vector == "known" and case.kind != "drop-rows":
            kept = rows[case.name]["task_gain"]
            excess = None
            if kept is not None:
                excess = {k: kept[k] - KEPT for k in ("low", "high")}
            text = f"{case.name} keeps at least {KEPT:.0%} of the task's gain"
            number = f"{_text(kept, 2)} of the unguarded control's gain on clean data"
            out.append(one(f"{case.name}-keeps-the-task", text, OWN, excess, 1, number))
    return out


def _change(row: Row, none: Row) -> str:
    return (
        f"P(trait) {_text(row['change'])} against unguarded; left against control: "
        f"{_text(row['transmission'])} of {_text(none['transmission'])}; share of the vector "
        f"{_text(row['component'], 2)} of {_text(none['component'], 2)}"
    )


def _finite(x: float | None) -> float | None:
    return x if x is not None and np.isfinite(x) else None


def _text(value: Mapping[str, Any] | None, digits: int = 4) -> str:
    if value is None:
        return "none"
    mean, low, high = (f"{value[k]:.{digits}f}" for k in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
