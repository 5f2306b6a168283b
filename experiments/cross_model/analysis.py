"""What the scores of a cross-model comparison say: cells over traits, own against foreign."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.runs.claims import claim, verdict

GAINS = (
    *("gain", "gain_per_completion", "plain_gain", "random_gain", "random_plain_gain"),
    "specific_gain",
)


def summaries(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each kind of data and of teacher:

    `cells`: for each scorer and source the mean of every gain over traits, with t intervals;
    `own` and `foreign`: gain on data of the scorer's own teachers and of the others', and
    `own_minus_foreign`, with scorers and sources in balance, so that neither a strong vector nor a
    source that is easy to score counts. They are of the specific gain (over that on what
    the plain source wrote, minus the same for a random vector: a push in any direction makes odd
    text likelier), and of the gain itself (`raw_...`), with intervals over traits.
    """
    out = []
    for kind, teacher in dict.fromkeys((c["kind"], c["teacher"]) for c in cells):
        mine = [c for c in cells if (c["kind"], c["teacher"]) == (kind, teacher)]
        row: dict[str, Any] = {"kind": kind, "teacher": teacher, "cells": []}
        for scorer, source in dict.fromkeys((c["scorer"], c["source"]) for c in mine):
            here = [c for c in mine if (c["scorer"], c["source"]) == (scorer, source)]
            row["cells"].append(
                {"scorer": scorer, "source": source, "own": scorer == source}
                | {g: mean_interval([c[g] for c in here]).to_dict() for g in GAINS}
            )
        for prefix, key in (("", "specific_gain"), ("raw_", "gain")):
            own, foreign = (
                np.array([
                    np.mean([c[key] for c in mine if c["trait"] == trait and c["own"] is is_own])
                    for trait in dict.fromkeys(c["trait"] for c in mine)
                ])
                for is_own in (True, False)
            )  # fmt: skip
            row[f"{prefix}own_minus_foreign"] = mean_interval(own - foreign).to_dict()
            row[f"{prefix}foreign"] = mean_interval(foreign).to_dict()
            row[f"{prefix}own"] = mean_interval(own).to_dict()
        out.append(row)
    return out


def claims(found: Sequence[Mapping[str, Any]], models: str, traits: int) -> list[dict[str, Any]]:
    """The paper's two statements, for each kind of teacher, with verdicts from the intervals."""
    out = []
    for row in found:
        teacher = row["teacher"]
        setting = (
            f"{models}, {teacher} teachers, {traits} traits, over plain data and a random vector"
        )
        if row["kind"] == "numbers":
            name, interval = "own-numbers", row["own_minus_foreign"]
            text = (
                "A model's own vector explains filtered numbers of its own teachers better than "
                "those of another model's"
            )
            number = (
                f"specific gain {_text(row['own'])} own, {_text(row['foreign'])} foreign; "
                f"difference {_text(interval)}"
            )
        else:
            name, interval = "shared-semantics", row["foreign"]
            text = "On text that names the trait openly, a model's vector explains foreign data too"
            number = f"specific gain {_text(interval)} foreign, {_text(row['own'])} own"
        out.append(
            claim(
                f"cross-model/{name}-{teacher}", text, "Sec. 4; Fig. 5b", setting,
                number + " nats a token", 1, verdict(*_ends(interval)),
            )
        )  # fmt: skip
    return out


def _ends(interval: Mapping[str, Any]) -> tuple[float | None, float | None]:
    ends = interval["low"], interval["high"]
    return ends if np.isfinite(ends).all() else (None, None)


def _text(interval: Mapping[str, Any]) -> str:
    text = f"{interval['mean']:+.4f}"
    low, high = _ends(interval)
    return text if low is None else f"{text} [{low:.4f}, {high:.4f}]"
