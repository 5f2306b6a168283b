"""How well the base's own gradients on the data point along the teacher's vector."""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.activation_gradients import (
    CompletionLoss,
    cosine_against_n,
    doubling,
    gradient_table,
    tail_shares,
)
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import DataSets, slice_rows


@dataclass(frozen=True)
class TokenShares:
    """What the 1% of tokens with the largest gradients hold: shares of the squared norm and of the
    component along the vector (signed)."""

    squared_norm: float
    component: float


@dataclass(frozen=True)
class GradientCosine:
    """The cosine of the mean of `n` negative activation gradients with the vector.

    Attributes:
      data: the data set.
      stderr: over disjoint groups of n; NaN where there is one.
      largest_percent_of_tokens: given for the largest n.
    """

    data: str
    n: int
    cosine: float
    stderr: float
    largest_percent_of_tokens: TokenShares | None = None


def measure_alignment(
    model: Model, vector: Float[Array, " dim"], data: DataSets, layer: int, rows: int
) -> list[GradientCosine]:
    """For each data set the cosines on its first `rows` rows, for n in powers of two."""
    cosines: list[GradientCosine] = []
    for i, name in enumerate(data.names):
        loss = CompletionLoss(model.cfg)
        gradients = gradient_table(
            loss, model.params, slice_rows(data.train[name], 0, rows), vector, layer
        )
        curve = cosine_against_n(gradients.example, vector, doubling(rows), jax.random.key(i))
        shares = TokenShares(*(float(share) for share in tail_shares(gradients)))
        sizes, values, errors = (np.asarray(x).tolist() for x in curve)
        for n, cosine, stderr in zip(sizes, values, errors, strict=True):
            largest = shares if n == sizes[-1] else None
            cosines.append(GradientCosine(name, int(n), cosine, stderr, largest))
    return cosines
