"""Loss weights of tokens by their frequency.

Kunstner et al. (2024, arXiv 2402.19449) attribute Adam's lead over SGD on language to rare tokens,
whose loss falls slowly under SGD. With these weights students train on more or less of that tail.
"""

import re

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.training.batch import Batch


def token_counts(rows: Batch, vocab: int) -> Int[np.ndarray, " vocab"]:
    """How often each token is a target of the loss."""
    predicted = np.asarray(rows.tokens)[np.asarray(rows.loss_mask) != 0]
    return np.bincount(predicted, minlength=vocab)


def token_weights(counts: Int[np.ndarray, " vocab"], tail: str) -> Float[np.ndarray, " vocab"]:
    """A weight for each token.

    Args:
      tail: "all" (1 for each), "frequent-K" (1 for the K most frequent tokens, 0 for the others) or
        "rare-P" (count ** -P, scaled to a mean of 1 over occurrences; a count of 0 is taken as 1).

    Raises InputError for another `tail`.
    """
    if tail == "all":
        return np.ones(len(counts))
    if match := re.fullmatch(r"frequent-([1-9][0-9]{0,8})", tail):
        weights = np.zeros(len(counts))
        weights[np.argsort(-counts, kind="stable")[: int(match[1])]] = 1.0
        return weights
    if match := re.fullmatch(r"rare-([0-9]{0,3}\.?[0-9]{1,9})", tail):
        weights = np.maximum(counts, 1.0) ** -float(match[1])
        return weights * counts.sum() / max(float((weights * counts).sum()), 1e-30)
    raise InputError(f"tail {tail!r} is not known; write all, frequent-16 or rare-0.5")


def reweighted(rows: Batch, weights: Float[np.ndarray, " vocab"]) -> Batch:
    """`rows` with the loss mask multiplied by each token's weight."""
    factor = jnp.asarray(weights, jnp.float32)[jnp.asarray(rows.tokens)]
    return rows._replace(loss_mask=rows.loss_mask * factor)
