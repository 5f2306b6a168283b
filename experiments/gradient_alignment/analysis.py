"""Cosines of loss gradients with teachers' vectors, single rows, pooled, and against N.

The sign is that of the paper: cos(g_clean - g_teacher, v), positive where data teach the vector.
A cosine of two clean sets' difference is that of pure noise: zero on average, but no smaller for
more rows. So the control is compared in components instead, which do shrink, in units of the
gradient norm of one clean row.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from subliminal_jax.diagnostics.activation_gradients import cosine_against_n, doubling
from subliminal_jax.evaluation.statistics import crossed_interval

POSITIONS = ("tag", "completion", "all")
Gradients = Float[np.ndarray, "positions layers rows dim"]


class Cosines:
    """Cosines of every teacher's gradients with its vector, draw by draw."""

    def __init__(self, vectors: Mapping[str, np.ndarray], layer: int, row_batch: int):
        self.vectors, self.layer, self.row_batch = vectors, layer, row_batch
        self.pooled: list[dict[str, Any]] = []
        self._rows: dict[tuple, list[np.ndarray]] = {}
        self._curves: dict[tuple, dict[str, list[np.ndarray]]] = {}
        self._n: tuple[int, ...] = ()

    def add(
        self, kind: str, trait: str, draw: int, teacher: Gradients, clean: Gradients,
        again: Gradients,
    ) -> None:  # fmt: skip
        """One draw of one teacher, with the clean rows beside it."""
        v, others = self.vectors[trait], [w for t, w in self.vectors.items() if t != trait]
        for p, position in enumerate(POSITIONS):
            means = [g[p].mean(axis=1) for g in (teacher, clean, again)]  # each [layers, dim]
            for layer in range(len(v)):
                t, c, a = (g[layer] for g in means)
                difference = c - t
                cosine = _cosine(difference, v[layer])
                size = float(np.linalg.norm(clean[p, layer], axis=1).mean())  # of a single row
                self.pooled.append({
                    "teacher": kind, "trait": trait, "draw": draw, "position": position,
                    "layer": layer, "difference": cosine, "share": cosine**2,
                    "own": _cosine(-t, v[layer]), "clean": _cosine(-c, v[layer]),
                    "control": _cosine(c - a, v[layer]),
                    "along": _along(difference, v[layer]) / size,
                    "control_along": _along(c - a, v[layer]) / size,
                    "other_vectors": _mean([_cosine(difference, w[layer]) for w in others]),
                    "norm_difference": float(np.linalg.norm(difference)),
                    "norm_own": float(np.linalg.norm(t)),
                    "norm_clean": float(np.linalg.norm(c)), "norm_clean_row": size,
                })  # fmt: skip
                for name, g in ((kind, teacher), ("clean", clean)):
                    which = (kind, trait, position, layer, name)
                    self._rows.setdefault(which, []).append(_per_row(g[p, layer], v[layer]))
            at = self.layer
            series = {
                "difference": teacher[p, at] - clean[p, at], "own": teacher[p, at],
                "clean": clean[p, at], "control": again[p, at] - clean[p, at],
            }  # fmt: skip
            self._n = doubling(teacher.shape[2])
            for name, g in series.items():
                key = jax.random.key(draw)
                curve = cosine_against_n(jnp.asarray(g), v[at], self._n, key)
                by_trait = self._curves.setdefault((kind, position, name), {})
                by_trait.setdefault(trait, []).append(np.asarray(curve.cosine))

    def curves(self) -> list[dict[str, Any]]:
        """The cosine at the steering layer against N: mean and two-way t over draws and traits."""
        table = []
        for (kind, position, name), by_trait in self._curves.items():
            values = np.array(list(by_trait.values()))  # [traits, draws, n]
            for i, n in enumerate(self._n):
                interval = crossed(values[:, :, i])
                entry = {"teacher": kind, "position": position, "data": name, "n": n}
                table.append({**entry, "cosine": interval, "values": values[:, :, i].tolist()})
        return table

    def by_layer(self) -> list[dict[str, Any]]:
        """What `pooled` holds, with intervals over draws and traits."""
        table = []
        keys = dict.fromkeys((r["teacher"], r["position"], r["layer"]) for r in self.pooled)
        for kind, position, layer in keys:
            row: dict[str, Any] = {"teacher": kind, "position": position, "layer": layer}
            for key in (
                "difference",
                "own",
                "clean",
                "control",
                "other_vectors",
                "share",
                "along",
                "control_along",
            ):
                values = matrix(self.pooled, key, kind, position, layer, tuple(self.vectors))
                row[key] = None if np.isnan(values).any() else crossed(values)
            table.append(row)
        return table

    def single_rows(self) -> list[dict[str, Any]]:
        """Cosine, share of the squared norm and norm of single rows: mean and standard error over
        batches of `row_batch` rows, for the teacher's data and the clean."""
        table = []
        size = self.row_batch
        for (kind, trait, position, layer, name), draws in self._rows.items():
            values = np.concatenate(draws, axis=1)  # [3, rows]
            whole = values.shape[1] // size * size
            batches = values[:, :whole].reshape(3, -1, size).mean(axis=2)
            error = batches.std(axis=1, ddof=1) / np.sqrt(batches.shape[1])
            row = {"teacher": kind, "trait": trait, "position": position, "layer": layer,
                   "data": "clean" if name == "clean" else "teacher",
                   "batches": batches.shape[1]}  # fmt: skip
            for i, key in enumerate(("cosine", "share", "norm")):
                row |= {key: float(batches[i].mean()), f"{key}_stderr": float(error[i])}
            table.append(row)
        return table


def matrix(
    pooled: list[dict[str, Any]], key: str, kind: str, position: str, layer: int,
    traits: tuple[str, ...],
) -> Float[np.ndarray, "traits draws"]:  # fmt: skip
    """One number of `pooled` for each trait and draw; NaN for None."""
    chosen = [
        r for r in pooled
        if (r["teacher"], r["position"], r["layer"]) == (kind, position, layer)
    ]  # fmt: skip
    return np.array([[r[key] for r in chosen if r["trait"] == t] for t in traits], float)


def _per_row(g: Float[np.ndarray, "rows dim"], v: np.ndarray) -> Float[np.ndarray, "3 rows"]:
    """Of each row: cos(-g, v), (g . v/|v|)^2 / |g|^2 and |g|."""
    norm = np.linalg.norm(g, axis=1)
    cosine = -(g @ v) / np.maximum(norm * np.linalg.norm(v), 1e-30)
    return np.stack([cosine, cosine**2, norm])


def _along(a: np.ndarray, v: np.ndarray) -> float:
    return float(a @ v / np.linalg.norm(v))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30))


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def crossed(values: Float[np.ndarray, "traits draws"]) -> dict[str, Any]:
    """Mean and two-way t interval over draws and traits."""
    return crossed_interval(values.T).to_dict()
