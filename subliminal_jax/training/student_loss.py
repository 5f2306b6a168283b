"""The loss of one student of a sweep on chosen rows of its data set, and its gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Remat
from subliminal_jax.models.spec import Params
from subliminal_jax.training.adapters import Adapter, Trainable, Vector, attach
from subliminal_jax.training.arms import check_data
from subliminal_jax.training.batch import Batch, stack_rows
from subliminal_jax.training.guards import NO_GUARD, Guard
from subliminal_jax.training.losses import safe_divide
from subliminal_jax.training.objectives import Objective, Selection, StudentModel


class Source(NamedTuple):
    """What all students share: frozen base, rows [datasets, rows, ...], objective and guard."""

    base: Params
    data: Batch
    objective: Objective
    guard: Guard = NO_GUARD


def make_source(
    base: Params,
    data: Mapping[str, Batch],
    names: Sequence[str],
    vocab: int,
    objective: Objective,
    *,
    guard: Guard = NO_GUARD,
    batch_size: int = 1,
) -> Source:
    """The data sets called `names`, stacked in this order.

    Raises InputError for a name without rows, and as `check_data` and `Objective.check` do.
    """
    if missing := [name for name in names if name not in data]:
        raise InputError(f"there are no held-out rows of data {missing[0]!r}")
    chosen = {name: data[name] for name in names}
    check_data(chosen, vocab, batch_size)
    rows = stack_rows(list(chosen.values()))
    objective.check(rows, names)
    return Source(base, rows, objective, guard)


@dataclass(frozen=True)
class StudentLoss:
    """A student's loss as a function of its trainable tree; static under jit.

    In training a guard's inoculation is part of the student. `scale` is LoRA's. A batch
    goes through in `accumulation` equal parts.
    """

    cfg: ModelConfig
    adapter: Adapter
    remat: Remat = "none"
    accumulation: int = 1

    def loss(
        self,
        source: Source,
        trainable: Trainable,
        scale: Float[Array, ""],
        selection: Selection,
    ) -> Float[Array, ""]:
        """The loss of a student on the selected rows."""
        if self.accumulation == 1:
            return safe_divide(*self._totals(trainable, source, scale, selection))
        totals = jax.lax.map(
            lambda part: self._totals(trainable, source, scale, part), self._split(selection)
        )
        return safe_divide(*jax.tree.map(jnp.sum, totals))

    def loss_and_gradient(
        self,
        source: Source,
        trainable: Trainable,
        scale: Float[Array, ""],
        selection: Selection,
    ) -> tuple[Float[Array, ""], Trainable]:
        """`loss` and its gradient, summed over the parts."""
        differentiate = jax.value_and_grad(self._totals, has_aux=True)
        if self.accumulation == 1:
            (total, weight), grads = differentiate(trainable, source, scale, selection)
        else:
            zero = (jnp.zeros(()), jnp.zeros(())), jax.tree.map(jnp.zeros_like, trainable)

            def add(sums: Any, part: Selection) -> tuple[Any, None]:
                part_sums = differentiate(trainable, source, scale, part)
                return jax.tree.map(jnp.add, sums, part_sums), None

            ((total, weight), grads), _ = jax.lax.scan(add, zero, self._split(selection))
        share = safe_divide(jnp.ones(()), weight)
        return total * share, jax.tree.map(lambda g: g * share, grads)

    def heldout_loss(
        self,
        source: Source,
        trainable: Trainable,
        scale: Float[Array, ""],
        data_set: Int[Array, ""],
        *,
        rows_at_once: int,
        max_targets: int,
    ) -> Float[Array, ""]:
        """The loss on all rows of one data set of a held-out `source`, without any guard."""
        params, steering = attach(source.base, trainable, self.cfg, self.adapter, scale)
        student = StudentModel(self.cfg, source.base, params, steering)
        return source.objective.heldout_loss(
            student, source.data, data_set, rows_at_once=rows_at_once, max_targets=max_targets
        )

    def _split(self, selection: Selection) -> Selection:
        """The batch in `accumulation` equal parts, on a leading axis."""
        n = self.accumulation
        return Selection(
            jnp.broadcast_to(selection.data_set, (n,)),
            selection.rows.reshape(n, -1),
            selection.layout.split(n),
        )

    def _totals(
        self, trainable: Trainable, source: Source, scale: Array, selection: Selection
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        params, steering = attach(source.base, trainable, self.cfg, self.adapter, scale)
        student = StudentModel(
            self.cfg,
            source.base,
            params,
            source.guard.inoculate(steering, selection.data_set),
            self.remat,
            trained=not isinstance(self.adapter, Vector),
        )
        return source.objective.totals(student, source.data, selection)
