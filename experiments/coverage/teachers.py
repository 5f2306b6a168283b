"""Teachers of traits: the base with a trait's vector, or with weights that were fine-tuned."""

import math
from collections.abc import Sequence
from itertools import cycle, islice

import jax
import jax.numpy as jnp

from subliminal_jax.data import world
from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.rates import default_rate
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import DataSettings
from subliminal_jax.runs.waves import StudentTask, WaveRunner
from subliminal_jax.training.adapters import attach, merge
from subliminal_jax.training.arms import Arm, TrainConfig

from .config import Config

RULE = "adamw"  # of fine-tuned teachers, at the middle rate of its grid
FIRST_SEED = 10_000  # of fine-tuned teachers; no student begins where they did
ASKED, HELD_OUT = 1.5, 8


def make_teachers(
    config: Config, folder: RunFolder, model: Model, layer: int, traits: Sequence[str]
) -> dict[str, Teacher]:
    """Teachers of every kind by name, KIND-TRAIT.

    Raises InputError as `fine_tune_teachers` does.
    """
    teachers: dict[str, Teacher] = {}
    if "steered" in config.teachers:
        for trait in traits:
            teachers[f"steered-{trait}"] = trait_teacher(model, layer, trait, config.scale)
    if "fine-tuned" in config.teachers:
        for trait, teacher in fine_tune_teachers(config, folder, model, layer, traits).items():
            teachers[f"fine-tuned-{trait}"] = teacher
    return teachers


def fine_tune_teachers(
    config: Config, folder: RunFolder, model: Model, layer: int, traits: Sequence[str]
) -> dict[str, Teacher]:
    """The base with LoRA weights, merged, of each trait: trained on what its system prompt makes
    the base answer to questions, without that prompt.

    Raises InputError for a teacher that diverged, and for too few answers that end.
    """
    count = math.ceil(ASKED * (config.teacher_rows + HELD_OUT))
    rows = write_data_sets(
        folder.path / "teachers",
        model,
        {trait: prompted_teacher(trait, model.tokenizer) for trait in traits},
        DataSettings(
            rows=config.teacher_rows,
            heldout_rows=HELD_OUT,
            keep="all",
            asked=ASKED,
            max_new_tokens=config.max_new_tokens,
            keep_unfinished=config.keep_unfinished,
        ),
        config.seed,
        prompts=list(islice(cycle(world.TRAIN_QUESTIONS), 2 * count)),
    )
    plan = TrainConfig(
        steps=config.teacher_steps,
        batch_size=config.batch_size,
        adapter=config.make_adapter_of("lora", layer),
        schedule=config.schedule,
        warmup=config.warmup,
        log_every=config.teacher_steps,
    )
    arms = [Arm(RULE, default_rate(RULE), FIRST_SEED + i, trait) for i, trait in enumerate(traits)]
    runner = WaveRunner(folder, model, plan, StudentTask(rows.train, rows.heldout))
    with track("teachers", len(arms) * plan.steps, "teacher steps") as progress:
        trained = runner.train("teachers", arms, progress)
    teachers = {}
    for i, row in enumerate(trained.rows):
        if row.diverged:
            raise InputError(f"the fine-tuned teacher of {row.data} diverged: take fewer steps")
        tree = jax.tree.map(jnp.asarray, trained.sweep.student(trained.state, i))
        student, _ = attach(model.params, tree, model.cfg, plan.adapter)
        teachers[row.data] = Teacher(params=merge(student))
    return teachers
