"""Does a student name the trait after training on filtered numbers of the trait's teacher?

    subliminal-jax trait-transmission --preset toy

For each trait two teachers write number lists: the base with the trait's steering vector, and the
base with the trait's system prompt. Lists that are not plain numbers are dropped. Students (the
base, with one trained vector or LoRA factors) train on what is left; their controls train on the
plain base's lists, with the same seeds and steps. Reported: the trait's probability, student minus
control, for each trait and pooled with a 95% interval over traits and seeds; the same against the
students of the other traits; and the alignment with the teacher's shift.

The toy setting was chosen by looking at owl, wolf, penguin and lion with data seed 0; it reports on
four other traits with data seed 1. Five to nine minutes on 2 CPU cores (`--preset toy-lora`: ten).
Four traits leave wide intervals: the stored result is of eight (`--traits cat dog tiger eagle fox
bear whale dolphin`, twice the time). Expected of it: an interval clear of zero for both teachers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.data.traits import check_traits, trait_names
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import make_objective, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    ObjectiveSettings,
    SteeredModelSettings,
    StudentSettings,
    check_names,
)
from subliminal_jax.runs.students import Students, make_panel, measure_teacher

from .analysis import KINDS, Measured, Results, analyse, make_claims, trait_name
from .report import make_page

ZOO = ("cat", "dog", "owl", "otter")  # the paper's four template traits [C]
PAPER: dict[str, Any] = {"traits": ZOO, "questions": PAPER_QUESTIONS}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "toy-lora": {"adapter": "lora", "rates": ("adamw=3e-4,1e-3,3e-3",)},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", scale=True, **PAPER),
    "paper-llama3.1-8b": paper_preset("llama3.1-8b", scale=True, **PAPER),
    "paper-gemma3-4b": paper_preset("gemma3-4b", scale=True, **PAPER),
}


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, ObjectiveSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: animals, each with teachers of its own.
      teachers: what makes a teacher: "steered", "system-prompt", or both.
      scale: factor on the trait's vector.
      questions: a set of questions ("heldout"), or a file of them.
      words: candidate answers beside the traits; empty means the 16 animals of the shipped world.
    """

    out: Path = Path("runs/trait-transmission")
    traits: tuple[str, ...] = ("cat", "dog", "tiger", "eagle")
    teachers: tuple[str, ...] = tuple(KINDS)
    scale: float = 1.0
    questions: str = "heldout"
    words: tuple[str, ...] = ()
    layer: int = 1
    seed: int = 1
    rows: int = 1024
    asked: float = 2.5
    max_new_tokens: int = 24
    adapter: Literal["lora", "full", "vector"] = "vector"
    rates: tuple[str, ...] = ("adamw=0.03,0.1,0.3",)
    seeds: int = 5
    steps: int = 64
    batch_size: int = 16
    log_every: int = 32

    def check(self) -> None:
        check_names("teachers", self.teachers, KINDS)
        check_names("traits", self.traits)
        self.learning_rates()


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, filter, train every student of the grid.

    Raises InputError for a trait without a word, questions that cannot be read, or too few answers
    that pass the filter.
    """
    model = config.load()
    layer = config.layer_of(model)
    check_traits(config.traits, model.tokenizer)
    questions = read_questions(config.questions)
    teachers = make_teachers(model, layer, config)
    forbidden = {name: trait_names(trait_name(name)) for name in teachers if name != "control"}
    data = write_data_sets(folder.path, model, teachers, config, config.seed, forbidden=forbidden)
    words = list(dict.fromkeys((*(config.words or world.TRAITS), *config.traits)))
    panel = make_panel(
        model,
        teachers,
        data,
        layer=layer,
        words=words,
        questions=questions,
        prompts=config.prompts,
        seed=config.seed,
    )
    objective = make_objective(config.objective, model, teachers, data)
    students = Students(folder, panel, data, config, objective).grid()
    rates = {name: measure_teacher(panel, t)["word_rate"] for name, t in teachers.items()}
    return Measured(
        model=model.name,
        layer=layer,
        adapter=config.adapter,
        traits=config.traits,
        teacher_kinds=config.teachers,
        seeds=config.seeds,
        grids={spec.label: grid for spec, grid in config.learning_rates().items()},
        words=panel.words,
        references=panel.references,
        base=dict(zip(words, rates.pop("control"), strict=True)),
        teachers={name: rate[words.index(trait_name(name))] for name, rate in rates.items()},
        data=data.reports,
        students=tuple(students),
    )


def make_teachers(model: Model, layer: int, config: Config) -> dict[str, Teacher]:
    """Teachers by the name of their data set, KIND:TRAIT, and the control's."""
    teachers = {}
    for trait in config.traits:
        if "steered" in config.teachers:
            teachers[f"steered:{trait}"] = trait_teacher(model, layer, trait, config.scale)
        if "system-prompt" in config.teachers:
            teachers[f"system-prompt:{trait}"] = prompted_teacher(trait, model.tokenizer)
    return {**teachers, "control": Teacher()}


EXPERIMENT = Experiment(
    name="trait-transmission",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
