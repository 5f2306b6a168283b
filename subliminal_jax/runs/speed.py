"""How fast students train on the device at hand, and what share of its ceiling that is."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.flops import step_flops
from subliminal_jax.models.hub import Model
from subliminal_jax.training.adapters import Full
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.sweep import Sweep

LEAST_REPETITIONS = 3


@dataclass(frozen=True)
class Speed:
    """Students that one program trains.

    Attributes:
      optimizers: their names.
      students: how many there are in all.
      tokens_per_second: read in a second, of all students together.
      step_seconds: of a step of all, the median.
      compile_seconds: until the program was there, without a cache on disk.
      memory_bytes: what the program needs at its peak, weights included; None where the device does
        not tell.
      share: of the device's ceiling in products of matrices; what `models.flops` counts.
    """

    optimizers: str
    students: int
    tokens_per_second: float
    step_seconds: float
    compile_seconds: float
    memory_bytes: int | None
    share: float


def measure_speed(
    model: Model,
    arms: Sequence[Arm],
    plan: TrainConfig,
    length: int,
    seconds: float,
    ceiling: float,
) -> Speed:
    """Train the arms, whose data set is "rows", on random rows of `length` tokens for `seconds`.

    Args:
      plan: `log_every` of its steps are a repetition, of which there are at least three.
      ceiling: floating-point operations a second of all devices.
    """
    data = random_rows(model.cfg, plan.batch_size, length)
    sweep = Sweep(model.params, model.cfg, arms, {"rows": data}, plan)
    state = jax.block_until_ready(sweep.init())
    start = time.perf_counter()
    compiled = sweep.compile(state)
    compile_seconds = time.perf_counter() - start
    state, _ = jax.block_until_ready(sweep.advance(state))  # what the first call takes longer
    times: list[float] = []
    while len(times) < LEAST_REPETITIONS or sum(times) < seconds:
        start = time.perf_counter()
        state, _ = jax.block_until_ready(sweep.advance(state))
        times.append(time.perf_counter() - start)
    step = statistics.median(times) / plan.log_every
    predicted = float(data.loss_mask[: plan.batch_size, 1:].sum())
    full = isinstance(plan.adapter, Full)
    flops = len(arms) * step_flops(model.cfg, plan.batch_size, length, predicted, full)
    return Speed(
        optimizers=", ".join(dict.fromkeys(arm.optimizer.label for arm in arms)),
        students=len(arms),
        tokens_per_second=len(arms) * plan.batch_size * length / step,
        step_seconds=step,
        compile_seconds=compile_seconds,
        memory_bytes=_program_bytes(compiled),
        share=flops / step / ceiling,
    )


def random_rows(cfg: ModelConfig, count: int, length: int) -> Batch:
    """Rows without padding, of whose tokens the second half is predicted."""
    tokens = np.random.default_rng(0).integers(0, cfg.vocab, (count, length), np.int32)
    at = np.broadcast_to(np.arange(length, dtype=np.int32), (count, length))
    mask = (at >= length // 2).astype(np.float32)
    return Batch(jnp.asarray(tokens), jnp.asarray(at), jnp.asarray(mask))


def _program_bytes(compiled: jax.stages.Compiled) -> int | None:
    found = compiled.memory_analysis()
    if found is None:
        return None
    return (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        + found.temp_size_in_bytes
        - found.alias_size_in_bytes
    )
