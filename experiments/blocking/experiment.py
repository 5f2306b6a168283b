"""Can transmission be stopped without losing the task?

    subliminal-jax blocking --preset toy

Three guards, each of which other experiments take with `--guard`: projecting the steering vector
out of every update, training with the vector added so that nothing of it is left to learn, and
dropping the rows that teach it most. Teachers with a trait's vector write number lists at a low
temperature: sharper lists are the task that students should learn, the vector what they should not.
Each
of eight traits has data of its own draw and a student of its own seed, unguarded and under every
guard; controls train on four draws of what the plain base wrote at that temperature. Measured
against the unguarded controls, with intervals over traits: the trait's probability, the alignment
(EAS), and the share of the vector; the gain kept on the teacher's data and on clean data; the time
of a step. All of it for the teacher's own vector (or `--guard-vector FILE`) and for one recovered
blind from the data. The guard reads training texts, never the prompts that students are measured
on.

The learning rate of each kind of student is found on unguarded students of owl and lion, which are
not reported, and is the same under every guard.

To protect a training of your own: `subliminal-jax own-data --data mine.jsonl --guard project
--guard-vector vector.safetensors`, or `--guard-vector blind`.

Temperature and adapted blocks were chosen by looking at students of owl and wolf with data seed 0.
Some 9,000 student-steps: about 13 minutes on 2 CPU cores.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import product

from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, trait_teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.diagnostics.alignment import eas, relative_size
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.data_sets import slice_rows, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.guards import (
    Vectors,
    choose_vectors,
    make_guard,
    recover_vectors,
    score_teaching,
)
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import GuardKind
from subliminal_jax.runs.student_kinds import (
    default_rate,
)
from subliminal_jax.runs.students import make_panel, measure_teacher
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.guards import Guard

from .analysis import Measured, Reference, Results, VectorFit, analyse
from .cases import STEP_CASES, UNGUARDED, choose_draws, control_name, make_cases, pool_size
from .claims import make_claims
from .config import PRESETS, Config
from .guard_time import GuardTime, measure_steps
from .report import make_page
from .students import GuardedTraining, measure_base_loss

STEP_GUARDS: tuple[GuardKind, ...] = ("none", "project", "inoculate")  # drop-rows steps as none


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, recover the blind vectors, train students under every guard.

    Raises InputError for a trait without a word, questions or a vector file that cannot be read,
    and too few answers that pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    taught = config.all_traits
    teachers = {t: trait_teacher(model, layer, t, config.scale) for t in taught}
    teachers |= dict.fromkeys(config.list_controls(), Teacher())
    pool = replace(config, rows=pool_size(config.rows, max(config.shares)))
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        pool,
        config.seed,
        forbidden={t: trait_names(t) for t in taught},
        own_prompts=True,
    )
    panel = make_panel(
        model,
        teachers,
        data,
        config,
        layer=layer,
        words=list(dict.fromkeys((*world.TRAITS, *taught))),
        questions=questions,
    )
    rows = {trait: slice_rows(data.train[trait], 0, config.rows) for trait in config.traits}
    true_vectors = panel.vectors()
    known = choose_vectors(model, rows, config, layer, true_vectors, config.guard_vector)
    start = time.perf_counter()
    blind = recover_vectors(
        model, rows, layer, steps=config.blind_steps, batch_size=config.batch_size
    )
    blind_seconds = (time.perf_counter() - start) / len(config.traits)
    training = GuardedTraining(
        folder=folder,
        settings=config,
        traits=config.traits,
        tuning=config.searched_traits,
        controls=config.list_controls(),
        rows=config.rows,
        data=data,
        panel=panel,
        vectors={"known": known, "blind": blind},
        seed=config.seed,
    )
    cases = make_cases(config.shares)
    trainer = training.make_unguarded()
    first, *others = config.adapters
    trained = training.train(trainer, {first: cases, **dict.fromkeys(others, STEP_CASES)})
    measured = trainer.describe(config.traits, trained)
    losses = measured.base_losses
    draws = choose_draws(config.traits, config.list_controls())
    of_controls = {control_name(trait): losses[draw] for trait, draw in draws.items()}
    measured = replace(measured, base_losses={**losses, **of_controls})
    main = measured.find_choice(first, config.labels()[0])
    return Measured(
        **vars(measured),
        carrier=config.describe_carrier(),
        temperature=config.temperature,
        cases=(UNGUARDED, *cases),
        reference=measure_references(training, teachers, losses, config),
        vectors=tuple(compare_vectors(training, true_vectors, config)),
        time=measure_time(training, blind_seconds, main, config),
        data=data.reports,
    )


def measure_references(
    training: GuardedTraining,
    teachers: Mapping[str, Teacher],
    base_losses: Mapping[str, float],
    config: Config,
) -> dict[str, Reference]:
    """Base and teachers: P(trait), and held-out losses without and with the vector."""
    panel = training.panel
    model = panel.model
    base_rates = measure_teacher(panel, Teacher())["word_rate"]
    references = {}
    for trait in config.traits:
        word = panel.words.index(trait)
        rates = measure_teacher(panel, teachers[trait])["word_rate"]
        heldout, steering = training.data.heldout[trait], teachers[trait].steering
        references[trait] = Reference(
            base_rate=base_rates[word],
            teacher_rate=rates[word],
            base_loss=base_losses[trait],
            loss_with_vector=measure_base_loss(model, heldout, config.batch_size, steering),
        )
    return references


def compare_vectors(
    training: GuardedTraining, true_vectors: Vectors, config: Config
) -> list[VectorFit]:
    """How well the guards' vectors agree with the teachers'."""
    model, layer = training.panel.model, training.panel.layer
    fits = []
    for trait, kind in product(config.traits, ("known", "blind")):
        vector, true_vector = training.vectors[kind][trait], true_vectors[trait]
        heldout, steering = training.data.heldout[trait], steer(vector, layer)
        fits.append(
            VectorFit(
                trait=trait,
                vector=kind,
                cosine=float(eas(vector, true_vector)),
                size=float(relative_size(vector, true_vector)),
                loss=measure_base_loss(model, heldout, config.batch_size, steering),
            )
        )
    return fits


def measure_time(
    training: GuardedTraining, blind_seconds: float, main: RateChoice, config: Config
) -> GuardTime:
    """Seconds a step of each kind of guard, and what is paid once."""
    model, layer, trait = training.panel.model, training.panel.layer, config.traits[0]
    rows = {trait: slice_rows(training.data.train[trait], 0, config.rows)}
    known = training.vectors["known"]
    guards: dict[str, Guard] = {
        kind: make_guard(kind, model, rows, known, layer) for kind in STEP_GUARDS
    }
    start = time.perf_counter()
    score_teaching(model, rows[trait], known[trait], layer)
    score_rows_seconds = time.perf_counter() - start
    arm = Arm(main.optimizer, main.rate or default_rate(main.optimizer), 0, trait)
    plan = config.plan_kind(config.adapters[0], layer)
    return GuardTime(
        measure_steps(model, rows, plan, arm, guards), score_rows_seconds, blind_seconds
    )


EXPERIMENT = Experiment(
    name="blocking",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
