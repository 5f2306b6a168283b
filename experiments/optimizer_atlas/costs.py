"""What a student's step costs with each rule, in units of AdamW's.

A step is one pass of the model, forwards and back, and one update. Updates are timed for several
students at once, as a sweep makes them: AdamW's, and those of rules that look at more than single
coordinates. Other rules cost what AdamW's does. Times are of the processor, so that other programs
of the machine do not count.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.runs.data_sets import slice_rows
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.vector_lab import VectorLab
from subliminal_jax.training.adapters import Adapter, attach, init_trainable
from subliminal_jax.training.fixed_rows import FixedRows
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.update_costs import prepare_updates

from .config import REFERENCE, Config

STAGE = "costs"
# Updates enough for what some rules do at their first step, or at every tenth.
STUDENTS, PASSES, UPDATES = 2, 8, 20


def measure_costs(lab: VectorLab, config: Config) -> dict[str, float]:
    """The cost of each rule of the settings; kept in the run's log, so that a run that goes on
    leaves out the same rules."""
    logged = [row for row in lab.folder.read_metrics() if row.get("stage") == STAGE]
    if logged:
        return dict(logged[-1]["costs"])
    model, adapter = lab.panel.model, config.plan(1).adapter
    special = [name for name in config.rules if is_special(name)]
    with track(STAGE, 2 + len(special), "rules") as progress:
        one_pass = time_pass(lab, config)
        progress.advance()
        step = one_pass + time_update(REFERENCE, model, adapter)
        progress.advance()
        costs = dict.fromkeys(config.rules, 1.0)
        for name in special:
            update = time_update(name, model, adapter)
            passes = 2 if "obj_fn" in OptimizerSpec.parse(name).entry.needs else 1
            costs[name] = (passes * one_pass + update) / step
            progress.advance()
    lab.folder.log({"stage": STAGE, "step": 0, "costs": costs})
    return costs


def is_special(name: str) -> bool:
    """Whether a rule does more than a few operations on single coordinates."""
    entry = OptimizerSpec.parse(name).entry
    return entry.kind != "elementwise" or bool(entry.needs)


def list_affordable(costs: Mapping[str, float], rules: Sequence[str], most: float) -> list[str]:
    """The rules that cost no more than `most` times AdamW's step."""
    return [name for name in rules if costs[name] <= most]


def time_pass(lab: VectorLab, config: Config) -> float:
    """Seconds of a student's pass: the gradient of its loss on the rows of one step."""
    model, adapter = lab.panel.model, config.plan(1).adapter
    drawn = slice_rows(lab.data.train[config.tuning_traits[0]], 0, config.batch_size)
    rows = FixedRows.from_rows([drawn], model.cfg)
    student = init_trainable(jax.random.key(0), model.params, model.cfg, adapter)

    @jax.jit
    def run(tree: PyTree, base: Params, rows: FixedRows) -> PyTree:
        def loss(tree: PyTree) -> jax.Array:
            params, steering = attach(base, tree, model.cfg, adapter)
            return rows.loss(params, model.cfg, jnp.int32(0), steering)

        def step(tree: PyTree, _: Any) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.subtract, tree, jax.grad(loss)(tree)), None

        return jax.lax.scan(step, tree, length=PASSES)[0]

    jax.block_until_ready(run(student, model.params, rows))  # compiles
    return time_call(lambda: jax.block_until_ready(run(student, model.params, rows))) / PASSES


def time_update(name: str, model: Model, adapter: Adapter) -> float:
    """Seconds of a student's update by a rule."""
    student = init_trainable(jax.random.key(0), model.params, model.cfg, adapter)
    update = prepare_updates(name, 1e-4, student, STUDENTS, UPDATES)
    update()  # compiles
    return time_call(update) / (UPDATES * STUDENTS)


def time_call(call: Callable[[], Any]) -> float:
    """Seconds of the processor that a call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start
