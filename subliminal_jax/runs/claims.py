"""Claims as dictionaries, of experiments whose results are not typed yet."""

import math
from collections.abc import Mapping
from typing import Any

from subliminal_jax.evaluation.claims import VERDICTS

FIELDS = ("id", "claim", "section", "setting", "number", "seeds", "verdict")


def verdict(low: float | None, high: float | None, claimed: int = 1) -> str:
    """By the interval of an effect against its control: clear of zero in the claimed direction
    (`claimed` is 1 or -1) it is reproduced, in the other one contradicted, else not reproduced."""
    if low is None or high is None or not (low > 0 or high < 0):
        return "not reproduced"
    return "reproduced at toy scale" if (low > 0) == (claimed > 0) else "contradicted"


def opposite(interval: Mapping[str, Any]) -> dict[str, Any]:
    """The interval of the negative effect."""
    mean, low, high = (
        None if x is None else -x for x in (interval["mean"], interval["high"], interval["low"])
    )
    return {**interval, "mean": mean, "low": low, "high": high}


def jointly(*intervals: Mapping[str, Any]) -> str:
    """The verdict that all intervals share: each clear of zero on the same side, or none; above
    zero is the claimed side."""
    ends = [x for interval in intervals for x in (interval["low"], interval["high"])]
    if any(x is None or not math.isfinite(x) for x in ends):
        return verdict(None, None)
    return verdict(min(ends), max(ends))


def written(interval: Mapping[str, Any], mean: str = ".2f", ends: str = ".2f") -> str:
    """An interval as in "0.50 [0.41, 0.59]", by two format specifications."""
    return f"{interval['mean']:{mean}} {written_ends(interval, ends)}"


def written_ends(interval: Mapping[str, Any], ends: str = ".2f", factor: float = 1.0) -> str:
    """Its ends times `factor`, "none" where there is none."""
    low, high = (
        "none" if x is None or not math.isfinite(x) else f"{factor * x:{ends}}"
        for x in (interval["low"], interval["high"])
    )
    return f"[{low}, {high}]"


def claim(
    id: str, claim: str, section: str, setting: str, number: str, seeds: int, verdict: str
) -> dict[str, Any]:
    """One row of the table; raises ValueError for a verdict that is none of `VERDICTS`."""
    if verdict not in VERDICTS:
        raise ValueError(f"{verdict!r} is no verdict: choose from {VERDICTS}")
    return dict(zip(FIELDS, (id, claim, section, setting, number, seeds, verdict), strict=True))
