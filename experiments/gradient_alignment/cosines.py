"""Cosines of loss gradients with teachers' vectors, of single rows, of means, and against N.

The sign is that of the paper: cos(g_clean - g_teacher, v), positive where the data teach the
vector. The cosine of the difference of two clean sets is that of pure noise: zero on average, but
no smaller for more rows. So the control is compared in components, which do shrink, in units of the
gradient norm of one clean row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from subliminal_jax.diagnostics.activation_gradients import cosine_against_n, doubling
from subliminal_jax.evaluation.metric_ranges import COSINE
from subliminal_jax.evaluation.statistics import Interval, crossed_interval

POSITIONS = ("tag", "completion", "all")
Gradients = Float[np.ndarray, "positions layers rows dim"]


class DrawGradients(NamedTuple):
    """Gradients on one draw of a teacher's rows, of clean rows, and of a second clean set."""

    teacher: Gradients
    clean: Gradients
    clean_again: Gradients


@dataclass(frozen=True)
class PooledCosines:
    """What the gradients of one draw, averaged over its rows, have of the vector v.

    Attributes:
      teacher: its kind.
      trait: whose teacher and vector.
      draw: which part of the rows.
      position: at which tokens the gradient is taken (one of `POSITIONS`).
      layer: after which block.
      difference: cos(g_clean - g_teacher, v).
      share: its square.
      teacher_alone: cos(-g_teacher, v).
      clean: cos(-g_clean, v).
      control: cos(g_clean - g_clean_again, v).
      along, control_along: components along v/|v| of g_clean - g_teacher and of
        g_clean - g_clean_again, in units of `norm_clean_row`.
      other_vectors: cos(g_clean - g_teacher, w), mean over the other traits' vectors w; None where
        there is no other.
      norm_difference, norm_teacher, norm_clean: norms of the means.
      norm_clean_row: the mean norm of one clean row's gradient.
    """

    teacher: str
    trait: str
    draw: int
    position: str
    layer: int
    difference: float
    share: float
    teacher_alone: float
    clean: float
    control: float
    along: float
    control_along: float
    other_vectors: float | None
    norm_difference: float
    norm_teacher: float
    norm_clean: float
    norm_clean_row: float


@dataclass(frozen=True)
class SingleRows:
    """Means and standard errors, over batches of single rows, of one teacher's rows or of the clean
    ones beside them.

    Attributes:
      data: "teacher" or "clean".
      batches: their number.
      cosine: cos(-g, v).
      share: the share of |g|^2 along v.
      norm: |g|.
    """

    teacher: str
    trait: str
    position: str
    layer: int
    data: str
    batches: int
    cosine: float
    cosine_stderr: float
    share: float
    share_stderr: float
    norm: float
    norm_stderr: float


@dataclass(frozen=True)
class CurvePoint:
    """The cosine at the steering layer of a mean over `n` rows.

    Attributes:
      data: what is averaged: "difference" (clean - teacher), "teacher", "clean" or "control"
        (clean - clean).
      cosine: over draws and traits.
      values: [traits][draws].
    """

    teacher: str
    position: str
    data: str
    n: int
    cosine: Interval
    values: tuple[tuple[float, ...], ...]


