"""What students of several vectors took up of each: losses on all data sets, answers, statistics.

Matrices are [seeds, vectors].
"""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.evaluation.statistics import Interval, mean_interval
from subliminal_jax.evaluation.two_samples import difference_interval
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.batch import Batch, max_targets, stack_rows
from subliminal_jax.training.losses import heldout_loss
from subliminal_jax.training.sweep import State, Sweep

ROWS_AT_ONCE = 32


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


def compare_kinds(
    a: Float[np.ndarray, "seeds vectors"], b: Float[np.ndarray, "seeds others"]
) -> Interval:
    """mean(a) - mean(b), with the wider of two 95% t intervals: Welch's over vectors, each a mean
    over seeds, and that of each seed's difference, which both kinds share.

    Of one seed, or one vector of a kind, only the other of the two is left.
    """
    intervals = [mean_interval(a.mean(axis=1) - b.mean(axis=1))]
    if min(a.shape[1], b.shape[1]) > 1:
        of_vectors = (x.mean(axis=0).tolist() for x in (a, b))
        intervals.append(difference_interval(*of_vectors))
    return max(intervals, key=lambda each: np.nan_to_num(each.high - each.low))
