"""Token rows as losses take them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Batch(NamedTuple):
    """Token rows. `loss_mask` is 1 where tokens[:, t] is to be predicted from the tokens before it.

    It may be another positive weight of that token in the loss; 0: not predicted. `positions` are
    -1 on padding (to the right). `segment_ids` keep packed documents apart; None where every row is
    one document.
    """

    tokens: Int[Array, "*rows time"]
    positions: Int[Array, "*rows time"]
    loss_mask: Float[Array, "*rows time"]
    segment_ids: Int[Array, "*rows time"] | None = None


@jax.jit
def stack_rows(batches: Sequence[Batch]) -> Batch:
    """Stack data sets of one shape on a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)


def predicted_counts(batch: Batch) -> Int[np.ndarray, "*rows"]:
    """The number of tokens that each row predicts."""
    return np.sum(np.asarray(batch.loss_mask)[..., 1:] != 0, axis=-1)


def max_targets(batch: Batch) -> int:
    """The most tokens that any row predicts; at least 1."""
    return max(1, int(predicted_counts(batch).max()))
