"""Packing the rows of a training batch into the arrays that a pass computes.

All data sets of a sweep are padded to their longest row. The rows of a batch are therefore packed
into fewer rows where that saves work, kept apart by segment ids, and only predicted tokens are
unembedded. The loss does not change. Shapes are the same at all steps and for all students: those
that the fullest batch needs, which is known beforehand, since the order of the rows is.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Int

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.training.batch import Batch, max_targets, predicted_counts

MAX_PACKED_WORK = 0.9  # packing must cut the work to this share
# Packed rows are up to twice as long as the longest row, but no longer than it above SHORT tokens:
# attention's memory grows with the square.
MAX_STRETCH, SHORT = 2, 256
SAMPLED_BATCHES = 512  # batches from which the length of packed rows is chosen
# Attention's small products run at about a fourth of the speed of those with weights.
ATTENTION_COST = 4.0


@struct.dataclass
class Layout:
    """Where each row of a batch begins, and the shape that all batches have.

    Attributes:
      row, start: the packed row of each row, and the time index of its first token; None where rows
        are not packed.
      rows, time: the shape of one pass (a part of a batch, where it goes through in several).
      max_targets: the most tokens that one of these rows predicts.
      total_targets: the most tokens that one of the `groups` of rows of a pass predicts.
      groups: how many groups, on devices of their own, the rows of a pass divide into.
    """

    row: Int[Array, "*lead batch"] | None
    start: Int[Array, "*lead batch"] | None
    rows: int = struct.field(pytree_node=False)
    time: int = struct.field(pytree_node=False)
    max_targets: int = struct.field(pytree_node=False)
    total_targets: int = struct.field(pytree_node=False)
    groups: int = struct.field(pytree_node=False, default=1)

    def select_step(self, step: Int[Array, ""]) -> "Layout":
        """The layout of one step, from leaves [students, steps, batch]."""
        return jax.tree.map(lambda leaf: leaf[:, step], self)

    def split(self, n: int) -> "Layout":
        """Leaves [batch] as [n, batch / n]."""
        return jax.tree.map(lambda leaf: leaf.reshape(n, -1), self)


class Planned(NamedTuple):
    """A layout, and the share of the token slots of its passes that hold no token."""

    layout: Layout
    padding_share: float


def lay_out(batch: Batch, layout: Layout) -> Batch:
    """Pack the rows of `batch` [rows, time] by `layout`, whose leaves are [rows]."""
    if layout.row is None or layout.start is None:
        return batch
    time = jnp.arange(batch.tokens.shape[1])[None]
    slots = layout.rows * layout.time
    slot = layout.time * layout.row[:, None] + layout.start[:, None] + time
    slot = jnp.where(batch.positions >= 0, slot, slots)  # padding is dropped

    def put(values: Array, empty: int) -> Array:
        flat = jnp.full((slots,), empty, values.dtype)
        return flat.at[slot].set(values, mode="drop").reshape(layout.rows, layout.time)

    segments = jnp.broadcast_to(1 + jnp.arange(len(slot))[:, None], slot.shape)
    # A row's first token is predicted from nothing; in a packed row another one may precede it.
    weights = batch.loss_mask * (time > 0)
    return Batch(
        tokens=put(batch.tokens, 0),
        positions=put(batch.positions, -1),
        loss_mask=put(weights, 0),
        segment_ids=put(segments, 0),
    )


def plan_layout(
    data: Batch,
    orders: Int[np.ndarray, "orders steps batch"],
    order_indices: Int[np.ndarray, " students"],
    data_sets: Int[np.ndarray, " students"],
    cfg: ModelConfig,
    *,
    parts: int = 1,
    pack: bool = True,
    groups: int = 1,
    at_least: Layout | None = None,
) -> Planned:
    """The layout of a sweep's batches, with leaves [students, steps, batch].

    Args:
      data: the rows of all data sets [datasets, rows, time], padded to the right; of a preference
        [datasets, rows, 2, time], which stay as they are.
      orders: the distinct orders in which rows are seen. Shapes serve any order with any data set.
      order_indices, data_sets: the order and the data set of each student, as indices.
      parts: the number of equal parts in which a batch goes through.
      pack: whether rows may be packed.
      groups: the number of groups of rows, on devices of their own, that a pass is to divide into.
      at_least: an earlier layout, whose shapes are kept where they are large enough.
    """
    lead = data.tokens.shape[:2]
    lengths = np.sum(np.asarray(data.positions) >= 0, axis=-1).reshape(*lead, -1).sum(axis=-1)
    counts = predicted_counts(data).reshape(*lead, -1).sum(axis=-1)
    n, steps, batch = orders.shape

    def split_passes(values: Int[np.ndarray, "datasets rows"]) -> Int[np.ndarray, "passes part"]:
        return values[:, orders].reshape(-1, batch // parts)

    length, count = split_passes(lengths), split_passes(counts)
    pair = data_sets * n + order_indices  # into (data set, order)
    rows, time = batch // parts, data.tokens.shape[-1]
    used, slots = length.mean() * rows, rows * data.tokens[0, 0].size
    row = start = None
    predicted, most = count, max_targets(data)
    if pack and data.tokens.ndim == 3 and data.segment_ids is None:
        fit = fit_rows(length, time, cfg, groups, at_least)
        if fit is not None:
            row, start, rows, time = fit
            predicted = np.zeros((len(row), rows), count.dtype)
            np.add.at(predicted, (np.arange(len(row))[:, None], row), count)
            most, slots = max(1, int(predicted.max())), rows * time
    groups = groups if rows % groups == 0 else 1
    total = max(1, int(predicted.reshape(len(predicted), groups, -1).sum(axis=2).max()))
    if at_least is not None:
        most, total = max(most, at_least.max_targets), max(total, at_least.total_targets)

    def select_students(places: np.ndarray | None) -> Array | None:
        if places is None:
            return None
        return jnp.asarray(places.reshape(-1, steps, batch)[pair], jnp.int32)

    layout = Layout(select_students(row), select_students(start), rows, time, most, total, groups)
    return Planned(layout, 1.0 - float(used / slots))


def place_rows(
    lengths: Int[np.ndarray, "passes rows"], time: int
) -> tuple[Int[np.ndarray, "passes rows"], Int[np.ndarray, "passes rows"]]:
    """(packed row, time index of the first token) of rows of these lengths in rows of `time`
    tokens, by best fit decreasing: the longest first, each where the least room is left."""
    n, rows = lengths.shape
    free = np.full((n, rows), time)
    row, start = np.zeros((2, n, rows), np.int64)
    each = np.arange(n)
    for members in np.argsort(-lengths, axis=1, kind="stable").T:
        length = lengths[each, members]
        room = np.where(free >= length[:, None], free, time + 1)
        best = room.argmin(axis=1)
        row[each, members], start[each, members] = best, time - free[each, best]
        free[each, best] -= length
    return row, start


def fit_rows(
    lengths: Int[np.ndarray, "passes rows"],
    longest: int,
    cfg: ModelConfig,
    groups: int = 1,
    at_least: Layout | None = None,
) -> tuple[np.ndarray, np.ndarray, int, int] | None:
    """(row, start, rows, time): the places of rows of these lengths (`place_rows`) and the shape of
    all passes that takes the least work; None where packing does not pay.

    `longest` is the length of padded rows; `groups` and `at_least` are those of `plan_layout`.
    """
    if at_least is not None:
        time = None if at_least.row is None else at_least.time
    else:
        time = _best_time(lengths, longest, cfg, groups)
    if time is None:
        return None
    row, start = place_rows(lengths, time)
    return row, start, max(_count_rows(row, groups), 0 if at_least is None else at_least.rows), time


def _best_time(
    lengths: Int[np.ndarray, "passes rows"], longest: int, cfg: ModelConfig, groups: int
) -> int | None:
    """The length of packed rows that takes the least work; None where packing does not pay."""
    some = lengths[:: max(1, len(lengths) // SAMPLED_BATCHES)]
    weights = cfg.dim * (2 * (cfg.heads + cfg.kv_heads) * cfg.head_dim + 3 * cfg.mlp_dim)
    quadratic = ATTENTION_COST * 2 * cfg.heads * cfg.head_dim / weights

    def work(rows: int, time: int) -> float:
        return rows * time * (1.0 + quadratic * time)

    widest = MAX_STRETCH * longest if longest <= SHORT else longest
    times = range(longest, widest + 1, max(1, longest // 8))
    costs = {time: work(_count_rows(place_rows(some, time)[0], groups), time) for time in times}
    best = min(costs, key=lambda time: costs[time])
    return best if costs[best] <= MAX_PACKED_WORK * work(lengths.shape[1], longest) else None


def _count_rows(row: Int[np.ndarray, "passes rows"], groups: int) -> int:
    """The number of packed rows, rounded up to a multiple of `groups`."""
    return -(-(int(row.max()) + 1) // groups) * groups
