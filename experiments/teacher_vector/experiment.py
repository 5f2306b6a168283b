"""How well is a system prompt approximated by a vector, and does that predict transmission?

    subliminal-jax teacher-vector --preset toy

For each trait of a zoo: the mean difference that its system prompt makes, added to the base over
layers and scales. Measured: how often the steered model names the trait against the prompted one
and a random vector of the same norm (teacher-forced and in samples), and what it damages: how often
answers that have nothing to do with it name the trait, valid number lists, KL on the base's own
answers. Then students (one trained vector) of each trait's steered teacher at one fixed setting,
against controls: does the steered rate of a trait predict how much of it passes?

Settings are chosen on other questions than those reported; the toy's students' (layer, scale, what
is trained, the grid) were found by looking at owl, wolf, penguin and lion. Six minutes on 2 CPU
cores. Expected: vectors elicit traits well above a random one's rate and far short of the prompt's
(a fifth of its rise), and traits that they elicit more pass more: Spearman 0.87 [0.60, 0.96].
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import (
    Teacher,
    prompted_teacher,
    teacher_prompts,
    trait_teacher,
    trait_vectors,
)
from subliminal_jax.data.traits import check_traits, names_of
from subliminal_jax.data.world import TRAITS
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.statistics import mean_interval
from subliminal_jax.evaluation.steerability import Effects, best_setting
from subliminal_jax.evaluation.transmission import transmission
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
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
from subliminal_jax.runs.waves import Row
from subliminal_jax.serialization import to_json
from subliminal_jax.steering.io import VectorInfo, save_steering
from subliminal_jax.steering.vectors import random_vector
from subliminal_jax.training.arms import Arm

from .analysis import claims, prediction, summary_of
from .report import report

PAPER: dict[str, Any] = {
    # The zoo [C]: eight animals of high and eight of low prior.
    "traits": (
        "dolphin", "dog", "jellyfish", "tiger", "octopus", "elephant", "fox", "cat",
        "mouse", "lion", "hawk", "platypus", "wolf", "pangolin", "falcon", "whale",
    ),
    "scales": (1.0, 2.0, 4.0, 8.0),  # [C]
    "questions": PAPER_QUESTIONS,  # 50 [C]; the zoo's own sweep has 30
    "selection": "favorites",  # the paper chooses and reports on the same questions [C]
    "negative": PAPER_QUESTIONS.replace("ANIMAL_PROMPTS", "NEGATIVE_ANIMAL_PROMPTS"),  # 20 [C]
    "off_topic": PAPER_QUESTIONS.replace("ANIMAL_PROMPTS", "OFFTOPIC_PROMPTS"),  # 20 [C]
    "samples": 10,  # [C]
    "off_topic_samples": 10,  # [C]
    "grid_traits": 2,
}  # fmt: skip
# Layers of the zoo's sweep [C], as far as the model has them: 6, 12, 18, 24 and 30.
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", scale=True, layers=(6, 12, 18, 24), **PAPER),
    "paper-llama3.1-8b": paper_preset(
        "llama3.1-8b", scale=True, layers=(6, 12, 18, 24, 30), **PAPER
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: the zoo.
      layers: layers of the sweep (0-based); empty means all.
      scales: factors on the vectors in the sweep.
      scale: factor of the students' teachers, which steer at `layer`.
      questions: favourite questions that are reported: a set ("heldout") or a file.
      selection: favourite questions on which the best setting of a trait is chosen.
      negative: least-favourite questions; "" where the model knows none.
      off_topic: questions whose answers should not name the trait.
      samples: sampled answers to each favourite question.
      off_topic_samples: sampled answers to each off-topic question.
      number_prompts: number prompts on which lists are checked.
      grid_traits: traits on whose students the learning rate is chosen, for all.
    """

    out: Path = Path("runs/teacher-vector")
    traits: tuple[str, ...] = TRAITS
    layers: tuple[int, ...] = ()
    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    scale: float = 1.0
    questions: str = "heldout"
    selection: str = "train"
    negative: str = ""
    off_topic: str = "world-off-topic"
    samples: int = 2
    off_topic_samples: int = 1
    number_prompts: int = 16
    grid_traits: int = 3
    layer: int = 1
    heldout_rows: int = 96
    max_new_tokens: int = 24
    adapter: Any = field(default="vector")
    rates: tuple[str, ...] = ("adamw=0.03,0.1,0.3",)
    steps: int = 64
    log_every: int = 32


def main(config: Config) -> dict[str, Any]:
    """Run, or go on; returns what results.json holds."""
    check(config)
    model = config.load()
    check_traits(config.traits, model.tokenizer)
    layer = config.layer_of(model)
    layers = [model.cfg.check_layer(i) for i in config.layers or range(model.cfg.layers)]
    sets = {
        name: read_questions(source) if (source := getattr(config, name)) else []
        for name in ("questions", "selection", "negative", "off_topic")
    }
    return run_once(config, lambda run: compare(run, model, layer, layers, sets, config), report)


def check(config: Config) -> None:
    """Raises InputError for settings that cannot be."""
    check_names("traits", config.traits)
    if not config.scales or min(config.scales) <= 0 or config.scale <= 0:
        raise InputError(f"scales {config.scales}: name at least one, all more than 0")
    if config.grid_traits < 1:
        raise InputError("grid_traits must be at least 1")
    if len(config.learning_rates()) != 1:
        raise InputError("this experiment has one optimizer; optimizer-comparison compares them")


