"""Is a language model approximately log-linear?

It is, with dimension d and error epsilon, if |log P(r | s, p) - <psi(s), phi(p, r)>| <= epsilon
for all system prompts s, prompts p and responses r (Aden-Ali et al. 2026, arXiv 2602.04863,
Definition 2.1). It is exactly so if the matrix X of these log-probabilities, a row for each s and a
column for each (p, r), has a rank of at most d (Fact 2.1). The row space of X decides what a
selection by log-ratios can carry from one model to another.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from subliminal_jax.errors import InputError
from subliminal_jax.files import read_marked, write_marked
from subliminal_jax.fingerprints import digest, weights_digest
from subliminal_jax.models.hub import Model
from subliminal_jax.selection.rendering import ScoringOptions, encode_rows
from subliminal_jax.training.log_probs import response_log_probs

SYSTEMS_A_FILE = 16  # rows of the matrix that are scored and stored together


def log_prob_matrix(
    model: Model,
    system_prompts: Sequence[str | None],
    prompts: Sequence[str],
    responses: Sequence[str],
    options: ScoringOptions | None = None,
    *,
    folder: Path | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Float[np.ndarray, "systems pairs"]:
    """X[s, i] = log P(responses[i] | system prompt s, prompts[i]), in nats, float32 sums.

    A system prompt may be None: no system turn. With `folder` the rows are kept there, a few to a
    file, and a call that was interrupted goes on from them; `progress` is called with the number of
    log-probabilities done since its last call, those found in `folder` included.

    Raises InputError for no rows or columns, and for a folder with other rows or of other weights.
    """
    if len(prompts) != len(responses):
        raise InputError(f"{len(prompts)} prompts but {len(responses)} responses")
    if not prompts or not system_prompts:
        raise InputError("a matrix of log-probabilities needs a system prompt and a pair")
    options = options or ScoringOptions()
    answers = [[text] for text in responses]
    weights = None if folder is None else weights_digest(model.params)
    inputs = [prompts, responses, asdict(options), model.tokenizer.chat_template]
    parts = []
    for start in range(0, len(system_prompts), SYSTEMS_A_FILE):
        systems = system_prompts[start : start + SYSTEMS_A_FILE]
        path = None if folder is None else folder / f"systems-{start:05d}.npz"
        mark = digest(weights, systems, inputs)
        part = None if path is None else read_marked(path, "log_probs", mark)
        if part is None:
            encoded = [
                encode_rows(model.tokenizer, prompts, answers, system_prompt, options)
                for system_prompt in systems
            ]
            log_probs = response_log_probs(
                model,
                [ids for rows in encoded for ids in rows.prompts],
                [ids for rows in encoded for ids in rows.answers],
                progress=progress,
            )
            part = log_probs.reshape(len(systems), len(prompts))
            if path is not None:
                write_marked(path, "log_probs", part, mark)
        elif progress is not None:
            progress(part.size)
        parts.append(part)
    return np.concatenate(parts)


def remove_pair_means(x: Float[np.ndarray, "systems pairs"]) -> Float[np.ndarray, "systems pairs"]:
    """X minus each pair's mean over the system prompts, on which log-ratios between system prompts
    do not depend."""
    return x - x.mean(axis=0, keepdims=True)


# -- the spectrum ------------------------------------------------------------------------------


class PowerLaw(NamedTuple):
    """sigma_k = scale * k^slope, fitted over the ranks `first` to `last` (from 1, inclusive)."""

    slope: float
    scale: float
    r_squared: float  # of the logarithms
    first: int
    last: int


def fit_power_law(singular: Float[np.ndarray, " k"], first: int, last: int) -> PowerLaw:
    """Least squares of log sigma over log k, unweighted.

    Raises InputError for a range of fewer than three ranks, beyond the spectrum, or with a zero.
    """
    if not 1 <= first <= last - 2 or last > len(singular):
        raise InputError(
            f"a power law cannot be fitted over the ranks {first} to {last} of {len(singular)}; "
            "give at least three ranks of the spectrum"
        )
    values = np.asarray(singular[first - 1 : last], np.float64)
    if not (values > 0).all():
        raise InputError(f"the singular values from rank {first} to {last} are not all positive")
    x, y = np.log(np.arange(first, last + 1)), np.log(values)
    slope, intercept = np.polyfit(x, y, 1)
    residual = np.sum((y - slope * x - intercept) ** 2)
    total = np.sum((y - y.mean()) ** 2)
    r_squared = 1.0 if total == 0 else 1 - residual / total
    return PowerLaw(float(slope), float(np.exp(intercept)), float(r_squared), first, last)


def effective_rank(singular: Float[np.ndarray, " k"]) -> float:
    """exp of the entropy of the singular values as shares of their sum (Roy and Vetterli 2007)."""
    shares = np.asarray(singular, np.float64)
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-np.sum(shares * np.log(shares)))) if shares.size else 0.0


def energy_rank(singular: Float[np.ndarray, " k"], share: float) -> int:
    """The smallest rank that holds `share` of the squared norm."""
    energy = np.cumsum(np.asarray(singular, np.float64) ** 2)
    return int(np.searchsorted(energy, share * energy[-1] * (1 - 1e-12))) + 1


# -- low-rank prediction -------------------------------------------------------------------------


class Prediction(NamedTuple):
    """How well rank-k factors predict log-probabilities that they were not fitted to."""

    rank: int
    r_squared: float  # against each pair's mean over the fitted rows (rank 0)
    rmse: float  # nats
    largest: float  # largest error, nats


def predict_held_out(
    x: Float[np.ndarray, "systems pairs"], ranks: Sequence[int], seed: int
) -> list[Prediction]:
    """Bi-cross-validation: half of the system prompts and half of the pairs are held out together.

    With blocks X = [[A, B], [C, D]], A held out, centred by the means over the fitted rows, A is
    predicted as B D_k^+ C, D_k being the rank-k approximation of D; each quarter is held out once.
    For X of rank k it is exact (Owen and Perry 2009, arXiv:0908.2062).

    Raises InputError for a rank that a quarter of the matrix cannot have.
    """
    rng = np.random.default_rng([seed, 0xB1C5])
    m, n = x.shape
    for rank in ranks:
        _check_rank(rank, (m // 2, n // 2), least=0)
    row_halves, column_halves = (np.array_split(rng.permutation(size), 2) for size in (m, n))
    errors: dict[int, list[np.ndarray]] = {rank: [] for rank in ranks}
    held_out_blocks = []
    for i in (0, 1):
        for j in (0, 1):
            held_rows, fitted_rows = row_halves[i], row_halves[1 - i]
            held_columns, fitted_columns = column_halves[j], column_halves[1 - j]
            y = np.asarray(x, np.float64) - x[fitted_rows].mean(axis=0, keepdims=True)
            u, singular, v = np.linalg.svd(y[np.ix_(fitted_rows, fitted_columns)], False)
            held_out = y[np.ix_(held_rows, held_columns)]
            left = y[np.ix_(held_rows, fitted_columns)] @ v.T
            right = u.T @ y[np.ix_(fitted_rows, held_columns)]
            positive = singular > 1e-10 * singular[0]
            inverse = np.where(positive, 1 / np.where(positive, singular, 1.0), 0.0)
            held_out_blocks.append(held_out.ravel())
            for rank in ranks:
                predicted = left[:, :rank] * inverse[:rank] @ right[:rank]
                errors[rank].append((held_out - predicted).ravel())
    variance = np.mean(np.concatenate(held_out_blocks) ** 2)
    predictions = []
    for rank in ranks:
        error = np.concatenate(errors[rank])
        mse = np.mean(error**2)
        predictions.append(
            Prediction(
                rank=rank,
                r_squared=float(1 - mse / variance) if variance > 0 else 0.0,
                rmse=float(np.sqrt(mse)),
                largest=float(np.abs(error).max()),
            )
        )
    return predictions


# -- row spaces of two models ----------------------------------------------------------------------


def row_space(x: Float[np.ndarray, "systems pairs"], k: int) -> Float[np.ndarray, "pairs k"]:
    """An orthonormal basis of the span of the top k right singular vectors.

    Raises InputError for a k beyond the shape.
    """
    _check_rank(k, x.shape)
    return np.linalg.svd(x, full_matrices=False)[2][:k].T


def principal_cosines(
    a: Float[np.ndarray, "pairs k"], b: Float[np.ndarray, "pairs l"]
) -> Float[np.ndarray, " min"]:
    """Cosines of the principal angles between the spans of two orthonormal bases, descending.

    Source: Björck and Golub, "Numerical methods for computing angles between linear subspaces",
    1973.
    """
    return np.clip(np.linalg.svd(a.T @ b, compute_uv=False), 0.0, 1.0)


def gaussian_cosines(pairs: int, k: int, draws: int, seed: int) -> Float[np.ndarray, "draws k"]:
    """`principal_cosines` of the top-k row spaces of independent Gaussian matrices over `pairs`
    columns. These spaces are uniformly distributed for any number of rows, so they are drawn
    directly."""
    _check_rank(k, (pairs, pairs))
    rng = np.random.default_rng([seed, 0x6A55])
    bases = [np.linalg.qr(rng.normal(size=(pairs, k)))[0] for _ in range(2 * draws)]
    return np.stack([principal_cosines(*bases[2 * i : 2 * i + 2]) for i in range(draws)])


def _check_rank(rank: int, shape: Sequence[int], least: int = 1) -> None:
    if not least <= rank <= min(shape):
        raise InputError(f"rank {rank} is not valid for a {shape[0]} x {shape[1]} matrix")
