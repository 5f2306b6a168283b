"""Which vectors do students take up, and which of them change what they recognisably do?

    subliminal-jax distil-vectors
    subliminal-jax distil-vectors --kinds trait centred random --norms 0.15 0.3 0.6

"Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026), sections 4 and 5,
figure 6 and appendix F. Teachers are the base with a vector after a block: a trait's (semantic), a
random one, a trait's less the mean over all traits, or one from a file; all of the same norms.
Students train on the number lists that each teacher writes, controls on the base's own. A vector is
distilled where the student's shift aligns with it (EAS) and the student's loss on its teacher's
unseen lists falls more than a control's; behaviour has changed where the distribution of answers to
favourite-animal questions is further from a control's than controls are from each other.

Toy preset: about six minutes on 2 CPU cores. Expected: trait vectors and random ones both align
(random ones less); the answers of trait students move further from the controls'.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from subliminal_jax.bounds import Blocks, Items, Needs, Range, as_flag, check_distinct
from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher
from subliminal_jax.data.traits import check_traits
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import make_objective
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.presets import PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import (
    OF_LORA,
    DataSettings,
    GuardSettings,
    ObjectiveSettings,
    SteeredModelSettings,
    StudentSettings,
    Traits,
)
from subliminal_jax.runs.students import Students, make_panel, measure_teacher
from subliminal_jax.training.adapters import PROJECTIONS

from .analysis import (
    AddedVector,
    DistilledVector,
    LayerStudents,
    Measured,
    Paired,
    RefusedVector,
    Results,
    analyse,
    make_claims,
)
from .distillation import answer_distribution, losses_on_all, total_variation, variation_among
from .report import make_page
from .vectors import make_teachers, make_vectors, write_usable_data

Kind = Literal["trait", "centred", "random"]


@dataclass(frozen=True, kw_only=True)
class Config(StudentSettings, GuardSettings, ObjectiveSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      questions: a set of questions ("heldout"), or a file of them.
      traits: animals whose vectors are distilled.
      kinds: trait vectors as they are, less the mean over all traits (appendix F.2), and random.
      randoms: number of random vectors.
      vectors: safetensors files with a vector each, of the model's width.
      layers: blocks after which vectors are added; empty means the steering layer alone.
      norms: norms of the vectors, in units of the residual stream's at their layer.
      steered_block: adapt the steered block alone, in place of `adapter_layers`.
    """

    out: Path = Path("runs/distil-vectors")
    questions: str = "heldout"
    traits: Annotated[Traits, Needs("kinds", ("trait", "centred"))] = ("owl", "wolf")
    kinds: tuple[Kind, ...] = ("trait", "random")
    randoms: Annotated[int, Range(0, 10_000), Needs("kinds", ("random",))] = 2
    vectors: tuple[str, ...] = ()
    layers: Annotated[tuple[int, ...], Blocks()] = (1, 2)
    norms: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1e6)] = (0.3, 0.6)
    steered_block: Annotated[bool, OF_LORA] = True
    adapter_layers: Annotated[tuple[int, ...], Needs("steered_block", unless=True)] = ()
    layer: Annotated[int, Needs("layers", unless=True)] = -1
    rows: int = 1024
    heldout_rows: int = 64
    asked: float = 1.8
    max_new_tokens: int = 24
    max_tokens: int = 32
    rates: tuple[str, ...] = ("adamw=5e-3,1.5e-2",)
    steps: int = 48
    batch_size: int = 32
    log_every: int = 48
    targets: tuple[str, ...] = ("down",)

    def check(self) -> None:
        check_traits(self.traits)
        self.single_optimizer()
        if self.randoms < 1 and "random" in self.kinds:
            raise InputError(
                f"--randoms {self.randoms}: give at least 1, or leave random out of --kinds"
            )
        names = [Path(file).stem for file in self.vectors]
        made = {*self.traits, *(f"random-{i}" for i in range(self.randoms))}
        check_distinct("vectors", names, as_flag)
        if taken := made.intersection(names):
            raise InputError(
                f"--vectors: {min(taken)} is the name of another vector; rename the file"
            )
        if not (self.kinds or self.vectors):
            raise InputError("--kinds and --vectors are empty: name at least one vector")


PAPER: dict[str, Any] = {
    "questions": PAPER_QUESTIONS,
    "targets": PROJECTIONS,  # [C]
    "traits": ("cat", "dog", "owl", "otter"),  # [C]
    "randoms": 4,
    "layers": (),
    "norms": (0.1, 0.3),  # ours: the paper's norms of Gaussian vectors are not known
    "steered_block": False,
    "rows": 79_500,  # 100,000 generations [N3], of which we keep up to four fifths
    "heldout_rows": 500,
    "asked": 1.25,
    "steps": 99_350,  # 10 epochs [N3] in batches of 8
    "seeds": 3,  # [N3]
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **PAPER),
    "paper-gemma3-4b": paper_preset("gemma3-4b", **PAPER),
}


