"""How few samples recover a teacher's vector: from hard labels, and from its distribution?

    subliminal-jax objective
    subliminal-jax objective --preset paper-qwen2.5-7b-vector --out runs/objective-7b

Chen et al. 2026 (arXiv 2610.04907): with a known shift of the teacher, the KL to its distribution
recovers the shift from a few hundred samples where cross-entropy on sampled tokens does not from
tens of thousands, although both objectives start along nearly the same gradient, which is poorly
aligned with the shift. Here students of three kinds are one vector at the steering layer (a family
that holds steered teachers themselves), LoRA factors, and all weights; teachers are traits' vectors
and system prompts (and random vectors of the same lengths, where asked for), each with data and
students of its own draw. A student sees n rows, drawn by its seed, as often as it needs: the number
of steps and of examples seen is the same for every n and both objectives. The rate of each kind, n
and objective is found on owl and lion, which are not reported, by the objective's own held-out
loss; controls of every kind learn the plain base's data (its distribution, for KL). Intervals are
over traits.

Some 20,000 student-steps: half an hour on 2 CPU cores; with random vectors as teachers, too
(`--teachers steered random system-prompt`), ten minutes more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from subliminal_jax.runs.presets import PAPER_KINDS, PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import (
    DataSettings,
    SteeredModelSettings,
    Traits,
)
from subliminal_jax.runs.student_kinds import (
    ControlSettings,
    Judge,
    KindTrainer,
    StudentKindSettings,
    TrainedKinds,
)
from subliminal_jax.runs.students import make_panel
from subliminal_jax.runs.waves import HELDOUT_LOSSES
from subliminal_jax.steering.vectors import random_vector
from subliminal_jax.training.arms import Schedule
from subliminal_jax.training.objectives import CrossEntropy, Objective

from .analysis import Measured, Results, analyse
from .claims import make_claims
from .gradients import measure_gradients
from .report import make_page

Kind = Literal["steered", "random", "system-prompt"]

PAPER: dict[str, Any] = {
    "scale": True,
    "students": PAPER_KINDS,
    "traits": ("cat", "dog", "owl", "otter"),  # the paper's four template traits [C]
    "tuning_traits": ("lion",),
    "sizes": (16, 64, 256, 1024, 4096, 9500),
    "questions": PAPER_QUESTIONS,
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    # The paper's student and teacher [C]; three rates around the paper's own, 1e-4.
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", rates=("adamw=3e-5,1e-4,3e-4",), **PAPER),
    # The student is a vector: rate .01 for 100 iterations in Morgulis and Hewitt (2604.25783), and
    # two more; the other settings are the paper's.
    "paper-qwen2.5-7b-vector": paper_preset(
        "qwen2.5-7b",
        adapters=("vector",),
        rates=("adamw=3e-3,1e-2,3e-2",),
        steps=1200,
        **PAPER,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config(StudentKindSettings, ControlSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: animals, each with a steered and a system-prompted teacher.
      teachers: kinds of teachers: the trait's vector, a random vector as long, the trait's system
        prompt.
      scale: factor on a trait's vector.
      sizes: numbers of rows that students see, ascending.
      level: the EAS for which the rows that are needed are counted.
      questions: a set of questions ("heldout"), or a file of them.
      gradient_rows: rows of each data set over which first gradients are averaged.
    """

    out: Path = Path("runs/objective")
    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin")
    teachers: Annotated[tuple[Kind, ...], Items(1)] = ("steered", "system-prompt")
    scale: Annotated[Positive, Needs("teachers", ("steered", "random"))] = 1.0
    sizes: Annotated[tuple[int, ...], Items(1), Range(1, MANY)] = (8, 64, 512)
    level: Annotated[float, Range(-1, 1)] = 0.5
    questions: str = "heldout"
    gradient_rows: Count = 256
    layer: int = 1
    rows: int = 512
    heldout_rows: int = 128
    asked: float = 2.0
    max_new_tokens: int = 24
    max_tokens: int = 32
    steps: int = 32
    schedule: Schedule = "linear"
    log_every: int = 32

    def check(self) -> None:
        sizes = self.sizes
        if list(sizes) != sorted(sizes):
            raise InputError(f"{as_flag('sizes', sizes)}: give them in ascending order")
        if sizes[-1] > self.rows:
            raise InputError(
                f"{as_flag('sizes', sizes)}: {sizes[-1]} is more than --rows {self.rows}"
            )
        if self.gradient_rows > self.rows:
            raise InputError(
                f"--gradient-rows {self.gradient_rows} is more than --rows {self.rows}: ask for "
                "fewer"
            )

    @property
    def all_traits(self) -> tuple[str, ...]:
        """Those that are reported, and those that rates are chosen on, if any."""
        return (*self.traits, *self.searched_traits)


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, take the first gradients, train every student of both objectives.

    Raises InputError for a trait without a word, questions that cannot be read, or too few answers
    that pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    teachers, traits = make_teachers(model, layer, config)
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        config,
        config.seed,
        forbidden={name: trait_names(trait) for name, trait in traits.items()},
        own_prompts=True,
    )
    words = list(dict.fromkeys((*world.TRAITS, *config.all_traits)))
    panel = make_panel(model, teachers, data, config, layer=layer, words=words, questions=questions)
    shifts = dict(zip(panel.references, panel.shifts[:, layer], strict=True))
    soft = kl_objective(model, teachers, data)
    gradients = measure_gradients(
        model,
        data,
        soft,
        shifts,
        {kind: [f"{kind}-{trait}" for trait in config.traits] for kind in config.teachers},
        layer,
        config.gradient_rows,
        config.batch_size,
    )
    heldout_kl = kl_objective(model, teachers, data, heldout=True)
    # The random vectors of the tuning traits have no data: rates serve all teachers of a kind.
    tuning = [name for name, trait in traits.items() if trait in config.searched_traits]

    def make_trainer(objective: Objective, judge: Judge, stage: str) -> KindTrainer:
        return KindTrainer(
            folder,
            panel,
            data,
            config,
            tuning,
            objective=objective,
            heldout_losses={**HELDOUT_LOSSES, "heldout_kl": heldout_kl},
            judge=judge,
            stage=stage,
        )

    trainers = {
        "cross_entropy": make_trainer(CrossEntropy(), "heldout_loss", "hard-"),
        "kl": make_trainer(soft, "heldout_kl", "soft-"),
    }
    trained = {name: trainer.train(config.sizes) for name, trainer in trainers.items()}
    described = trainers["cross_entropy"].describe(config.traits, join_objectives(trained))
    return Measured(
        **vars(described),
        teacher_kinds=config.teachers,
        level=config.level,
        sizes=config.sizes,
        heldout_rows=config.heldout_rows,
        base_kl=trainers["kl"].base_losses,
        lengths={name: float(jnp.linalg.norm(shift)) for name, shift in shifts.items()},
        data=data.reports,
        gradients=gradients,
    )


