"""The first gradients of both objectives, at the untrained base, against the teacher's vector."""

from collections.abc import Mapping, Sequence
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
from subliminal_jax.evaluation.metric_ranges import COSINE
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import Interval
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
      teacher: the kind of teacher.
      pair: of `PAIRS`, as "hard-soft": the negative gradients of cross-entropy ("hard") and of KL
        ("soft"), the Fisher information of a vector at the steering layer times the teacher's
        vector ("fisher"), and that vector ("v").
      values: of each trait, the mean over its disjoint groups of n rows.
      cosine: their mean, with its interval over traits.
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
    teachers: Mapping[str, Sequence[str]],
    layer: int,
    rows: int,
    rows_at_once: int,
) -> tuple[GradientCosine, ...]:
    """The cosines of `PAIRS` on the first `rows` rows of every teacher's data.

    Args:
      shifts: the teachers' vectors at `layer`, by the names of their data sets.
      teachers: these names, one a trait, by the kind of teacher.
    """
    shared = {
        "max_targets": max(map(max_targets, data.train.values())),
        "rows_at_once": rows_at_once,
    }

    def measure(name: str) -> dict[tuple[str, int], float]:
        i, v = data.names.index(name), shifts[name]
        few_rows = slice_rows(data.train[name], 0, rows)
        steering = jax.tree.map(lambda leaf: leaf[i], soft.steerings)
        teacher_rows: Batch | None = None
        if soft.rows is not None:
            teacher_rows = slice_rows(jax.tree.map(lambda leaf: leaf[i], soft.rows), 0, rows)
        args = (model.params, model.cfg, few_rows, layer)
        gradients = {
            "hard": -row_gradients(*args, **shared),
            "soft": -divergence_gradients(*args, steering, teacher_rows, **shared),
            "fisher": fisher_products(*args, v, **shared),
        }
        return compare_directions(gradients, v)

    cosines = []
    for kind, names in teachers.items():
        by_trait = [measure(name) for name in names]
        for pair, n in by_trait[0]:
            values = tuple(each[pair, n] for each in by_trait)
            cosines.append(
                GradientCosine(kind, pair, n, values, COSINE.clip(vector_interval(values)))
            )
    return tuple(cosines)


def compare_directions(
    gradients: Mapping[str, Float[Array, "rows dim"]], vector: Float[Array, " dim"]
) -> dict[tuple[str, int], float]:
    """Cosines of `PAIRS` between means over n rows, for n in powers of 2 up to all rows; of each n
    the mean over disjoint groups."""
    arrays = {name: np.asarray(rows, np.float64) for name, rows in gradients.items()}
    v = np.asarray(vector, np.float64)
    cosines = {}
    for n in doubling(len(next(iter(arrays.values())))):
        means = {name: _group_means(rows, n) for name, rows in arrays.items()}
        means["v"] = np.broadcast_to(v, means["hard"].shape)
        for a, b in PAIRS:
            cosines[f"{a}-{b}", n] = float(_cosines(means[a], means[b]).mean())
    return cosines


def _group_means(rows: Float[np.ndarray, "rows dim"], n: int) -> Float[np.ndarray, "groups dim"]:
    groups = len(rows) // n
    return rows[: groups * n].reshape(groups, n, -1).mean(axis=1)


def _cosines(
    a: Float[np.ndarray, "*n dim"], b: Float[np.ndarray, "*n dim"]
) -> Float[np.ndarray, "*n"]:
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.sum(a * b, axis=-1) / np.where(norms == 0, 1.0, norms)
