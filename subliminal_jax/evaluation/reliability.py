"""How reliable steering vectors are: what their slopes say, with intervals, within and over sets.

After Tan et al. (2024, arXiv 2407.12404). Plain numbers in and out; the slopes themselves are made
in `subliminal_jax.steering.slopes`. Not to be confused with `evaluation.steerability`, which asks
what a teacher's vector elicits and damages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from subliminal_jax.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    spearman_interval,
)
from subliminal_jax.steering.slopes import (
    anti_steerable,
    clearly_anti_steerable,
    decompose,
    per_sample_slopes,
    relative_steerability,
)

# Whose vector is tried in whose setting: the shifts that the paper plots.
SHIFTS = (
    ("baseline", "USER_negative"),
    ("baseline", "USER_positive"),
    ("SYS_positive", "USER_negative"),
    ("SYS_negative", "USER_positive"),
)
RESAMPLES = 1999
QUANTILES = 21  # of the slopes that a report draws, evenly spaced from the smallest to the largest

Flags = Bool[np.ndarray, " rows"] | None
Record = Mapping[str, Any]


def of_vector(
    propensities: Float[np.ndarray, "rows multipliers"],
    multipliers: Sequence[float],
    is_first: Flags = None,
    is_yes: Flags = None,
) -> dict[str, Any]:
    """One vector on one set: `steerability` (mean slope) and `anti_steerable` (share) with
    bootstrap intervals over rows, `clearly_anti_steerable` (the share of rows whose own slope is
    clear of zero from below), `balanced` (the mean of the mean slopes where (A) matches and
    where (B) does, None without letters), `median`, `variance`, `quantiles` of the slopes, mean
    `residual` and `rank`, and the decomposition of the variance, with an interval for the share
    explained.

    Where (A) matches more often than (B) in the rows that a vector was made of, the vector leans to
    (A), and counts as steering on test rows that lean the same way; balanced, it does not.
    """
    found = per_sample_slopes(propensities, multipliers)
    slopes = found.slope
    parts = decompose(slopes, is_first, is_yes)
    return {
        "steerability": bootstrap_interval(slopes, resamples=RESAMPLES).to_dict(),
        "anti_steerable": bootstrap_interval(
            (slopes <= 0).astype(float), resamples=RESAMPLES
        ).to_dict(),
        "clearly_anti_steerable": float(clearly_anti_steerable(found, multipliers).mean()),
        "balanced": balanced(slopes, is_first),
        "median": float(np.median(slopes)),
        "variance": float(slopes.var()),
        "quantiles": np.quantile(slopes, np.linspace(0, 1, QUANTILES)).tolist(),
        "residual": float(found.residual.mean()),
        "rank": float(np.nanmean(found.rank)) if np.isfinite(found.rank).any() else None,
        "decomposition": {
            **parts._asdict(),
            "explained_share": explained_interval(slopes, is_first, is_yes).to_dict(),
        },
    }  # fmt: skip


def balanced(slopes: Float[np.ndarray, " rows"], is_first: Flags) -> float | None:
    """The mean of the two letters' mean slopes; None without letters, or with one of them only."""
    if is_first is None or is_first.all() or not is_first.any():
        return None
    return float((slopes[is_first].mean() + slopes[~is_first].mean()) / 2)


def explained_interval(
    slopes: Float[np.ndarray, " rows"], is_first: Flags, is_yes: Flags, resamples: int = 500
) -> Interval:
    """The share of the variance that both biases explain, with a percentile interval over rows."""
    rng = np.random.default_rng(0)
    shares = np.empty(resamples)
    for i in range(resamples):
        rows = rng.integers(len(slopes), size=len(slopes))
        flags = (None if flag is None else flag[rows] for flag in (is_first, is_yes))
        shares[i] = decompose(slopes[rows], *flags).explained_share
    low = high = float("nan")
    if np.isfinite(shares).any():
        low, high = map(float, np.nanquantile(shares, (0.025, 0.975)))
    share = decompose(slopes, is_first, is_yes).explained_share
    return Interval(share, low, high, len(slopes), 0.95, "percentile bootstrap")


