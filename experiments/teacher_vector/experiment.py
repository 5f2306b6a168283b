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

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from subliminal_jax.bounds import Blocks, Count, Items, Positive, Range, Text
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import (
    Teacher,
    prompted_teacher,
    teacher_prompts,
    trait_teacher,
    trait_vectors,
)
from subliminal_jax.data.traits import trait_names
from subliminal_jax.data.world import TRAITS
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.checks import check_at_most
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
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
from subliminal_jax.serialization import from_json, to_json
from subliminal_jax.steering.io import VectorInfo, save_steering
from subliminal_jax.steering.vectors import random_vector

from .analysis import Measured, QuestionCounts, Results, analyse, make_claims
from .effects import EffectsMeter, Kind, ModelEffects, QuestionSets, best_setting
from .report import make_page

ZOO = (  # eight animals of high and eight of low prior [C]
    *("dolphin", "dog", "jellyfish", "tiger", "octopus", "elephant", "fox", "cat"),
    *("mouse", "lion", "hawk", "platypus", "wolf", "pangolin", "falcon", "whale"),
)
PAPER: dict[str, Any] = {
    "traits": ZOO,
    "scales": (1.0, 2.0, 4.0, 8.0),  # [C]
    "questions": PAPER_QUESTIONS,  # 50 [C]; the zoo's own sweep has 30
    "selection": "favorites",  # the paper chooses and reports on the same questions [C]
    "negative": PAPER_QUESTIONS.replace("ANIMAL_PROMPTS", "NEGATIVE_ANIMAL_PROMPTS"),  # 20 [C]
    "off_topic": PAPER_QUESTIONS.replace("ANIMAL_PROMPTS", "OFFTOPIC_PROMPTS"),  # 20 [C]
    "samples": 10,  # [C]
    "off_topic_samples": 10,  # [C]
    "grid_traits": 2,
}
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
    traits: Traits = TRAITS
    layers: Annotated[tuple[int, ...], Blocks()] = ()
    scales: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1e6)] = (0.5, 1.0, 1.5, 2.0)
    scale: Positive = 1.0
    questions: str = "heldout"
    selection: str = "train"
    negative: Annotated[str, Text(empty=True)] = ""
    off_topic: str = "world-off-topic"
    samples: Annotated[int, Range(1, 10_000)] = 2
    off_topic_samples: Annotated[int, Range(1, 10_000)] = 1
    number_prompts: Count = 16
    grid_traits: Annotated[int, Range(1, 10_000)] = 3
    layer: int = 1
    heldout_rows: int = 96
    max_new_tokens: int = 24
    adapter: Literal["lora", "full", "vector"] = "vector"
    rates: tuple[str, ...] = ("adamw=0.03,0.1,0.3",)
    steps: int = 64
    log_every: int = 32

    def check(self) -> None:
        self.single_optimizer()
        check_at_most(self, "grid_traits", len(self.traits), f"{len(self.traits)} --traits")

    def question_sets(self) -> QuestionSets:
        """Raises InputError for questions that cannot be read."""
        return QuestionSets(
            questions=read_questions(self.questions),
            selection=read_questions(self.selection),
            negative=read_questions(self.negative) if self.negative else (),
            off_topic=read_questions(self.off_topic),
            numbers=teacher_prompts(self.prompts, self.number_prompts, self.seed + 3),
        )


