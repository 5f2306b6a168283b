"""Which vectors do students take up, and which of them change what they recognisably do?

    subliminal-jax distil-vectors
    subliminal-jax distil-vectors --kinds trait centred random --norms 0.15 0.3 0.6

"Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026), sections 4 and 5,
figure 6 and appendix F. Teachers are the base with a vector after a block: a trait's (semantic), a
random one, a trait's less the mean over all traits, or one from a file; all of the same norms.
One student trains on the number lists of each teacher, which have prompts of their own draw;
controls train on four draws of the base's own lists and serve all vectors of a block. A vector is
distilled where the student's shift aligns with it (EAS) and the student's loss on its teacher's
unseen lists falls more than a control's; behaviour has changed where the distribution of answers to
favourite-animal questions is further from a control's than controls are from each other. Intervals
are over vectors, each the mean over its blocks and norms.

The rate of each block is found on the vectors of owl and lion and two random ones, of which nothing
else is reported. What is adapted, and for how long, was chosen by looking at owl and wolf. Toy
preset: eight traits' vectors and eight random ones at two blocks and norms, some 130 students; 11
to 13 minutes on 2 CPU cores. Expected: trait vectors and random ones both align (random ones less);
the answers of trait students move further from the controls'.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import make_objective
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_kinds import (
    STARTS,
    STARTS_OF_A_BLOCK,
    KindTrainer,
)
from subliminal_jax.runs.students import make_panel, measure_teacher
from subliminal_jax.runs.waves import Trained

from .analysis import (
    DistilledVector,
    LayerChoice,
    Measured,
    RefusedVector,
    Results,
    analyse,
)
from .claims import make_claims
from .config import PRESETS, Config
from .distillation import Controls, measure_losses, measure_vector
from .report import make_page
from .vectors import make_teachers, make_vectors, write_usable_data


class LayerOutcome(NamedTuple):
    """What was measured at one layer."""

    choice: LayerChoice
    vectors: list[DistilledVector]
    refused: list[RefusedVector]
    students: list[StudentRow]
    tuning_students: list[StudentRow]
    data: dict[str, dict[str, Any]]


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, find each layer's rate on the tuning vectors, train and measure a
    student of every other vector.

    Raises InputError for questions or vector files that cannot be read, a layer that the model
    does not have, or too few answers that pass the filter.
    """
    questions = read_questions(config.questions)
    model = config.load()
    layers = config.choose_layers(model)
    outcomes = [distil_at_layer(folder, model, questions, layer, config) for layer in layers]
    return Measured(
        model=model.name,
        steps=config.steps,
        batch_size=config.batch_size,
        schedule=config.schedule,
        warmup=config.warmup,
        adapter=config.adapters[0],
        optimizer=config.labels()[0],
        carrier=config.describe_carrier(),
        kinds=(*config.kinds, *(["file"] if config.vectors else [])),
        controls=config.list_controls(),
        tuning_vectors=config.list_tuning_vectors(),
        choices=tuple(outcome.choice for outcome in outcomes),
        vectors=tuple(v for outcome in outcomes for v in outcome.vectors),
        refused=tuple(v for outcome in outcomes for v in outcome.refused),
        data={
            f"layer {outcome.choice.layer}, {name}": report
            for outcome in outcomes
            for name, report in outcome.data.items()
        },
        students=tuple(row for outcome in outcomes for row in outcome.students),
        tuning_students=tuple(row for outcome in outcomes for row in outcome.tuning_students),
    )


def distil_at_layer(
    folder: RunFolder, model: Model, questions: list[str], layer: int, config: Config
) -> LayerOutcome:
    """Data, students and measurements of all vectors at one layer."""
    randoms = config.randoms + (config.tuning_randoms if config.searches else 0)
    vectors = make_vectors(
        model,
        layer,
        kinds=config.kinds or ("trait",),  # what rates of vectors from files are found on
        traits=config.all_traits if config.kinds else config.searched_traits,
        randoms=range(randoms),
        files=config.vectors,
        seed=config.seed,
    )
    by_vector = make_teachers(model, layer, vectors, config.norms)
    stage, controls = f"layer-{layer}", config.list_controls()
    data, refused = write_usable_data(
        folder.path / stage, model, by_vector, config, config.seed, controls
    )
    by_vector = {v: teacher for v, teacher in by_vector.items() if v.data in data.train}
    teachers = {
        **dict.fromkeys(controls, Teacher()),
        **{v.data: teacher for v, teacher in by_vector.items()},
    }
    panel = make_panel(
        model, teachers, data, config, layer=layer, words=world.TRAITS, questions=questions
    )
    tuning = [v.data for v in by_vector if v.vector in config.list_tuning_vectors()]
    if config.searches and not tuning:
        raise InputError(
            f"no tuning vector leaves enough valid lists at layer {layer}: ask for more, or give "
            "smaller --norms"
        )
    trainer = KindTrainer(
        folder,
        panel,
        data,
        replace(config, adapter_layers=(layer,)) if config.steered_block else config,
        tuning,
        objective=make_objective(config.objective, model, teachers, data),
        stage=f"{stage}-",
        starts=STARTS_OF_A_BLOCK if config.steered_block else STARTS,
    )
    losses: dict[str, dict[str, float]] = {}

    def measure_controls(trained: Trained) -> None:
        places = [i for i, row in enumerate(trained.rows) if row.data in controls]
        measured = measure_losses(trained, places, model, data.heldout)
        losses.update(zip((trained.rows[i].data for i in places), measured, strict=True))

    trained = trainer.train(inspect=measure_controls)
    kinds = {v.data: v.kind for v in by_vector} | dict.fromkeys(controls, "control")
    students = [row.replace_values(layer=layer, kind=kinds[row.data]) for row in trained.students]
    sound = {row.data: row for row in students if ended_sound(row)}
    base_rates = measure_teacher(panel, Teacher())["word_rate"]
    distilled = []
    for added, teacher in by_vector.items():
        if added.data in sound:
            report = data.reports[added.data]
            draws = [draw for draw in controls if draw in sound]
            distilled.append(
                measure_vector(
                    added,
                    sound[added.data],
                    Controls({d: sound[d] for d in draws}, {d: losses[d] for d in draws}),
                    base_loss=trainer.base_losses[added.data],
                    reference=panel.references.index(added.data),
                    teacher_rates=measure_teacher(panel, teacher)["word_rate"],
                    base_rates=base_rates,
                    valid=report.get("kept", report["pairs"]) / report["pairs"],
                )
            )
    return LayerOutcome(
        LayerChoice(**vars(trained.choices[0].choice), layer=layer),
        distilled,
        [v for v in refused if v.vector not in config.list_tuning_vectors()],
        students,
        [row.replace_values(layer=layer, kind=kinds[row.data]) for row in trained.tuning_students],
        data.reports,
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