class Cosines:
    """Collects the cosines of every teacher's gradients with its vector, draw by draw."""

    def __init__(self, vectors: Mapping[str, np.ndarray], layer: int, row_batch: int):
        self.vectors, self.layer, self.row_batch = vectors, layer, row_batch
        self.pooled: list[PooledCosines] = []
        self._rows: dict[tuple[Any, ...], list[np.ndarray]] = {}
        self._curves: dict[tuple[str, str, str], dict[str, list[np.ndarray]]] = {}
        self._n: tuple[int, ...] = ()

    def add(self, kind: str, trait: str, draw: int, gradients: DrawGradients) -> None:
        """One draw of one teacher."""
        vectors = self.vectors[trait]
        others = [w for name, w in self.vectors.items() if name != trait]
        self._n = doubling(gradients.teacher.shape[2])
        for p, position in enumerate(POSITIONS):
            t, c, again = (g[p].mean(axis=1) for g in gradients)  # each [layers, dim]
            for layer, v in enumerate(vectors):
                rows = {"teacher": gradients.teacher[p, layer], "clean": gradients.clean[p, layer]}
                norm = float(np.linalg.norm(rows["clean"], axis=1).mean())
                cosines = _pool(t[layer], c[layer], again[layer], v, norm)
                others_here = [_cosine((c - t)[layer], w[layer]) for w in others]
                self.pooled.append(
                    PooledCosines(
                        kind,
                        trait,
                        draw,
                        position,
                        layer,
                        other_vectors=float(np.mean(others_here)) if others else None,
                        norm_clean_row=norm,
                        **cosines,
                    )
                )
                for data, g in rows.items():
                    values = self._rows.setdefault((kind, trait, position, layer, data), [])
                    values.append(_measure_rows(g, v))
            self._add_curves(kind, trait, draw, position, gradients)

    def _add_curves(
        self, kind: str, trait: str, draw: int, position: str, gradients: DrawGradients
    ) -> None:
        v = self.vectors[trait][self.layer]
        teacher, clean, again = (g[POSITIONS.index(position), self.layer] for g in gradients)
        series = {
            "difference": teacher - clean,
            "teacher": teacher,
            "clean": clean,
            "control": again - clean,
        }
        for data, g in series.items():
            curve = cosine_against_n(jnp.asarray(g), v, self._n, jax.random.key(draw))
            by_trait = self._curves.setdefault((kind, position, data), {})
            by_trait.setdefault(trait, []).append(np.asarray(curve.cosine))

    def curves(self) -> tuple[CurvePoint, ...]:
        """The cosine at the steering layer against N."""
        points = []
        for (kind, position, data), by_trait in self._curves.items():
            values = np.array(list(by_trait.values()))  # [traits, draws, n]
            for i, n in enumerate(self._n):
                interval, rows = COSINE.clip(crossed(values[..., i])), values[..., i].tolist()
                points.append(
                    CurvePoint(kind, position, data, n, interval, tuple(map(tuple, rows)))
                )
        return tuple(points)

    def single_rows(self) -> tuple[SingleRows, ...]:
        """Means and standard errors over batches of `row_batch` rows."""
        table = []
        size = self.row_batch
        for (kind, trait, position, layer, data), draws in self._rows.items():
            values = np.concatenate(draws, axis=1)  # [3, rows]
            whole = values.shape[1] // size * size
            batches = values[:, :whole].reshape(3, -1, size).mean(axis=2)
            count = batches.shape[1]
            means = batches.mean(axis=1).tolist()
            errors = (batches.std(axis=1, ddof=1) / np.sqrt(count)).tolist()
            numbers = [x for pair in zip(means, errors, strict=True) for x in pair]
            table.append(SingleRows(kind, trait, position, layer, data, count, *numbers))
        return tuple(table)


def crossed(values: Float[np.ndarray, "traits draws"]) -> Interval:
    """Mean and two-way t interval over draws and traits."""
    return crossed_interval(values.T)


def _pool(
    teacher: np.ndarray, clean: np.ndarray, again: np.ndarray, v: np.ndarray, norm_clean_row: float
) -> dict[str, float]:
    """The fields of `PooledCosines` that follow from three mean gradients [dim] and the vector."""
    difference = clean - teacher
    cosine = _cosine(difference, v)
    return {
        "difference": cosine,
        "share": cosine**2,
        "teacher_alone": _cosine(-teacher, v),
        "clean": _cosine(-clean, v),
        "control": _cosine(clean - again, v),
        "along": _component(difference, v) / norm_clean_row,
        "control_along": _component(clean - again, v) / norm_clean_row,
        "norm_difference": float(np.linalg.norm(difference)),
        "norm_teacher": float(np.linalg.norm(teacher)),
        "norm_clean": float(np.linalg.norm(clean)),
    }


def _measure_rows(g: Float[np.ndarray, "rows dim"], v: np.ndarray) -> Float[np.ndarray, "3 rows"]:
    """Of each row: cos(-g, v), (g . v/|v|)^2 / |g|^2 and |g|."""
    norm = np.linalg.norm(g, axis=1)
    cosine = -(g @ v) / np.maximum(norm * np.linalg.norm(v), 1e-30)
    return np.stack([cosine, cosine**2, norm])


def _component(a: np.ndarray, v: np.ndarray) -> float:
    return float(a @ v / np.linalg.norm(v))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30))