def run(config: Config, folder: RunFolder) -> Measured:
    """Measure every trait's vector over layers and scales, then train the students.

    Raises InputError for a trait without a word, a layer that the model does not have, questions
    that cannot be read, or too few answers that pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    layers = config.layers or tuple(range(model.cfg.layers))
    sets = config.question_sets()
    meter = EffectsMeter(
        model,
        config.traits,
        sets,
        layers=[*layers, layer],
        seed=config.seed,
        samples=config.samples,
        off_topic_samples=config.off_topic_samples,
        max_new_tokens=config.max_new_tokens,
    )
    cells = measure_vectors(folder, model, meter, layers, layer, config)
    teachers = {t: trait_teacher(model, layer, t, config.scale) for t in config.traits}
    teachers["control"] = Teacher()
    forbidden = {trait: trait_names(trait) for trait in config.traits}
    data = write_data_sets(folder.path, model, teachers, config, config.seed, forbidden=forbidden)
    panel = make_panel(
        model, teachers, data, config, layer=layer, words=config.traits, questions=sets.questions
    )
    rows, rate = train_students(Students(folder, panel, data, config), config)
    optimizer, grid = config.single_optimizer()
    return Measured(
        model=model.name,
        traits=config.traits,
        layer=layer,
        scale=config.scale,
        layers=layers,
        scales=config.scales,
        sets=QuestionCounts(
            questions=len(sets.questions),
            selection=len(sets.selection),
            negative=len(sets.negative),
            off_topic=len(sets.off_topic),
        ),
        cells=tuple(cells),
        adapter=config.adapter,
        seeds=config.seeds,
        optimizer=optimizer.label,
        grid=grid,
        learning_rate=rate,
        references=panel.references,
        data=data.reports,
        students=tuple(rows),
    )


def measure_vectors(
    folder: RunFolder,
    model: Model,
    meter: EffectsMeter,
    layers: Sequence[int],
    teacher_layer: int,
    config: Config,
) -> list[ModelEffects]:
    """Effects of the base, of the prompt, of the vector (over `layers` and scales, and as the
    students' teacher), and of a random vector at the best setting and at the teacher's.

    Vectors of the teachers are kept in `folder`/vectors. What an earlier process logged is not
    measured again.
    """
    log = {
        (row["trait"], row["kind"], row["layer"], row["scale"]): from_json(ModelEffects, row)
        for row in folder.read_metrics()
        if row["stage"] == "effects"
    }
    settings = [(layer, scale) for layer in layers for scale in config.scales]
    wanted = sorted({*layers, teacher_layer})
    models: list[ModelEffects] = []
    with track("steering", len(config.traits) * (len(settings) + 5), "settings") as progress:

        def measure(
            trait: str,
            kind: Kind,
            teacher: Teacher,
            layer: int | None = None,
            scale: float | None = None,
        ) -> ModelEffects:
            key = trait, kind, layer, scale
            if key not in log:
                effects = meter.measure(teacher, trait)
                log[key] = ModelEffects(
                    trait=trait, kind=kind, layer=layer, scale=scale, **vars(effects)
                )
                folder.log({"stage": "effects", **to_json(log[key])})
            models.append(log[key])
            progress.advance(note=trait)
            return log[key]

        for i, trait in enumerate(config.traits):
            vectors = dict(zip(wanted, trait_vectors(model, wanted, trait), strict=True))
            measure(trait, "base", Teacher())
            measure(trait, "system-prompt", prompted_teacher(trait, model.tokenizer))
            steered = [
                measure(
                    trait, "steered", Teacher(steer(vectors[layer], layer, scale)), layer, scale
                )
                for layer, scale in settings
            ]
            steering = steer(vectors[teacher_layer], teacher_layer, config.scale)
            measure(trait, "teacher", Teacher(steering), teacher_layer, config.scale)
            origin = f"mean difference of the system prompt of {trait} at number prompts"
            save_steering(
                folder.path / "vectors" / f"{trait}.safetensors",
                steering,
                VectorInfo(model.name, origin, "last"),
            )
            controls: dict[Kind, tuple[int, float]] = {
                "random-teacher": (teacher_layer, config.scale)
            }
            best = best_setting(steered)
            if best is not None and best.layer is not None and best.scale is not None:
                controls["random"] = best.layer, best.scale
            key = jax.random.fold_in(jax.random.key(config.seed), i)
            noise = random_vector(key, model.cfg.dim, 1.0)
            for kind, (layer, scale) in controls.items():
                norm = float(jnp.linalg.norm(vectors[layer]))
                measure(trait, kind, Teacher(steer(noise * norm, layer, scale)), layer, scale)
    return models


def train_students(students: Students, config: Config) -> tuple[list[StudentRow], float | None]:
    """Students of every trait at the rate that held-out loss chose on `grid_traits` of them, and
    that rate; where it is None, the students of the others are not trained."""
    grid_traits = config.traits[: config.grid_traits]
    rows = students.grid(grid_traits)
    optimizer, _ = config.single_optimizer()
    rate = best_rates(rows)[optimizer.label]
    if rate is not None:
        others = [*config.traits[config.grid_traits :], "control"]
        rows += students.train("rest", students.make_arms(optimizer, rate, others)).rows
    return rows, rate


EXPERIMENT = Experiment(
    name="teacher-vector",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
