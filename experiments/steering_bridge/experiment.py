"""Does learning from a vector's teacher change what the vector does to the student?

    subliminal-jax steering-bridge --preset toy

For each trait a teacher with the trait's vector writes number lists; LoRA students train on what
passes the filter, controls on the plain base's lists. Then the vector is tried on all of them, on
comparisons of the trait with every other animal: the preference for the trait without the vector,
the mean slope of the propensity (steerability), and the share of comparisons on which the vector
works backwards. Reported: students minus controls, with intervals over traits and seeds; and over
traits, whether a vector that steers the base more, or on more inputs, is transmitted more.

Nothing was tuned for this experiment; the students are LoRA factors at three usual rates. About
eight minutes on 2 CPU cores. Expected: students that prefer the trait in comparisons, and are
steered a little less by its vector; no rank correlation clear of zero.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
from jaxtyping import Float

from subliminal_jax.bounds import Positive, Range
from subliminal_jax.data import world
from subliminal_jax.data.contrastive_prompts import encode_contrasts
from subliminal_jax.data.contrastive_world import world_contrasts
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, trait_teacher, trait_vectors
from subliminal_jax.data.traits import check_traits, trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.student_rows import ended_sound
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.runs.checks import check_at_most
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    SteeredModelSettings,
    StudentSettings,
    Traits,
)
from subliminal_jax.runs.students import Students, make_panel
from subliminal_jax.runs.waves import Trained
from subliminal_jax.steering.contrasts import Contrasts
from subliminal_jax.steering.propensity import MULTIPLIERS, propensities
from subliminal_jax.steering.slopes import anti_steerable, per_sample_slopes
from subliminal_jax.training.adapters import attach

from .analysis import Measured, Results, VectorEffect, analyse, make_claims
from .report import make_page

CONTROL = "control"
PRESETS: dict[str, dict[str, Any]] = {"toy": {}}


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: animals of the shipped world, each with a teacher of its own.
      scale: factor on the trait's vector, in the teacher; the vector is tried unscaled.
      grid_traits: how many of the traits' students choose the learning rate.
      questions: favourite questions on which P(trait) is taken.
    """

    out: Path = Path("runs/steering-bridge")
    traits: Traits = world.TRAITS
    scale: Positive = 1.0
    grid_traits: Annotated[int, Range(1, 10_000)] = 2
    questions: str = "heldout"
    layer: int = 1
    seed: int = 1
    asked: float = 2.5
    max_new_tokens: int = 24
    rates: tuple[str, ...] = ("adamw=3e-4,1e-3,3e-3",)
    steps: int = 48
    batch_size: int = 16
    log_every: int = 48

    def check(self) -> None:
        check_traits(self.traits)
        if self.adapter == "vector":
            raise InputError("--adapter vector adds nothing to the weights: choose lora or full")
        self.single_optimizer()
        check_at_most(self, "grid_traits", len(self.traits), f"{len(self.traits)} --traits")


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, choose a rate, train every student, try the vectors on all of them.

    Raises InputError where every rate or a chosen student diverged, for questions that cannot be
    read, and for too few answers that pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    teachers = {t: trait_teacher(model, layer, t, config.scale) for t in config.traits}
    teachers[CONTROL] = Teacher()
    forbidden = {t: trait_names(t) for t in config.traits}
    data = write_data_sets(folder.path, model, teachers, config, config.seed, forbidden=forbidden)
    panel = make_panel(
        model, teachers, data, config, layer=layer, words=config.traits, questions=questions
    )
    students = Students(folder, panel, data, config)
    rate, trained = train_students(students, config)
    base, student_effects, control_effects = try_vectors(model, layer, trained, config)
    spec, grid = config.single_optimizer()
    return Measured(
        model=model.name,
        layer=layer,
        adapter=config.adapter,
        traits=config.traits,
        seeds=config.seeds,
        steps=config.steps,
        carrier=config.describe_carrier(),
        optimizer=spec.label,
        grid=grid,
        learning_rate=rate,
        base=base,
        students=student_effects,
        controls=control_effects,
        log_prob=log_prob_differences(trained, config),
        data=data.reports,
    )


def train_students(students: Students, config: Config) -> tuple[float, Trained]:
    """The rate that the first traits' students choose, and every student at that rate."""
    searched = students.grid(list(config.traits[: config.grid_traits]), stage="rates")
    spec, grid = config.single_optimizer()
    rate = best_rates(searched)[spec.label]
    if rate is None:
        raise InputError(f"{spec.label}: every rate of {grid} diverged; give lower --rates")
    arms = students.make_arms(spec, rate, (*config.traits, CONTROL))
    trained = students.train("students", arms)
    if not all(map(ended_sound, trained.rows)):
        raise InputError(
            f"a student diverged or ended unstable at {spec.label} {rate:g}; give lower --rates"
        )
    return rate, trained


def try_vectors(
    model: Model, layer: int, trained: Trained, config: Config
) -> tuple[
    dict[str, VectorEffect],
    dict[str, tuple[VectorEffect, ...]],
    dict[str, tuple[VectorEffect, ...]],
]:
    """What each trait's vector does to the base, to its teacher's students, and to controls."""
    base, students, controls = {}, {}, {}
    with track("vectors", len(config.traits), "traits") as progress:
        for trait in config.traits:
            comparisons = trait_comparisons(trait, model)
            vector = np.asarray(trait_vectors(model, [layer], trait)[0])
            base[trait] = measure_effect(model, model.params, comparisons, vector, layer)
            students[trait], controls[trait] = (
                tuple(
                    measure_effect(model, params, comparisons, vector, layer)
                    for params in student_params(model, trained, name)
                )
                for name in (trait, CONTROL)
            )
            progress.advance(1, note=trait)
    return base, students, controls


def trait_comparisons(trait: str, model: Model) -> Contrasts:
    """The trait against every other animal of the shipped world, in both orders."""
    pairs = [pair for pair in world_contrasts(trait).pairs if pair.says is None]
    return encode_contrasts(pairs, model.tokenizer, system_prompt=None, source=trait)


def student_params(model: Model, trained: Trained, data: str) -> Iterator[Params]:
    """The weights of the students of one data set, by seed."""
    trees = trained.sweep.students(trained.state)
    for i, row in enumerate(trained.rows):
        if row.data == data:
            tree = jax.tree.map(lambda leaf, i=i: leaf[i], trees)
            params, _ = attach(model.params, tree, model.cfg, trained.sweep.config.adapter)
            yield params


def measure_effect(
    model: Model,
    params: Params,
    comparisons: Contrasts,
    vector: Float[np.ndarray, " dim"],
    layer: int,
) -> VectorEffect:
    """What `vector` does to `params`, the base's or a student's."""
    edits = np.asarray(vector)[None, None]
    values = propensities(params, model.cfg, comparisons, edits, [layer])[:, 0]
    slopes = per_sample_slopes(values, MULTIPLIERS).slope
    unsteered = values[:, MULTIPLIERS.index(0.0)]
    return VectorEffect(
        float(unsteered.mean()), float(slopes.mean()), float(anti_steerable(slopes))
    )


def log_prob_differences(trained: Trained, config: Config) -> dict[str, float]:
    """log P(trait) of each trait, student minus control, mean over seeds."""
    log_probs = {(row.data, row.seed): row["word_log_prob"] for row in trained.rows}
    return {
        trait: float(
            np.mean(
                [
                    log_probs[trait, seed][i] - log_probs[CONTROL, seed][i]
                    for seed in range(config.seeds)
                ]
            )
        )
        for i, trait in enumerate(config.traits)
    }


EXPERIMENT = Experiment(
    name="steering-bridge",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