def cross_matrix(
    by_setting: Mapping[str, Float[np.ndarray, "rows vectors multipliers"]],
    vectors: Sequence[str],
    multipliers: Sequence[float],
) -> dict[str, Any]:
    """Steerability and anti-steerable share of every vector in every setting, and how far the
    unsteered propensities of the settings are apart.

    Returns `settings`, `vectors`, `steerability` and `anti_steerable` [settings, vectors],
    `relative` [settings, settings] (NaN where a setting's own vector does too little), and `gap`
    [settings, settings]: the mean over rows of |difference of unsteered m_LD|, in logits.
    """
    settings = list(by_setting)
    slopes = np.stack([per_sample_slopes(by_setting[s], multipliers).slope for s in settings])
    zero = list(multipliers).index(0.0)
    plain = np.stack([by_setting[s][:, 0, zero] for s in settings]).astype(float)
    mean = slopes.mean(axis=1)
    own = [vectors.index(s) for s in settings]
    return {
        "settings": settings,
        "vectors": list(vectors),
        "steerability": mean.tolist(),
        "anti_steerable": np.asarray(anti_steerable(slopes.swapaxes(1, 2))).tolist(),
        "relative": relative_steerability(mean[:, own]).tolist(),
        "gap": np.abs(plain[:, None] - plain[None]).mean(axis=2).tolist(),
    }


def over_sets(records: Sequence[Record]) -> dict[str, Any]:
    """All sets together; each of `records` has a `matrix` (`cross_matrix`) and, of its own vector
    in the plain setting, what `of_vector` gives.

    Returns `shifts` (of each of `SHIFTS`, the steerabilities of the vector in its own setting and
    in the shifted one by set, and their rank correlation over sets), `pooled` (all shifts in one),
    `relative_against_gap` (rank correlation over pairs of settings), and summaries of the vectors
    in their own setting. Intervals over sets speak of other sets.
    """
    out: dict[str, Any] = {"sets": len(records), "shifts": []}
    every: list[tuple[float, float]] = []
    for own, shifted in SHIFTS:
        both = [
            (at(record, own, own), at(record, shifted, own))
            for record in records
            if {own, shifted} <= set(record["matrix"]["settings"])
        ]
        if not both:
            continue
        every += both
        inside, outside = map(list, zip(*both, strict=True))
        ratio = float(np.mean(outside)) / float(np.mean(inside)) if np.mean(inside) else None
        out["shifts"].append(
            {
                "vector": own,
                "setting": shifted,
                "own": inside,
                "shifted": outside,
                "correlation": spearman_interval(inside, outside).to_dict(),
                "ratio_of_means": ratio,
                "negative": sum(value < 0 for value in outside),
            }
        )
    if every:
        inside, outside = map(list, zip(*every, strict=True))
        out["pooled"] = spearman_interval(inside, outside).to_dict()
    out["relative_against_gap"] = _relative_against_gap(records)
    own_slopes = [r["steerability"]["mean"] for r in records]
    random = [r["random"]["steerability"]["mean"] for r in records]
    shares = [r["anti_steerable"]["mean"] for r in records]
    explained = [r["decomposition"]["explained_share"]["mean"] for r in records]
    even = [(r["balanced"], r["random"]["balanced"]) for r in records if r["balanced"] is not None]
    out |= {
        "steerability": mean_interval(own_slopes).to_dict(),
        "range": [min(own_slopes), max(own_slopes)],
        "against_random": paired_difference(own_slopes, random).to_dict(),
        "balanced": mean_interval([own for own, _ in even]).to_dict(),
        "balanced_against_random": paired_difference(
            [own for own, _ in even], [other for _, other in even]
        ).to_dict(),
        "anti_steerable": mean_interval(shares).to_dict(),
        "anti_steerable_median": float(np.median(shares)),
        "anti_steerable_above_40": sum(share > 0.4 for share in shares),
        "explained_median": float(np.nanmedian(np.asarray(explained, float)))
        if np.isfinite(np.asarray(explained, float)).any()
        else None,
    }
    return out


def at(record: Record, setting: str, vector: str) -> float:
    """The steerability of a vector in a setting."""
    matrix = record["matrix"]
    row, column = matrix["settings"].index(setting), matrix["vectors"].index(vector)
    return float(matrix["steerability"][row][column])


def _relative_against_gap(records: Sequence[Record]) -> dict[str, Any]:
    """Rank correlation of relative steerability with the gap of the unsteered propensities, over
    sets and pairs of different settings. Pairs of one set are not independent: no more than a
    description, so its interval is too narrow."""
    relative, gap = [], []
    for record in records:
        matrix = record["matrix"]
        for i, row in enumerate(matrix["relative"]):
            for j, value in enumerate(row):
                if i != j and value is not None and np.isfinite(value):
                    relative.append(float(value))
                    gap.append(matrix["gap"][i][j])
    return spearman_interval(relative, gap).to_dict()
