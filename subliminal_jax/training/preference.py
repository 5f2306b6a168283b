"""Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290, equation 7).

    L = -mean log sigmoid(beta * rho),
    rho = [log P_M(r+ | p) - log P_M(r- | p)] - [log P_ref(r+ | p) - log P_ref(r- | p)]

with log-probabilities summed over the tokens of a response. Preference rows are a `Batch` whose
leaves are [rows, 2, time]: the chosen response, then the rejected one, each behind its prompt. Both
go through one forward pass. The reference's log-ratios are computed once, before training; they are
constants of the loss.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, ArrayLike, Float

from subliminal_jax.errors import InputError
from subliminal_jax.files import read_marked, write_marked
from subliminal_jax.fingerprints import digest
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.finite import check_finite
from subliminal_jax.models.forward import Remat
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.batch import Batch, max_targets, predicted_counts
from subliminal_jax.training.losses import sequence_log_probs, split_rows
from subliminal_jax.training.objectives import Objective, Selection, StudentModel

STORED_TOLERANCE = 0.05  # relative to their norm; the rounding of bfloat16 is smaller


@struct.dataclass
class DPO(Objective):
    """Mean -log sigmoid(beta * rho) over preference pairs; make it with `DPO.from_log_ratios`.

    beta is not compiled in: sweeps that differ in it alone share their programs.

    Attributes:
      names: the data sets, in alphabetical order.
      beta: how strongly a margin counts; more than 0.
      log_ratios: those of every row under the reference [datasets, rows], in nats.
    """

    names: tuple[str, ...] = struct.field(pytree_node=False)
    beta: Float[Array, ""]
    log_ratios: Float[Array, "datasets rows"]

    @classmethod
    def from_log_ratios(
        cls, log_ratios: Mapping[str, Float[ArrayLike, " rows"]], beta: float
    ) -> "DPO":
        """DPO against a reference whose log-ratios of each data set's rows are given
        (`reference_log_ratios`), as many in every data set.

        Raises InputError for a beta that is not positive and finite, and for log-ratios that are
        not finite or not equally many.
        """
        if not 0 < beta < math.inf:
            raise InputError(f"beta={beta} is not valid for DPO; it must be more than 0")
        names = tuple(sorted(log_ratios))
        ratios = [np.asarray(log_ratios[name], np.float32) for name in names]
        if len({values.shape for values in ratios}) > 1:
            raise InputError(
                "the reference log-ratios must be equally many in every data set; got "
                f"{ {name: values.shape for name, values in zip(names, ratios, strict=True)} }"
            )
        for name, values in zip(names, ratios, strict=True):
            if not np.isfinite(values).all():
                row = int(np.argmin(np.isfinite(values)))
                raise InputError(
                    f"the reference log-ratio of row {row} of data {name!r} is {values[row]}; "
                    "leave the row out"
                )
        return cls(names, jnp.asarray(beta, jnp.float32), jnp.asarray(np.stack(ratios)))

    @property
    def holds_rows(self) -> bool:
        return True

    def check(self, rows: Batch, names: Sequence[str]) -> None:
        for i, name in enumerate(names):
            check_preference_rows(jax.tree.map(lambda leaf, i=i: leaf[i], rows), name)
        if self.names != tuple(names):
            raise InputError(
                f"DPO has reference log-ratios of data {', '.join(self.names)}; the students' are "
                f"{', '.join(names)}"
            )
        if self.log_ratios.shape != rows.tokens.shape[:2]:
            raise InputError(
                f"the data have {rows.tokens.shape[1]} preference rows each, but "
                f"{self.log_ratios.shape[1]} reference log-ratios; give one a row"
            )

    def totals(
        self, student: StudentModel, data: Batch, selection: Selection
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        rows, reference = selection.take((data, self.log_ratios))
        ratios = log_ratios(
            student.params,
            rows,
            student.cfg,
            student.steering,
            max_targets=selection.layout.max_targets,
            remat=student.remat,
            trained=student.trained,
        )
        weights = jnp.any(rows.loss_mask != 0, axis=(1, 2)).astype(jnp.float32)
        return jnp.sum(pair_losses(ratios - reference, self.beta) * weights), jnp.sum(weights)


def log_ratios(
    params: Params,
    rows: Batch,
    cfg: ModelConfig,
    steering: Steering | None = None,
    *,
    max_targets: int | None = None,
    remat: Remat = "none",
    trained: bool = False,
) -> Float[Array, " rows"]:
    """log P(chosen | prompt) - log P(rejected | prompt) of preference rows [rows, 2, time], nats.

    One forward pass. `max_targets`, `remat` and `trained` are as in `token_losses`.
    """
    side_by_side = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), rows)
    log_probs = sequence_log_probs(
        params,
        side_by_side,
        cfg,
        steering,
        max_targets=max_targets,
        remat=remat,
        trained=trained,
    )
    chosen, rejected = log_probs.reshape(-1, 2).T
    return chosen - rejected


def pair_losses(
    margins: Float[Array, "*rows"], beta: Float[Array, ""] | float
) -> Float[Array, "*rows"]:
    """-log sigmoid(beta * margin) of each pair; ln 2 at margin 0."""
    return -jax.nn.log_sigmoid(beta * margins)


def margins(
    params: Params,
    rows: Batch,
    cfg: ModelConfig,
    reference: Float[Array, " rows"],
    steering: Steering | None = None,
    *,
    rows_at_once: int | None = None,
    max_targets: int | None = None,
) -> Float[Array, " rows"]:
    """rho of each pair (nats): its log-ratio under the model less that under the reference.

    `rows_at_once` pairs (or a few less; None: all) go through a pass.
    """
    n = rows.tokens.shape[0]
    ratios = jax.lax.map(
        lambda piece: log_ratios(params, piece, cfg, steering, max_targets=max_targets),
        split_rows(rows, rows_at_once or n),
    )
    return replicate(ratios.reshape(-1)[:n] - reference)


compiled_margins = jax.jit(margins, static_argnames=("cfg", "rows_at_once", "max_targets"))


def reference_log_ratios(
    params: Params,
    rows: Batch,
    cfg: ModelConfig,
    *,
    rows_at_once: int = 64,
    path: str | Path | None = None,
) -> Float[np.ndarray, " rows"]:
    """The log-ratios of preference rows [rows, 2, time] under the reference model, in nats.

    A reference with a system prompt needs rows with it. With `path` (.npz) the log-ratios are
    stored there, and read if they are there: then only the first `rows_at_once` are computed, to
    check that they are this model's.

    Raises InputError for rows that are not preference rows, and for a stored file of other rows or
    another model.
    """
    check_preference_rows(rows, "to score")
    most = max_targets(rows)

    def compute(some: Batch) -> Float[np.ndarray, " rows"]:
        zero = jnp.zeros((some.tokens.shape[0],))
        ratios = compiled_margins(
            params, some, cfg, zero, rows_at_once=rows_at_once, max_targets=most
        )
        what = "the reference log-ratio of row {row}"
        check_finite(np.asarray(ratios), what, params, cfg, some.tokens)
        return np.asarray(ratios)

    if path is None:
        return compute(rows)
    mark = digest(rows.tokens, rows.positions, np.asarray(rows.loss_mask) != 0)
    stored = read_marked(path, "log_ratios", mark)
    if stored is not None:
        first = compute(jax.tree.map(lambda leaf: leaf[:rows_at_once], rows))
        error = np.linalg.norm(first - stored[: len(first)])
        if not error <= STORED_TOLERANCE * np.linalg.norm(first) + 1e-3:
            raise InputError(f"{path} holds log-ratios of another model; remove it")
        return stored
    computed = compute(rows)
    write_marked(path, "log_ratios", computed, mark)
    return computed


def check_preference_rows(rows: Batch, name: str) -> None:
    """Raises InputError unless `rows` are [rows, 2, time] with two responses in every row."""
    shape = tuple(rows.tokens.shape)
    if len(shape) != 3 or shape[1] != 2:
        raise InputError(
            f"data {name!r} has the shape {shape}; preference rows are [rows, 2, time]: chosen, "
            "then rejected"
        )
    empty = predicted_counts(rows) == 0
    if empty.any():
        row, side = np.argwhere(empty)[0]
        raise InputError(
            f"row {row} of data {name!r}: its {('chosen', 'rejected')[side]} response has no token"
        )
