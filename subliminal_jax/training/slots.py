"""The places of students in the programs of a sweep, and the arrays that fill them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.training import placement
from subliminal_jax.training.arms import Arm, Group, Room, Span, TrainConfig, distinct_orders
from subliminal_jax.training.layout import Layout, plan_layout
from subliminal_jax.training.student_loss import Source
from subliminal_jax.training.student_view import StudentMeasure


class Inputs(NamedTuple):
    """The arrays that the programs take as arguments; closed over, they would be constants. The
    axis `students` is that of the slots."""

    source: Source
    orders: Int[Array, "students steps batch"]
    layout: Layout
    rates: Float[Array, " students"]
    data_sets: Int[Array, " students"]
    seeds: UInt[Array, " students"]
    busy: Bool[Array, " students"]
    span: Span
    measures: tuple[Any, ...]  # `StudentMeasure`s


class Filled(NamedTuple):
    """The arrays of some arms.

    Attributes:
      places: the slot of each arm.
      padding_share: the share of the token slots of training that hold no token.
    """

    inputs: Inputs
    places: Int[np.ndarray, " arms"]
    padding_share: float


def fill_slots(
    arms: Sequence[Arm],
    groups: Sequence[Group],
    names: Sequence[str],
    source: Source,
    cfg: ModelConfig,
    config: TrainConfig,
    *,
    room: Room,
    measures: tuple[StudentMeasure, ...],
    at_least: Layout | None,
) -> Filled:
    """The arrays of the arms, group by group; an idle slot has the values of the first arm.

    Args:
      names: of the data sets, in the order of `source`.
      at_least: an earlier layout whose programs are to be used again.
    """
    members = np.concatenate([(*g.members, *(g.slots - len(g.members)) * [0]) for g in groups])
    busy = np.concatenate([np.arange(g.slots) < len(g.members) for g in groups])
    places = np.flatnonzero(busy)[np.argsort(members[busy])]
    slots = tuple(arms[int(i)] for i in members)
    orders, order_indices = distinct_orders(
        slots + room.arms,
        source.data.tokens.shape[1],
        config,
        max(config.steps, room.steps),
    )
    order_indices = order_indices[: len(slots)]
    data_sets = np.array([names.index(arm.data) for arm in slots])
    layout, padding_share = plan_layout(
        source.data,
        orders,
        order_indices,
        data_sets,
        cfg,
        parts=config.accumulation,
        pack=source.objective.packs,
        groups=placement.row_groups(len(slots)),
        at_least=at_least,
    )
    inputs = Inputs(
        source=source,
        orders=jnp.asarray(orders[order_indices]),
        layout=layout,
        rates=jnp.asarray([arm.learning_rate for arm in slots], jnp.float32),
        data_sets=jnp.asarray(data_sets, jnp.int32),
        seeds=jnp.asarray([arm.seed for arm in slots], jnp.uint32),
        busy=jnp.asarray(busy),
        span=Span(*map(jnp.asarray, config.span)),
        measures=measures,
    )
    return Filled(inputs, places, padding_share)
