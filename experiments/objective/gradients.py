"""The first gradients of both objectives, at the untrained base, against the teacher's vector."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.activation_gradients import doubling
from subliminal_jax.diagnostics.objective_gradients import (
    divergence_gradients,
    fisher_products,
    row_gradients,
)
from subliminal_jax.evaluation.statistics import Interval, mean_interval
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import DataSets, slice_rows
from subliminal_jax.training.batch import Batch, max_targets
from subliminal_jax.training.objectives import KL

PAIRS = (
    ("hard", "soft"),
    ("hard", "v"),
    ("soft", "v"),
    ("hard", "fisher"),
    ("soft", "fisher"),
    ("fisher", "v"),
)


@dataclass(frozen=True)
class GradientCosine:
    """The cosine of two directions, each a mean over `n` rows.

    Attributes:
      teacher: the name of its data set.
      pair: of `PAIRS`, as "hard-soft": the negative gradients of cross-entropy ("hard") and of KL
        ("soft"), the Fisher information of a vector at the steering layer times the teacher's
        vector ("fisher"), and that vector ("v").
      values: of each draw, the mean over its disjoint groups of n rows.
      cosine: their mean, with its interval over draws.
    """

    teacher: str
    pair: str
    n: int
    values: tuple[float, ...]
    cosine: Interval


def measure_gradients(
    model: Model,
    data: DataSets,
    soft: KL,
    shifts: Mapping[str, Float[Array, " dim"]],
    layer: int,
    draws: int,
    rows_per_draw: int,
    rows_at_once: int,
) -> tuple[GradientCosine, ...]:
    """The cosines of `PAIRS` on every teacher's data; `shifts` are the teachers' vectors at
    `layer`, by the names of their data sets."""
    shared = {
        "max_targets": max(map(max_targets, data.train.values())),
        "rows_at_once": rows_at_once,
    }
    cosines: list[GradientCosine] = []
    for name, v in shifts.items():
        i = data.names.index(name)
        rows = slice_rows(data.train[name], 0, draws * rows_per_draw)
        steering = jax.tree.map(lambda leaf, i=i: leaf[i], soft.steerings)
        teacher_rows: Batch | None = None
        if soft.rows is not None:
            batch = jax.tree.map(lambda leaf, i=i: leaf[i], soft.rows)
            teacher_rows = slice_rows(batch, 0, draws * rows_per_draw)
        args = (model.params, model.cfg, rows, layer)
        gradients = {
            "hard": -row_gradients(*args, **shared),
            "soft": -divergence_gradients(*args, steering, teacher_rows, **shared),
            "fisher": fisher_products(*args, v, **shared),
        }
        cosines += compare_directions(name, gradients, v, draws)
    return tuple(cosines)


def compare_directions(
    teacher: str,
    gradients: Mapping[str, Float[Array, "rows dim"]],
    vector: Float[Array, " dim"],
    draws: int,
) -> list[GradientCosine]:
    """Cosines of `PAIRS` between means over n rows, for n in powers of 2 up to a draw's rows."""
    arrays = {name: np.asarray(rows, np.float64) for name, rows in gradients.items()}
    size = len(next(iter(arrays.values()))) // draws
    v = np.asarray(vector, np.float64)
    cosines = []
    for n in doubling(size):
        means = {name: _group_means(rows, draws, size, n) for name, rows in arrays.items()}
        means["v"] = np.broadcast_to(v, means["hard"].shape)
        for a, b in PAIRS:
            values = tuple(_cosines(means[a], means[b]).mean(axis=1).tolist())
            cosines.append(GradientCosine(teacher, f"{a}-{b}", n, values, mean_interval(values)))
    return cosines


def _group_means(
    rows: Float[np.ndarray, "rows dim"], draws: int, size: int, n: int
) -> Float[np.ndarray, "draws groups dim"]:
    groups = size // n
    parts = rows[: draws * size].reshape(draws, size, -1)[:, : groups * n]
    return parts.reshape(draws, groups, n, -1).mean(axis=2)


def _cosines(
    a: Float[np.ndarray, "*n dim"], b: Float[np.ndarray, "*n dim"]
) -> Float[np.ndarray, "*n"]:
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.sum(a * b, axis=-1) / np.where(norms == 0, 1.0, norms)
