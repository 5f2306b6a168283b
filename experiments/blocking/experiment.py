"""Can transmission be stopped without losing the task?

    subliminal-jax blocking --preset toy

Three guards, each of which other experiments take with `--guard`: projecting the steering vector
out of every update, training with the vector added so that nothing of it is left to learn, and
dropping the rows that teach it most. Teachers with a trait's vector write number lists at a low
temperature: sharper lists are the task that students should learn, the vector what they should not.
Students with and without guards train alike; so do controls, on what the plain base wrote at that
temperature. Measured against the unguarded control: the trait's probability, the alignment (EAS),
and the share of the vector; the gain kept on the teacher's data and on clean data; the time of a
step. All of it for the teacher's own vector (or `--guard-vector FILE`) and for one recovered blind
from the data. The guard reads training texts, never the prompts that students are measured on.

To protect a training of your own: `subliminal-jax optimizer-comparison --data mine.jsonl --guard
project --guard-vector vector.safetensors`, or `--guard-vector blind`.

The toy setting was chosen by looking at unguarded and guarded students of owl and wolf with data
seed 0; it reports on two other traits with data seed 1. About seven minutes on 2 CPU cores.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.bounds import Count, Items, Needs, Positive, Range
from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, trait_teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.diagnostics.alignment import eas, relative_size
from subliminal_jax.errors import InputError
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.data_sets import slice_rows, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.guards import (
    Vectors,
    choose_vectors,
    make_guard,
    recover_vectors,
    score_teaching,
)
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardKind,
    SteeredModelSettings,
    StudentSettings,
    Traits,
)
from subliminal_jax.runs.students import make_panel, measure_teacher
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.guards import Guard

from .analysis import Measured, Reference, Results, VectorFit, analyse
from .cases import STEP_CASES, UNGUARDED, make_cases, pool_size
from .claims import make_claims
from .guard_time import GuardTime, measure_steps
from .report import make_page
from .students import GuardedTraining, measure_base_loss

STEP_GUARDS: tuple[GuardKind, ...] = ("none", "project", "inoculate")  # drop-rows steps as none

PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    # The paper's teachers, prompts and students [C]; it has no guards. Its temperature is 1 [C]:
    # then plain data hold nothing to learn, and there is no task that a guard could cost.
    "paper-qwen2.5-7b": paper_preset(
        "qwen2.5-7b",
        scale=True,
        traits=("cat", "owl"),
        questions=PAPER_QUESTIONS,
        asked=4.0,
        temperature=0.7,
        shares=(0.1, 0.5),
        adapter_layers=(),
        vector_rates=(),
        blind_steps=1_000,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's. `rows` is what every student trains on.

    Attributes:
      traits: animals, each with a teacher of its own.
      scale: factor on the trait's vector.
      questions: a set of questions ("heldout"), or a file of them.
      shares: shares of the rows that drop-rows leaves out, of as many more rows.
      blind_steps: steps that train the blind vectors.
      guard_vector: the known vector: "teacher" (each data set's own), or a safetensors file.
      vector_rates: learning rates of the second case, students that are one vector; empty: none.
    """

    out: Path = Path("runs/blocking")
    traits: Traits = ("cat", "tiger")
    scale: Positive = 1.0
    questions: str = "heldout"
    shares: Annotated[tuple[float, ...], Items(1), Range(above=0, below=1)] = (0.5,)
    blind_steps: Count = 96
    guard_vector: str = "teacher"
    vector_rates: Annotated[tuple[str, ...], Needs("adapter", ("vector",), unless=True)] = (
        "adamw=0.1",
    )
    layer: int = 1
    seed: int = 1
    rows: int = 768
    heldout_rows: int = 128
    asked: float = 1.4
    max_new_tokens: int = 24
    temperature: float = 0.7
    adapter_layers: tuple[int, ...] = (0, 1)
    rates: tuple[str, ...] = ("adamw=5e-4,1e-3,2e-3",)
    seeds: int = 3
    steps: int = 64
    batch_size: int = 16
    log_every: int = 64

    def check(self) -> None:
        if self.guard_vector == "blind":
            raise InputError(
                "--guard-vector blind: blocking has a blind vector beside the known one; give "
                "teacher or a file"
            )
        make_cases(self.shares)
        self.learning_rates()
        if self.trains_vectors:
            self.vector_students().learning_rates("vector_rates")

    @property
    def trains_vectors(self) -> bool:
        """Whether students that are one vector are trained beside the main ones."""
        return bool(self.vector_rates) and self.adapter != "vector"

    def vector_students(self) -> "Config":
        """The settings of the students that are one vector."""
        return replace(self, adapter="vector", rates=self.vector_rates)


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, recover the blind vectors, train students under every guard.

    Raises InputError for a trait without a word, questions or a vector file that cannot be read,
    too few answers that pass the filter, and unguarded students that diverged at every rate.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    teachers = {t: trait_teacher(model, layer, t, config.scale) for t in config.traits}
    teachers["control"] = Teacher()
    pool = replace(config, rows=pool_size(config.rows, max(config.shares)))
    forbidden = {t: trait_names(t) for t in config.traits}
    data = write_data_sets(folder.path, model, teachers, pool, config.seed, forbidden=forbidden)
    panel = make_panel(
        model,
        teachers,
        data,
        config,
        layer=layer,
        words=list(dict.fromkeys((*world.TRAITS, *config.traits))),
        questions=questions,
    )
    base_losses = {
        name: measure_base_loss(model, data.heldout[name], config.batch_size) for name in data.names
    }
    rows = {trait: slice_rows(data.train[trait], 0, config.rows) for trait in config.traits}
    true_vectors = panel.vectors()
    known = choose_vectors(model, rows, config, layer, true_vectors, config.guard_vector)
    start = time.perf_counter()
    blind = recover_vectors(
        model, rows, layer, steps=config.blind_steps, batch_size=config.batch_size
    )
    blind_seconds = (time.perf_counter() - start) / len(config.traits)
    training = GuardedTraining(
        folder=folder,
        traits=config.traits,
        rows=config.rows,
        data=data,
        panel=panel,
        vectors={"known": known, "blind": blind},
        base_losses=base_losses,
        seed=config.seed,
    )
    cases = make_cases(config.shares)
    students = training.train_adapter(config, cases)
    if config.trains_vectors:
        students += training.train_adapter(config.vector_students(), STEP_CASES)
    return Measured(
        model=model.name,
        layer=layer,
        adapter=config.adapter,
        steps=config.steps,
        carrier=config.describe_carrier(),
        temperature=config.temperature,
        traits=config.traits,
        seeds=config.seeds,
        grids=config.grids(),
        cases=(UNGUARDED, *cases),
        reference=measure_references(training, teachers, config),
        vectors=tuple(compare_vectors(training, true_vectors, config)),
        time=measure_time(training, blind_seconds, config),
        data=data.reports,
        students=tuple(students),
    )


