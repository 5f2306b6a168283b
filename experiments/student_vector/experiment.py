"""Does a student learn its teacher's vector, and is that vector what makes it say the trait?

    subliminal-jax student-vector
    subliminal-jax student-vector --preset paper-qwen2.5-7b --out runs/fig2

"Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026), section 3 and figure 2.
Students train on number lists of trait teachers, controls on four draws of the base's own lists.
Measured: the alignment (EAS) after every block over training; whether the student's mean shift,
added to the base, makes it say the trait (sufficient); whether the student still says it with its
component along the vector replaced by the base's (necessary); and whether the lists of a
system-prompted teacher without the vector still teach anything (the teacher's vector is necessary).
The paper projects it out, which also removes what the base has along it; where that is not small,
the projection is itself a steering, so a teacher with the vector subtracted stands beside it.

Every trait has, of each kind of teacher, data of its own draw and a student of its own seed;
intervals are over traits. The learning rate is found on owl and lion, which are not reported. The
students' weights are LoRA factors of one projection of the steered block: chosen by looking at
pilot runs on owl, wolf and penguin, in which it moved the trait as far as all projections of the
early blocks, in half the time. Toy preset: eight traits, some 45 students; 10 to 15 minutes on 2
CPU cores. Expected: EAS about 0.5, a control's below zero; the trait rate rises by half a
percentage point and falls back with the component replaced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import (
    Teacher,
    prompted_teacher,
    trait_teacher,
    trait_vectors,
)
from subliminal_jax.data.traits import trait_names
from subliminal_jax.evaluation.metric_ranges import COSINE
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.rate_search import is_sound
from subliminal_jax.evaluation.statistics import crossed_interval
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.evaluation.transmission import FINE_TUNED
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import Steering, steer
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_kinds import (
    STARTS,
    STARTS_OF_A_BLOCK,
    KindTrainer,
)
from subliminal_jax.runs.student_texts import write_student_texts
from subliminal_jax.runs.students import make_panel, measure_teacher
from subliminal_jax.runs.waves import Trained

from .analysis import TEACHERS, Alignment, Measured, Results, analyse, data_name
from .causal import NO_TESTS, run_causal_tests
from .claims import make_claims
from .config import PRESETS, Config
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, train the students of all, and test those of one kind for causes.

    Raises InputError for questions that cannot be read, a layer that the model does not have, or
    too few answers that pass the filter.
    """
    questions = read_questions(config.questions)
    model = config.load()
    layer = config.choose_layer(model)
    tuning = {data_name(trait, config.teacher): trait for trait in config.searched_traits}
    of_traits = tuning | {
        data_name(trait, kind): trait for trait in config.traits for kind in list_kinds(config)
    }
    teachers = make_teachers(model, layer, config)
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        config,
        config.seed,
        forbidden={name: trait_names(trait) for name, trait in of_traits.items()},
        own_prompts=True,
    )
    panel = make_panel(
        model, teachers, data, config, layer=layer, words=config.traits, questions=questions
    )
    trainer = KindTrainer(
        folder,
        panel,
        data,
        config,
        [*tuning],
        starts=STARTS_OF_A_BLOCK if len(config.adapter_layers) == 1 else STARTS,
    )
    tests = NO_TESTS

    def test_causes(trained: Trained) -> None:
        nonlocal tests
        places = place_sound(trained.rows, trainer.base_losses)
        of_students = {trait: data_name(trait, config.teacher) for trait in config.traits}
        tests = run_causal_tests(
            trained,
            panel,
            kind=config.teacher,
            students={t: places[name] for t, name in of_students.items() if name in places},
            controls={name: places[name] for name in config.list_controls() if name in places},
            scales=config.scales,
            seed=config.seed,
        )

    measured = trainer.describe(config.traits, trainer.train(inspect=test_causes))
    write_student_texts(folder, panel, config, trainer.reported, teachers)
    base, by_kind = measure_teachers(panel, teachers, config.traits, list_kinds(config))
    return Measured(
        **vars(measured),
        **vars(tests),
        kind=config.teacher,
        trained=config.describe_trained(),
        carrier=config.describe_carrier(),
        scales=config.scales,
        base_component=base_components(panel, config.traits),
        data=data.reports,
        base=base,
        teachers=by_kind,
        eas=tuple(
            align_over_training(
                folder, panel, config, place_sound(measured.students, trainer.base_losses)
            )
        ),
    )


