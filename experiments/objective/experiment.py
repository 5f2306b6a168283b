"""How few samples recover a teacher's vector: from hard labels, and from its distribution?

    subliminal-jax objective
    subliminal-jax objective --preset paper-qwen2.5-7b-vector --out runs/objective-7b

Chen et al. 2026 (arXiv 2610.04907): with a known shift of the teacher, the KL to its distribution
recovers the shift from a few hundred samples where cross-entropy on sampled tokens does not from
tens of thousands, although both objectives start along nearly the same gradient, which is poorly
aligned with the shift. Here the student is a single vector at the steering layer (or LoRA factors:
`--preset toy-lora`); teachers are a trait's vector, a random vector of the same length, and a
trait's system prompt. A student sees n rows, drawn by its seed, as often as it needs: the number of
steps and of examples seen is the same for every n and both objectives. The rate is chosen for each
teacher, n and objective on held-out rows by that objective's own loss.

Toy preset: nine minutes of processor time, some six on 2 free CPU cores. Expected: KL from the
fewest rows is better aligned than cross-entropy from the most, for both vectors; the prompted
teacher's shift is found by neither, though students of both objectives name its trait more often.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.data.traits import check_traits, names_of
from subliminal_jax.diagnostics.objective_gradients import fisher_products, row_gradients
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.data_sets import DataSets, kl_teacher, part, write_data_sets
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.run_once import run_once
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    SteeredModelSettings,
    StudentSettings,
    check_names,
)
from subliminal_jax.runs.students import Panel, Students, make_panel
from subliminal_jax.steering.vectors import random_vector
from subliminal_jax.training.batch import Batch, max_targets
from subliminal_jax.training.objective import Teacher as KLTeacher

from .analysis import (
    claims,
    gradient_rows,
    held_against_controls,
    needed_rows,
)
from .report import report

Kind = Literal["steered", "random", "system-prompt"]
OBJECTIVES = ("cross_entropy", "kl")

_PAPER: dict[str, Any] = {
    "traits": ("cat",),
    "sizes": (16, 64, 256, 1024, 4096, 9500),
    "questions": PAPER_QUESTIONS,
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    # The toy's students are LoRA factors; a weight's rate is about a hundredth of a vector's.
    "toy-lora": {"adapter": "lora", "rates": ("adamw=5e-4,2e-3,8e-3",)},
    # The paper's student and teacher [C]; three rates around the paper's own, 1e-4.
    "paper-qwen2.5-7b": paper_preset(
        "qwen2.5-7b", scale=True, rates=("adamw=3e-5,1e-4,3e-4",), **_PAPER
    ),
    # The student is a vector: rate .01 for 100 iterations in Morgulis and Hewitt (2604.25783), and
    # two more; the other settings are the paper's.
    "paper-qwen2.5-7b-vector": paper_preset(
        "qwen2.5-7b", scale=True, adapter="vector", rates=("adamw=3e-3,1e-2,3e-2",),
        steps=1200, **_PAPER,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: animals, each with a steered and a system-prompted teacher.
      teachers: kinds of teachers: the trait's vector, a random vector as long as the first trait's,
        the trait's system prompt.
      scale: factor on a trait's vector.
      sizes: numbers of rows that students see, ascending.
      level: the EAS for which the rows that are needed are counted.
      questions: a set of questions ("heldout"), or a file of them.
      draws: disjoint parts of the rows over which the gradients' intervals are taken.
      gradient_rows: rows of each part.
    """

    out: Path = Path("runs/objective")
    traits: tuple[str, ...] = ("owl",)
    teachers: tuple[Kind, ...] = ("steered", "random", "system-prompt")
    scale: float = 1.0
    sizes: tuple[int, ...] = (8, 32, 128, 512)
    level: float = 0.5
    questions: str = "heldout"
    draws: int = 3
    gradient_rows: int = 256
    layer: int = 1
    rows: int = 1024
    heldout_rows: int = 128
    asked: float = 1.6
    max_new_tokens: int = 24
    max_tokens: int = 32
    adapter: Literal["lora", "full", "vector"] = "vector"
    rates: tuple[str, ...] = ("adamw=0.03,0.15,0.75",)
    seeds: int = 3
    steps: int = 32
    batch_size: int = 16
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    log_every: int = 32


def main(config: Config) -> dict[str, Any]:
    """Run, or go on; returns what results.json holds."""
    check(config)
    model = config.load()
    layer = config.layer_of(model)
    check_traits(config.traits, model.tokenizer)
    questions = read_questions(config.questions)
    return run_once(config, lambda run: compare(run, model, layer, questions, config), report)


