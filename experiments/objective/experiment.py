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
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from subliminal_jax.bounds import MANY, Count, Items, Needs, Positive, Range, as_flag
from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.data_sets import kl_objective, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import (
    DataSettings,
    SteeredModelSettings,
    StudentSettings,
    Traits,
)
from subliminal_jax.runs.students import Students, make_panel
from subliminal_jax.runs.waves import HELDOUT_LOSSES
from subliminal_jax.steering.vectors import random_vector
from subliminal_jax.training.objectives import CrossEntropy, Objective

from .analysis import OBJECTIVES, Measured, Results, analyse, make_claims
from .gradients import measure_gradients
from .report import make_page

Kind = Literal["steered", "random", "system-prompt"]

PAPER: dict[str, Any] = {
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
        "qwen2.5-7b", scale=True, rates=("adamw=3e-5,1e-4,3e-4",), **PAPER
    ),
    # The student is a vector: rate .01 for 100 iterations in Morgulis and Hewitt (2604.25783), and
    # two more; the other settings are the paper's.
    "paper-qwen2.5-7b-vector": paper_preset(
        "qwen2.5-7b",
        scale=True,
        adapter="vector",
        rates=("adamw=3e-3,1e-2,3e-2",),
        steps=1200,
        **PAPER,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, DataSettings, SteeredModelSettings):
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
    traits: Traits = ("owl",)
    teachers: Annotated[tuple[Kind, ...], Items(1)] = ("steered", "random", "system-prompt")
    scale: Annotated[Positive, Needs("teachers", ("steered",))] = 1.0
    sizes: Annotated[tuple[int, ...], Items(1), Range(1, MANY)] = (8, 32, 128, 512)
    level: Annotated[float, Range(-1, 1)] = 0.5
    questions: str = "heldout"
    draws: Annotated[int, Range(2, 10_000)] = 3
    gradient_rows: Count = 256
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

    def check(self) -> None:
        sizes = self.sizes
        if list(sizes) != sorted(sizes):
            raise InputError(f"{as_flag('sizes', sizes)}: give them in ascending order")
        if sizes[-1] > self.rows:
            raise InputError(
                f"{as_flag('sizes', sizes)}: {sizes[-1]} is more than --rows {self.rows}"
            )
        if self.gradient_rows > self.rows // self.draws:
            raise InputError(
                f"--draws {self.draws} of --gradient-rows {self.gradient_rows} do not fit --rows "
                f"{self.rows}: ask for fewer"
            )
        self.learning_rates()


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, take the first gradients, train every student of both objectives.

    Raises InputError for a trait without a word, questions that cannot be read, or too few answers
    that pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    teachers = make_teachers(model, layer, config)
    traits = {name: trait_name(name) for name in teachers}
    forbidden = {name: trait_names(trait or config.traits[0]) for name, trait in traits.items()}
    data = write_data_sets(folder.path, model, teachers, config, config.seed, forbidden=forbidden)
    words = list(dict.fromkeys((*world.TRAITS, *config.traits)))
    panel = make_panel(model, teachers, data, config, layer=layer, words=words, questions=questions)
    shifts = dict(zip(panel.references, panel.shifts[:, layer], strict=True))
    soft = kl_objective(model, teachers, data)
    gradients = measure_gradients(
        model, data, soft, shifts, layer, config.draws, config.gradient_rows, config.batch_size
    )
    heldout_kl = kl_objective(model, teachers, data, heldout=True)
    heldout_losses = {**HELDOUT_LOSSES, "heldout_kl": heldout_kl}
    objectives: dict[str, Objective] = {"cross_entropy": CrossEntropy(), "kl": soft}
    students: list[StudentRow] = []
    for objective in OBJECTIVES:
        trained = Students(folder, panel, data, config, objectives[objective], heldout_losses).grid(
            stage=objective, sizes=config.sizes
        )
        students += [row.replace_values(objective=objective) for row in trained]
    return Measured(
        preset=config.preset,
        model=model.name,
        layer=layer,
        adapter=config.adapter,
        level=config.level,
        seeds=config.seeds,
        steps=config.steps,
        batch_size=config.batch_size,
        heldout_rows=config.heldout_rows,
        traits=traits,
        references=panel.references,
        words=panel.words,
        lengths={name: float(jnp.linalg.norm(shift)) for name, shift in shifts.items()},
        grids=config.grids(),
        data=data.reports,
        gradients=gradients,
        students=tuple(students),
    )


def make_teachers(model: Model, layer: int, config: Config) -> dict[str, Teacher]:
    """Teachers by the name of their data set (KIND-TRAIT, random), and the control's."""
    steered = {t: trait_teacher(model, layer, t, config.scale) for t in config.traits}
    teachers: dict[str, Teacher] = {}
    if "steered" in config.teachers:
        teachers |= {f"steered-{trait}": teacher for trait, teacher in steered.items()}
    if "random" in config.teachers:
        steering = steered[config.traits[0]].steering
        assert steering is not None
        length = jnp.linalg.norm(steering.vectors) * abs(config.scale)
        vector = random_vector(jax.random.key(config.seed), model.cfg.dim, length)
        teachers["random"] = Teacher(steer(vector, layer))
    if "system-prompt" in config.teachers:
        for trait in config.traits:
            teachers[f"system-prompt-{trait}"] = prompted_teacher(trait, model.tokenizer)
    return {**teachers, "control": Teacher()}


def trait_name(name: str) -> str | None:
    """The trait of the data set KIND-TRAIT; None for a random vector and the control."""
    for kind in ("steered-", "system-prompt-"):
        if name.startswith(kind):
            return name.removeprefix(kind)
    return None


EXPERIMENT = Experiment(
    name="objective",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
