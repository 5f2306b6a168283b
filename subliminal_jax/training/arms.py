"""The arms of a sweep, how they are trained, and the order in which they see the rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.bounds import (
    MANY,
    Count,
    Namer,
    Range,
    as_argument,
    check_fields,
)
from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import Remat
from subliminal_jax.training.adapters import LARGEST_RANK, Adapter, LoRA
from subliminal_jax.training.batch import Batch, predicted_counts
from subliminal_jax.training.optimizers import Builder, OptimizerSpec, make_spec

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, init=False)
class Arm:
    """One student of a sweep. `optimizer` may be given as a spec, as its text, or as a builder.
    `rank` overrides that of the LoRA adapter; `rows` is the number of rows of its data set that it
    sees, drawn by its seed: a smaller draw is part of a larger one.

    Raises InputError for a rate, seed, rank or number of rows out of range.
    """

    optimizer: OptimizerSpec
    learning_rate: Annotated[float, Range(0, 3e38)]
    seed: Annotated[int, Range(0, 2**32 - 1)]
    data: str
    rank: Annotated[int | None, Range(1, LARGEST_RANK)] = None
    rows: Annotated[int | None, Range(1, MANY)] = None

    def __init__(
        self,
        optimizer: OptimizerSpec | Builder | str,
        learning_rate: float,
        seed: int,
        data: str,
        rank: int | None = None,
        rows: int | None = None,
    ):
        values = (make_spec(optimizer), learning_rate, seed, data, rank, rows)
        for f, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, f.name, value)
        check_fields(self)


def check_plan(plan: Any, name: Namer = as_argument) -> None:
    """Raises InputError, with values in the manner of `name`, for steps that `log_every` does not
    divide and batches that `accumulation` does not (`plan` has these four as attributes)."""
    for whole, part in (("steps", "log_every"), ("batch_size", "accumulation")):
        total, divisor = getattr(plan, whole), getattr(plan, part)
        if total % divisor:
            raise InputError(
                f"{name(whole, total)} must be a multiple of {name(part, divisor)}: change one of "
                "them"
            )


@dataclass(frozen=True)
class TrainConfig:
    """How every student of a sweep is trained.

    `schedule` is what follows the linear warm-up over the first `warmup` share of the steps;
    `clip` is a bound on the global gradient norm, None for no clipping; a batch of `batch_size`
    rows goes through in `accumulation` equal parts. `students_at_once` students share a batched
    pass (None: one on a CPU, where small batched matrix products are slow, all elsewhere). `remat`
    says what each block keeps for the backward pass: "none" all products with weights, "narrow"
    those no wider than the residual stream, "block" nothing but its input.

    Raises InputError for invalid values.
    """

    steps: Count
    batch_size: Count
    adapter: Adapter = field(default_factory=LoRA)
    schedule: Schedule = "constant"
    warmup: Annotated[float, Range(least=0, below=1)] = 0.0
    clip: Annotated[float | None, Range(above=0, most=1e30)] = None
    accumulation: Count = 1
    remat: Remat = "none"
    log_every: Count = 8
    students_at_once: Annotated[int | None, Range(1, MANY)] = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_plan(self)

    @property
    def span(self) -> "Span":
        """The numbers of steps that the learning rate follows."""
        return Span(np.int32(round(self.warmup * self.steps)), np.int32(self.steps))

    def rate(
        self, peak: Float[Array, ""] | float, count: Int[Array, ""], span: "Span | None" = None
    ) -> Float[Array, ""]:
        """The learning rate of update number `count` (from 0), of its own steps or of `span`."""
        warm, steps = self.span if span is None else span
        ramp = jnp.minimum((count + 1) / (warm + 1), 1.0)
        done = jnp.clip((count - warm) / jnp.maximum(steps - warm, 1), 0.0, 1.0)
        decay = {
            "constant": jnp.ones_like(done),
            "linear": 1.0 - done,
            "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * done)),
        }[self.schedule]
        return peak * ramp * decay


class Span(NamedTuple):
    """How many steps the learning rate warms up for, and how many there are in all."""

    warm: Int[Array, ""] | np.int32
    steps: Int[Array, ""] | np.int32


@dataclass(frozen=True)
class Room:
    """The waves of students that the programs of one sweep have room for, one after another.

    Attributes:
      arms: a wave has at most as many students of an optimizer and a rank as there are here; its
        rows are packed with the seeds of these in mind.
      steps: the most steps of a wave.
    """

    arms: tuple[Arm, ...] = ()
    steps: int = 0


NO_ROOM = Room()  # beyond the first wave


class Group(NamedTuple):
    """The students that one optimizer updates together: same rule, same rank."""

    spec: OptimizerSpec
    rank: int | None
    members: tuple[int, ...]  # indices into the arms
    slots: int  # the places of the programs; those above the members are idle


def group_arms(
    arms: tuple[Arm, ...], adapter: Adapter, room: tuple[Arm, ...] = ()
) -> tuple[Group, ...]:
    """The arms grouped by optimizer and rank, in the order of their first members; those of `room`
    come first, and each group has at least as many slots as members there."""
    Key = tuple[OptimizerSpec, int | None]
    members: dict[Key, list[int]] = {}
    places: dict[Key, int] = {}

    def key(arm: Arm) -> Key:
        return arm.optimizer, (arm.rank or adapter.rank) if isinstance(adapter, LoRA) else None

    for arm in room:
        members.setdefault(key(arm), [])
        places[key(arm)] = places.get(key(arm), 0) + 1
    for i, arm in enumerate(arms):
        members.setdefault(key(arm), []).append(i)
    return tuple(
        Group(spec, rank, tuple(indices), max(len(indices), places.get((spec, rank), 0)))
        for (spec, rank), indices in members.items()
    )


def row_orders(
    arms: tuple[Arm, ...], rows: int, config: TrainConfig
) -> Int[np.ndarray, "arms steps batch"]:
    """The row numbers that each arm sees at each step (`distinct_orders`, one an arm)."""
    orders, order_indices = distinct_orders(arms, rows, config)
    return orders[order_indices]


def distinct_orders(
    arms: tuple[Arm, ...], rows: int, config: TrainConfig, steps: int | None = None
) -> tuple[Int[np.ndarray, "orders steps batch"], Int[np.ndarray, " arms"]]:
    """The distinct orders in which arms see the rows, and the index of each arm's.

    An order is a chain of permutations of all rows (of the arm's draw, where it has fewer) that
    depends on the seed and their number alone: arms of one seed see the same rows at the same
    steps, whatever their optimizer, rate and data set. Those of more `steps` than the plan's begin
    alike. Raises InputError for an arm that asks for more rows than there are.
    """
    steps = config.steps if steps is None else steps
    need = steps * config.batch_size
    keys = list(dict.fromkeys((arm.seed, arm.rows) for arm in arms))
    orders = []
    for seed, count in keys:
        rng = np.random.default_rng([seed, 0x5EED])
        chosen = np.arange(rows)
        if count is not None and count > rows:
            raise InputError(f"a student of {count} rows does not fit data of {rows} rows")
        if count is not None:
            chosen = np.random.default_rng([seed, 0xDA7A]).permutation(rows)[:count]
        chain = [rng.permutation(chosen) for _ in range(-(-need // len(chosen)))]
        order = np.concatenate(chain)[:need].reshape(steps, config.batch_size)
        orders.append(order.astype(np.int32))
    return np.stack(orders), np.array([keys.index((arm.seed, arm.rows)) for arm in arms])


def check_arms(arms: tuple[Arm, ...], names: Sequence[str], config: TrainConfig) -> None:
    """Raises InputError for arms that cannot be trained on the data sets called `names`."""
    if not arms:
        raise InputError("a sweep needs at least one arm")
    labels = {arm.optimizer.label: arm.optimizer for arm in arms}
    for arm in arms:
        if arm.optimizer != labels[arm.optimizer.label]:
            raise InputError(
                f"two optimizers of one sweep are called {arm.optimizer.label!r}; give each a name "
                "(register_optimizer)"
            )
        if arm.data not in names:
            raise InputError(f"arm uses data {arm.data!r}; there are {', '.join(names)}")
        if arm.rank is not None and not isinstance(config.adapter, LoRA):
            raise InputError(f"an arm sets rank={arm.rank}, but the adapter is not LoRA")


def check_data(data: dict[str, Batch], vocab: int, batch_size: int = 1) -> None:
    """Raises InputError for data sets that cannot be stacked, are too small, or predict nothing."""
    shapes = {name: tuple(batch.tokens.shape) for name, batch in data.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"data sets of one sweep must have the same shape; got {shapes}")
    if len({batch.segment_ids is None for batch in data.values()}) > 1:
        raise InputError("data sets of one sweep must all be packed (segment_ids) or none of them")
    rows = next(iter(shapes.values()))[0]
    if batch_size > rows:
        raise InputError(f"batch_size={batch_size} is larger than the data ({rows} rows)")
    for name, batch in data.items():
        if not predicted_counts(batch).any():
            raise InputError(f"data {name!r} holds no token to predict: every loss_mask is 0")
        low, high = (int(f(np.asarray(batch.tokens))) for f in (np.min, np.max))
        if low < 0 or high >= vocab:
            raise InputError(
                f"data {name!r} holds token {low if low < 0 else high}, but the vocabulary is "
                f"0 to {vocab - 1}: was it encoded with another model's tokenizer?"
            )