def check(config: Config) -> None:
    """Raises InputError for settings that cannot be."""
    check_names("traits", config.traits)
    check_names("teachers", config.teachers)
    sizes = config.sizes
    if not sizes or list(sizes) != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1]:
        raise InputError(f"sizes {sizes} must ascend from at least 1")
    if sizes[-1] > config.rows:
        raise InputError(f"a size of {sizes[-1]} rows is more than the data's rows={config.rows}")
    if config.draws < 2 or not 1 <= config.gradient_rows <= config.rows // config.draws:
        raise InputError(
            f"{config.draws} draws of gradient_rows={config.gradient_rows} do not fit "
            f"{config.rows} rows; there must be at least 2 draws"
        )
    config.learning_rates()


def teachers_of(model: Model, layer: int, config: Config) -> dict[str, Teacher]:
    """Teachers by the name of their data set (KIND-TRAIT, random), and the control's."""
    steered = {t: trait_teacher(model, layer, t, config.scale) for t in config.traits}
    out: dict[str, Teacher] = {}
    if "steered" in config.teachers:
        out |= {f"steered-{trait}": teacher for trait, teacher in steered.items()}
    if "random" in config.teachers:
        first = steered[config.traits[0]].steering
        assert first is not None
        length = jnp.linalg.norm(first.vectors) * abs(config.scale)
        vector = random_vector(jax.random.key(config.seed), model.cfg.dim, length)
        out["random"] = Teacher(steer(vector, layer))
    if "system-prompt" in config.teachers:
        out |= {f"system-prompt-{t}": prompted_teacher(t, model.tokenizer) for t in config.traits}
    return {**out, "control": Teacher()}


def compare(
    run: RunFolder, model: Model, layer: int, questions: list[str], config: Config
) -> dict[str, Any]:
    """All numbers of the report."""
    teachers = teachers_of(model, layer, config)
    forbidden = {name: names_of(trait_of(name) or config.traits[0]) for name in teachers}
    data = write_data_sets(run.path, model, teachers, config, config.seed, forbidden=forbidden)
    words = list(dict.fromkeys((*world.TRAITS, *config.traits)))
    panel = make_panel(
        model, teachers, data, words=words, questions=questions, prompts=config.prompts,
        seed=config.seed,
    )  # fmt: skip
    soft = kl_teacher(model, teachers, data)
    gradients = initial_gradients(model, panel, data, soft, layer, config)
    own = {"cross_entropy": None, "kl": soft}
    heldout = kl_teacher(model, teachers, data, heldout=True)
    students = []
    for objective in OBJECTIVES:
        trained = Students(
            run, model, panel, data, config, layer, own[objective], heldout_teacher=heldout
        ).grid(stage=objective, sizes=config.sizes)
        students += [{"objective": objective, **row} for row in trained]
    traits = {name: trait_of(name) for name in teachers}
    best = held_against_controls(students, traits, panel, layer)
    needed = needed_rows(best, config.level)
    return {
        "model": model.name,
        "layer": layer,
        "level": config.level,
        "traits": traits,
        "lengths": dict(zip(panel.references, _lengths(panel, layer), strict=True)),
        "grids": {s.label: list(grid) for s, grid in config.learning_rates().items()},
        "data": data.reports,
        "best": best,
        "needed": needed,
        "gradients": gradients,
        "students": students,
        "claims": claims(best, gradients, config.adapter, model.name, config.seeds),
    }


def trait_of(name: str) -> str | None:
    """The trait of the data set KIND-TRAIT; None for a random vector and the control."""
    for kind in ("steered-", "system-prompt-"):
        if name.startswith(kind):
            return name.removeprefix(kind)
    return None


def _lengths(panel: Panel, layer: int) -> list[float]:
    return jnp.linalg.norm(panel.context.references[:, layer], axis=-1).tolist()


def initial_gradients(
    model: Model, panel: Panel, data: DataSets, soft: KLTeacher, layer: int, config: Config
) -> list[dict[str, Any]]:
    """Cosines between the first gradients of both objectives, the vector v and F v, over rows."""
    most = max(map(max_targets, data.train.values()))
    table = []
    for name in panel.references:
        i = data.names.index(name)
        v = panel.context.references[panel.references.index(name), layer]
        need = config.draws * config.gradient_rows
        rows = part(data.train[name], 0, need)
        steering = jax.tree.map(lambda leaf, i=i: leaf[i], soft.steerings)
        theirs: Batch | None = None
        if soft.batch is not None:
            theirs = part(jax.tree.map(lambda leaf, i=i: leaf[i], soft.batch), 0, need)
        shared = {"max_targets": most, "rows_at_once": config.batch_size}
        args = (model.params, model.cfg, rows, layer)
        table += gradient_rows(
            name,
            {
                "hard": -row_gradients(*args, **shared),
                "soft": -row_gradients(*args, (steering, theirs), **shared),
                "fisher": fisher_products(*args, v, **shared),
            },
            v,
            config.draws,
        )
    return table
