"""The students of several vectors at one layer: what of each vector they took up.

Matrices are [seeds, vectors]; `control` beside a value is that of the control student of the seed.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.batch import Batch, max_targets, stack_rows
from subliminal_jax.training.losses import heldout_loss
from subliminal_jax.training.sweep import State, Sweep

Matrix = Float[np.ndarray, "seeds vectors"]
ROWS_AT_ONCE = 32


def losses_on_all(
    sweep: Sweep, state: State, base: Params, heldout: Mapping[str, Batch]
) -> tuple[Float[np.ndarray, "students sets"], Float[np.ndarray, " sets"]]:
    """The held-out loss of every student, and of the base, on every data set in sorted order."""
    rows = stack_rows([heldout[name] for name in sorted(heldout)])
    targets = max_targets(rows)

    def on_all(
        rows: Batch, params: Params, cfg: ModelConfig, steering: Steering | None
    ) -> Float[Array, " sets"]:
        def one(piece: Batch) -> Float[Array, ""]:
            return heldout_loss(
                params, piece, cfg, steering, rows_at_once=ROWS_AT_ONCE, max_targets=targets
            )

        return jax.lax.map(one, rows)

    students = sweep.map_students(lambda rows, params, s: on_all(rows, params, sweep.cfg, s))
    of_base = jax.jit(lambda params, rows: on_all(rows, params, sweep.cfg, None))
    return np.asarray(students(state, rows)), np.asarray(of_base(base, rows))


def answers(rates: Float[np.ndarray, "*n words"]) -> Float[np.ndarray, "*n outcomes"]:
    """A distribution over the words and, last, any other answer."""
    rest = np.clip(1.0 - rates.sum(axis=-1, keepdims=True), 0.0, 1.0)
    both = np.concatenate([rates, rest], axis=-1)
    return both / both.sum(axis=-1, keepdims=True)


def total_variation(
    p: Float[np.ndarray, "*#n outcomes"], q: Float[np.ndarray, "*#n outcomes"]
) -> Float[np.ndarray, "*_"]:
    """Half the sum of |p - q|: the largest difference in probability of any set of outcomes."""
    return np.asarray(0.5 * np.abs(p - q).sum(axis=-1))


def among_controls(
    controls: Float[np.ndarray, "seeds outcomes"],
) -> Float[np.ndarray, " seeds"]:
    """Of each control its mean total variation to the others: what another seed alone makes.

    NaN for a single control.
    """
    n = len(controls)
    apart = total_variation(controls[:, None], controls[None])
    return apart.sum(axis=1) / (n - 1) if n > 1 else np.full(n, np.nan)


def difference_of_sets(
    a: Matrix, b: Float[np.ndarray, "seeds others"], resamples: int = 4999, seed: int = 0
) -> dict[str, Any]:
    """mean(a) - mean(b) with a 95% percentile bootstrap interval.

    Seeds are drawn for both together, vectors for each set by itself.
    """
    rng = np.random.default_rng(seed)
    draws = np.empty(resamples)
    for i in range(resamples):
        s = rng.integers(len(a), size=len(a))
        of_a, of_b = (x[np.ix_(s, rng.integers(x.shape[1], size=x.shape[1]))] for x in (a, b))
        draws[i] = of_a.mean() - of_b.mean()
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "mean": float(a.mean() - b.mean()), "low": float(low), "high": float(high), "n": len(a),
        "level": 0.95, "method": "bootstrap of two sets",
    }  # fmt: skip
