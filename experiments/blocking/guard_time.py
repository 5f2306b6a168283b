"""What a guard costs in time: steps of guarded and unguarded training, measured in turns."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
import numpy as np

from subliminal_jax.evaluation.metric_ranges import NOT_NEGATIVE
from subliminal_jax.evaluation.statistics import Interval, mean_interval
from subliminal_jax.models.hub import Model
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.guards import Guard
from subliminal_jax.training.sweep import Sweep

STEPS, ROUNDS = 4, 6  # the first round compiles, and does not count


@dataclass(frozen=True)
class StepTime:
    """Median seconds of a step of one student, and their ratio to the unguarded ones over rounds
    (t interval)."""

    seconds: float
    ratio: Interval


@dataclass(frozen=True)
class GuardTime:
    """What guards cost: in each step, and once (seconds)."""

    steps: Mapping[str, StepTime]
    score_rows_seconds: float
    blind_seconds: float


def measure_steps(
    model: Model, rows: dict[str, Batch], plan: TrainConfig, arm: Arm, guards: Mapping[str, Guard]
) -> dict[str, StepTime]:
    """The time of a step under each guard; ratios are to the first of `guards`.

    Each round gives every guard a turn, so that a machine that slows down slows all of them.
    """
    plan = replace(plan, steps=STEPS * ROUNDS, log_every=STEPS)
    sweeps = {
        name: Sweep(model.params, model.cfg, [arm], rows, plan, guard=guard)
        for name, guard in guards.items()
    }
    states = {name: sweep.init() for name, sweep in sweeps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in guards}
    for _ in range(ROUNDS):
        for name, sweep in sweeps.items():
            start = time.perf_counter()
            states[name], metrics = sweep.advance(states[name])
            jax.block_until_ready((states[name], metrics))
            seconds[name].append((time.perf_counter() - start) / STEPS)
    rounds = {name: np.array(values[1:]) for name, values in seconds.items()}
    unguarded = next(iter(rounds.values()))
    return {
        name: StepTime(
            float(np.median(values)), NOT_NEGATIVE.clip(mean_interval(values / unguarded))
        )
        for name, values in rounds.items()
    }
