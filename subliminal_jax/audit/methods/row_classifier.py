"""A linear classifier that tells the data's answers from the base's own by their activations."""

import numpy as np
from jaxtyping import Bool, Float

from subliminal_jax.audit.contrast import (
    count_tokens,
    measure_activations,
    unit_directions,
    weigh_answers,
)
from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.nulls import compare_with_others, compare_with_zero, make_scored

FOLDS = 5
SHRINKAGE = 0.1  # share of the covariance's mean variance that is added to its diagonal


def score(suspect: Suspect) -> Scored:
    """Cosines of the classifier's direction with the candidates'. What the classifier itself tells
    apart, on rows that it was not fitted to, bounds every p-value from below."""
    activations = measure_activations(suspect)[:, :, suspect.layer].astype(float)
    weights = weigh_answers(suspect.rows)
    n = len(activations)
    fold = np.random.default_rng(suspect.seed).permutation(n) % min(FOLDS, n)
    outputs = np.zeros(weights.shape)
    for k in range(fold.max() + 1):
        direction = fit_direction(activations, weights, fold != k)
        outputs[fold == k] = activations[fold == k] @ direction
    rows = (outputs * weights).sum(axis=1)
    direction = fit_direction(activations, weights, np.ones(n, bool))
    direction = direction / max(float(np.linalg.norm(direction)), 1e-30)
    cosines, placebos = (
        unit_directions(group) @ direction for group in (suspect.candidates, suspect.placebos)
    )
    told_apart = np.repeat(compare_with_zero(rows[:, None]), len(cosines))
    return make_scored(
        cosines,
        [told_apart, compare_with_others(cosines, placebos)],
        count_tokens(suspect.rows),
        rows,
    )


def fit_direction(
    activations: Float[np.ndarray, "rows parts dim"],
    weights: Float[np.ndarray, "rows parts"],
    used: Bool[np.ndarray, " rows"],
) -> Float[np.ndarray, " dim"]:
    """Fisher's linear discriminant with a ridge: the difference of the classes' means, whitened by
    the covariance within classes. Positive weights are the data's, negative ones the base's."""
    x, w = activations[used].reshape(-1, activations.shape[-1]), weights[used].reshape(-1)
    covariance = np.zeros((x.shape[1], x.shape[1]))
    means = []
    for shares in (np.maximum(w, 0), np.maximum(-w, 0)):
        shares = shares / shares.sum()
        means.append(shares @ x)
        centred = x - means[-1]
        covariance += (centred * shares[:, None]).T @ centred / 2
    ridge = SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-30
    return np.linalg.solve(covariance + ridge * np.eye(len(covariance)), means[0] - means[1])


METHOD = Method(
    name="row-classifier",
    what="direction of a classifier of the data's and the base's answers, against each candidate's",
    source="ours; Fisher 1936",
    score=score,
)
