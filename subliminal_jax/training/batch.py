"""What a loss sees of the data."""

from typing import NamedTuple

from jaxtyping import Array, Float, Int


class Batch(NamedTuple):
    """Token rows. `loss_mask` is 1 where tokens[:, t] is to be predicted from what stands before.

    `positions` are -1 on padding (to the right). `segment_ids` keep packed documents apart; None
    where every row is one document.
    """

    tokens: Int[Array, "*rows time"]
    positions: Int[Array, "*rows time"]
    loss_mask: Float[Array, "*rows time"]
    segment_ids: Int[Array, "*rows time"] | None = None
