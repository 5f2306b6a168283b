"""Steering vectors from contrastive pairs: the mean difference and its baselines.

Source of the mean difference at the answer's letter: Rimsky et al., "Steering Llama 2 via
Contrastive Activation Addition" (2024), and Tan et al. (2024, arXiv 2407.12404), section 2.
"""

from collections.abc import Mapping
from typing import Literal

import jax
import numpy as np
import scipy
from jaxtyping import Float, PRNGKeyArray

from subliminal_jax.errors import InputError
from subliminal_jax.steering.vectors import random_vector

Method = Literal["mean", "pca", "logistic", "random"]
RIDGE = 1e-2  # of the logistic regression, on activations of unit mean square


def contrastive_vectors(
    activations: Float[np.ndarray, "rows 2 n dim"],
    method: Method = "mean",
    *,
    key: PRNGKeyArray | None = None,
) -> Float[np.ndarray, "n dim"]:
    """One vector for each of n layers, from `answer_activations` (matching answer, other).

    Methods; all but the first have the norm of the mean difference, so that they compare:
      mean      the mean over rows of matching minus other
      pca       the first principal direction of the differences about zero, on the side of their
                mean
      logistic  the weights of an L2-regularised logistic regression that tells matching answers
                from others
      random    a uniformly random direction of `key`

    Raises InputError for no rows, and activations that are not finite.
    """
    if len(activations) == 0 or not np.isfinite(activations).all():
        raise InputError(
            f"the activations of {len(activations)} rows: give at least one, all finite"
        )
    h = activations.astype(np.float64)
    differences = h[:, 0] - h[:, 1]  # [rows, n, dim]
    mean = differences.mean(axis=0)
    if method == "mean":
        return mean.astype(np.float32)
    out = np.empty_like(mean)
    for layer, target in enumerate(mean):
        if method == "pca":
            direction = np.linalg.svd(differences[:, layer], full_matrices=False)[2][0]
            direction = direction * (1.0 if direction @ target >= 0 else -1.0)
        elif method == "logistic":
            direction = _logistic(h[:, :, layer])
        else:
            layer_key = jax.random.fold_in(jax.random.key(0) if key is None else key, layer)
            direction = np.asarray(random_vector(layer_key, len(target), 1.0), np.float64)
        out[layer] = rescale(direction, target)
    return out.astype(np.float32)


def rescale(
    vector: Float[np.ndarray, "*n dim"], like: Float[np.ndarray, "*n dim"]
) -> Float[np.ndarray, "*n dim"]:
    """`vector` with the norm of `like`, layer by layer; a zero vector stays zero."""
    norm = np.linalg.norm(vector, axis=-1, keepdims=True)
    target = np.linalg.norm(like, axis=-1, keepdims=True)
    return vector * (target / np.where(norm == 0, 1.0, norm))


def match_norms(
    vectors: Mapping[str, Float[np.ndarray, "n dim"]], baseline: str
) -> dict[str, Float[np.ndarray, "n dim"]]:
    """Rescale the vectors of several prompt settings, and their "mean", to the norm of that of
    `baseline` (Tan et al. 2024, section 4)."""
    like = vectors[baseline]
    mean = np.mean(list(vectors.values()), axis=0)
    return {name: rescale(v, like) for name, v in {**vectors, "mean": mean}.items()}


def _logistic(h: Float[np.ndarray, "rows 2 dim"]) -> Float[np.ndarray, " dim"]:
    """The weights that minimise mean log loss + RIDGE / 2 |w|^2, with an unpenalised offset."""
    rows, _, dim = h.shape
    x = h.reshape(2 * rows, dim)
    x = x - x.mean(axis=0)
    x = x / max(float(np.sqrt(np.mean(x * x))), 1e-30)
    sign = np.tile([1.0, -1.0], rows)

    def loss(w: Float[np.ndarray, " _"]) -> tuple[float, Float[np.ndarray, " _"]]:
        margin = sign * (x @ w[:dim] + w[dim])
        pull = -sign * scipy.special.expit(-margin) / len(x)
        value = float(np.mean(np.logaddexp(0.0, -margin)) + RIDGE / 2 * w[:dim] @ w[:dim])
        return value, np.append(x.T @ pull + RIDGE * w[:dim], pull.sum())

    solution = scipy.optimize.minimize(loss, np.zeros(dim + 1), jac=True, method="L-BFGS-B")
    return solution.x[:dim]
