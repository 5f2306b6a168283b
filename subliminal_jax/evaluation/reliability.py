"""How reliable steering vectors are: what their slopes say, with intervals, within and over sets.

After Tan et al. (2024, arXiv 2407.12404). Plain numbers in and out; the slopes themselves are made
in `subliminal_jax.steering.slopes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from subliminal_jax.evaluation.shares import share_interval
from subliminal_jax.evaluation.statistics import (
    Interval,
    PairedDifference,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    rate_interval,
    spearman_interval,
)
from subliminal_jax.steering.slopes import (
    anti_steerable,
    clearly_anti_steerable,
    decompose_slopes,
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
SHARE_RESAMPLES = 500  # each decomposes the variance anew
QUANTILES = 21  # of the slopes that a report draws, evenly spaced from the smallest to the largest

Flags = Bool[np.ndarray, " rows"] | None
Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class SlopeVariance:
    """The variance of per-sample slopes and its parts (`steering.slopes.Decomposition`).

    Attributes:
      letter_share, yes_no_share: two of the parts as shares; None where there is no variance.
      explained_share: of both together, with a percentile interval over rows.
    """

    variance: float
    letter: float
    yes_no: float
    unexplained: float
    letter_share: float | None
    yes_no_share: float | None
    explained_share: Interval


@dataclass(frozen=True, kw_only=True)
class VectorReliability:
    """One vector on one set.

    Attributes:
      steerability: mean slope in logits a multiplier, with a bootstrap interval over rows.
      anti_steerable: share of rows with a slope of at most 0, with Wilson's interval.
      clearly_anti_steerable: share of rows whose own slope is clear of zero from below.
      balanced: mean of the mean slopes where (A) matches and where (B) does; None without letters.
        Where (A) matches more often than (B) in the rows that a vector was made of, the vector
        leans to (A), and counts as steering on test rows that lean the same way; balanced, it does
        not.
      median, variance: of the slopes.
      quantiles: `QUANTILES` of the slopes.
      residual: mean over rows of what the line leaves (root mean square, logits).
      rank: mean rank correlation of propensity and multiplier.
      decomposition: of the slopes' variance.
    """

    steerability: Interval
    anti_steerable: Interval
    clearly_anti_steerable: float
    balanced: float | None
    median: float
    variance: float
    quantiles: tuple[float, ...]
    residual: float
    rank: float | None
    decomposition: SlopeVariance


@dataclass(frozen=True)
class SettingMatrix:
    """Every vector in every prompt setting.

    Attributes:
      settings, vectors: names of the rows and columns.
      steerability, anti_steerable: [settings, vectors].
      relative: [settings, settings], NaN where a setting's own vector does too little.
      gap: [settings, settings], mean over rows of the absolute difference of the unsteered
        propensities, in logits.
    """

    settings: tuple[str, ...]
    vectors: tuple[str, ...]
    steerability: Table
    anti_steerable: Table
    relative: Table
    gap: Table

    def steerability_in(self, setting: str, vector: str) -> float:
        """The steerability of a vector in a setting."""
        return self.steerability[self.settings.index(setting)][self.vectors.index(vector)]


@dataclass(frozen=True, kw_only=True)
class SetReliability(VectorReliability):
    """A set's own vector in the plain setting, a random vector of its norm there, and the matrix of
    all vectors and settings."""

    random: VectorReliability
    matrix: SettingMatrix


@dataclass(frozen=True)
class PromptShift:
    """The same vectors in their own setting and in another one.

    Attributes:
      vector: the setting that the vectors come from.
      setting: the shifted one.
      unshifted, shifted: steerability by set.
      correlation: rank correlation of the two over sets.
      ratio_of_means: shifted over unshifted; None where the latter is 0.
      negative: sets with a negative shifted steerability.
    """

    vector: str
    setting: str
    unshifted: tuple[float, ...]
    shifted: tuple[float, ...]
    correlation: Interval
    ratio_of_means: float | None
    negative: int


@dataclass(frozen=True)
class SetSummary:
    """All sets together, each by its own vector in the plain setting but where it says otherwise.
    Intervals are over sets and speak of other sets.

    Attributes:
      sets: how many.
      shifts: of each of `SHIFTS` that a set was tried under.
      pooled: rank correlation of unshifted and shifted steerability, all shifts in one.
      relative_against_gap: rank correlation of relative steerability with the gap of the unsteered
        propensities, over sets and pairs of different settings. Pairs of one set are not
        independent: a description, whose interval is too narrow.
      steerability: mean over sets.
      range: the smallest and the largest.
      against_random: minus the random vectors'.
      balanced, balanced_against_random: the same with both letters weighted equally.
      anti_steerable: mean share of rows; `anti_steerable_median` over sets,
        `anti_steerable_above_40` the sets with more than 40%.
      explained_median: median share of the slopes' variance that letter and Yes or No explain.
    """

    sets: int
    shifts: tuple[PromptShift, ...]
    pooled: Interval | None
    relative_against_gap: Interval
    steerability: Interval
    range: tuple[float, float]
    against_random: PairedDifference
    balanced: Interval
    balanced_against_random: PairedDifference
    anti_steerable: Interval
    anti_steerable_median: float
    anti_steerable_above_40: int
    explained_median: float | None


def measure_vector(
    propensities: Float[np.ndarray, "rows multipliers"],
    multipliers: Sequence[float],
    is_first: Flags = None,
    is_yes: Flags = None,
) -> VectorReliability:
    """The slopes of one vector on one set.

    Args:
      is_first: the matching answer is (A); None where answers have no letters.
      is_yes: it says Yes; None where answers say neither Yes nor No.
    """
    fit = per_sample_slopes(propensities, multipliers)
    slopes = fit.slope
    backwards = int((slopes <= 0).sum())
    return VectorReliability(
        steerability=bootstrap_interval(slopes, resamples=RESAMPLES),
        anti_steerable=rate_interval(backwards, len(slopes)),
        clearly_anti_steerable=float(clearly_anti_steerable(fit, multipliers).mean()),
        balanced=balance_letters(slopes, is_first),
        median=float(np.median(slopes)),
        variance=float(slopes.var()),
        quantiles=tuple(np.quantile(slopes, np.linspace(0, 1, QUANTILES)).tolist()),
        residual=float(fit.residual.mean()),
        rank=float(np.nanmean(fit.rank)) if np.isfinite(fit.rank).any() else None,
        decomposition=decompose_variance(slopes, is_first, is_yes),
    )


def balance_letters(slopes: Float[np.ndarray, " rows"], is_first: Flags) -> float | None:
    """The mean of the two letters' mean slopes; None without letters, or with one of them only."""
    if is_first is None or is_first.all() or not is_first.any():
        return None
    return float((slopes[is_first].mean() + slopes[~is_first].mean()) / 2)


