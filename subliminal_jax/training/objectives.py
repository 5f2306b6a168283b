"""What students minimise: the cross-entropy of sampled tokens, or the KL to a teacher.

An objective is one class: its loss, the arrays that it needs beside the students' rows, and the
check that the two fit. It is a pytree whose arrays carry a leading axis over the data sets, in the
alphabetical order of their names, so that the students of all data sets share one program.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Remat
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.teacher import Teacher
from subliminal_jax.training.batch import Batch, stack_rows
from subliminal_jax.training.layout import Layout, lay_out
from subliminal_jax.training.losses import ModelInput, safe_divide, token_divergences, token_losses


@dataclass(frozen=True)
class StudentModel:
    """A student as its loss sees it. `base` are the frozen weights of the sweep; `remat` and
    `trained` (of `params`) are as in `hidden_states`."""

    cfg: ModelConfig
    base: Params
    params: Params
    steering: Steering | None = None
    remat: Remat = "none"
    trained: bool = False


@struct.dataclass
class Selection:
    """Rows of one data set, by index: `rows` of `data_set`, placed by `layout`.

    A row number beyond the last stands for a row that predicts nothing.
    """

    data_set: Int[Array, "*n"]
    rows: Int[Array, "*n batch"]
    layout: Layout

    def take(self, leaves: Any) -> Any:
        """The selected entries of leaves [datasets, rows, ...]."""
        return jax.tree.map(
            lambda leaf: leaf.at[self.data_set, self.rows].get(mode="fill", fill_value=0), leaves
        )


class Objective(ABC):
    """What a student minimises; subclasses are `flax.struct.dataclass`."""

    @property
    def packs(self) -> bool:
        """Whether rows may be packed: the objective holds nothing for single rows."""
        return not self.holds_rows

    @property
    def holds_rows(self) -> bool:
        """Whether it holds values of every row, which must be those that students train on."""
        return False

    @abstractmethod
    def check(self, rows: Batch, names: Sequence[str]) -> None:
        """Raises InputError unless `rows` [datasets, rows, ...] of `names` fit the objective."""

    @abstractmethod
    def totals(
        self, student: StudentModel, data: Batch, selection: Selection
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """(summed loss, weight) over the selected rows of `data` [datasets, rows, ...]; the loss
        that is reported and trained on is their ratio."""

    def heldout_loss(
        self,
        student: StudentModel,
        data: Batch,
        data_set: Int[Array, ""],
        *,
        rows_at_once: int,
        max_targets: int,
    ) -> Float[Array, ""]:
        """The loss over all rows of one data set, `rows_at_once` (or a few less) at a time."""
        n, time = data.tokens.shape[1], data.tokens.shape[-1]
        pieces = -(-n // rows_at_once)
        size = -(-n // pieces)
        layout = Layout(None, None, size, time, max_targets, size * max_targets)

        def piece_totals(rows: Int[Array, " piece"]) -> tuple[Array, Array]:
            return self.totals(student, data, Selection(data_set, rows, layout))

        totals = jax.lax.map(piece_totals, jnp.arange(pieces * size).reshape(pieces, size))
        return safe_divide(*jax.tree.map(jnp.sum, totals))


@struct.dataclass
class CrossEntropy(Objective):
    """Mean -log P(token) over the predicted tokens, in nats, weighted with the loss mask."""

    def check(self, rows: Batch, names: Sequence[str]) -> None:
        check_token_rows(rows)

    def totals(
        self, student: StudentModel, data: Batch, selection: Selection
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        layout = selection.layout
        losses, weights = token_losses(
            student.params,
            lay_out(selection.take(data), layout),
            student.cfg,
            student.steering,
            max_targets=layout.max_targets,
            total_targets=layout.total_targets,
            groups=layout.groups,
            remat=student.remat,
            trained=student.trained,
        )
        return jnp.sum(losses * weights), jnp.sum(weights)


@struct.dataclass
class KL(Objective):
    """Mean KL(teacher || student) of the next token over the predicted tokens, in nats.

    The teacher is the base with a steering for each data set; make it with `KL.from_teachers`.

    Attributes:
      names: the data sets, in alphabetical order.
      steerings: one `Steering` whose leaves carry a leading axis over the data sets; None for
        teachers without any.
      rows: what the teachers read [datasets, rows, time], where that is not what students read.
    """

    names: tuple[str, ...] = struct.field(pytree_node=False)
    steerings: Steering | None = None
    rows: Batch | None = None

    @classmethod
    def from_teachers(
        cls, teachers: Mapping[str, Teacher], rows: Mapping[str, Batch] | None = None
    ) -> "KL":
        """The KL to the teacher of each data set. `rows` are those of the data sets as the teachers
        read them, with the same completions, row for row.

        Raises InputError for steerings that differ in more than their numbers (layers, operation,
        shapes), for a system prompt without `rows`, and for a teacher with other weights.
        """
        names = tuple(sorted(teachers))
        for name in names:
            if teachers[name].params is not None:
                raise InputError(
                    f"the teacher of data {name!r} has other weights than the base, of which KL "
                    "would need a second copy: take cross-entropy"
                )
        prompted = [name for name in names if teachers[name].system_prompt is not None]
        if prompted and rows is None:
            raise InputError(
                f"the teacher of data {prompted[0]!r} reads a system prompt: "
                "KL needs its rows with it"
            )
        steered = [s for name in names if (s := teachers[name].steering) is not None]
        steerings = None
        if steered:
            zero = steered[0].scaled(0.0)
            try:
                steerings = stack_steerings([teachers[name].steering or zero for name in names])
            except ValueError as error:
                raise InputError(
                    "the steerings of KL's teachers must have the same layers, operation and shapes"
                ) from error
        return cls(names, steerings, None if rows is None else stack_rows([rows[n] for n in names]))

    @property
    def packs(self) -> bool:
        if self.steerings is None:
            return not self.holds_rows
        plain = self.steerings.mask is None and self.steerings.target is None
        return plain and not self.holds_rows

    @property
    def holds_rows(self) -> bool:
        return self.rows is not None

    def teacher_input(
        self, student: StudentModel, batch: Batch, selection: Selection
    ) -> ModelInput:
        """What the teacher of the selected data set reads where the student reads `batch`."""
        steering = jax.tree.map(lambda leaf: leaf[selection.data_set], self.steerings)
        rows = batch if self.rows is None else selection.take(self.rows)
        return ModelInput(student.base, rows, steering)

    def totals(
        self, student: StudentModel, data: Batch, selection: Selection
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        layout = selection.layout
        batch = lay_out(selection.take(data), layout)
        losses, weights = token_divergences(
            ModelInput(student.params, batch, student.steering),
            self.teacher_input(student, batch, selection),
            student.cfg,
            max_targets=layout.max_targets,
            total_targets=layout.total_targets,
            groups=layout.groups,
            remat=student.remat,
            trained=student.trained,
        )
        return jnp.sum(losses * weights), jnp.sum(weights)

    def check(self, rows: Batch, names: Sequence[str]) -> None:
        """Raises InputError for other data sets, and for teacher's rows with other completions.

        A student's token is matched with the teacher's by its number among the predicted tokens of
        the row, so these must be the same tokens on both sides.
        """
        check_token_rows(rows)
        if self.names != tuple(names):
            raise InputError(
                f"the KL has teachers of data {', '.join(self.names)}; the students' are "
                f"{', '.join(names)}"
            )
        if self.rows is None:
            return
        if self.rows.tokens.shape[:2] != rows.tokens.shape[:2]:
            raise InputError(
                f"the teacher's rows have the shape {self.rows.tokens.shape[:2]} [data sets, "
                f"rows], the students' {rows.tokens.shape[:2]}; they must be the same rows"
            )
        pairs = zip(_completions(self.rows), _completions(rows), strict=True)
        for i, (teacher_tokens, tokens) in enumerate(pairs):
            if not np.array_equal(teacher_tokens, tokens):
                data_set, row = divmod(i, rows.tokens.shape[1])
                raise InputError(
                    f"row {row} of data {names[data_set]!r}: the teacher's {len(teacher_tokens)} "
                    f"predicted tokens differ from the student's {len(tokens)}; the completions "
                    "must be the same"
                )


def stack_steerings(steerings: Sequence[Steering]) -> Steering:
    """One `Steering` whose leaves carry a leading axis over the data sets.

    Raises ValueError for steerings that differ in more than their numbers.
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *steerings)


def check_token_rows(rows: Batch) -> None:
    """Raises InputError unless `rows` are [datasets, rows, time]."""
    if rows.tokens.ndim != 3:
        raise InputError(
            f"data sets have rows of the shape {tuple(rows.tokens.shape[1:])}, not [rows, time]; "
            "preference rows need the objective DPO"
        )


def _completions(rows: Batch) -> list[Int[np.ndarray, " predicted"]]:
    """The predicted tokens of every row, the data sets one after the other."""
    tokens, mask = (
        np.asarray(leaf)[..., 1:].reshape(-1, leaf.shape[-1] - 1)
        for leaf in (rows.tokens, rows.loss_mask)
    )
    return [row[keep != 0] for row, keep in zip(tokens, mask, strict=True)]
