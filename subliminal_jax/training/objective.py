"""The loss of one student of a sweep on chosen rows of its data set, and its gradient."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Remat
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.adapters import Adapter, Trainable, attach
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import token_losses


class Teacher(NamedTuple):
    """The teacher of the KL objective: base plus steering, its scale set for each data set.

    `batch` holds, for a teacher that reads other prompts (a system prompt), its own rows with the
    same completions; it is stacked over data sets like the students' rows.
    """

    steering: Steering
    scales: Float[Array, " datasets"]
    batch: Batch | None = None


class Source(NamedTuple):
    """What all students share: frozen base, rows [datasets, rows, time], and the KL's teacher."""

    base: Params
    data: Batch
    teacher: Teacher | None


@dataclass(frozen=True)
class Objective:
    """Mean loss per predicted token; static under jit. Without a teacher it is cross-entropy."""

    cfg: ModelConfig
    adapter: Adapter
    max_targets: int
    remat: Remat = "none"
    accumulation: int = 1

    def loss(
        self,
        source: Source,
        trainable: Trainable,
        scale: Float[Array, ""],
        which: Int[Array, ""],
        rows: Int[Array, " batch"],
    ) -> Float[Array, ""]:
        """The loss of a student on `rows` of data set `which`; `scale` is LoRA's alpha/rank."""
        total, weight = self._total(trainable, source, scale, which, rows)
        return total / jnp.maximum(weight, 1.0)

    def loss_and_gradient(
        self,
        source: Source,
        trainable: Trainable,
        scale: Float[Array, ""],
        which: Int[Array, ""],
        rows: Int[Array, " batch"],
    ) -> tuple[Float[Array, ""], Trainable]:
        """`loss` and its gradient, in `accumulation` equal parts that add up to the same."""
        gradient_of = jax.value_and_grad(self._total, has_aux=True)
        if self.accumulation == 1:
            (total, weight), grads = gradient_of(trainable, source, scale, which, rows)
        else:
            zero = (jnp.zeros(()), jnp.zeros(())), jax.tree.map(jnp.zeros_like, trainable)

            def add(so_far: Any, part: Array) -> tuple[Any, None]:
                more = gradient_of(trainable, source, scale, which, part)
                return jax.tree.map(jnp.add, so_far, more), None

            parts = rows.reshape(self.accumulation, -1)
            ((total, weight), grads), _ = jax.lax.scan(add, zero, parts)
        weight = jnp.maximum(weight, 1.0)
        return total / weight, jax.tree.map(lambda g: g / weight, grads)

    def _total(
        self, trainable: Trainable, source: Source, scale: Array, which: Array, rows: Array
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """(summed loss, number of predicted tokens)."""

        def chosen(data: Batch) -> Batch:
            return jax.tree.map(lambda leaf: leaf[which, rows], data)

        params, steering = attach(source.base, trainable, self.cfg, self.adapter, scale)
        teacher = None
        if source.teacher is not None:
            own = source.teacher.batch
            teacher = (
                source.base,
                source.teacher.steering.scaled(source.teacher.scales[which]),
                None if own is None else chosen(own),
            )
        losses, weights = token_losses(
            params,
            chosen(source.data),
            self.cfg,
            steering,
            teacher=teacher,
            max_targets=self.max_targets,
            remat=self.remat,
        )
        return jnp.sum(losses * weights), jnp.sum(weights)