def measure_references(
    training: GuardedTraining, teachers: Mapping[str, Teacher], config: Config
) -> dict[str, Reference]:
    """Base and teachers: P(trait), and held-out losses without and with the vector."""
    panel = training.panel
    model = panel.model
    base_rates = measure_teacher(panel, Teacher())["word_rate"]
    references = {}
    for trait in config.traits:
        word = panel.words.index(trait)
        rates = measure_teacher(panel, teachers[trait])["word_rate"]
        heldout, steering = training.data.heldout[trait], teachers[trait].steering
        references[trait] = Reference(
            base_rate=base_rates[word],
            teacher_rate=rates[word],
            base_loss=training.base_losses[trait],
            loss_with_vector=measure_base_loss(model, heldout, config.batch_size, steering),
        )
    return references


def compare_vectors(
    training: GuardedTraining, true_vectors: Vectors, config: Config
) -> list[VectorFit]:
    """How well the guards' vectors agree with the teachers'."""
    model, layer = training.panel.model, training.panel.layer
    fits = []
    for trait, kind in product(config.traits, ("known", "blind")):
        vector, true_vector = training.vectors[kind][trait], true_vectors[trait]
        heldout, steering = training.data.heldout[trait], steer(vector, layer)
        fits.append(
            VectorFit(
                trait=trait,
                vector=kind,
                cosine=float(eas(vector, true_vector)),
                size=float(relative_size(vector, true_vector)),
                loss=measure_base_loss(model, heldout, config.batch_size, steering),
            )
        )
    return fits


def measure_time(training: GuardedTraining, blind_seconds: float, config: Config) -> GuardTime:
    """Seconds a step of each kind of guard, and what is paid once."""
    model, layer, trait = training.panel.model, training.panel.layer, config.traits[0]
    rows = {trait: slice_rows(training.data.train[trait], 0, config.rows)}
    known = training.vectors["known"]
    guards: dict[str, Guard] = {
        kind: make_guard(kind, model, rows, known, layer) for kind in STEP_GUARDS
    }
    spec, grid = next(iter(config.learning_rates().items()))
    start = time.perf_counter()
    score_teaching(model, rows[trait], known[trait], layer)
    score_rows_seconds = time.perf_counter() - start
    steps = measure_steps(model, rows, config.plan(layer), Arm(spec, grid[0], 0, trait), guards)
    return GuardTime(steps, score_rows_seconds, blind_seconds)


EXPERIMENT = Experiment(
    name="blocking",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
