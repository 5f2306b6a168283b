"""The data sets of an experiment: sampled once from its teachers, kept in the run's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from datasets import Dataset
from jaxtyping import Array, Float, Int

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.data.teachers import (
    Pairs,
    Teacher,
)
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.finite import find_cause
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.tokenizer import change_system_prompt
from subliminal_jax.runs.sampled_sets import MOST_ROUNDS, write_pairs
from subliminal_jax.runs.settings import DataSettings, ObjectiveKind
from subliminal_jax.training.batch import Batch, max_targets, stack_rows
from subliminal_jax.training.layout import Layout
from subliminal_jax.training.objectives import (
    KL,
    CrossEntropy,
    Objective,
    Selection,
    StudentModel,
)

CHECKED_AT_ONCE = 16  # rows in one pass of `check_base_loss`


class DataSets(NamedTuple):
    """Rows of one length for each name; `pairs` and `heldout_pairs` are those of `train` and of
    `heldout`, in the same order."""

    train: dict[str, Batch]
    heldout: dict[str, Batch]
    pairs: dict[str, Dataset]
    reports: dict[str, dict]
    heldout_pairs: dict[str, Dataset]

    @property
    def names(self) -> list[str]:
        """In the order in which a sweep stacks them."""
        return sorted(self.train)


def slice_rows(rows: Batch, start: int, stop: int | None) -> Batch:
    """Some of the rows."""
    return jax.tree.map(lambda x: x[start:stop], rows)


def write_data_sets(
    folder: Path,
    model: Model,
    teachers: Mapping[str, Teacher],
    settings: DataSettings,
    seed: int,
    *,
    forbidden: Mapping[str, Sequence[str]] | None = None,
    sources: Mapping[str, str] | None = None,
    prompts: Sequence[str] = (),
    own_prompts: bool = False,
    seeds: Mapping[str, int] | None = None,
    rounds: int = MOST_ROUNDS,
) -> DataSets:
    """The rows of `write_pairs`, padded to one length; some are held out."""
    kept = write_pairs(
        folder,
        model,
        teachers,
        settings,
        seed,
        forbidden=forbidden,
        sources=sources,
        prompts=prompts,
        own_prompts=own_prompts,
        seeds=seeds,
        rounds=rounds,
    )
    return split_rows(kept, model, settings.heldout_rows)


def split_rows(kept: Mapping[str, Pairs], model: Model, heldout: int) -> DataSets:
    """Data sets of one length: the first `heldout` pairs of each are held out.

    All must have equally many pairs, and `longest` in their reports.
    """
    length = max(p.report["longest"] for p in kept.values())
    rows = {name: p.rows(model, length) for name, p in kept.items()}
    return DataSets(
        {name: slice_rows(r, heldout, None) for name, r in rows.items()},
        {name: slice_rows(r, 0, heldout) for name, r in rows.items()},
        {name: p.pairs.select(range(heldout, len(p.pairs))) for name, p in kept.items()},
        {name: p.report for name, p in kept.items()},
        {name: p.pairs.select(range(heldout)) for name, p in kept.items()},
    )


def join_rows(data: DataSets) -> dict[str, Batch]:
    """Held-out and training rows together, in the order of the pairs that passed the filter."""
    return {
        name: jax.tree.map(lambda *x: jnp.concatenate(x), data.heldout[name], rows)
        if name in data.heldout
        else rows
        for name, rows in data.train.items()
    }


def check_base_loss(
    params: Params,
    cfg: ModelConfig,
    rows: dict[str, Batch],
    objective: Objective = CrossEntropy(),
) -> None:
    """Raises InputError for a row of the data on which the untrained model's loss is not finite.

    Data sets of an objective that holds arrays of its own must have one shape.
    """
    names = sorted(rows)
    targets = max(map(max_targets, rows.values()))

    @jax.jit
    def per_row(
        params: Params, objective: Objective, data: Batch, data_set: Int[Array, ""]
    ) -> Float[Array, " rows"]:
        student = StudentModel(cfg, params, params)
        layout = Layout(None, None, 1, data.tokens.shape[-1], targets, targets)

        def one(row: Int[Array, ""]) -> Float[Array, ""]:
            return objective.totals(student, data, Selection(data_set, row[None], layout))[0]

        row_numbers = jnp.arange(data.tokens.shape[1])
        return replicate(jax.lax.map(one, row_numbers, batch_size=CHECKED_AT_ONCE))

    for i, name in enumerate(names):
        alone = isinstance(objective, CrossEntropy)
        data = stack_rows([rows[name]] if alone else [rows[name] for name in names])
        losses = np.asarray(per_row(params, objective, data, jnp.asarray(0 if alone else i)))
        wrong = np.flatnonzero(~np.isfinite(losses))
        if wrong.size:
            read, steering = rows[name], None
            if isinstance(objective, KL):
                steering = jax.tree.map(lambda leaf, i=i: leaf[i], objective.steerings)
                if objective.rows is not None:
                    read = jax.tree.map(lambda leaf, i=i: leaf[i], objective.rows)
            cause = find_cause(params, cfg, read.tokens[wrong[0]], steering)
            raise InputError(
                f"the untrained model's loss is not finite on {wrong.size} of {len(losses)} rows "
                f"of the {name} data (the first is row {wrong[0] + 1}): {cause}"
            )


def make_objective(
    kind: ObjectiveKind, model: Model, teachers: Mapping[str, Teacher], data: DataSets
) -> Objective:
    """What students of `data` minimise."""
    return kl_objective(model, teachers, data) if kind == "kl" else CrossEntropy()


def kl_objective(
    model: Model, teachers: Mapping[str, Teacher], data: DataSets, *, heldout: bool = False
) -> KL:
    """The KL to each data set's teacher on the rows of `data` (on its held-out rows)."""
    teachers = {name: teachers[name] for name in data.names}
    if all(teacher.system_prompt is None for teacher in teachers.values()):
        return KL.from_teachers(teachers)
    pairs = data.heldout_pairs if heldout else data.pairs
    prompts = {
        name: change_system_prompt(
            model.tokenizer,
            pairs[name]["prompt"],
            pairs[name]["prompt_ids"],
            teacher.system_prompt,
        )
        for name, teacher in teachers.items()
    }
    completions = {name: pairs[name]["completion_ids"] for name in teachers}
    length = max(
        len(prompt) + len(completion)
        for name in teachers
        for prompt, completion in zip(prompts[name], completions[name], strict=True)
    )
    rows = {
        name: pad_pairs(prompts[name], completions[name], length, pad_id=model.pad_id)
        for name in teachers
    }
    return KL.from_teachers(teachers, rows)