def decompose_variance(
    slopes: Float[np.ndarray, " rows"], is_first: Flags, is_yes: Flags
) -> SlopeVariance:
    """What letter and Yes or No explain of the slopes' variance."""
    rng = np.random.default_rng(0)
    shares = np.empty(SHARE_RESAMPLES)
    for i in range(SHARE_RESAMPLES):
        rows = rng.integers(len(slopes), size=len(slopes))
        flags = (None if flag is None else flag[rows] for flag in (is_first, is_yes))
        shares[i] = decompose_slopes(slopes[rows], *flags).explained_share
    low = high = float("nan")
    if np.isfinite(shares).any():
        low, high = map(float, np.nanquantile(shares, (0.025, 0.975)))
    parts = decompose_slopes(slopes, is_first, is_yes)
    share, n = parts.explained_share, len(slopes)
    return SlopeVariance(
        *parts,
        letter_share=parts.letter / parts.variance if parts.variance else None,
        yes_no_share=parts.yes_no / parts.variance if parts.variance else None,
        explained_share=Interval(share, low, high, n, 0.95, "percentile bootstrap"),
    )


def cross_settings(
    by_setting: Mapping[str, Float[np.ndarray, "rows vectors multipliers"]],
    vectors: Sequence[str],
    multipliers: Sequence[float],
) -> SettingMatrix:
    """Steerability and anti-steerable share of every vector in every setting, and how far the
    unsteered propensities of the settings are apart."""
    settings = list(by_setting)
    slopes = np.stack([per_sample_slopes(by_setting[s], multipliers).slope for s in settings])
    zero = list(multipliers).index(0.0)
    plain = np.stack([by_setting[s][:, 0, zero] for s in settings]).astype(float)
    steerability = slopes.mean(axis=1)
    same_setting = [vectors.index(s) for s in settings]
    return SettingMatrix(
        settings=tuple(settings),
        vectors=tuple(vectors),
        steerability=_table(steerability),
        anti_steerable=_table(np.asarray(anti_steerable(slopes.swapaxes(1, 2)))),
        relative=_table(relative_steerability(steerability[:, same_setting])),
        gap=_table(np.abs(plain[:, None] - plain[None]).mean(axis=2)),
    )


