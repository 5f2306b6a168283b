"""Fixed rows on which the loss of students is measured throughout training."""

from collections.abc import Sequence

import jax
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.mesh import DATA, axis_size
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.batch import Batch, stack_rows
from subliminal_jax.training.layout import lay_out, plan_layout
from subliminal_jax.training.losses import mean_loss, token_losses


@struct.dataclass
class FixedRows:
    """The rows of each data set [datasets, rows, time], packed where that saves work.

    The other fields are those of a `Layout`.
    """

    batch: Batch
    max_targets: int = struct.field(pytree_node=False)
    total_targets: int = struct.field(pytree_node=False)
    groups: int = struct.field(pytree_node=False, default=1)

    @staticmethod
    def from_rows(rows: Sequence[Batch], cfg: ModelConfig) -> "FixedRows":
        """`rows` [rows, time] of every data set, all of one shape."""
        stacked = stack_rows(rows)
        sets, n = stacked.tokens.shape[:2]
        layout, _ = plan_layout(
            stacked,
            np.arange(n)[None, None],
            np.zeros(sets, int),
            np.arange(sets),
            cfg,
            groups=axis_size(DATA),
        )
        first_step = jax.tree.map(lambda leaf: leaf[:, 0], layout)
        batch = jax.vmap(lay_out)(stacked, first_step)
        return FixedRows(batch, layout.max_targets, layout.total_targets, layout.groups)

    def loss(
        self,
        params: Params,
        cfg: ModelConfig,
        data_set: Int[Array, ""],
        steering: Steering | None = None,
    ) -> Float[Array, ""]:
        """The cross-entropy on the rows of one data set (its index), in nats a predicted token."""
        losses, weights = token_losses(
            params,
            jax.tree.map(lambda leaf: leaf[data_set], self.batch),
            cfg,
            steering,
            max_targets=self.max_targets,
            total_targets=self.total_targets,
            groups=self.groups,
        )
        return mean_loss(losses, weights)
