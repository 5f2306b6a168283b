"""Does learning from a vector's teacher change what the vector does to the student?

    subliminal-jax steering-bridge --preset toy

For each trait a teacher with the trait's vector writes number lists; LoRA students train on what
passes the filter, controls on the plain base's lists. Then the vector is tried on all of them, on
comparisons of the trait with every other animal: the preference for the trait without the vector,
the mean slope of the propensity (steerability), and the share of comparisons on which the vector
works backwards. Reported: students minus controls, with intervals over traits and seeds; and over
traits, whether a vector that steers the base more, or on more inputs, is transmitted more.

Nothing was tuned for this experiment; the students are those of `trait-transmission --preset
toy-lora`. About eight minutes on 2 CPU cores. Expected: students that prefer the trait in
comparisons, and are steered a little less by its vector; no rank correlation clear of zero.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, trait_teacher, trait_vectors
from subliminal_jax.data.traits import check_traits, names_of
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    SteeredModelSettings,
    StudentSettings,
    check_names,
)
from subliminal_jax.runs.students import Students, make_panel
from subliminal_jax.training.adapters import attach
from subliminal_jax.training.arms import Arm

from .analysis import (
    Steered,
    claims,
    comparisons,
    differences,
    prediction,
    steered,
)
from .report import report

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
    traits: tuple[str, ...] = world.TRAITS
    scale: float = 1.0
    grid_traits: int = 2
    questions: str = "heldout"
    layer: int = 1
    seed: int = 1
    asked: float = 2.5
    max_new_tokens: int = 24
    rates: tuple[str, ...] = ("adamw=3e-4,1e-3,3e-3",)
    steps: int = 48
    batch_size: int = 16
    log_every: int = 48


def main(config: Config) -> dict[str, Any]:
    """Run, or go on; returns what results.json holds."""
    check(config)
    model = config.load()
    layer = config.layer_of(model)
    questions = read_questions(config.questions)
    return run_once(config, lambda run: bridge(run, model, layer, questions, config), report)


def check(config: Config) -> None:
    """Raises InputError for settings that cannot be."""
    check_names("traits", config.traits)
    check_traits(config.traits)
    if config.adapter == "vector":
        raise InputError("adapter 'vector' adds nothing to the weights: choose lora or full")
    if len(config.learning_rates()) > 1:
        raise InputError("steering-bridge compares traits: name one optimizer")
    if config.grid_traits < 1:
        raise InputError(f"grid_traits is {config.grid_traits}: at least 1 chooses the rate")


def bridge(
    run: RunFolder, model: Model, layer: int, questions: list[str], config: Config
) -> dict[str, Any]:
    """All numbers of the report."""
    teachers = {t: trait_teacher(model, layer, t, config.scale) for t in config.traits}
    teachers[CONTROL] = Teacher()
    forbidden = {t: names_of(t) for t in config.traits}
    data = write_data_sets(run.path, model, teachers, config, config.seed, forbidden=forbidden)
    panel = make_panel(
        model, teachers, data, words=config.traits, questions=questions, prompts=config.prompts,
        seed=config.seed,
    )  # fmt: skip
    students = Students(run, model, panel, data, config, layer)
    searched = students.grid(list(config.traits[: config.grid_traits]), stage="rates")
    ((spec, grid),) = config.learning_rates().items()
    rate = best_rates(searched)[spec.label]
    if rate is None:
        raise InputError(f"{spec.label}: every rate of {grid} diverged; give lower --rates")
    arms = [Arm(spec, rate, s, n) for n in (*config.traits, CONTROL) for s in range(config.seeds)]
    trained = students.train("students", arms)
    if any(row["diverged"] for row in trained.rows):
        raise InputError(f"a student diverged at {spec.label} {rate:g}; give lower --rates")
    trees = trained.sweep.students(trained.state)
    at = {(row["data"], row["seed"]): i for i, row in enumerate(trained.rows)}
    base: dict[str, Steered] = {}
    own: dict[str, list[Steered]] = {}
    controls: dict[str, list[Steered]] = {}
    with track("vectors", len(config.traits), "traits") as progress:
        for trait in config.traits:
            rows = comparisons(trait, model)
            vector = np.asarray(trait_vectors(model, [layer], trait)[0])
            base[trait] = steered(model, model.params, rows, vector, layer)
            for name, kept in ((trait, own), (CONTROL, controls)):
                kept[trait] = []
                for seed in range(config.seeds):
                    tree = jax.tree.map(lambda leaf, i=at[name, seed]: leaf[i], trees)
                    params, _ = attach(model.params, tree, model.cfg, trained.sweep.config.adapter)
                    kept[trait].append(steered(model, params, rows, vector, layer))
            progress.advance(1, note=trait)
    found = differences(own, controls)
    log_prob = {
        trait: float(
            np.mean(
                [
                    trained.rows[at[trait, s]]["word_log_prob"][i]
                    - trained.rows[at[CONTROL, s]]["word_log_prob"][i]
                    for s in range(config.seeds)
                ]
            )
        )
        for i, trait in enumerate(config.traits)
    }
    results = {
        "model": model.name,
        "layer": layer,
        "adapter": config.adapter,
        "traits": list(config.traits),
        "seeds": config.seeds,
        "optimizer": spec.label,
        "grid": list(grid),
        "learning_rate": rate,
        "base": {t: b._asdict() for t, b in base.items()},
        "students": {t: [s._asdict() for s in of] for t, of in own.items()},
        "controls": {t: [s._asdict() for s in of] for t, of in controls.items()},
        "log_prob": log_prob,
        "differences": found,
        "prediction": prediction(base, found, log_prob),
        "data": data.reports,
    }
    return {**results, "claims": claims(results)}
