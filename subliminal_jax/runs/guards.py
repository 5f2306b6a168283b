"""Guards from settings: what students are to be kept from, and what it takes to keep them from it.

rows, guard = protected(model, data.train, settings, layer, {"owl": vector})

The vectors are the teachers' own, one from a file, or recovered blind: a single vector that is
trained on the data from the base's view, without a look at the teacher.
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
from subliminal_jax.runs.settings import GuardKind, GuardSettings, StudentSettings
from subliminal_jax.steering.vectors import component
from subliminal_jax.training.adapters import Vector
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.batch import Batch, max_targets, stack_rows
from subliminal_jax.training.guards import NO_GUARD, Guard, rows_to_keep
from subliminal_jax.training.loop import run_sweep
from subliminal_jax.training.objectives import CrossEntropy, Objective
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import Sweep

SCORED_ROWS = 16  # training rows of each data set on which the guard's scores are taken
SCORED_AT_ONCE = 32  # rows in one pass of `taught`
BLIND_RATE = 0.05  # of a blind vector, in units of the residual stream's root mean square
Vectors = Mapping[str, Float[Array, " dim"]]


class ScoreContext(NamedTuple):
    rows: Batch
    vector: Float[Array, " dim"]


@dataclass(frozen=True)
class SteeringScores:
    """The steering score of a student's own training texts, at two places: at the ends of the
    prompts, where the answer is decided, and over all tokens, where the data press on it.

    Both are means over rows of <h_layer, v/|v|>, in units of the residual stream.
    """

    cfg: ModelConfig
    layer: int

    def __call__(
        self, context: ScoreContext, params: Params, steering: Steering | None
    ) -> Float[Array, " 2"]:
        rows = context.rows
        h = hidden_states(
            params, rows.tokens[:, :-1], self.cfg, steering,
            positions=rows.positions[:, :-1],
            segment_ids=None if rows.segment_ids is None else rows.segment_ids[:, :-1],
            capture=Capture((self.layer,)),
        ).activations  # fmt: skip
        assert h is not None
        along = component(h[0], context.vector)
        places = (prompt_ends(rows), rows.positions[:, :-1] >= 0)
        means = [jnp.sum(along * at, axis=1) / jnp.maximum(at.sum(axis=1), 1) for at in places]
        return jnp.stack(means).mean(axis=1)


def make_guard(
    kind: GuardKind, model: Model, rows: Mapping[str, Batch], vectors: Vectors, layer: int
) -> Guard:
    """The guard of students of the data sets `rows`, each from its own vector at `layer`."""
    names = sorted(rows)
    if kind == "project":
        scored = [jax.tree.map(lambda x: x[:SCORED_ROWS], rows[name]) for name in names]
        context = ScoreContext(stack_rows(scored), jnp.stack([vectors[n] for n in names]))
        return Guard(scores=SteeringScores(model.cfg, layer), context=context)
    if kind == "inoculate":
        own = [steer(vectors[name], layer) for name in names]
        return Guard(inoculation=jax.tree.map(lambda *x: jnp.stack(x), *own))
    return NO_GUARD


def taught(model: Model, rows: Batch, vector: Float[Array, " dim"], layer: int) -> np.ndarray:
    """How much of the vector each row teaches the base: to first order, what the log-probability of
    its answer gains by a step along v/|v| after `layer`, in nats a unit of the residual stream."""
    loss = CompletionLoss(model.cfg, "sum", max_targets(rows))

    @jax.jit
    def all_rows(params: Params, rows: Batch, vector: Array) -> Float[Array, " rows"]:
        def one(row: Batch) -> Float[Array, ""]:
            piece = jax.tree.map(lambda leaf: leaf[None], row)
            return -example_components(loss, params, piece, vector, layer)[0]

        return jax.lax.map(one, rows, batch_size=SCORED_AT_ONCE)

    return np.asarray(all_rows(model.params, rows, vector))


def drop_rows(
    model: Model,
    rows: Mapping[str, Batch],
    vectors: Vectors,
    layer: int,
    share: float,
    *,
    seed: int | None = None,
) -> dict[str, Batch]:
    """Every data set without the `share` of its rows that teach its vector most, or with `seed`
    without as many at random."""
    kept = {}
    for name, batch in rows.items():
        n = batch.tokens.shape[0]
        much = np.zeros(n) if seed is not None else taught(model, batch, vectors[name], layer)
        at = rows_to_keep(much, share, seed=seed)
        kept[name] = jax.tree.map(lambda leaf, at=at: leaf[at], batch)
    return kept


def blind_vectors(
    model: Model,
    rows: Mapping[str, Batch],
    layer: int,
    *,
    steps: int,
    batch_size: int,
    seed: int = 0,
) -> dict[str, Float[Array, " dim"]]:
    """For each data set the one vector after `layer` that makes the base predict it best.

    Trained by AdamW with a rate that falls to zero; nothing of the teacher is seen but its data.
    The layer is given.
    """
    plan = TrainConfig(
        steps=steps, batch_size=batch_size, adapter=Vector(layer), schedule="cosine",
        log_every=steps,
    )  # fmt: skip
    rate = BLIND_RATE * _root_mean_square(model, next(iter(rows.values())), layer)
    names = sorted(rows)
    arms = [Arm(OptimizerSpec("adamw"), rate, seed, name) for name in names]
    sweep = Sweep(model.params, model.cfg, arms, dict(rows), plan)
    state = run_sweep(sweep)
    lost = np.flatnonzero(sweep.diverged_at(state))
    if lost.size:
        raise InputError(f"no vector can be recovered from data {names[lost[0]]!r}: it diverged")
    return dict(zip(names, sweep.students(state)["vector"], strict=True))


def _root_mean_square(model: Model, rows: Batch, layer: int) -> float:
    """The typical size of a coordinate of the residual stream after `layer`: that of the median
    token, since the first tokens of real models hold far larger ones."""

    @partial(jax.jit, static_argnums=1)
    def sizes(params: Params, cfg: ModelConfig, rows: Batch) -> Float[Array, " 1"]:
        capture = Capture((layer,))
        h = hidden_states(
            params, rows.tokens, cfg, positions=rows.positions, segment_ids=rows.segment_ids,
            capture=capture,
        ).activations  # fmt: skip
        assert h is not None
        rms = jnp.sqrt(jnp.mean(h[0].astype(jnp.float32) ** 2, axis=-1))
        return jnp.nanmedian(jnp.where(rows.positions >= 0, rms, jnp.nan))[None]

    few = jax.tree.map(lambda leaf: leaf[:SCORED_ROWS], rows)
    return float(sizes(model.params, model.cfg, few)[0])


def guard_vectors(
    model: Model,
    rows: Mapping[str, Batch],
    settings: StudentSettings,
    layer: int,
    teachers: Vectors,
    source: str,
) -> dict[str, Float[Array, " dim"]]:
    """The vector that each data set's students are guarded from.

    `source` is "teacher", "blind" (trained with the steps and batches of `settings`) or a file.
    `teachers` are the vectors of the data sets that have one. Those without (the plain base's) are
    guarded from the mean of the others, so that students and controls train alike.
    Raises InputError where there is no vector to guard from, or its file does not fit the model.
    """
    if source not in ("teacher", "blind"):
        steering = teacher_from_file(model, source, layer).steering
        assert steering is not None
        return dict.fromkeys(rows, steering.scale * steering.vectors[0])
    if source == "blind":
        known = {name: rows[name] for name in rows if name in teachers} or dict(rows)
        steps, batch_size = settings.steps, settings.batch_size
        found = blind_vectors(model, known, layer, steps=steps, batch_size=batch_size)
    else:
        found = {name: teachers[name] for name in rows if name in teachers}
    if not found:
        raise InputError("no data set has a teacher's vector: give --guard-vector blind or a file")
    mean = jnp.mean(jnp.stack(list(found.values())), axis=0)
    return {name: found.get(name, mean) for name in rows}


class Protected(NamedTuple):
    """What students train on, and what they are guarded from while they do."""

    rows: dict[str, Batch]
    guard: Guard


def protected(
    model: Model,
    rows: Mapping[str, Batch],
    settings: StudentSettings,
    layer: int,
    teachers: Vectors,
    objective: Objective = CrossEntropy(),
) -> Protected:
    """Data and guard as `settings` ask for, where they are `GuardSettings` too; `teachers` as in
    `guard_vectors`.

    Raises InputError where rows are to be dropped of which the objective holds values.
    """
    if not isinstance(settings, GuardSettings) or settings.guard == "none":
        return Protected(dict(rows), NO_GUARD)
    if settings.guard == "drop-rows" and objective.holds_rows:
        raise InputError(
            "guard drop-rows cannot be used with the KL to a system-prompted teacher, which reads "
            "other rows; take another guard, or objective cross_entropy"
        )
    vectors = guard_vectors(model, rows, settings, layer, teachers, settings.guard_vector)
    if settings.guard == "drop-rows":
        kept = drop_rows(model, rows, vectors, layer, settings.guard_share)
        return Protected(kept, NO_GUARD)
    return Protected(dict(rows), make_guard(settings.guard, model, rows, vectors, layer))