def join_objectives(trained: Mapping[str, TrainedKinds]) -> TrainedKinds:
    """The students of all objectives, each with its own."""

    def join(rows: str) -> tuple[StudentRow, ...]:
        return tuple(
            row.replace_values(objective=objective)
            for objective, each in trained.items()
            for row in getattr(each, rows)
        )

    choices = tuple(
        replace(choice, objective=objective)
        for objective, each in trained.items()
        for choice in each.choices
    )
    return TrainedKinds(choices, join("students"), join("tuning_students"))


def make_teachers(
    model: Model, layer: int, config: Config
) -> tuple[dict[str, Teacher], dict[str, str]]:
    """Teachers by the name of their data set, KIND-TRAIT and those of the controls, and the trait
    of each KIND-TRAIT. A tuning trait has no random vector."""
    teachers: dict[str, Teacher] = {}
    traits: dict[str, str] = {}
    for i, trait in enumerate(config.all_traits):
        steered = trait_teacher(model, layer, trait, config.scale)
        assert steered.steering is not None
        length = jnp.linalg.norm(steered.steering.vectors) * abs(config.scale)
        key = jax.random.fold_in(jax.random.key(config.seed), i)
        made: dict[str, Teacher] = {
            "steered": steered,
            "random": Teacher(steer(random_vector(key, model.cfg.dim, length), layer)),
            "system-prompt": prompted_teacher(trait, model.tokenizer),
        }
        for kind in config.teachers:
            if kind != "random" or trait in config.traits or set(config.teachers) == {"random"}:
                teachers[f"{kind}-{trait}"] = made[kind]
                traits[f"{kind}-{trait}"] = trait
    return teachers | dict.fromkeys(config.list_controls(), Teacher()), traits


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
