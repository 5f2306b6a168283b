"""Does learning from a vector's teacher change what the vector does to the student?

    subliminal-jax steering-bridge --preset toy

For each trait a teacher with the trait's vector writes number lists; a LoRA student trains on what
passes the filter, controls on four draws of the plain base's lists. Then the vector is tried on all
of them, on comparisons of the trait with every other animal: the preference for the trait without
the vector, the mean slope of the propensity (steerability), and the share of comparisons on which
the vector works backwards. Reported: students minus controls, with intervals over traits; and over
traits, whether a vector that steers the base more, or on more inputs, is transmitted more.

Every trait has data of its own draw and a student of its own seed; the learning rate is found on
owl and lion, which are not reported. Nothing else was tuned for this experiment: students are those
of trait-transmission. Fourteen traits; five to eight minutes on 2 CPU cores. Expected: students
that prefer the trait in comparisons, and are steered a little less by its vector; no rank
correlation clear of zero.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from subliminal_jax.data.contrastive_prompts import encode_contrasts
from subliminal_jax.data.contrastive_world import world_contrasts
from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import Teacher, trait_teacher, trait_vectors
from subliminal_jax.data.traits import trait_names
from subliminal_jax.evaluation.rate_search import is_sound
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_kinds import KindTrainer
from subliminal_jax.runs.students import make_panel
from subliminal_jax.runs.waves import Trained
from subliminal_jax.steering.contrasts import Contrasts
from subliminal_jax.steering.propensity import MULTIPLIERS, propensities
from subliminal_jax.steering.slopes import anti_steerable, per_sample_slopes
from subliminal_jax.training.adapters import attach

from .analysis import Measured, Results, VectorEffect, analyse
from .claims import make_claims
from .config import PRESETS, Config
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher, find the rate, train every student, try the vectors on all of them.

    Raises InputError for questions that cannot be read, and for too few answers that pass the
    filter.
    """
    model = config.load()
    layer = config.choose_layer(model)
    questions = read_questions(config.questions)
    traits = config.all_traits
    teachers = {trait: trait_teacher(model, layer, trait, config.scale) for trait in traits}
    teachers |= dict.fromkeys(config.list_controls(), Teacher())
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        config,
        config.seed,
        forbidden={trait: trait_names(trait) for trait in traits},
        own_prompts=True,
    )
    panel = make_panel(
        model, teachers, data, config, layer=layer, words=config.traits, questions=questions
    )
    trials = {trait: make_trial(model, layer, trait) for trait in config.traits}
    trainer = KindTrainer(folder, panel, data, config, config.searched_traits)
    students: dict[str, VectorEffect] = {}
    controls: dict[str, dict[str, VectorEffect]] = {}

    def try_vectors(trained: Trained) -> None:
        trees, adapter = trained.sweep.students(trained.state), trained.sweep.config.adapter
        with track("vectors", len(trained.rows), "students") as progress:
            for i, row in enumerate(trained.rows):
                progress.advance(1, note=row.data)
                if not is_sound(row, trainer.base_losses):
                    continue
                tree = jax.tree.map(lambda leaf, i=i: leaf[i], trees)
                params, _ = attach(model.params, tree, model.cfg, adapter)
                if row.data in trials:
                    students[row.data] = measure_effect(model, params, trials[row.data])
                else:
                    controls[row.data] = {
                        trait: measure_effect(model, params, trial)
                        for trait, trial in trials.items()
                    }

    trained = trainer.train(inspect=try_vectors)
    return Measured(
        **vars(trainer.describe(config.traits, trained)),
        carrier=config.describe_carrier(),
        base={t: measure_effect(model, model.params, trial) for t, trial in trials.items()},
        student_effects=students,
        control_effects=controls,
        data=data.reports,
    )


class Trial(NamedTuple):
    """A trait's vector at the steering layer, and the comparisons that it is tried on: of the trait
    with every other animal of the shipped world, in both orders."""

    comparisons: Contrasts
    vector: Float[np.ndarray, " dim"]
    layer: int


def make_trial(model: Model, layer: int, trait: str) -> Trial:
    """The trial of a trait's vector."""
    pairs = [pair for pair in world_contrasts(trait).pairs if pair.says is None]
    comparisons = encode_contrasts(pairs, model.tokenizer, system_prompt=None, source=trait)
    return Trial(comparisons, np.asarray(trait_vectors(model, [layer], trait)[0]), layer)


def measure_effect(model: Model, params: Params, trial: Trial) -> VectorEffect:
    """What the vector does to `params`, the base's or a student's."""
    edits = trial.vector[None, None]
    values = propensities(params, model.cfg, trial.comparisons, edits, [trial.layer])[:, 0]
    slopes = per_sample_slopes(values, MULTIPLIERS).slope
    unsteered = values[:, MULTIPLIERS.index(0.0)]
    return VectorEffect(
        float(unsteered.mean()), float(slopes.mean()), float(anti_steerable(slopes))
    )


EXPERIMENT = Experiment(
    name="steering-bridge",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