def _table(values: Float[np.ndarray, "rows columns"]) -> Table:
    return tuple(map(tuple, values.tolist()))


def summarise_sets(sets: Sequence[SetReliability]) -> SetSummary:
    """All sets together."""
    shifts = [
        shift for vector, setting in SHIFTS if (shift := measure_shift(sets, vector, setting))
    ]
    unshifted = [value for shift in shifts for value in shift.unshifted]
    shifted = [value for shift in shifts for value in shift.shifted]
    steerability = [s.steerability.mean for s in sets]
    random = [s.random.steerability.mean for s in sets]
    balanced = [
        (s.balanced, s.random.balanced)
        for s in sets
        if s.balanced is not None and s.random.balanced is not None
    ]
    shares = [s.anti_steerable.mean for s in sets]
    explained = np.array([s.decomposition.explained_share.mean for s in sets])
    return SetSummary(
        sets=len(sets),
        shifts=tuple(shifts),
        pooled=spearman_interval(unshifted, shifted) if shifts else None,
        relative_against_gap=_relative_against_gap(sets),
        steerability=mean_interval(steerability),
        range=(min(steerability), max(steerability)),
        against_random=paired_difference(steerability, random),
        balanced=mean_interval([value for value, _ in balanced]),
        balanced_against_random=paired_difference(
            [value for value, _ in balanced], [control for _, control in balanced]
        ),
        anti_steerable=share_interval(shares),
        anti_steerable_median=float(np.median(shares)),
        anti_steerable_above_40=sum(share > 0.4 for share in shares),
        explained_median=float(np.nanmedian(explained)) if np.isfinite(explained).any() else None,
    )


def measure_shift(sets: Sequence[SetReliability], vector: str, setting: str) -> PromptShift | None:
    """The vectors of one setting in another one; None where no set has both."""
    tried = [s.matrix for s in sets if {vector, setting} <= set(s.matrix.settings)]
    if not tried:
        return None
    unshifted = [matrix.steerability_in(vector, vector) for matrix in tried]
    shifted = [matrix.steerability_in(setting, vector) for matrix in tried]
    mean = float(np.mean(unshifted))
    return PromptShift(
        vector=vector,
        setting=setting,
        unshifted=tuple(unshifted),
        shifted=tuple(shifted),
        correlation=spearman_interval(unshifted, shifted),
        ratio_of_means=float(np.mean(shifted)) / mean if mean else None,
        negative=sum(value < 0 for value in shifted),
    )


def _relative_against_gap(sets: Sequence[SetReliability]) -> Interval:
    relative, gap = [], []
    for s in sets:
        for i, row in enumerate(s.matrix.relative):
            for j, value in enumerate(row):
                if i != j and np.isfinite(value):
                    relative.append(value)
                    gap.append(s.matrix.gap[i][j])
    return spearman_interval(relative, gap)
