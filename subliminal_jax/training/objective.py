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
from subliminal_jax.training.adapters import Adapter, Full, Trainable, attach
from subliminal_jax.training.arms import check_data
from subliminal_jax.training.batch import Batch, stack_rows
from subliminal_jax.training.guards import NO_GUARD, Guard
from subliminal_jax.training.layout import Layout, laid_out
from subliminal_jax.training.losses import heldout_loss, per_token, token_losses
from subliminal_jax.training.preference import (
    Preference,
    Reference,
    check_preference_rows,
    log_ratios,
    margins,
    pair_losses,
)


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
    """What all students share: frozen base, rows [datasets, rows, time], the KL's teacher, what
    they are guarded from, and DPO's reference; with it rows are [datasets, rows, 2, time]."""

    base: Params
    data: Batch
    teacher: Teacher | None
    guard: Guard = NO_GUARD
    reference: Reference | None = None

    @property
    def packs(self) -> bool:
        """Whether the rows of a batch may lie side by side: where nothing else has their shape."""
        if self.reference is not None:
            return False
        if self.teacher is None:
            return True
        steerings, rows = self.teacher
        return rows is None and steerings.mask is None and steerings.target is None


def checked_source(
    base: Params,
    data: Mapping[str, Batch],
    names: Sequence[str],
    vocab: int,
    teacher: Teacher | None = None,
    preference: Preference | None = None,
    *,
    guard: Guard = NO_GUARD,
    batch_size: int = 1,
) -> Source:
    """The data sets called `names`, stacked in this order, with what is asked of them.

    Raises InputError as `check_data`, `check_teacher`, `check_preference_rows` and
    `Preference.stacked` do, for a name without rows, for preference rows without a preference, and
    for a teacher and a preference at once.
    """
    if missing := [name for name in names if name not in data]:
        raise InputError(f"there are no held-out rows of data {missing[0]!r}")
    if teacher is not None and preference is not None:
        raise InputError("students follow a teacher (KL) or a preference (DPO), not both")
    chosen = {name: data[name] for name in names}
    check_data(chosen, vocab, batch_size)
    for name, rows in chosen.items():
        if preference is not None:
            check_preference_rows(rows, name)
        elif rows.tokens.ndim != 2:
            raise InputError(
                f"data {name!r} has the shape {tuple(rows.tokens.shape)}, not [rows, time]; "
                "preference rows need a `preference`"
            )
    stacked = stack_rows(list(chosen.values()))
    if teacher is not None:
        check_teacher(teacher, stacked, names)
    reference = None if preference is None else preference.stacked(stacked, names)
    return Source(base, stacked, teacher, guard, reference)


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
    """Mean loss per predicted token (cross-entropy, or with a teacher the KL to it), or with a
    reference DPO's mean loss per pair; static under jit.

    A guard's inoculation is part of the student here.
    """

    cfg: ModelConfig
    adapter: Adapter
    remat: Remat = "none"
    accumulation: int = 1

    @property
    def _whole_weights(self) -> bool:
        return isinstance(self.adapter, Full)

    def loss(
        self,
        source: Source,
        trainable: Trainable,
        scale: Float[Array, ""],
        which: Int[Array, ""],
        rows: Int[Array, " batch"],
        layout: Layout,
    ) -> Float[Array, ""]:
        """The loss of a student on `rows` of data set `which`, which lie as `layout` says; `scale`
        is LoRA's alpha/rank."""
        if self.accumulation == 1:
            return per_token(*self._total(trainable, source, scale, which, rows, layout))
        found = jax.lax.map(
            lambda part: self._total(trainable, source, scale, which, *part),
            self._parts(rows, layout),
        )
        return per_token(*jax.tree.map(jnp.sum, found))

    def loss_and_gradient(
        self,
        source: Source,
        trainable: Trainable,
        scale: Float[Array, ""],
        which: Int[Array, ""],
        rows: Int[Array, " batch"],
        layout: Layout,
    ) -> tuple[Float[Array, ""], Trainable]:
        """`loss` and its gradient, in `accumulation` equal parts that add up to the same."""
        gradient_of = jax.value_and_grad(self._total, has_aux=True)
        if self.accumulation == 1:
            (total, weight), grads = gradient_of(trainable, source, scale, which, rows, layout)
        else:
            zero = (jnp.zeros(()), jnp.zeros(())), jax.tree.map(jnp.zeros_like, trainable)

            def add(so_far: Any, part: tuple[Array, Layout]) -> tuple[Any, None]:
                more = gradient_of(trainable, source, scale, which, *part)
                return jax.tree.map(jnp.add, so_far, more), None

            parts = self._parts(rows, layout)
            ((total, weight), grads), _ = jax.lax.scan(add, zero, parts)
        share = per_token(jnp.ones(()), weight)
        return total * share, jax.tree.map(lambda g: g * share, grads)

    def heldout_loss(
        self,
        source: Source,
        trainable: Trainable,
        scale: Float[Array, ""],
        which: Int[Array, ""],
        *,
        rows_at_once: int,
        max_targets: int,
    ) -> Float[Array, ""]:
        """The loss on all rows of data set `which` of a held-out `source`, without its guard."""
        params, steering = attach(source.base, trainable, self.cfg, self.adapter, scale)
        rows, teacher = jax.tree.map(lambda leaf: leaf[which], (source.data, source.teacher))
        if source.reference is not None:
            beta, ratios = source.reference
            shifts = margins(
                params, rows, self.cfg, ratios[which], steering,
                rows_at_once=rows_at_once, max_targets=max_targets,
            )  # fmt: skip
            return jnp.mean(pair_losses(shifts, beta))
        return heldout_loss(
            params, rows, self.cfg, steering, None if teacher is None else (source.base, *teacher),
            rows_at_once=rows_at_once, max_targets=max_targets,
        )  # fmt: skip

    def _parts(self, rows: Array, layout: Layout) -> tuple[Array, Layout]:
        """Equal parts of a batch, on a leading axis."""
        return rows.reshape(self.accumulation, -1), layout.parts(self.accumulation)

    def _total(
        self,
        trainable: Trainable,
        source: Source,
        scale: Array,
        which: Array,
        rows: Array,
        layout: Layout,
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """(summed loss, number of predicted tokens), both weighted with the loss mask; of DPO
        (summed loss, number of pairs)."""

        def chosen(data: Batch) -> Batch:
            return jax.tree.map(lambda leaf: leaf[which, rows], data)

        params, steering = attach(source.base, trainable, self.cfg, self.adapter, scale)
        steering = source.guard.inoculated(steering, which)
        if source.reference is not None:
            found = log_ratios(
                params, chosen(source.data), self.cfg, steering,
                max_targets=layout.max_targets, remat=self.remat, trained=self._whole_weights,
            )  # fmt: skip
            beta, ratios = source.reference
            of_pairs = pair_losses(found - ratios[which, rows], beta)
            return jnp.sum(of_pairs), jnp.asarray(of_pairs.size, jnp.float32)
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
            laid_out(chosen(source.data), layout),
            self.cfg,
            steering,
            teacher=teacher,
            max_targets=layout.max_targets,
            total_targets=layout.total_targets,
            groups=layout.groups,
            remat=self.remat,
            trained=self._whole_weights,
        )
        return jnp.sum(losses * weights), jnp.sum(weights)
