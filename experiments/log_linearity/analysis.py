"""From matrices of log-probabilities to the numbers of `log-linearity`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.metric_ranges import COSINE, EXPLAINED, NOT_NEGATIVE, MetricRange
from subliminal_jax.evaluation.statistics import Interval, mean_interval, paired_difference
from subliminal_jax.selection.log_linear_model import ARMS, ToyResult
from subliminal_jax.selection.log_linearity import (
    effective_rank,
    energy_rank,
    fit_power_law,
    gaussian_cosines,
    predict_held_out,
    principal_cosines,
    remove_pair_means,
    row_space,
)

Matrix = Float[np.ndarray, "systems pairs"]
KINDS = {"raw": "log-probabilities", "centred": "each pair's mean removed"}
GAUSSIAN = "Gaussian matrix"
RANK = MetricRange(low=1.0)


@dataclass(frozen=True)
class Design:
    """What all numbers of a run depend on.

    Attributes:
      models: names of the models; the first is compared with the others.
      shape: system prompts and pairs of each matrix.
      draws: how often both were drawn.
      k: dimension of the row spaces, and the rank whose prediction is claimed.
      dropped_rows: of the source of pairs, by reason.
    """

    models: tuple[str, ...]
    shape: tuple[int, int]
    draws: int
    k: int
    dropped_rows: Mapping[str, int]


@dataclass(frozen=True)
class Measured(Design):
    """What a run measured.

    Attributes:
      matrices: X of each model, of its random weights (`random_twin`) and of Gaussian numbers
        (`GAUSSIAN`), by name: one a draw.
      toy: the students of the exactly log-linear toy (`ARMS`), by seed.
      fit_ranks: first and last rank of the power law's fit.
      ranks: ranks of the factors whose predictions are shown.
      gaussian_draws: pairs of Gaussian matrices a draw.
    """

    matrices: Mapping[str, Sequence[Matrix]]
    toy: Sequence[Sequence[ToyResult]]
    fit_ranks: tuple[int, int]
    ranks: tuple[int, ...]
    gaussian_draws: int


@dataclass(frozen=True)
class Spectrum:
    """Singular values of the matrices of one name and kind; intervals are over draws.

    Attributes:
      model: a model's name, its random twin's, or `GAUSSIAN`.
      kind: of `KINDS`.
      first, last: ranks over which the power law was fitted.
      slope, r_squared: of that fit.
      effective_rank: exp of the entropy of the singular values.
      rank_90, rank_99: ranks that hold these shares of the squared norm.
      lowest_r_squared: over draws.
      singular: the singular values, mean over draws.
      slopes: of each draw.
    """

    model: str
    kind: str
    first: int
    last: int
    slope: Interval
    r_squared: Interval
    effective_rank: Interval
    rank_90: Interval
    rank_99: Interval
    lowest_r_squared: float
    singular: tuple[float, ...]
    slopes: tuple[float, ...]


@dataclass(frozen=True)
class RankErrors:
    """Errors of factors of one rank, beyond each pair's mean; intervals are over draws.

    Definition 2.1 bounds the largest error: a small mean does not imply that.

    Attributes:
      over_random: held-out R2, the model's minus its random twin's, paired by draw; None where
        there is no twin.
      fit_rmse, fit_largest: of the best fit to all entries, in nats.
      held_out_r_squared: share of the variance of held-out entries that is predicted.
      held_out_rmse, held_out_largest: error of that prediction, in nats.
    """

    model: str
    rank: int
    over_random: Interval | None
    fit_rmse: Interval
    fit_largest: Interval
    held_out_r_squared: Interval
    held_out_rmse: Interval
    held_out_largest: Interval


@dataclass(frozen=True)
class RowSpaceAngles:
    """Cosines of the principal angles between the top-k row spaces of two models.

    Of the two models ("models"), of the first and the second's random weights ("random") and of
    Gaussian matrices ("gaussian"): the cosines, largest first, mean over draws; the mean cosine
    with its interval over draws; and the models' mean cosine over each baseline's.
    """

    first: str
    other: str
    kind: str
    k: int
    pairs: int
    models_cosines: tuple[float, ...]
    random_cosines: tuple[float, ...]
    gaussian_cosines: tuple[float, ...]
    models: Interval
    random: Interval
    gaussian: Interval
    over_random: Interval
    over_gaussian: Interval


@dataclass(frozen=True)
class ToyArm:
    """The toy's students of one arm: correlation of their shifts with the system prompt's on
    held-out pairs, over seeds (`values`); the theorem's bound, NaN where it states none; the mean
    margin in nats and the mean number of training pairs."""

    arm: str
    correlation: Interval
    values: tuple[float, ...]
    bound: float
    margin: float
    pairs: int


@dataclass(frozen=True)
class Results(Design):
    """All numbers of the report."""

    spectra: tuple[Spectrum, ...]
    residuals: tuple[RankErrors, ...]
    angles: tuple[RowSpaceAngles, ...]
    toy: tuple[ToyArm, ...]

    def model_spectra(self) -> list[Spectrum]:
        """Those of the models' log-probabilities."""
        return [s for s in self.spectra if s.kind == "raw" and s.model in self.models]

    def claimed_errors(self) -> list[RankErrors]:
        """Those of the models at rank `k`."""
        return [e for e in self.residuals if e.rank == self.k and e.model in self.models]


def random_twin(name: str) -> str:
    """What the model `name` with random weights is called."""
    return f"{name}, random weights"