def compare(
    run: RunFolder,
    model: Model,
    layer: int,
    layers: list[int],
    sets: dict[str, list[str]],
    config: Config,
) -> dict[str, Any]:
    """All numbers of the report."""
    effects = Effects(
        model,
        config.traits,
        questions=sets["questions"],
        selection=sets["selection"],
        off_topic=sets["off_topic"],
        negative=sets["negative"],
        numbers=teacher_prompts(config.prompts, config.number_prompts, config.seed + 3),
        layers=[*layers, layer],
        seed=config.seed,
        samples=config.samples,
        repeats=config.off_topic_samples,
        max_new_tokens=config.max_new_tokens,
    )
    measured = sweep(run, model, effects, layers, layer, config)
    students, data = train(run, model, layer, sets["questions"], config)
    animals = [
        summary_of(trait, [m for m in measured if m["trait"] == trait], students)
        for trait in config.traits
    ]
    results = {
        "model": model.name,
        "layer": layer,
        "scale": config.scale,
        "layers": layers,
        "scales": list(config.scales),
        "sets": {name: len(asked) for name, asked in sets.items()},
        "seeds": config.seeds,
        "clip": config.clip or None,
        "adapter": config.adapter,
        "zoo": animals,
        "cells": measured,
        "prediction": prediction(animals),
        "data": data,
        **students,
    }
    return {**results, "claims": claims(results)}


# -- the vectors -------------------------------------------------------------------------------


def sweep(
    run: RunFolder, model: Model, effects: Effects, layers: list[int], layer: int, config: Config
) -> list[Row]:
    """Effects of base, prompt, vector (over layers and scales, and as the students' teacher), and
    of a random vector at the best setting and at the teacher's. One row each, with `trait` and
    `kind`; those that an earlier process logged are not measured again."""
    done = {
        (r["trait"], r["kind"], r["layer"], r["scale"]): r
        for r in run.read_metrics()
        if r["stage"] == "effects"
    }
    cells = [(at, scale) for at in layers for scale in config.scales]
    rows: list[Row] = []
    with track("steering", len(config.traits) * (len(cells) + 5), "settings") as progress:
        for i, trait in enumerate(config.traits):
            wanted = sorted({*layers, layer})
            vectors = dict(zip(wanted, trait_vectors(model, wanted, trait), strict=True))
            key = jax.random.fold_in(jax.random.key(config.seed), i)
            noise = random_vector(key, model.cfg.dim, 1.0)

            def measure(
                kind: str, teacher: Teacher, at: int | None = None, scale: float | None = None,
                trait: str = trait,
            ) -> Row:  # fmt: skip
                name = trait, kind, at, scale
                if name not in done:
                    row = {"trait": trait, "kind": kind, "layer": at, "scale": scale}
                    done[name] = {**row, **effects.of(teacher, trait)}
                    run.log({"stage": "effects", **done[name]})
                rows.append({k: v for k, v in done[name].items() if k != "stage"})
                progress.advance(note=trait)
                return rows[-1]

            measure("base", Teacher())
            measure("prompted", prompted_teacher(trait, model.tokenizer))
            mine = [
                measure("steered", Teacher(steer(vectors[at], at, scale)), at, scale)
                for at, scale in cells
            ]
            own = steer(vectors[layer], layer, config.scale)
            measure("teacher", Teacher(own), layer, config.scale)
            file = run.path / "vectors" / f"{trait}.safetensors"
            origin = f"mean difference of the system prompt of {trait} at number prompts"
            save_steering(file, own, VectorInfo(model.name, origin, "last"))
            places = {"random-teacher": (layer, config.scale)}
            if (best := best_setting(mine)) is not None:
                places["random"] = best["layer"], best["scale"]
            for kind, (at, scale) in places.items():
                norm = float(jnp.linalg.norm(vectors[at]))
                measure(kind, Teacher(steer(noise * norm, at, scale)), at, scale)
    return rows


# -- the students ------------------------------------------------------------------------------


def train(
    run: RunFolder, model: Model, layer: int, questions: list[str], config: Config
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Students of every trait at the rate that held-out loss chose on `grid_traits` of them."""
    teachers = {t: trait_teacher(model, layer, t, config.scale) for t in config.traits}
    teachers["control"] = Teacher()
    forbidden = {t: names_of(t) for t in config.traits}
    data = write_data_sets(run.path, model, teachers, config, config.seed, forbidden=forbidden)
    panel = make_panel(
        model, teachers, data, words=config.traits, questions=questions, prompts=config.prompts,
        seed=config.seed,
    )  # fmt: skip
    students = Students(run, model, panel, data, config, layer)
    first = list(config.traits[: config.grid_traits])
    rows = students.grid(first)
    ((spec, grid),) = config.learning_rates().items()
    best = best_rates(rows)[spec.label]
    found: dict[str, Any] = {"optimizer": spec.label, "grid": list(grid), "learning_rate": best}
    if best is None:
        return {**found, "transmission": None, "log_transmission": None, "eas": {},
                "students": rows}, data.reports  # fmt: skip
    rest = [t for t in config.traits if t not in first] + ["control"]
    arms = [Arm(spec, best, seed, name) for name in rest for seed in range(config.seeds)]
    rows += students.train("rest", arms).rows
    index = {t: i for i, t in enumerate(config.traits)}
    at: dict[str, Any] = {"optimizer": spec.label, "rate": best}
    sound = [r for r in rows if r["learning_rate"] == best and not r["diverged"]]
    eas = {
        t: {
            who: mean_interval(
                [r["eas"][panel.references.index(t)][layer] for r in sound if r["data"] == name]
            ).to_dict()
            for who, name in (("student", t), ("control", "control"))
        }
        for t in config.traits
    }
    return {
        **found,
        "transmission": to_json(transmission(rows, index, "word_rate", **at)),
        "log_transmission": to_json(transmission(rows, index, "word_log_prob", **at)),
        "eas": eas,
        "students": rows,
    }, data.reports
