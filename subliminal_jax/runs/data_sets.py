"""The data sets of an experiment: sampled once from its teachers, kept in the run's folder."""

import math
import os
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from datasets import Dataset, concatenate_datasets, disable_progress_bars, load_from_disk
from jaxtyping import Array, Float, Int

from subliminal_jax import processes
from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.data.teachers import (
    Pairs,
    Teacher,
    TooFewPairsError,
    filtered,
    given_pairs,
    sampled_pairs,
    teacher_prompts,
)
from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line
from subliminal_jax.files import atomic_path
from subliminal_jax.ledger import check_written
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.finite import find_cause
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.tokenizer import change_system_prompt
from subliminal_jax.runs.judging import make_leak_screen
from subliminal_jax.runs.progress import Tracker, track
from subliminal_jax.runs.settings import DataSettings, ObjectiveKind
from subliminal_jax.seals import find_damage, seal_folder, set_aside
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
MOST_ROUNDS = 3  # of sampling, where those before left too few pairs

T = TypeVar("T")


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


def name_seed(seed: int, name: str) -> int:
    """A sampling seed of its own for each data set of an experiment with `seed`."""
    return (1_000_003 * seed + zlib.crc32(name.encode())) % 2**31


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


def write_pairs(
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
) -> dict[str, Pairs]:
    """What each teacher answers to the same prompts, filtered: as many pairs as the settings hold
    out and train on.

    A teacher whose answers leave too few pairs is asked as many prompts again, the next ones of the
    same draw, in up to `rounds` rounds. Answers are kept in `folder`/data as they were sampled
    (`name_round`), and read from there when the run goes on after an interruption.

    Args:
      forbidden: words that must not occur in the answers of a data set, beside the number rules
        (with `keep` "numbers"). In those that a teacher wrote who is not the plain base, the judge
        of the settings, if any, looks for hints at the first of them.
      sources: files or hub data sets whose pairs stand in place of a teacher's answers.
      prompts: what is asked, in place of the prompts of the settings.
      own_prompts: whether each teacher is asked prompts of its own draw.
      seeds: of sampling, in place of `name_seed`.

    Raises InputError where too few answers pass the filter.
    """
    need = settings.heldout_rows + settings.rows
    count = round(settings.asked * need)
    if prompts:
        rounds = min(rounds, math.ceil(len(prompts) / count))
    sources, seeds = sources or {}, seeds or {}
    kept: dict[str, Pairs] = {}
    todo = [
        name for name in teachers if name not in sources and not (folder / "data" / name).is_dir()
    ]
    asked_once = min(count, len(prompts)) or count
    with track("sampling", max(1, len(todo) * asked_once), "answers") as progress:

        def sample(name: str, number: int) -> Pairs:
            own_seed = name_seed(seed, name)
            drawn = prompts or teacher_prompts(
                settings.prompts, number * count, own_seed if own_prompts else seed
            )
            first_seed = seeds.get(name, own_seed)
            return sample_once(
                folder / "data" / name_round(name, number),
                model,
                teachers[name],
                list(drawn[(number - 1) * count : number * count]),
                seed=seed_round(first_seed, number),
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                keep_unfinished=settings.keep_unfinished,
                progress=progress,
            )

        def choose(name: str, written: Pairs) -> Pairs:
            words = None
            if settings.keep == "numbers":
                words = tuple((forbidden or {}).get(name, ()))
            hinted = () if teachers[name].is_base else words or ()
            return filtered(
                written,
                model,
                need,
                forbidden_words=words,
                max_tokens=settings.max_tokens or None,
                screen=make_leak_screen(settings, hinted, folder / "judge.jsonl"),
            )

        for name in teachers:
            if name in sources:
                kept[name] = choose(name, given_pairs(model, sources[name]))
            else:
                kept[name] = sample_enough(
                    name, partial(sample, name), partial(choose, name), progress, rounds
                )
    return kept


def sample_enough(
    name: str,
    sample: Callable[[int], Pairs],
    choose: Callable[[Pairs], T],
    progress: Tracker,
    rounds: int = MOST_ROUNDS,
) -> T:
    """What `choose` takes of the pairs of a data set, after as many rounds of `sample` (1, 2, ...)
    as it needs.

    Raises the TooFewPairsError of `choose`, with the data set's name, after the last round, and as
    soon as all rounds would not do at the rate so far.
    """
    written = sample(1)
    for number in range(1, rounds + 1):
        try:
            return choose(written)
        except TooFewPairsError as error:
            if number == rounds or error.share * rounds < number:
                raise TooFewPairsError(f"data set {name}: {error}", error.share) from None
            print_line(f"data set {name}, round {number + 1} of at most {rounds}: {error}")
        done = progress.completed
        more = sample(number + 1)
        progress.extend(progress.completed - done)  # nothing where they were read
        written = Pairs(
            concatenate_datasets([written.pairs, more.pairs]),
            {
                **written.report,
                **{key: written.report[key] + more.report[key] for key in ("asked", "pairs")},
            },
        )
    raise AssertionError("the last round returns or raises")


def name_round(name: str, number: int) -> str:
    """The folder of what was sampled for a data set in a round: its name, at first."""
    return name if number == 1 else f"{name}-round-{number}"


def seed_round(seed: int, number: int) -> int:
    """The sampling seed of a round: `seed` itself, at first."""
    return seed if number == 1 else name_seed(seed, f"round {number}")


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


def sample_once(
    path: Path,
    model: Model,
    teacher: Teacher,
    asked: list[str],
    *,
    seed: int,
    max_new_tokens: int,
    temperature: float,
    keep_unfinished: bool,
    progress: Tracker,
) -> Pairs:
    """What the teacher answers, kept in the folder `path` and read from there the next time."""
    if os.path.lexists(path) and (damage := processes.run_on_first(lambda: find_damage(path))):
        aside = processes.run_on_first(lambda: set_aside(path).name)
        warnings.warn(f"{path} is set aside as {aside} and sampled anew: {damage}", stacklevel=2)
    if path.is_dir():
        check_written(path)
        pairs = load_from_disk(str(path), keep_in_memory=True)
        return Pairs(pairs, {"source": "sampled", "asked": len(asked), "pairs": len(pairs)})
    sampled = sampled_pairs(
        model,
        teacher,
        asked,
        seed=seed,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        keep_unfinished=keep_unfinished,
        progress=lambda n: progress.advance(n, note=path.name),
    )
    disable_progress_bars()
    with atomic_path(path) as temporary:
        sampled.pairs.save_to_disk(str(temporary))
        seal_folder(temporary)
    return sampled


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
