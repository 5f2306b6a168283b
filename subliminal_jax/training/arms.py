"""The points of a sweep: its arms, how they are trained, and in which order they see the rows."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.errors import InputError
from subliminal_jax.models.forward import Remat
from subliminal_jax.training.adapters import Adapter, LoRA
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.optimizers import OptimizerSpec

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Arm:
    """One student of a sweep. `rank` overrides that of the LoRA adapter."""

    optimizer: OptimizerSpec
    learning_rate: float
    seed: int
    data: str
    rank: int | None = None


@dataclass(frozen=True)
class TrainConfig:
    """How every student of a sweep is trained.

    `schedule` is what follows the linear warm-up over the first `warmup` share of the steps;
    `clip` is a bound on the global gradient norm, None for no clipping; a batch of `batch_size`
    rows goes through in `accumulation` equal parts. `students_at_once` students share a batched
    pass (None: one on a CPU, where small batched matrix products are slow, all elsewhere).
    """

    steps: int
    batch_size: int
    adapter: Adapter = field(default_factory=LoRA)
    schedule: Schedule = "constant"
    warmup: float = 0.0
    clip: float | None = None
    accumulation: int = 1
    remat: Remat = "none"
    log_every: int = 8
    students_at_once: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.steps % self.log_every:
            raise InputError(
                f"steps={self.steps} must be a positive multiple of log_every={self.log_every}"
            )
        if self.batch_size % self.accumulation:
            raise InputError(
                f"batch_size={self.batch_size} is not a multiple of "
                f"accumulation={self.accumulation}"
            )
        if not 0.0 <= self.warmup < 1.0:
            raise InputError(f"warmup={self.warmup} is a share of the steps: 0 <= warmup < 1")

    def rate(self, peak: Float[Array, ""] | float, count: Int[Array, ""]) -> Float[Array, ""]:
        """The learning rate of update number `count` (from 0)."""
        warm = round(self.warmup * self.steps)
        ramp = jnp.minimum((count + 1) / (warm + 1), 1.0)
        done = jnp.clip((count - warm) / max(self.steps - warm, 1), 0.0, 1.0)
        decay = {
            "constant": jnp.ones_like(done),
            "linear": 1.0 - done,
            "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * done)),
        }[self.schedule]
        return peak * ramp * decay


class Group(NamedTuple):
    """The students that one optimizer updates together: same rule, same rank."""

    spec: OptimizerSpec
    rank: int | None
    members: tuple[int, ...]  # indices into the arms


def group_arms(arms: tuple[Arm, ...], adapter: Adapter) -> tuple[Group, ...]:
    members: dict[tuple[OptimizerSpec, int | None], list[int]] = {}
    for i, arm in enumerate(arms):
        rank = (arm.rank or adapter.rank) if isinstance(adapter, LoRA) else None
        members.setdefault((arm.optimizer, rank), []).append(i)
    return tuple(Group(spec, rank, tuple(who)) for (spec, rank), who in members.items())


def row_orders(
    arms: tuple[Arm, ...], rows: int, config: TrainConfig
) -> tuple[np.ndarray, np.ndarray]:
    """(index of each arm's order, row numbers [orders, steps, batch]), one order a seed.

    A seed's order is a chain of permutations of all rows, the same for every optimizer, rate and
    data set, so that arms of one seed see the same rows at the same steps.
    """
    seeds = sorted({arm.seed for arm in arms})
    need = config.steps * config.batch_size
    orders = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 0x5EED])
        chain = [rng.permutation(rows) for _ in range(-(-need // rows))]
        orders.append(np.concatenate(chain)[:need].reshape(config.steps, config.batch_size))
    return np.array([seeds.index(arm.seed) for arm in arms]), np.stack(orders).astype(np.int32)


def check_sweep(arms: tuple[Arm, ...], data: dict[str, Batch], config: TrainConfig) -> None:
    if not arms:
        raise InputError("a sweep needs at least one arm")
    for arm in arms:
        if arm.data not in data:
            raise InputError(f"arm uses data {arm.data!r}; there are {', '.join(sorted(data))}")
        if arm.rank is not None and not isinstance(config.adapter, LoRA):
            raise InputError(f"an arm sets rank={arm.rank}, but the adapter is not LoRA")
    shapes = {name: tuple(batch.tokens.shape) for name, batch in data.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"data sets of one sweep must have the same shape; got {shapes}")
    rows = next(iter(shapes.values()))[0]
    if config.batch_size > rows:
        raise InputError(f"batch_size={config.batch_size} is larger than the data ({rows} rows)")
    for name, batch in data.items():
        if not np.asarray(batch.loss_mask)[:, 1:].any():
            raise InputError(f"data {name!r} holds no token to predict: every loss_mask is 0")