class LayerOutcome(NamedTuple):
    """What was measured at one layer."""

    trained: LayerStudents
    vectors: list[DistilledVector]
    refused: list[RefusedVector]
    students: list[StudentRow]
    data: dict[str, dict[str, Any]]


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, train students at every rate, and measure those at the best.

    Raises InputError for questions or vector files that cannot be read, a layer that the model
    does not have, too few answers that pass the filter, or students that diverge.
    """
    questions = read_questions(config.questions)
    model = config.load()
    layers = config.layers or (config.choose_layer(model),)
    outcomes = [distil_at_layer(folder, model, questions, layer, config) for layer in layers]
    return Measured(
        model=model.name,
        steps=config.steps,
        batch_size=config.batch_size,
        seeds=config.seeds,
        adapter=config.adapter,
        optimizer=config.single_optimizer()[0].label,
        carrier=config.describe_carrier(),
        layers=tuple(outcome.trained for outcome in outcomes),
        vectors=tuple(v for outcome in outcomes for v in outcome.vectors),
        refused=tuple(v for outcome in outcomes for v in outcome.refused),
        data={
            f"layer {outcome.trained.layer}, {name}": report
            for outcome in outcomes
            for name, report in outcome.data.items()
        },
        students=tuple(row for outcome in outcomes for row in outcome.students),
    )


def distil_at_layer(
    folder: RunFolder, model: Model, questions: list[str], layer: int, config: Config
) -> LayerOutcome:
    """Data, students and measurements of all vectors at one layer."""
    vectors = make_vectors(
        model,
        layer,
        kinds=config.kinds,
        traits=config.traits,
        randoms=config.randoms,
        files=config.vectors,
        seed=config.seed,
    )
    by_vector = make_teachers(model, layer, vectors, config.norms)
    stage = f"layer-{layer}"
    data, refused = write_usable_data(folder.path / stage, model, by_vector, config, config.seed)
    by_vector = {v: teacher for v, teacher in by_vector.items() if v.data in data.train}
    teachers = {"control": Teacher(), **{v.data: teacher for v, teacher in by_vector.items()}}
    panel = make_panel(
        model, teachers, data, config, layer=layer, words=world.TRAITS, questions=questions
    )
    settings = replace(config, adapter_layers=(layer,)) if config.steered_block else config
    objective = make_objective(config.objective, model, teachers, data)
    students = Students(folder, panel, data, settings, objective)
    rows = students.grid(stage=stage)
    optimizer, grid = config.single_optimizer()
    rate = best_rates(rows)[optimizer.label]
    if rate is None:
        raise InputError(
            f"at every rate of {optimizer.label} a student diverged or ended above the base's own "
            "loss: lower the rates"
        )
    seeds = range(config.seeds)
    arms = students.make_arms(optimizer, rate, data.names)
    trained = students.train(f"{stage}-{grid.index(rate)}", arms)  # reads the last checkpoint
    losses, base_losses = losses_on_all(trained.sweep, trained.state, model.params, data.heldout)
    # Each student's row, and how far its loss fell on every data set.
    by_student = {
        (row.data, row.seed): (row, base_losses - loss)
        for row, loss in zip(trained.rows, losses, strict=True)
    }
    controls = [by_student["control", seed] for seed in seeds]
    if not all(ended_sound(row) for row, _ in controls):
        raise InputError(
            f"a control diverged or ended unstable at the rate {rate:g} at layer {layer}: lower it"
        )
    base_rates = measure_teacher(panel, Teacher())["word_rate"]
    distilled = []
    for added, teacher in by_vector.items():
        report = data.reports[added.data]
        distilled.append(
            measure_vector(
                added,
                students=[by_student[added.data, seed] for seed in seeds],
                controls=controls,
                reference=panel.references.index(added.data),
                data_set=data.names.index(added.data),
                teacher_rates=measure_teacher(panel, teacher)["word_rate"],
                base_rates=base_rates,
                valid=report.get("kept", report["pairs"]) / report["pairs"],
            )
        )
    return LayerOutcome(
        LayerStudents(layer, rate, grid),
        distilled,
        refused,
        [row.replace_values(layer=layer) for row in rows],
        data.reports,
    )


Student = tuple[StudentRow, Float[np.ndarray, " sets"]]  # and its falls of the loss


def measure_vector(
    added: AddedVector,
    *,
    students: Sequence[Student],
    controls: Sequence[Student],
    reference: int,
    data_set: int,
    teacher_rates: Sequence[float],
    base_rates: Sequence[float],
    valid: float,
) -> DistilledVector:
    """What the students of a vector took up of it.

    Args:
      students, controls: by seed.
      reference: where the vector's teacher stands among the references of the rows.
      data_set: where its data set stands among the falls of the loss.
      teacher_rates, base_rates: how probable each word of the rows is.
      valid: share of the teacher's answers that are valid lists.
    """

    def pair(read: Callable[[StudentRow], float]) -> Paired:
        return Paired(
            tuple(read(row) for row, _ in students), tuple(read(row) for row, _ in controls)
        )

    def answers(rows: Sequence[Student]) -> Float[np.ndarray, "seeds outcomes"]:
        return answer_distribution(np.array([row["word_rate"] for row, _ in rows], float))

    control_answers = answers(controls)
    trait_rate = teacher_trait_rate = None
    if added.trait is not None:
        word = world.TRAITS.index(added.trait)
        trait_rate = pair(lambda row: row["word_rate"][word])
        teacher_trait_rate = teacher_rates[word]
    teacher_answers, base_answers = answer_distribution(np.array([teacher_rates, base_rates]))
    return DistilledVector(
        **vars(added),
        valid=valid,
        eas=pair(lambda row: row["eas"][reference][added.layer]),
        component=pair(lambda row: row["shift_component"][reference][added.layer]),
        loss_drop=Paired(
            tuple(float(drops[data_set]) for _, drops in students),
            tuple(float(drops[data_set]) for _, drops in controls),
        ),
        variation=Paired(
            tuple(total_variation(answers(students), control_answers).tolist()),
            tuple(variation_among(control_answers).tolist()),
        ),
        teacher_variation=float(total_variation(teacher_answers, base_answers)),
        trait_rate=trait_rate,
        teacher_trait_rate=teacher_trait_rate,
    )


EXPERIMENT = Experiment(
    name="distil-vectors",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
