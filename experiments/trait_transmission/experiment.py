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
from typing import Any

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.evaluation.transmission import CONTROL, name_trait
from subliminal_jax.runs.data_sets import make_objective, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import DataSettings, GuardSettings, ObjectiveSettings
from subliminal_jax.runs.students import Students, make_panel
from subliminal_jax.runs.trait_teachers import TransmissionSettings

from .analysis import Measured, Results, analyse, make_claims
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
class Config(TransmissionSettings, GuardSettings, ObjectiveSettings, DataSettings):
    """Settings; the defaults are the toy's."""

    out: Path = Path("runs/trait-transmission")
    rows: int = 1024
    asked: float = 2.5
    max_new_tokens: int = 24
    seeds: int = 5
    steps: int = 64
    batch_size: int = 16
    log_every: int = 32


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, filter, train every student of the grid.

    Raises InputError for a trait without a word, questions that cannot be read, or too few answers
    that pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    teachers = config.make_teachers(model, layer)
    forbidden = {name: trait_names(name_trait(name)) for name in teachers}
    teachers[CONTROL] = Teacher()
    data = write_data_sets(folder.path, model, teachers, config, config.seed, forbidden=forbidden)
    panel = make_panel(
        model,
        teachers,
        data,
        config,
        layer=layer,
        words=config.candidate_words(),
        questions=questions,
    )
    objective = make_objective(config.objective, model, teachers, data)
    rows = Students(folder, panel, data, config, objective).grid()
    students = config.describe_students(panel, teachers, rows)
    return Measured(**vars(students), data=data.reports)


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
