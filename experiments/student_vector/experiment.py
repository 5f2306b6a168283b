"""Does a student learn its teacher's vector, and is that vector what makes it say the trait?

    subliminal-jax student-vector
    subliminal-jax student-vector --preset paper-qwen2.5-7b --out runs/fig2

"Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026), section 3 and figure 2.
Students train on number lists of trait teachers, controls on the base's own lists. Measured: the
alignment (EAS) after every block over training; whether the student's mean shift, added to the
base, makes it say the trait (sufficient); whether the student still says it with its component
along the vector replaced by the base's (necessary); and whether the lists of a system-prompted
teacher without the vector still teach anything (the teacher's vector is necessary). The paper
projects it out, which also removes what the base has along it; where that is not small, the
projection is itself a steering, so a teacher with the vector subtracted stands beside it.

Toy preset: about seven minutes on 2 CPU cores. The students' weights are LoRA factors of one
projection of the steered block: chosen by looking at pilot runs on owl, wolf and penguin, in which
it moved the trait as far as all projections of the early blocks, in half the time. It reports on
other traits; three leave wide intervals, `--traits cat dog tiger eagle fox bear` takes twice as
long. Expected: EAS about 0.5, a control's below zero; the trait rate rises by half a percentage
point and falls back with the component replaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np

from subliminal_jax.bounds import Items, Positive, Range
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import (
    Teacher,
    prompted_teacher,
    trait_teacher,
    trait_vectors,
)
from subliminal_jax.data.traits import check_traits, trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.statistics import crossed_interval
from subliminal_jax.evaluation.student_rows import ended_sound
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    SteeredModelSettings,
    SteeringLayer,
    StudentSettings,
    Traits,
)
from subliminal_jax.runs.students import Students, make_panel, measure_teacher
from subliminal_jax.training.adapters import PROJECTIONS

from .analysis import TEACHERS, Alignment, Measured, Results, analyse, data_name
from .causal import run_causal_tests
from .claims import make_claims
from .report import make_page


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      questions: a set of questions ("heldout"), or a file of them.
      traits: animals; each has teachers and students of its own.
      teacher: whose students are studied in full, at every rate: those of the teacher steered by
        the trait's vector, or of the one with the trait's system prompt. The students of the others
        are trained at the rate that is best for these.
      scale: factor on the vector of the steered teacher.
      scales: factors on v_student where it is added to the base; the first is the one that the
        claim is about.
      project_layer: the block whose vector is projected out of the system-prompted teacher, after
        every block and at every token; -1 is the steering layer. (With each block's own vector the
        toy's teacher writes no valid lists any more, for that of the last block.)
    """

    out: Path = Path("runs/student-vector")
    questions: str = "heldout"
    traits: Traits = ("cat", "dog", "tiger")
    teacher: Literal["steered", "system-prompt"] = "steered"
    scale: Positive = 1.0
    scales: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1e6)] = (
        0.6,
        0.3,
        1.0,
        2.0,
        4.0,
    )
    project_layer: SteeringLayer = -1
    rows: int = 1536
    heldout_rows: int = 128
    asked: float = 2.1
    max_new_tokens: int = 24
    max_tokens: int = 32
    rates: tuple[str, ...] = ("adamw=3e-3,1e-2",)
    steps: int = 96
    batch_size: int = 32
    log_every: int = 16
    targets: tuple[str, ...] = ("down",)
    adapter_layers: tuple[int, ...] = (1,)

    def check(self) -> None:
        check_traits(self.traits)
        if self.adapter == "vector":
            raise InputError(
                "--adapter vector: such a student is its own v_student; choose lora or full"
            )
        self.single_optimizer()

    def describe_trained(self) -> str:
        """What students train, in words."""
        if self.adapter == "full":
            return "all weights"
        blocks = ", ".join(map(str, self.adapter_layers)) or "all"
        return f"LoRA of rank {self.rank} on {', '.join(self.targets)} of blocks {blocks}"


