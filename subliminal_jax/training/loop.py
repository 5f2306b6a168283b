"""Running a sweep: logging, checkpoints, and resuming after an interruption."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax import interrupts
from subliminal_jax.training.checkpoints import Checkpoints
from subliminal_jax.training.forms import TREE
from subliminal_jax.training.memory_plan import plan_memory
from subliminal_jax.training.sweep import State, Sweep

Metrics = dict[str, Any]


def run_sweep(
    sweep: Sweep,
    folder: str | Path | None = None,
    *,
    on_start: Callable[[int], None] = lambda step: None,
    on_log: Callable[[int, Metrics], None] = lambda step, metrics: None,
    prepare: Callable[[Sweep, State], State] = lambda sweep, state: state,
) -> State:
    """Train all students of `sweep`; returns the state after the last step.

    With `folder`, the state is saved there after every logged step, and a run that finds a
    checkpoint resumes from it; `on_start(step)` is called with the step that the run starts at.
    `on_log(step, metrics)` gets numpy arrays in the order of the arms, of measured students also
    before the first step, as step 0. Without `folder` the next
    steps are dispatched before the metrics of the last are fetched, so the device does not wait.
    `prepare` may change the first state.
    """
    total, every = sweep.config.steps, sweep.config.log_every
    checkpoints = None if folder is None else Checkpoints(folder)
    state = prepare(sweep, sweep.init())
    if checkpoints is not None and checkpoints.latest() is not None:
        state = from_stored(sweep, checkpoints.restore(to_stored(sweep, state)))
    start = int(state.step)
    on_start(start)
    waiting: tuple[int, Any] | None = None
    if start < total:
        plan_memory(sweep, state)
    if start == 0 and sweep.is_measured:
        state, metrics = sweep.measure(state)
        on_log(0, jax.tree.map(np.asarray, metrics))
    for step in range(start + every, total + 1, every):
        # Terminated, it goes on to the next checkpoint: it would lose these steps otherwise.
        with contextlib.nullcontext() if checkpoints is None else interrupts.finish_first():
            state, metrics = sweep.advance(state)
            if waiting is not None:
                on_log(waiting[0], jax.tree.map(np.asarray, waiting[1]))
            waiting = step, metrics
            if checkpoints is not None:
                # Logged before it is saved: a checkpoint is never ahead of the log.
                on_log(step, jax.tree.map(np.asarray, metrics))
                waiting = None
                checkpoints.save(step, to_stored(sweep, state))
    if waiting is not None:
        on_log(waiting[0], jax.tree.map(np.asarray, waiting[1]))
    if checkpoints is not None:
        checkpoints.close()
    return state


def to_stored(sweep: Sweep, state: State) -> State:
    """What a checkpoint holds: trees, whatever the sweep's form, so that a run goes on under
    another mesh."""
    form = sweep.form
    if form is TREE:
        return state
    host = jax.tree.map(np.asarray, state)
    states = (
        form.unpack_state(old) if form.takes(g.spec) else old
        for g, old in zip(sweep.groups, host.optimizer_states, strict=True)
    )
    return host._replace(
        trainables=tuple(map(form.unpack, host.trainables)), optimizer_states=tuple(states)
    )


def from_stored(sweep: Sweep, stored: State) -> State:
    """The inverse of `to_stored`."""
    form = sweep.form
    if form is TREE:
        return stored
    host = jax.tree.map(np.asarray, stored)
    states = (
        form.pack_state(old) if form.takes(g.spec) else old
        for g, old in zip(sweep.groups, host.optimizer_states, strict=True)
    )
    packed = host._replace(
        trainables=tuple(map(form.pack, host.trainables)), optimizer_states=tuple(states)
    )
    return jax.tree.map(jnp.asarray, packed)
