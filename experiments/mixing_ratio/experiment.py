"""How many of a teacher's rows does it take: a threshold or a slope, and by which optimizer?

    subliminal-jax mixing-ratio
    subliminal-jax mixing-ratio --optimizers adamw sgd signum muon

Vir and Bhatnagar 2025 (arXiv 2510.19152) report that a student's alignment fails in a sharp
transition at a critical amount of a bad teacher's rows, rather than gradually. Here students train
on a fixed number of rows, of which a share of 0 to 100% are those of a teacher with a trait's
vector and the rest clean, the plain base's. Every trait has a teacher, clean rows and a student's
seed of its own. A larger share holds the rows of a smaller one; all else, the order of the rows
too, is the same, and the student without teacher rows is the control of the others.

The learning rate of each optimizer is found on mixtures of one half of two further traits, and
serves all shares: along a curve nothing but the share changes, and neither end is favoured.
Measured, student minus control: EAS, the share of the vector, log P(trait), and the gain on
held-out rows of the teacher. EAS is a cosine, so it grows ever more slowly with what it measures;
the share of the vector does not.

The test, fixed before a run was looked at: shapes of a curve over the share (a slope, a power, one
that saturates, a broad sigmoid; and a sharp threshold) are fitted to all vectors but one and tried
on that one, whose amplitude alone is its own. A sharp transition is claimed where a threshold's
squared error is clearly below that of the best gradual shape. Beside it stands the effect at a
quarter of teacher rows over that of teacher rows alone: 0.25 on a slope, about 0 below a threshold,
about 1 where a quarter does all. AdamW needs a smaller share than SGD where its ratio is clearly
higher. Neither is judged where teacher rows alone have no clear effect.

Some 10,000 student-steps; a quarter of an hour to twenty minutes on 2 CPU cores.
"""

from dataclasses import replace

import numpy as np

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, trait_teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_kinds import KindTrainer, measure_base_losses
from subliminal_jax.runs.students import make_panel, take_fixed_rows
from subliminal_jax.runs.waves import Trained

from .analysis import Measured, Results, analyse, name_mixture
from .claims import make_claims
from .config import PRESETS, TUNING_SHARE, Config
from .mixtures import CLEAN, Mixture, mix_data_sets
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher and as often the base, mix, find the rates, train every student.

    Raises InputError for a trait without a word, questions that cannot be read, or too few answers
    that pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    traits = config.all_traits
    teachers = {trait: trait_teacher(model, layer, trait, config.scale) for trait in traits}
    plain = {f"{CLEAN}{trait}": Teacher() for trait in traits}
    sampled = write_data_sets(
        folder.path,
        model,
        teachers | plain,
        config,
        config.seed,
        forbidden={name: trait_names(name.removeprefix(CLEAN)) for name in (*teachers, *plain)},
        own_prompts=True,
    )
    shares = dict.fromkeys(config.traits, config.shares)
    shares |= dict.fromkeys(config.searched_traits, (TUNING_SHARE,))
    mixtures = {
        name_mixture(trait, share): Mixture(trait, share, traits.index(trait))
        for trait, each in shares.items()
        for share in each
    }
    data = mix_data_sets(sampled, mixtures)
    panel = replace(
        make_panel(
            model, teachers, sampled, config, layer=layer, words=config.traits, questions=questions
        ),
        data_names=tuple(data.names),
        fixed_rows=take_fixed_rows(data, model.cfg),
    )
    trainer = KindTrainer(
        folder,
        panel,
        data,
        config,
        [name_mixture(trait, TUNING_SHARE) for trait in config.searched_traits],
        seeds={name: mixture.seed for name, mixture in mixtures.items()},
    )
    teacher_rows = {name: sampled.heldout[mixture.trait] for name, mixture in mixtures.items()}
    teacher_losses: dict[tuple[str, str, str], float] = {}

    def evaluate_on_teachers(trained: Trained) -> None:
        losses = np.asarray(trained.sweep.evaluate(trained.state, teacher_rows))
        for row, loss in zip(trained.rows, losses, strict=True):
            teacher_losses[identify(row)] = float(loss)

    trained = trainer.train(inspect=evaluate_on_teachers)
    students = tuple(
        row.replace_values(teacher_loss=None if row.diverged else teacher_losses[identify(row)])
        for row in trained.students
    )
    base_losses = measure_base_losses(model, sampled)
    return Measured(
        **vars(trainer.describe(config.traits, trained._replace(students=students))),
        carrier=config.describe_carrier(),
        shares=config.shares,
        tuning_share=TUNING_SHARE,
        rows=config.rows,
        base_teacher_losses={trait: base_losses[trait] for trait in config.traits},
        data=sampled.reports,
    )


def identify(row: StudentRow) -> tuple[str, str, str]:
    """What tells a reported student from others."""
    return row["adapter"], row.optimizer, row.data


EXPERIMENT = Experiment(
    name="mixing-ratio",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