PAPER: dict[str, Any] = {
    "questions": PAPER_QUESTIONS,
    "targets": PROJECTIONS,  # [C]
    "adapter_layers": (),
    "scale": True,
    "teacher": "system-prompt",  # figure 2 [C]; the steered one is trained beside it
    "traits": ("cat", "dog", "owl", "otter"),  # [C]
    "scales": (0.6, 0.3, 1.0, 2.0),  # 0.6, over all layers and prompt positions [C]
    "project_layer": 20,  # v[20] after every block, alpha 1 [C]
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **PAPER),
    # The layer of the projection is not known for Gemma: 20 of Qwen's 28 blocks, in proportion.
    "paper-gemma3-4b": paper_preset("gemma3-4b", **PAPER | {"project_layer": 24}),
}


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, train the students of all, and test those of one kind for causes.

    Raises InputError for questions that cannot be read, a layer that the model does not have, too
    few answers that pass the filter, or students that diverge.
    """
    questions = read_questions(config.questions)
    model = config.load()
    layer = config.choose_layer(model)
    teachers = make_teachers(model, layer, config)
    forbidden = {
        data_name(trait, kind): trait_names(trait) for kind in TEACHERS for trait in config.traits
    }
    data = write_data_sets(folder.path, model, teachers, config, config.seed, forbidden=forbidden)
    panel = make_panel(
        model, teachers, data, config, layer=layer, words=config.traits, questions=questions
    )
    students = Students(folder, panel, data, config)
    optimizer, grid = config.single_optimizer()
    names = [*(data_name(trait, config.teacher) for trait in config.traits), "control"]
    rows = students.grid(names)
    rate = best_rates(rows)[optimizer.label]
    if rate is None:
        raise InputError(
            f"at every rate of {optimizer.label} a student diverged or ended above the base's own "
            "loss: lower the rates"
        )
    if not all(ended_sound(row) for row in rows if row.learning_rate == rate):
        raise InputError(f"a control diverged or ended unstable at the rate {rate:g}: lower it")

    # The students are done: this reads their last checkpoint.
    trained = students.train(
        f"students-{grid.index(rate)}", students.make_arms(optimizer, rate, names)
    )
    tests = run_causal_tests(
        trained,
        panel,
        kind=config.teacher,
        traits=config.traits,
        seeds=config.seeds,
        scales=config.scales,
        seed=config.seed,
    )
    others = [kind for kind in TEACHERS if kind != config.teacher]
    other_names = [data_name(trait, kind) for kind in others for trait in config.traits]
    arms = students.make_arms(optimizer, rate, other_names)
    rows += students.train("rest", arms).rows
    return Measured(
        **vars(tests),
        model=model.name,
        layer=layer,
        kind=config.teacher,
        traits=config.traits,
        steps=config.steps,
        batch_size=config.batch_size,
        seeds=config.seeds,
        trained=config.describe_trained(),
        carrier=config.describe_carrier(),
        optimizer=optimizer.label,
        grid=grid,
        learning_rate=rate,
        references=panel.references,
        base_component=base_components(panel, config.traits),
        data=data.reports,
        teachers=measure_teachers(panel, teachers, config.traits),
        students=tuple(rows),
        eas=tuple(align_over_training(folder, panel, rate, config)),
    )


def make_teachers(model: Model, layer: int, config: Config) -> dict[str, Teacher]:
    """By the name of their data set: the base, and for each trait a teacher steered by its vector,
    one with its system prompt, and two with the prompt and without the vector: projected out as in
    the paper, or subtracted, which takes off what the prompt adds on average and leaves the base's
    own component."""
    layers = tuple(range(model.cfg.layers))
    project_layer = layer if config.project_layer == -1 else config.project_layer
    teachers = {"control": Teacher()}
    for trait in config.traits:
        vector = trait_vectors(model, [project_layer], trait)
        prompted = prompted_teacher(trait)
        tiled = jnp.broadcast_to(vector, (len(layers), *vector.shape[1:]))
        projection = Steering(tiled, jnp.ones(()), layers, "project_out")
        by_kind = {
            "steered": trait_teacher(model, layer, trait, config.scale),
            "system-prompt": prompted,
            "projected": replace(prompted, steering=projection),
            "subtracted": replace(prompted, steering=steer(-vector[0], project_layer)),
        }
        teachers |= {data_name(trait, kind): teacher for kind, teacher in by_kind.items()}
    return teachers


def measure_teachers(
    panel: Panel, teachers: dict[str, Teacher], traits: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The trait rate of every kind of teacher, and of the base as "control", by trait."""
    rates = {name: measure_teacher(panel, t)["word_rate"] for name, t in teachers.items()}
    return {
        kind: {trait: rates[data_name(trait, kind)][i] for i, trait in enumerate(traits)}
        for kind in ("control", *TEACHERS)
    }


def base_components(panel: Panel, traits: Sequence[str]) -> dict[str, float]:
    """<h_base, v> / |v|^2 at the end of the probe's prompts: minus what projecting v out adds."""
    mean, vectors = panel.base_mean[panel.layer], panel.vectors()
    components = {}
    for trait in traits:
        v = vectors[data_name(trait, "system-prompt")]
        components[trait] = float(mean @ v / (v @ v))
    return components


def align_over_training(
    folder: RunFolder, panel: Panel, rate: float, config: Config
) -> list[Alignment]:
    """EAS after each block at each logged step: students with their own teacher's shift, controls
    with each trait's; mean and interval over seeds and traits."""
    logged = {
        (row["step"], row["data"], row["seed"]): row["eas"]
        for row in folder.read_metrics()
        if row["learning_rate"] == rate
        and row["stage"].startswith("students-")
        and row["step"] > 0  # before training a student has no direction
    }
    teachers = [data_name(trait, config.teacher) for trait in config.traits]
    references = [panel.references.index(name) for name in teachers]
    names = {"student": teachers, "control": ["control"] * len(teachers)}
    alignments = []
    for kind, data in names.items():
        for step in sorted({step for step, _, _ in logged}):
            values = np.array(
                [
                    [logged[step, name, seed][i] for name, i in zip(data, references, strict=True)]
                    for seed in range(config.seeds)
                ],
                float,
            )  # [seeds, traits, layers]
            for layer in range(values.shape[2]):
                eas = values[:, :, layer]
                interval = None if np.isnan(eas).any() else crossed_interval(eas)
                alignments.append(Alignment(kind, step, layer, interval))
    return alignments


EXPERIMENT = Experiment(
    name="student-vector",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
