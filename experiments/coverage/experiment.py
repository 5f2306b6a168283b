"""Does the first update of each rule forecast what its student will take up?

    subliminal-jax coverage
    subliminal-jax coverage --adapters full --teachers fine-tuned

Madl 2026 (arXiv 2606.22019): the cosine of the first distillation update with the teacher's
displacement, "coverage", predicts transfer before any training (rank correlation .95) where the
teacher is fine-tuned. Here the first update is that of each optimizer, from the student's own
starting point and on the mean gradient of its data, as a change of weights (of LoRA's product). The
displacement is the difference of a fine-tuned teacher's weights to the base's; of a steered teacher
it is the vector's twin in parameter space, the gradient of the steering score.

Every trait has a teacher of each kind, data of its own draw, and with every rule a student of its
own seed; controls learn the plain base's lists. Rates are found on owl and lion, which are not
reported. Held against what is transmitted (EAS and share of the vector, student minus controls):
coverage, the first update's size along the displacement at that rate, and the plain gradient's
alignment with it, which knows no rule. Rank correlations over the teachers of one rule, over
teachers and rules, and over the rules of one teacher, with intervals over traits by the jackknife.

The first steps of AdamW, RMSprop, signum and Lion are all the gradient's sign (Adam's by its bias
correction): these rules have one coverage, and tie in ranks over rules; their sizes differ with
their rates. Some 12,000 student-steps; fifteen to twenty minutes on 2 CPU cores, of which compiling
SOAP takes one.
"""

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_kinds import KindTrainer
from subliminal_jax.runs.students import make_panel, measure_teacher

from .analysis import Measured, Results, analyse
from .claims import make_claims
from .config import PRESETS, Config
from .forecasts import make_forecasts
from .report import make_page
from .teachers import make_teachers


def run(config: Config, folder: RunFolder) -> Measured:
    """Make every teacher, sample, find the rates, train every student, and take first updates.

    Raises InputError for a trait without a word, questions that cannot be read, a fine-tuned
    teacher that diverged, or too few answers that pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    taught = make_teachers(config, folder, model, layer, config.all_traits)
    traits = {f"{kind}-{trait}": trait for kind in config.teachers for trait in config.all_traits}
    teachers = taught | dict.fromkeys(config.list_controls(), Teacher())
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        config,
        config.seed,
        forbidden={name: trait_names(trait) for name, trait in traits.items()},
        own_prompts=True,
    )
    panel = make_panel(
        model, teachers, data, config, layer=layer, words=config.traits, questions=questions
    )
    tuning = [name for name, trait in traits.items() if trait in config.searched_traits]
    trainer = KindTrainer(folder, panel, data, config, tuning)
    trained = trainer.train()
    forecasts = make_forecasts(config, trainer, taught, trained.choices)
    base = measure_teacher(panel, Teacher(), ("word-rates",))["word_rate"]
    rates = {
        name: measure_teacher(panel, teacher, ("word-rates",))["word_rate"]
        for name, teacher in taught.items()
        if traits[name] in config.traits
    }
    return Measured(
        **vars(trainer.describe(config.traits, trained)),
        teacher_kinds=config.teachers,
        carrier=config.describe_carrier(),
        gradient_rows=config.gradient_rows,
        base_rates=dict(zip(panel.words, base, strict=True)),
        teacher_rates={name: x[panel.words.index(traits[name])] for name, x in rates.items()},
        forecasts=forecasts,
        data=data.reports,
    )


EXPERIMENT = Experiment(
    name="coverage",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
