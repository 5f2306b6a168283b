"""What a guard costs in time: steps of guarded and unguarded training, measured in turns."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.models.hub import Model
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.guards import Guard
from subliminal_jax.training.sweep import Sweep

STEPS, ROUNDS = 4, 6  # the first round compiles, and does not count


def step_times(
    model: Model, rows: dict[str, Batch], plan: TrainConfig, arm: Arm, guards: Mapping[str, Guard]
) -> dict[str, dict[str, Any]]:
    """For each guard the median seconds of a step of one student, and the ratio to the first's with
    a t interval over rounds. Each round gives every guard a turn, so that a machine that slows down
    slows all of them."""
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
    first = np.array(seconds[next(iter(guards))][1:])
    return {
        name: {
            "seconds": float(np.median(of[1:])),
            "ratio": mean_interval(np.array(of[1:]) / first).to_dict(),
        }
        for name, of in seconds.items()
    }
