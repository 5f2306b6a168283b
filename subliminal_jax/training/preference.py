"""Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290, equation 7).

    L = -mean log sigmoid(beta * rho),
    rho = [log P_M(r+ | p) - log P_M(r- | p)] - [log P_ref(r+ | p) - log P_ref(r- | p)]

with log-probabilities summed over the tokens of a response. Preference rows are a `Batch` whose
leaves are [rows, 2, time]: the chosen response, then the rejected one, each behind its prompt. Both
go through one forward pass. The reference's log-ratios are computed once, before training, and
enter as numbers: there is nothing in them that a gradient could reach.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.errors import InputError
from subliminal_jax.files import read_marked, write_marked
from subliminal_jax.fingerprints import digest
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Remat
from subliminal_jax.models.mesh import whole
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.batch import Batch, max_targets, predicted_counts
from subliminal_jax.training.losses import sequence_log_probs

STORED_TOLERANCE = 0.05  # of their norm; bfloat16's rounding stays below it


class Reference(NamedTuple):
    """`Preference` as the programs take it; stacked over the data sets, or of one of them."""

    beta: Float[Array, ""]
    log_ratios: Float[Array, "*datasets rows"]


class Preference(NamedTuple):
    """The objective of a sweep on preference rows: beta, and for each data set its rows' log-ratios
    under the reference (`reference_log_ratios`), in nats.

    beta is not compiled in: sweeps that differ in it alone share their programs.
    """

    beta: float
    log_ratios: Mapping[str, Float[np.ndarray, " rows"]]

    def stacked(self, rows: Batch, names: Sequence[str]) -> Reference:
        """For `rows` [datasets, rows, 2, time] of the data sets `names`, in this order.

        Raises InputError for a beta that is not positive and finite, and for log-ratios that are
        missing, not finite, or not one a row.
        """
        if not 0 < self.beta < math.inf:
            raise InputError(f"beta={self.beta} is not valid for DPO; it must be more than 0")
        for name in names:
            if name not in self.log_ratios:
                raise InputError(f"there are no reference log-ratios of data {name!r}")
            ratios = np.asarray(self.log_ratios[name])
            if ratios.shape != rows.tokens.shape[1:2]:
                raise InputError(
                    f"data {name!r} has {rows.tokens.shape[1]} preference rows, but its reference "
                    f"log-ratios have the shape {list(ratios.shape)}; give one a row"
                )
            if not np.isfinite(ratios).all():
                row = int(np.argmin(np.isfinite(ratios)))
                raise InputError(
                    f"the reference log-ratio of row {row} of data {name!r} is {ratios[row]}; "
                    "leave the row out"
                )
        return Reference(
            jnp.asarray(self.beta, jnp.float32),
            jnp.stack([jnp.asarray(self.log_ratios[name], jnp.float32) for name in names]),
        )


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
        params, side_by_side, cfg, steering,
        max_targets=max_targets, remat=remat, trained=trained,
    )  # fmt: skip
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
    pieces = 1 if rows_at_once is None else -(-n // rows_at_once)
    if pieces == 1:
        found = log_ratios(params, rows, cfg, steering, max_targets=max_targets)
        return whole(found - reference)
    size = -(-n // pieces)

    def cut(leaf: Array) -> Array:  # padded with pairs that predict nothing
        widths = ((0, pieces * size - n), *[(0, 0)] * (leaf.ndim - 1))
        return jnp.pad(leaf, widths).reshape(pieces, size, *leaf.shape[1:])

    found = jax.lax.map(
        lambda piece: log_ratios(params, piece, cfg, steering, max_targets=max_targets),
        jax.tree.map(cut, rows),
    )
    return whole(found.reshape(-1)[:n] - reference)


compiled_margins = jax.jit(margins, static_argnames=("cfg", "rows_at_once", "max_targets"))


def reference_log_ratios(
    params: Params,
    rows: Batch,
    cfg: ModelConfig,
    steering: Steering | None = None,
    *,
    rows_at_once: int = 64,
    path: str | Path | None = None,
) -> Float[np.ndarray, " rows"]:
    """The log-ratios of preference rows [rows, 2, time] under the reference model, in nats.

    For the rows of a reference that reads a system prompt give rows with it: what it adds to the
    log-ratios are its shifts. With `path` (.npz) they are stored there, and read where they are:
    then only the first `rows_at_once` are computed, to see that they are still this model's.

    Raises InputError for rows that are not preference rows, and for a stored file of other rows or
    another model.
    """
    check_preference_rows(rows, "to score")
    most = max_targets(rows)

    def compute(some: Batch) -> Float[np.ndarray, " rows"]:
        zero = jnp.zeros((some.tokens.shape[0],))
        found = compiled_margins(
            params, some, cfg, zero, steering, rows_at_once=rows_at_once, max_targets=most
        )
        return np.asarray(found)

    if path is None:
        return compute(rows)
    mark = digest(rows.tokens, rows.positions, np.asarray(rows.loss_mask) != 0)
    stored = read_marked(path, "log_ratios", mark)
    if stored is not None:
        first = compute(jax.tree.map(lambda leaf: leaf[:rows_at_once], rows))
        off = np.linalg.norm(first - stored[: len(first)])
        if not off <= STORED_TOLERANCE * np.linalg.norm(first) + 1e-3:
            raise InputError(f"{path} holds log-ratios of another model; remove it")
        return stored
    found = compute(rows)
    write_marked(path, "log_ratios", found, mark)
    return found


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
