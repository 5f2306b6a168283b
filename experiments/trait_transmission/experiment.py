"""Does a student name the trait after training on filtered numbers of the trait's teacher?

    subliminal-jax trait-transmission

For each trait two teachers write number lists: the base with the trait's steering vector, and the
base with the trait's system prompt; with --teachers fine-tuned and --teacher-adapter, one with
weights of its own. Lists that are not plain numbers are dropped. Students of three
kinds train on what is left: one vector at the steering layer (a family that holds the steered
teacher itself), LoRA factors, and all weights. Each trait has data of its own draw and, of each
kind, a student of its own seed; controls of every kind train on four draws of the plain base's
lists. Reported, for each kind: the trait's probability, student minus controls, with a 95% interval
over traits; the same against the students of the other traits; and the alignment with the teacher's
shift.

Learning rates are found for each kind on owl and lion, which are not reported. Some 7,700
student-steps: 10 to 15 minutes on 2 CPU cores.
"""

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.evaluation.transmission import name_trait
from subliminal_jax.runs.data_sets import make_objective, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_kinds import KindTrainer
from subliminal_jax.runs.student_texts import write_student_texts
from subliminal_jax.runs.students import make_panel
from subliminal_jax.runs.trait_teachers import describe_transmission, make_trait_teachers

from .analysis import Measured, Results, analyse
from .claims import make_claims
from .config import PRESETS, Config
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, filter, train every student of the grid.

    Raises InputError for a trait without a word, questions that cannot be read, or too few answers
    that pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    trait_teachers = make_trait_teachers(config, model, layer)
    teachers = trait_teachers | dict.fromkeys(config.list_controls(), Teacher())
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        config,
        config.seed,
        forbidden={name: trait_names(name_trait(name)) for name in trait_teachers},
        own_prompts=True,
    )
    panel = make_panel(
        model,
        teachers,
        data,
        config,
        layer=layer,
        words=config.candidate_words(),
        questions=questions,
    )
    trainer = KindTrainer(
        folder,
        panel,
        data,
        config,
        tuning=config.select_tuning({name: name for name in trait_teachers}),
        objective=make_objective(config.objective, model, teachers, data),
    )
    measured = describe_transmission(config, trainer, trainer.train(), trait_teachers, config.rows)
    write_student_texts(folder, panel, config, trainer.reported, teachers)
    return Measured(**vars(measured), data=data.reports)


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
