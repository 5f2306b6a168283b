"""The loss of one student of a sweep on chosen rows of its data set, and its gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Remat
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.adapters import Adapter, Trainable, attach
from subliminal_jax.training.arms import check_data
from subliminal_jax.training.batch import Batch, stack_rows
from subliminal_jax.training.guards import NO_GUARD, Guard
from subliminal_jax.training.losses import per_token, token_losses


class Teacher(NamedTuple):
    """The teacher of the KL objective: the base with a steering of its own for each data set.

    `steerings` is one `Steering` whose leaves carry a leading axis over the data sets (`stacked`);
    a data set of the unsteered base has a zero vector. `batch` holds, for a teacher that reads
    other prompts (a system prompt), its own rows with the same completions; it is stacked over data
    sets (`stack_rows`) like the students' rows. Data sets are in the alphabetical order of their
    names.
    """

    steerings: Steering
    batch: Batch | None = None

    @staticmethod
    def stacked(steerings: Sequence[Steering], batch: Batch | None = None) -> "Teacher":
        """The steerings must be alike but for their numbers: same layers and operation."""
        return Teacher(jax.tree.map(lambda *x: jnp.stack(x), *steerings), batch)


class Source(NamedTuple):
    """What all students share: frozen base, rows [datasets, rows, time], the KL's teacher, and
    what they are guarded from."""

    base: Params
    data: Batch
    teacher: Teacher | None
    guard: Guard = NO_GUARD


def checked_rows(
    data: Mapping[str, Batch],
    names: Sequence[str],
    vocab: int,
    teacher: Teacher | None = None,
    batch_size: int = 1,
) -> Batch:
    """The data sets called `names`, stacked in this order.

    Raises InputError as `check_data` and `check_teacher` do, and for a name without rows.
    """
    if missing := [name for name in names if name not in data]:
        raise InputError(f"there are no held-out rows of data {missing[0]!r}")
    chosen = {name: data[name] for name in names}
    check_data(chosen, vocab, batch_size)
    rows = stack_rows(list(chosen.values()))
    if teacher is not None:
        check_teacher(teacher, rows, names)
    return rows


def check_teacher(teacher: Teacher, rows: Batch, names: Sequence[str]) -> None:
    """Raises InputError for a teacher that does not fit the students' rows [datasets, rows, time].

    A student's token is matched with the teacher's by its number among the predicted tokens of the
    row, so these must be the same tokens on both sides.
    """
    given = teacher.steerings.scale.shape[0]
    if given != len(names):
        raise InputError(
            f"the teacher has {given} steerings for {len(names)} data sets; "
            f"give one each for {', '.join(names)}"
        )
    if teacher.batch is None:
        return
    if teacher.batch.tokens.shape[:2] != rows.tokens.shape[:2]:
        raise InputError(
            f"the teacher's rows have the shape {teacher.batch.tokens.shape[:2]} [data sets, "
            f"rows], the students' {rows.tokens.shape[:2]}; they must be the same rows"
        )
    theirs, ours = _completions(teacher.batch), _completions(rows)
    for i, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        if not np.array_equal(one, other):
            which, row = divmod(i, rows.tokens.shape[1])
            raise InputError(
                f"row {row} of data {names[which]!r}: the teacher's {len(one)} predicted tokens "
                f"differ from the student's {len(other)}; the completions must be the same"
            )


def _completions(rows: Batch) -> list[Int[np.ndarray, " predicted"]]:
    """The predicted tokens of every row, the data sets one after the other."""
    tokens, mask = (
        np.asarray(leaf)[..., 1:].reshape(-1, leaf.shape[-1] - 1)
        for leaf in (rows.tokens, rows.loss_mask)
    )
    return [row[keep != 0] for row, keep in zip(tokens, mask, strict=True)]


@dataclass(frozen=True)
class Objective:
    """Mean loss per predicted token; static under jit. Without a teacher it is cross-entropy.

    A guard's inoculation is part of the student here.
    """

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
        return per_token(total, weight)

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
        share = per_token(jnp.ones(()), weight)
        return total * share, jax.tree.map(lambda g: g * share, grads)

    def _total(
        self, trainable: Trainable, source: Source, scale: Array, which: Array, rows: Array
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """(summed loss, number of predicted tokens), both weighted with the loss mask."""

        def chosen(data: Batch) -> Batch:
            return jax.tree.map(lambda leaf: leaf[which, rows], data)

        params, steering = attach(source.base, trainable, self.cfg, self.adapter, scale)
        steering = source.guard.inoculated(steering, which)
        teacher = None
        if source.teacher is not None:
            own = source.teacher.batch
            teacher = (
                source.base,
                jax.tree.map(lambda leaf: leaf[which], source.teacher.steerings),
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
