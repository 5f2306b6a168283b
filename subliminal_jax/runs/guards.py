"""Guards from settings: the rows that students train on, and what keeps them from a vector.

rows, guard = protect_students(model, data.train, settings, layer, {"owl": vector})

The vectors are the teachers' own, one from a file, or recovered blind: a single vector that is
trained to make the base predict the data, without access to the teacher.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.data.teachers import teacher_from_file
from subliminal_jax.diagnostics.activation_gradients import (
    CompletionLoss,
    example_components,
    prompt_ends,
)
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Capture, hidden_states
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.runs.plan_settings import PlanSettings
from subliminal_jax.runs.settings import GuardKind, GuardSettings
from subliminal_jax.steering.vectors import component
from subliminal_jax.training.adapters import Vector
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch, max_targets, stack_rows
from subliminal_jax.training.guards import NO_GUARD, Guard, select_rows
from subliminal_jax.training.loop import run_sweep
from subliminal_jax.training.objectives import CrossEntropy, Objective
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep

SCORED_ROWS = 16  # training rows of each data set on which the guard's scores are taken
SCORED_AT_ONCE = 32  # rows in one pass of `score_teaching`
BLIND_RATE = 0.05  # of a blind vector, in units of the residual stream's root mean square
Vectors = Mapping[str, Float[Array, " dim"]]


class ScoreContext(NamedTuple):
    """Where steering scores are taken: on which rows, along which vector."""

    rows: Batch
    vector: Float[Array, " dim"]


@dataclass(frozen=True)
class SteeringScores:
    """The steering score of a student on its training texts, at the ends of prompts and over all
    tokens.

    The first is where the answer is decided, the second where the data act on the student. Both are
    means over rows of <h_layer, v/|v|>, in units of the residual stream.
    """

    cfg: ModelConfig
    layer: int

    def __call__(
        self, context: ScoreContext, params: Params, steering: Steering | None
    ) -> Float[Array, " 2"]:
        rows = context.rows
        h = hidden_states(
            params,
            rows.tokens[:, :-1],
            self.cfg,
            steering,
            positions=rows.positions[:, :-1],
            segment_ids=None if rows.segment_ids is None else rows.segment_ids[:, :-1],
            capture=Capture((self.layer,)),
        ).activations
        assert h is not None
        components = component(h[0], context.vector)
        masks = (prompt_ends(rows), rows.positions[:, :-1] >= 0)
        means = [
            jnp.sum(components * mask, axis=1) / jnp.maximum(mask.sum(axis=1), 1) for mask in masks
        ]
        return jnp.stack(means).mean(axis=1)


def make_guard(
    kind: GuardKind, model: Model, rows: Mapping[str, Batch], vectors: Vectors, layer: int
) -> Guard:
    """The guard of students of the data sets `rows`, each from its vector of `vectors`."""
    names = sorted(rows)
    if kind == "project":
        scored = [jax.tree.map(lambda x: x[:SCORED_ROWS], rows[name]) for name in names]
        context = ScoreContext(stack_rows(scored), jnp.stack([vectors[n] for n in names]))
        return Guard(scores=SteeringScores(model.cfg, layer), context=context)
    if kind == "inoculate":
        steerings = [steer(vectors[name], layer) for name in names]
        return Guard(inoculation=jax.tree.map(lambda *x: jnp.stack(x), *steerings))
    return NO_GUARD


def score_teaching(
    model: Model, rows: Batch, vector: Float[Array, " dim"], layer: int
) -> Float[np.ndarray, " rows"]:
    """How much of the vector each row teaches the base.

    To first order, what the log-probability of its answer gains by a step along v/|v| after
    `layer`, in nats a unit of the residual stream.
    """
    loss = CompletionLoss(model.cfg, "sum", max_targets(rows))
    return np.asarray(_score_all(loss, model.params, rows, vector, layer))


@partial(jax.jit, static_argnums=(0, 4))
def _score_all(
    loss: CompletionLoss, params: Params, rows: Batch, vector: Float[Array, " dim"], layer: int
) -> Float[Array, " rows"]:
    def score_one(row: Batch) -> Float[Array, ""]:
        batch = jax.tree.map(lambda leaf: leaf[None], row)
        return -example_components(loss, params, batch, vector, layer)[0]

    return jax.lax.map(score_one, rows, batch_size=SCORED_AT_ONCE)


def drop_rows(
    model: Model,
    rows: Mapping[str, Batch],
    vectors: Vectors,
    layer: int,
    share: float,
    *,
    seed: int | None = None,
) -> dict[str, Batch]:
    """Every data set without the `share` of its rows that teach its vector most.

    With `seed`, as many are dropped at random.
    """
    kept_rows = {}
    for name, batch in rows.items():
        if seed is None:
            scores = score_teaching(model, batch, vectors[name], layer)
        else:
            scores = np.zeros(batch.tokens.shape[0])
        kept = select_rows(scores, share, seed=seed)
        kept_rows[name] = jax.tree.map(lambda leaf, kept=kept: leaf[kept], batch)
    return kept_rows


def recover_vectors(
    model: Model,
    rows: Mapping[str, Batch],
    layer: int,
    *,
    steps: int,
    batch_size: int,
    seed: int = 0,
) -> dict[str, Float[Array, " dim"]]:
    """For each data set the one vector after `layer` that makes the base predict it best.

    Trained by AdamW with a rate that falls to zero, on nothing of the teacher but its data.

    Raises InputError where the vector of a data set diverged.
    """
    plan = TrainConfig(
        steps=steps,
        batch_size=batch_size,
        adapter=Vector(layer),
        schedule="cosine",
        log_every=steps,
    )
    rate = BLIND_RATE * _root_mean_square(model, next(iter(rows.values())), layer)
    names = sorted(rows)
    arms = [Arm(OptimizerSpec("adamw"), rate, seed, name) for name in names]
    sweep = Sweep(model.params, model.cfg, arms, dict(rows), plan)
    state = run_sweep(sweep)
    diverged = np.flatnonzero(sweep.diverged_at(state))
    if diverged.size:
        name = names[diverged[0]]
        raise InputError(f"no vector can be recovered from data {name!r}: training diverged")
    return dict(zip(names, sweep.students(state)["vector"], strict=True))


def _root_mean_square(model: Model, rows: Batch, layer: int) -> float:
    """The root mean square of a coordinate of the residual stream after `layer`.

    Of the median token: the first tokens of real models hold far larger ones.
    """

    @partial(jax.jit, static_argnums=1)
    def median_size(params: Params, cfg: ModelConfig, rows: Batch) -> Float[Array, ""]:
        h = hidden_states(
            params,
            rows.tokens,
            cfg,
            positions=rows.positions,
            segment_ids=rows.segment_ids,
            capture=Capture((layer,)),
        ).activations
        assert h is not None
        sizes = jnp.sqrt(jnp.mean(h[0].astype(jnp.float32) ** 2, axis=-1))
        return jnp.nanmedian(jnp.where(rows.positions >= 0, sizes, jnp.nan))

    few_rows = jax.tree.map(lambda leaf: leaf[:SCORED_ROWS], rows)
    return float(median_size(model.params, model.cfg, few_rows))


def choose_vectors(
    model: Model,
    rows: Mapping[str, Batch],
    settings: PlanSettings,
    layer: int,
    teachers: Vectors,
    source: str,
) -> dict[str, Float[Array, " dim"]]:
    """The vector that each data set's students are guarded from.

    Args:
      teachers: the vectors of the data sets that have one. Those without (the plain base's) are
        guarded from the mean of the others, so that students and controls train alike.
      source: "teacher", "blind" (trained with the steps and batches of `settings`) or a file.

    Raises InputError where there is no vector to guard from, or its file does not fit the model.
    """
    if source not in ("teacher", "blind"):
        steering = teacher_from_file(model, source, layer).steering
        assert steering is not None
        return dict.fromkeys(rows, steering.scale * steering.vectors[0])
    if source == "blind":
        taught_rows = {name: rows[name] for name in rows if name in teachers} or dict(rows)
        steps, batch_size = settings.steps, settings.batch_size
        vectors = recover_vectors(model, taught_rows, layer, steps=steps, batch_size=batch_size)
    else:
        vectors = {name: teachers[name] for name in rows if name in teachers}
    if not vectors:
        raise InputError("no data set has a teacher's vector: give --guard-vector blind or a file")
    mean = jnp.mean(jnp.stack(list(vectors.values())), axis=0)
    return {name: vectors.get(name, mean) for name in rows}


class Protected(NamedTuple):
    """What students train on, and what they are guarded from while they do."""

    rows: dict[str, Batch]
    guard: Guard


def protect_students(
    model: Model,
    rows: Mapping[str, Batch],
    settings: PlanSettings,
    layer: int,
    teachers: Vectors,
    objective: Objective = CrossEntropy(),
) -> Protected:
    """Data and guard as `settings` ask for, where they are `GuardSettings` too.

    `teachers` are as in `choose_vectors`.

    Raises InputError where rows are to be dropped of which the objective holds values.
    """
    if not isinstance(settings, GuardSettings) or settings.guard == "none":
        return Protected(dict(rows), NO_GUARD)
    if settings.guard == "drop-rows" and objective.holds_rows:
        raise InputError(
            "guard drop-rows cannot be used with the KL to a system-prompted teacher, which reads "
            "other rows; take another guard, or objective cross_entropy"
        )
    vectors = choose_vectors(model, rows, settings, layer, teachers, settings.guard_vector)
    if settings.guard == "drop-rows":
        kept_rows = drop_rows(model, rows, vectors, layer, settings.guard_share)
        return Protected(kept_rows, NO_GUARD)
    return Protected(dict(rows), make_guard(settings.guard, model, rows, vectors, layer))
