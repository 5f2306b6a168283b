"""Losses that weigh tokens by how often they occur: the vocabulary's head alone, or its tail more.

Adam's lead over SGD on language has been put down to rare tokens, whose loss falls slowly under SGD
(Kunstner et al. 2024, arXiv 2402.19449). Weighted rows let the same students be trained with more
or less of that tail.
"""

import re

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.training.batch import Batch


def token_counts(rows: Batch, vocab: int) -> Int[np.ndarray, " vocab"]:
    """How often each token is to be predicted."""
    predicted = np.asarray(rows.tokens)[np.asarray(rows.loss_mask) != 0]
    return np.bincount(predicted, minlength=vocab)


def token_weights(counts: Int[np.ndarray, " vocab"], tail: str) -> Float[np.ndarray, " vocab"]:
    """A weight for each token.

    Args:
      tail: "all" (1 for each), "frequent-K" (1 for the K tokens that occur most, 0 for the others)
        or "rare-P" (the count to the power -P, at a mean of 1 over the tokens as they occur; a
        token that does not occur counts as one that does once).

    Raises InputError for another `tail`.
    """
    if tail == "all":
        return np.ones(len(counts))
    if match := re.fullmatch(r"frequent-([1-9]\d*)", tail):
        weights = np.zeros(len(counts))
        weights[np.argsort(-counts, kind="stable")[: int(match[1])]] = 1.0
        return weights
    if match := re.fullmatch(r"rare-(\d*\.?\d+)", tail):
        weights = np.maximum(counts, 1.0) ** -float(match[1])
        return weights * counts.sum() / max(float((weights * counts).sum()), 1e-30)
    raise InputError(f"tail {tail!r} is not known; write all, frequent-16 or rare-0.5")


def reweighted(rows: Batch, weights: Float[np.ndarray, " vocab"]) -> Batch:
    """`rows` with each predicted token's weight in the loss multiplied by its own."""
    factor = jnp.asarray(weights, jnp.float32)[jnp.asarray(rows.tokens)]
    return rows._replace(loss_mask=rows.loss_mask * factor)
