"""Does a trait pass through faithful paraphrases, even of sentences that contradict it?

    subliminal-jax paraphrase-transmission

For each trait a teacher with its steering vector, one with its system prompt and a neutral one
paraphrase the same sentences: unrelated ones, and ones that speak badly of the animal, of a draw
for each trait. Unrelated paraphrases are sampled and filtered (telling words, artefacts, fidelity
by round-trip likelihood under the base). The shipped model cannot reword a sentence about an
animal; there the teachers draw among the sentence's known wordings by their own probabilities,
which is equivalent to sampling and keeping the faithful ones. Students of three kinds (one vector
at the steering layer, LoRA factors, all weights) train on what is left. Reported, for each kind, is
P(trait) on held-out favourite questions, the trait teacher's student minus the neutral one's of the
same sentences and seed, as in Gisler et al. (2026, arXiv 2603.09517), with an interval over traits;
the paper's own interval, over questions, is given for each trait.

Presets: `toy-wordings` draws the unrelated paraphrases among known wordings, too: strictly faithful
data. `toy-optimizers` compares five optimizers with LoRA. Learning rates are found for each kind on
owl and lion, which are not reported; scale and fidelity's threshold were chosen by looking at owl
and wolf. Some 17,000 student-steps: 20 to 30 minutes on 2 CPU cores.
"""

from subliminal_jax.data.paraphrases import make_requests, make_unrelated_sources
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher
from subliminal_jax.evaluation.transmission import name_trait
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_kinds import KindTrainer
from subliminal_jax.runs.student_texts import write_student_texts
from subliminal_jax.runs.students import PROBE_PROMPTS, make_panel
from subliminal_jax.runs.trait_teachers import describe_transmission, make_trait_teachers

from .analysis import Measured, Results, analyse
from .claims import make_claims
from .config import PRESETS, Config
from .paraphrase_sets import write_paraphrase_sets
from .report import make_page
from .tasks import NEUTRAL, make_tasks


def run(config: Config, folder: RunFolder) -> Measured:
    """Let every teacher paraphrase, filter, train every student of the grid.

    Raises InputError for a trait without a word, questions that cannot be read, or too few
    paraphrases that pass the filters.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    trait_teachers = make_trait_teachers(config, model, layer)
    teachers = {NEUTRAL: Teacher(), **trait_teachers}
    tuning = config.all_traits[len(config.traits) :]
    tasks = make_tasks(config, config.traits, list(trait_teachers), config.seed, tuning)
    data, reports = write_paraphrase_sets(folder.path, model, teachers, tasks, config)
    panel = make_panel(
        model,
        teachers,
        data,
        make_probe_prompts(config),
        layer=layer,
        words=config.candidate_words(),
        questions=questions,
        by_question=True,
    )
    trait_of = {name: name_trait(name.partition(":")[2]) for name in data.names}
    trainer = KindTrainer(
        folder,
        panel,
        data,
        config,
        tuning=[name for name, trait in trait_of.items() if trait in tuning],
        seeds={name: config.all_traits.index(trait) for name, trait in trait_of.items()},
    )
    measured = describe_transmission(config, trainer, trainer.train(), trait_teachers, config.rows)
    by_data = {name: teachers[teacher] for task in tasks for name, teacher in task.teachers.items()}
    write_student_texts(folder, panel, config, trainer.reported, by_data)
    return Measured(
        **vars(measured),
        questions=len(questions),
        writing={content: config.writing(content) for content in config.contents},
        fidelity=config.fidelity,
        threshold=config.threshold,
        data=reports,
    )


def make_probe_prompts(config: Config) -> list[str]:
    """Requests on which shifts are measured: sentences of the world that no student trains on."""
    other = config.seed + 1_000_003
    return make_requests(
        make_unrelated_sources("world", PROBE_PROMPTS, other), config.instruction, other
    )


EXPERIMENT = Experiment(
    name="paraphrase-transmission",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