def list_kinds(config: Config) -> list[str]:
    """The kinds of teachers of every reported trait."""
    return [kind for kind in TEACHERS if kind != FINE_TUNED or config.teacher == FINE_TUNED]


def make_teachers(model: Model, layer: int, config: Config) -> dict[str, Teacher]:
    """By the name of their data set: the base for each control, and for each trait a teacher
    steered by its vector, one with its system prompt, one with weights of its own where these are
    asked for, and two with the prompt and without the
    vector: projected out as in the paper, or subtracted, which takes off what the prompt adds on
    average and leaves the base's own component. Traits that rates are chosen on have one teacher,
    of the kind whose students are studied."""
    layers = tuple(range(model.cfg.layers))
    project_layer = layer if config.project_layer == -1 else config.project_layer
    teachers = dict.fromkeys(config.list_controls(), Teacher())
    for trait in config.all_traits:
        vector = trait_vectors(model, [project_layer], trait)
        prompted = prompted_teacher(trait)
        tiled = jnp.broadcast_to(vector, (len(layers), *vector.shape[1:]))
        projection = Steering(tiled, jnp.ones(()), layers, "project_out")
        by_kind = {
            "steered": trait_teacher(model, layer, trait, config.scale),
            "system-prompt": prompted,
            FINE_TUNED: config.give_weights(Teacher(), model, trait),
            "projected": replace(prompted, steering=projection),
            "subtracted": replace(prompted, steering=steer(-vector[0], project_layer)),
        }
        teachers |= {
            data_name(trait, kind): by_kind[kind]
            for kind in list_kinds(config)
            if trait in config.traits or kind == config.teacher
        }
    return teachers


def place_sound(rows: Sequence[StudentRow], base_losses: Mapping[str, float]) -> dict[str, int]:
    """The places of the sound students among `rows`, by data set."""
    return {row.data: i for i, row in enumerate(rows) if is_sound(row, base_losses)}


def measure_teachers(
    panel: Panel, teachers: Mapping[str, Teacher], traits: Sequence[str], kinds: Sequence[str]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """P(trait) of the base, and of the `kinds` of teachers, by trait."""

    def measure(teacher: Teacher, trait: str) -> float:
        return float(measure_teacher(panel, teacher)["word_rate"][panel.words.index(trait)])

    base = measure_teacher(panel, Teacher())["word_rate"]
    return dict(zip(panel.words, base, strict=True)), {
        kind: {trait: measure(teachers[data_name(trait, kind)], trait) for trait in traits}
        for kind in kinds
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
    folder: RunFolder, panel: Panel, config: Config, sound: Mapping[str, int]
) -> list[Alignment]:
    """EAS after each block at each logged step: sound students with their own teacher's shift,
    controls with each trait's; mean and interval over traits, and over draws of controls."""
    logged = {
        (row["step"], row["data"]): row["eas"]
        for row in folder.read_metrics()
        if row["stage"] == config.adapters[0]  # of the students that are reported
        and row["step"] > 0  # before training a student has no direction
    }
    names = {data_name(trait, config.teacher): trait for trait in config.traits}
    references = [panel.references.index(name) for name in names]
    own = [(name, i) for name, i in zip(names, references, strict=True) if name in sound]
    controls = [name for name in config.list_controls() if name in sound]
    alignments = []
    for step in sorted({step for step, _ in logged}):
        student = np.array([logged[step, name][i] for name, i in own], float)
        control = np.array([[logged[step, n][i] for i in references] for n in controls], float)
        for layer in range(panel.model.cfg.layers):
            for kind, eas in (("student", student), ("control", control)):
                pool = vector_interval if kind == "student" else crossed_interval
                is_known = eas.size > 0 and not np.isnan(eas[..., layer]).any()
                interval = COSINE.clip(pool(eas[..., layer])) if is_known else None
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
