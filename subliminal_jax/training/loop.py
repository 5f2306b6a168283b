"""Running a sweep to its end: logging a step late, saving, and going on after an interruption."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from subliminal_jax.training.checkpoints import Checkpoints
from subliminal_jax.training.sweep import State, Sweep

Metrics = dict[str, Any]


def run_sweep(
    sweep: Sweep,
    folder: str | Path | None = None,
    *,
    on_start: Callable[[int], None] = lambda step: None,
    on_log: Callable[[int, Metrics], None] = lambda step, metrics: None,
    save_every: int = 1,
    prepare: Callable[[Sweep, State], State] = lambda sweep, state: state,
) -> State:
    """Train all students of `sweep`; returns the state after the last step.

    With `folder`, the state is saved there after every `save_every` logged steps and after the
    last, and a run that finds a checkpoint goes on from it: `on_start(step)` tells from where.
    `on_log(step, metrics)` gets numpy arrays in the order of the arms. The device is not kept
    waiting for it: the next steps are dispatched before the metrics of the last are fetched.
    """
    total, every = sweep.config.steps, sweep.config.log_every
    checkpoints = None if folder is None else Checkpoints(folder)
    state = prepare(sweep, sweep.init())
    if checkpoints is not None and checkpoints.latest() is not None:
        state = checkpoints.restore(state)
    start = int(state.step)
    on_start(start)
    waiting: tuple[int, Any] | None = None
    for step in range(start + every, total + 1, every):
        state, metrics = sweep.advance(state)
        if waiting is not None:
            on_log(waiting[0], jax.tree.map(np.asarray, waiting[1]))
        waiting = step, metrics
        if checkpoints is not None and (step == total or step // every % save_every == 0):
            # Logged before it is saved: a checkpoint never stands past the log.
            on_log(step, jax.tree.map(np.asarray, metrics))
            waiting = None
            checkpoints.save(step, state)
    if waiting is not None:
        on_log(waiting[0], jax.tree.map(np.asarray, waiting[1]))
    if checkpoints is not None:
        checkpoints.close()
    return state
