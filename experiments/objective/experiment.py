"""How few samples recover a teacher's vector: from hard labels, and from its distribution?

    subliminal-jax objective
    subliminal-jax objective --preset paper-qwen2.5-7b-vector --out runs/objective-7b

Chen et al. 2026 (arXiv 2610.04907): with a known shift of the teacher, the KL to its distribution
recovers the shift from a few hundred samples where cross-entropy on sampled tokens does not from
tens of thousands, although both objectives start along nearly the same gradient, which is poorly
aligned with the shift. Here students of three kinds are one vector at the steering layer (a family
that holds steered teachers themselves), LoRA factors, and all weights; teachers are traits' vectors
and system prompts (and random vectors of the same lengths, where asked for), each with data and
students of its own draw. A student sees n rows, drawn by its seed, as often as it needs: the number
of steps and of examples seen is the same for every n and both objectives. The rate of each kind, n
and objective is found on owl and lion, which are not reported, by the objective's own held-out
loss; controls of every kind learn the plain base's data (its distribution, for KL). Intervals are
over traits.

Some 20,000 student-steps: half an hour on 2 CPU cores; with random vectors as teachers, too
(`--teachers steered random system-prompt`), ten minutes more.
"""

from collections.abc import Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp

from subliminal_jax.data import world
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.data.traits import trait_names
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.data_sets import kl_objective, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_kinds import (
    Judge,
    KindTrainer,
    TrainedKinds,
)
from subliminal_jax.runs.student_texts import write_student_texts
from subliminal_jax.runs.students import make_panel
from subliminal_jax.runs.waves import HELDOUT_LOSSES
from subliminal_jax.steering.vectors import random_vector
from subliminal_jax.training.objectives import CrossEntropy, Objective

from .analysis import Measured, Results, analyse
from .claims import make_claims
from .config import PRESETS, Config
from .gradients import measure_gradients
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, take the first gradients, train every student of both objectives.

    Raises InputError for a trait without a word, questions that cannot be read, or too few answers
    that pass the filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    teachers, traits = make_teachers(model, layer, config)
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        config,
        config.seed,
        forbidden={name: trait_names(trait) for name, trait in traits.items()},
        own_prompts=True,
    )
    words = list(dict.fromkeys((*world.TRAITS, *config.all_traits)))
    panel = make_panel(model, teachers, data, config, layer=layer, words=words, questions=questions)
    shifts = dict(zip(panel.references, panel.shifts[:, layer], strict=True))
    soft = kl_objective(model, teachers, data)
    gradients = measure_gradients(
        model,
        data,
        soft,
        shifts,
        {kind: [f"{kind}-{trait}" for trait in config.traits] for kind in config.teachers},
        layer,
        config.gradient_rows,
        config.batch_size,
    )
    heldout_kl = kl_objective(model, teachers, data, heldout=True)
    # The random vectors of the tuning traits have no data: rates serve all teachers of a kind.
    tuning = [name for name, trait in traits.items() if trait in config.searched_traits]

    def make_trainer(objective: Objective, judge: Judge, stage: str) -> KindTrainer:
        return KindTrainer(
            folder,
            panel,
            data,
            config,
            tuning,
            objective=objective,
            heldout_losses={**HELDOUT_LOSSES, "heldout_kl": heldout_kl},
            judge=judge,
            stage=stage,
        )

    trainers = {
        "cross_entropy": make_trainer(CrossEntropy(), "heldout_loss", "hard-"),
        "kl": make_trainer(soft, "heldout_kl", "soft-"),
    }
    trained = {name: trainer.train(config.sizes) for name, trainer in trainers.items()}
    write_student_texts(folder, panel, config, trainers["kl"].reported, teachers)
    described = trainers["cross_entropy"].describe(config.traits, join_objectives(trained))
    return Measured(
        **vars(described),
        teacher_kinds=config.teachers,
        level=config.level,
        sizes=config.sizes,
        heldout_rows=config.heldout_rows,
        base_kl=trainers["kl"].base_losses,
        lengths={name: float(jnp.linalg.norm(shift)) for name, shift in shifts.items()},
        data=data.reports,
        gradients=gradients,
    )


def join_objectives(trained: Mapping[str, TrainedKinds]) -> TrainedKinds:
    """The students of all objectives, each with its own."""

    def join(rows: str) -> tuple[StudentRow, ...]:
        return tuple(
            row.replace_values(objective=objective)
            for objective, each in trained.items()
            for row in getattr(each, rows)
        )

    choices = tuple(
        replace(choice, objective=objective)
        for objective, each in trained.items()
        for choice in each.choices
    )
    return TrainedKinds(choices, join("students"), join("tuning_students"))


def make_teachers(
    model: Model, layer: int, config: Config
) -> tuple[dict[str, Teacher], dict[str, str]]:
    """Teachers by the name of their data set, KIND-TRAIT and those of the controls, and the trait
    of each KIND-TRAIT. A tuning trait has no random vector."""
    teachers: dict[str, Teacher] = {}
    traits: dict[str, str] = {}
    for i, trait in enumerate(config.all_traits):
        steered = trait_teacher(model, layer, trait, config.scale)
        assert steered.steering is not None
        length = jnp.linalg.norm(steered.steering.vectors) * abs(config.scale)
        key = jax.random.fold_in(jax.random.key(config.seed), i)
        made: dict[str, Teacher] = {
            "steered": steered,
            "random": Teacher(steer(random_vector(key, model.cfg.dim, length), layer)),
            "system-prompt": prompted_teacher(trait, model.tokenizer),
        }
        for kind in config.teachers:
            if kind != "random" or trait in config.traits or set(config.teachers) == {"random"}:
                teachers[f"{kind}-{trait}"] = made[kind]
                traits[f"{kind}-{trait}"] = trait
    return teachers | dict.fromkeys(config.list_controls(), Teacher()), traits


EXPERIMENT = Experiment(
    name="objective",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
