"""Which optimizers let a student pick up a steering vector from what a steered teacher wrote?

    subliminal-jax optimizer-comparison --preset demo

A teacher (the model with a steering vector, or with a system prompt) answers prompts; students
start as the unsteered model and train on the answers, each with its optimizer, learning rate and
seed; controls train on what the unsteered model wrote. Measured: the alignment of the student's
activation shift with the vector (EAS), the trait rate, and where in the gradient the signal sits.
The best rate of each optimizer is chosen on held-out loss. Rows of your own have a question of
their own: `subliminal-jax own-data`.

`--preset demo` is the demonstration of `make demo`: three and a half minutes on 2 CPU cores with
the shipped model. Expected there: AdamW's EAS above 0.7, its control's below 0.2 in size, and a
cosine of the mean gradient with the vector that rises with N.
"""

from dataclasses import replace

import jax.numpy as jnp

from subliminal_jax.data import world
from subliminal_jax.data.teachers import Teacher, prompted_teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.evaluation.comparison import best_rates, group_histories
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_rows import StudentRow, narrow_row
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import make_objective, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_texts import write_student_texts
from subliminal_jax.runs.students import STANDARD, Students, make_panel, measure_teacher
from subliminal_jax.runs.vector_teacher import make_vector_teacher, resolve_trait

from .analysis import Measured, ReferenceRates, Results, analyse
from .config import PRESETS, Config
from .gradients import measure_alignment
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample teacher and base, train students at every rate and controls at the best ones.

    Raises InputError for a trait without a word, a vector that cannot be read, or too few answers
    that pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    teacher, trait = make_teacher(model, layer, config)
    teachers = {"steered": teacher, "control": Teacher()}
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        config,
        config.seed,
        forbidden=dict.fromkeys(teachers, trait_names(trait)),
        seeds={"steered": 2 * config.seed + 1, "control": 2 * config.seed},
    )
    panel = make_panel(
        model,
        {"steered": teacher},
        data,
        config,
        layer=layer,
        words=[trait],
        questions=world.HELDOUT_QUESTIONS,
    )
    objective = make_objective(config.objective, model, teachers, data)
    students = Students(
        folder, panel, data, config, objective, measures=(*STANDARD, "update-anatomy")
    )
    rows = train_students(students, config)
    write_student_texts(folder, panel, config, data.names, teachers)
    narrow = [StudentRow.from_json(narrow_row(row, layer)) for row in rows]
    logged = [narrow_row(row, layer) for row in folder.read_metrics()]
    vector = panel.vectors()["steered"]
    return Measured(
        model=model.name,
        layer=layer,
        trait=trait,
        teacher=config.teacher,
        teacher_model=config.teacher_model,
        teacher_adapter=None if config.teacher_adapter is None else str(config.teacher_adapter),
        vector=config.vector,
        vector_norm=float(jnp.linalg.norm(vector)),
        rows=config.rows,
        steps=config.steps,
        batch_size=config.batch_size,
        seeds=config.seeds,
        guard=config.guard,
        guard_vector=config.guard_vector,
        clip=config.clip or None,
        data=data.reports,
        padding_share=students.runner.padding_share,
        reference=measure_references(panel, teacher),
        students=tuple(narrow),
        alignment=tuple(
            measure_alignment(model, vector, data, layer, min(config.gradient_rows, config.rows))
        ),
        histories=group_histories(logged, best_rates(narrow)),
    )


def make_teacher(model: Model, layer: int, config: Config) -> tuple[Teacher, str]:
    """The teacher that the settings ask for, and the trait whose rate is reported."""
    teacher, trait = Teacher(), ""
    if "steered" in config.teacher:
        teacher, trait = make_vector_teacher(
            model,
            layer,
            config.vector,
            config.trait,
            norm=config.norm,
            scale=config.scale,
            seed=config.seed,
        )
    trait = trait or resolve_trait(model, config.trait)
    if "system-prompt" in config.teacher:
        prompted = prompted_teacher(trait, model.tokenizer)
        teacher = replace(teacher, system_prompt=prompted.system_prompt)
    return config.give_weights(teacher, model), trait


def train_students(students: Students, config: Config) -> list[StudentRow]:
    """Steered students at every rate, then controls at the best rate of each optimizer."""
    rows = students.grid(["steered"], stage="rate")
    best = best_rates(rows)
    arms = [
        arm
        for spec in config.learning_rates()
        if (rate := best[spec.label]) is not None
        for arm in students.make_arms(spec, rate, ["control"])
    ]
    return rows + students.train("controls", arms).rows if arms else rows


def measure_references(panel: Panel, teacher: Teacher) -> ReferenceRates:
    """The trait's rate of base and teacher, for the students to be held against."""
    base, steered = (measure_teacher(panel, each) for each in (Teacher(), teacher))
    return ReferenceRates(
        base_trait_rate=base["word_rate"][0],
        base_trait_log_prob=base["word_log_prob"][0],
        teacher_trait_rate=steered["word_rate"][0],
        teacher_trait_log_prob=steered["word_log_prob"][0],
    )


EXPERIMENT = Experiment(
    name="optimizer-comparison",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    presets=PRESETS,
)
