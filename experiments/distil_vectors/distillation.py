"""What students of several vectors took up of each: losses on all data sets, answers, statistics.

Matrices are [seeds, vectors].
"""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.batch import Batch, max_targets, stack_rows
from subliminal_jax.training.losses import heldout_loss
from subliminal_jax.training.sweep import State, Sweep

ROWS_AT_ONCE = 32
RESAMPLES = 4999


def losses_on_all(
    sweep: Sweep, state: State, base: Params, heldout: Mapping[str, Batch]
) -> tuple[Float[np.ndarray, "students sets"], Float[np.ndarray, " sets"]]:
    """The held-out loss of every student, and of the base, on every data set in sorted order."""
    rows = stack_rows([heldout[name] for name in sorted(heldout)])
    targets = max_targets(rows)

    def losses(
        rows: Batch, params: Params, cfg: ModelConfig, steering: Steering | None
    ) -> Float[Array, " sets"]:
        def loss(piece: Batch) -> Float[Array, ""]:
            return heldout_loss(
                params, piece, cfg, steering, rows_at_once=ROWS_AT_ONCE, max_targets=targets
            )

        return jax.lax.map(loss, rows)

    students = sweep.map_students(lambda rows, params, s: losses(rows, params, sweep.cfg, s))
    base_losses = jax.jit(lambda params, rows: losses(rows, params, sweep.cfg, None))
    return np.asarray(students(state, rows)), np.asarray(base_losses(base, rows))


def answer_distribution(
    rates: Float[np.ndarray, "*n words"],
) -> Float[np.ndarray, "*n outcomes"]:
    """A distribution over the words and, last, any other answer."""
    rest = np.clip(1.0 - rates.sum(axis=-1, keepdims=True), 0.0, 1.0)
    outcomes = np.concatenate([rates, rest], axis=-1)
    return outcomes / outcomes.sum(axis=-1, keepdims=True)


def total_variation(
    p: Float[np.ndarray, "*#n outcomes"], q: Float[np.ndarray, "*#n outcomes"]
) -> Float[np.ndarray, "*_"]:
    """Half the sum of |p - q|: the largest difference in probability of any set of outcomes."""
    return np.asarray(0.5 * np.abs(p - q).sum(axis=-1))


def variation_among(
    controls: Float[np.ndarray, "seeds outcomes"],
) -> Float[np.ndarray, " seeds"]:
    """Of each control its mean total variation to the others: what another seed alone makes.

    NaN for a single control.
    """
    n = len(controls)
    distances = total_variation(controls[:, None], controls[None])
    return distances.sum(axis=1) / (n - 1) if n > 1 else np.full(n, np.nan)


def bootstrap_difference(
    a: Float[np.ndarray, "seeds vectors"],
    b: Float[np.ndarray, "seeds others"],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """mean(a) - mean(b) with a 95% percentile bootstrap interval.

    Seeds are drawn for both together, vectors for each set by itself.
    """
    rng = np.random.default_rng(seed)

    def resample(
        x: Float[np.ndarray, "seeds n"], seeds: np.ndarray
    ) -> Float[np.ndarray, "seeds n"]:
        return x[np.ix_(seeds, rng.integers(x.shape[1], size=x.shape[1]))]

    draws = np.empty(resamples)
    for i in range(resamples):
        seeds = rng.integers(len(a), size=len(a))
        draws[i] = resample(a, seeds).mean() - resample(b, seeds).mean()
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(
        mean=float(a.mean() - b.mean()),
        low=float(low),
        high=float(high),
        n=len(a),
        level=0.95,
        method="bootstrap of two sets",
    )