def analyse(measured: Measured) -> Results:
    """Spectra, low-rank prediction, row spaces, and the toy's correlations."""
    return Results(
        models=measured.models,
        shape=measured.shape,
        draws=measured.draws,
        k=measured.k,
        dropped_rows=measured.dropped_rows,
        spectra=tuple(
            analyse_spectrum(name, kind, draws, *measured.fit_ranks)
            for name, draws in measured.matrices.items()
            for kind in KINDS
        ),
        residuals=tuple(analyse_ranks(measured.matrices, measured.ranks)),
        angles=tuple(
            compare_row_spaces(measured, other, kind)
            for other in measured.models[1:]
            for kind in KINDS
        ),
        toy=tuple(summarise_toy(measured.toy)),
    )


def take_kind(x: Matrix, kind: str) -> Matrix:
    """X, or X without each pair's mean, by its key in `KINDS`."""
    return remove_pair_means(x) if kind == "centred" else x


def analyse_spectrum(
    name: str, kind: str, draws: Sequence[Matrix], first: int, last: int
) -> Spectrum:
    """Singular values and their power law over the ranks `first` to `last`."""
    singular = [np.linalg.svd(take_kind(x, kind), compute_uv=False) for x in draws]
    laws = [fit_power_law(s, first, last) for s in singular]
    return Spectrum(
        model=name,
        kind=kind,
        first=first,
        last=last,
        slope=mean_interval([law.slope for law in laws]),
        r_squared=EXPLAINED.clip(mean_interval([law.r_squared for law in laws])),
        effective_rank=RANK.clip(mean_interval([effective_rank(s) for s in singular])),
        rank_90=RANK.clip(mean_interval([energy_rank(s, 0.9) for s in singular])),
        rank_99=RANK.clip(mean_interval([energy_rank(s, 0.99) for s in singular])),
        lowest_r_squared=min(law.r_squared for law in laws),
        singular=tuple(np.mean(singular, axis=0).tolist()),
        slopes=tuple(law.slope for law in laws),
    )


def analyse_ranks(
    matrices: Mapping[str, Sequence[Matrix]], ranks: Sequence[int]
) -> list[RankErrors]:
    """Errors of each name's matrices at each rank."""
    predictions = {
        name: [{p.rank: p for p in predict_held_out(x, ranks, i)} for i, x in enumerate(draws)]
        for name, draws in matrices.items()
    }
    errors = []
    for name, draws in matrices.items():
        centred = [remove_pair_means(x) for x in draws]
        decompositions = [np.linalg.svd(y, full_matrices=False) for y in centred]
        for rank in ranks:
            residuals = [
                y - (u[:, :rank] * s[:rank]) @ v[:rank]
                for (u, s, v), y in zip(decompositions, centred, strict=True)
            ]
            held_out = [p[rank] for p in predictions[name]]
            over_random = None
            if (twin := predictions.get(random_twin(name))) is not None:
                over_random = paired_difference(
                    [p.r_squared for p in held_out], [p[rank].r_squared for p in twin]
                ).interval
            errors.append(
                RankErrors(
                    model=name,
                    rank=rank,
                    over_random=over_random,
                    fit_rmse=NOT_NEGATIVE.clip(
                        mean_interval([float(np.sqrt(np.mean(e**2))) for e in residuals])
                    ),
                    fit_largest=NOT_NEGATIVE.clip(
                        mean_interval([float(np.abs(e).max()) for e in residuals])
                    ),
                    held_out_r_squared=EXPLAINED.clip(
                        mean_interval([p.r_squared for p in held_out])
                    ),
                    held_out_rmse=NOT_NEGATIVE.clip(mean_interval([p.rmse for p in held_out])),
                    held_out_largest=NOT_NEGATIVE.clip(
                        mean_interval([p.largest for p in held_out])
                    ),
                )
            )
    return errors


def compare_row_spaces(measured: Measured, other: str, kind: str) -> RowSpaceAngles:
    """The top-k row spaces of the first model and `other`, against the two baselines."""
    first, k = measured.models[0], measured.k
    pairs = measured.matrices[first][0].shape[1]
    models, random = (
        [
            principal_cosines(row_space(take_kind(x, kind), k), row_space(take_kind(y, kind), k))
            for x, y in zip(measured.matrices[first], measured.matrices[name], strict=True)
        ]
        for name in (other, random_twin(other))
    )
    gaussian = [
        gaussian_cosines(pairs, k, measured.gaussian_draws, seed).mean(axis=0)
        for seed in range(len(models))
    ]
    model_means, random_means, gaussian_means = (
        [float(cosines.mean()) for cosines in draws] for draws in (models, random, gaussian)
    )
    rise = COSINE.difference()
    return RowSpaceAngles(
        first=first,
        other=other,
        kind=kind,
        k=k,
        pairs=pairs,
        models_cosines=tuple(np.mean(models, axis=0).tolist()),
        random_cosines=tuple(np.mean(random, axis=0).tolist()),
        gaussian_cosines=tuple(np.mean(gaussian, axis=0).tolist()),
        models=COSINE.clip(mean_interval(model_means)),
        random=COSINE.clip(mean_interval(random_means)),
        gaussian=COSINE.clip(mean_interval(gaussian_means)),
        over_random=rise.clip(mean_interval(np.subtract(model_means, random_means).tolist())),
        over_gaussian=rise.clip(mean_interval(np.subtract(model_means, gaussian_means).tolist())),
    )


def summarise_toy(runs: Sequence[Sequence[ToyResult]]) -> list[ToyArm]:
    """Each arm of the exactly log-linear toy, over seeds."""
    arms = []
    for i, arm in enumerate(ARMS):
        students = [run[i] for run in runs]
        values = [student.correlation for student in students]
        arms.append(
            ToyArm(
                arm=arm,
                correlation=COSINE.clip(mean_interval(values)),
                values=tuple(values),
                bound=float(np.max([student.bound for student in students])),
                margin=float(np.mean([student.margin for student in students])),
                pairs=int(np.mean([student.pairs for student in students])),
            )
        )
    return arms
