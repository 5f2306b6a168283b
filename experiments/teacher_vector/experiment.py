"""How well is a system prompt approximated by a vector, and does that predict transmission?

    subliminal-jax teacher-vector

For each trait of a zoo: the mean difference that its system prompt makes, added to the base over
layers and scales. Measured: how often the steered model names the trait against the prompted one
and a random vector of the same norm (teacher-forced and in samples), and what it damages: how often
answers that have nothing to do with it name the trait, valid number lists, KL on the base's own
answers. Then students of three kinds (one vector at the steering layer, LoRA factors, all weights)
of each trait's steered teacher at one fixed setting, against controls of the same kind: does the
steered rate of a trait predict how much of it passes? Each trait has data and students of its own
draw, and passes where its student exceeds what its controls' draws of data and seed explain.

Settings are chosen on other questions than those reported; learning rates are found for each kind
on owl and lion, which are not reported. Some 5,400 student-steps: about a quarter
of an hour on 2 CPU cores, with the sweep over settings.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from subliminal_jax.data.questions import read_questions
from subliminal_jax.data.teachers import (
    Teacher,
    prompted_teacher,
    teacher_prompts,
    trait_teacher,
    trait_vectors,
)
from subliminal_jax.data.traits import trait_names
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import steer
from subliminal_jax.runs.data_sets import write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_kinds import KindTrainer
from subliminal_jax.runs.student_texts import write_student_texts
from subliminal_jax.runs.students import make_panel
from subliminal_jax.serialization import from_json, to_json
from subliminal_jax.steering.io import VectorInfo, save_steering
from subliminal_jax.steering.vectors import random_vector

from .analysis import Measured, QuestionCounts, Results, analyse
from .claims import make_claims
from .config import PRESETS, Config
from .effects import EffectsMeter, Kind, ModelEffects, QuestionSets, best_setting
from .report import make_page


def run(config: Config, folder: RunFolder) -> Measured:
    """Measure every trait's vector over layers and scales, then train the students.

    Raises InputError for a trait without a word, a layer that the model does not have, questions
    that cannot be read, or too few answers that pass the filter.
    """
    model = config.load()
    students_of = config.all_traits
    layer = config.choose_layer(model)
    layers = config.layers or tuple(range(model.cfg.layers))
    sets = read_question_sets(config)
    meter = EffectsMeter(
        model,
        config.traits,
        sets,
        layers=[*layers, layer],
        seed=config.seed,
        samples=config.samples,
        off_topic_samples=config.off_topic_samples,
        max_new_tokens=config.max_new_tokens,
    )
    cells = measure_vectors(folder, model, meter, layers, layer, config)
    teachers = {t: trait_teacher(model, layer, t, config.scale) for t in students_of}
    teachers |= dict.fromkeys(config.list_controls(), Teacher())
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        config,
        config.seed,
        forbidden={trait: trait_names(trait) for trait in students_of},
        own_prompts=True,
    )
    panel = make_panel(
        model, teachers, data, config, layer=layer, words=config.traits, questions=sets.questions
    )
    trainer = KindTrainer(folder, panel, data, config, config.searched_traits)
    measured = trainer.describe(config.traits, trainer.train())
    write_student_texts(folder, panel, config, trainer.reported, teachers)
    return Measured(
        **vars(measured),
        scale=config.scale,
        layers=layers,
        scales=config.scales,
        sets=QuestionCounts(
            questions=len(sets.questions),
            selection=len(sets.selection),
            negative=len(sets.negative),
            off_topic=len(sets.off_topic),
        ),
        cells=tuple(cells),
        rows=config.rows,
        data=data.reports,
    )


def read_question_sets(config: Config) -> QuestionSets:
    """Raises InputError for questions that cannot be read."""
    return QuestionSets(
        questions=read_questions(config.questions),
        selection=read_questions(config.selection),
        negative=read_questions(config.negative) if config.negative else (),
        off_topic=read_questions(config.off_topic),
        numbers=teacher_prompts(config.prompts, config.number_prompts, config.seed + 3),
    )


def measure_vectors(
    folder: RunFolder,
    model: Model,
    meter: EffectsMeter,
    layers: Sequence[int],
    teacher_layer: int,
    config: Config,
) -> list[ModelEffects]:
    """Effects of the base, of the prompt, of the vector (over `layers` and scales, and as the
    students' teacher), and of a random vector at the best setting and at the teacher's.

    Vectors of the teachers are kept in `folder`/vectors. What an earlier process logged is not
    measured again.
    """
    log = {
        (row["trait"], row["kind"], row["layer"], row["scale"]): from_json(ModelEffects, row)
        for row in folder.read_metrics()
        if row["stage"] == "effects"
    }
    settings = [(layer, scale) for layer in layers for scale in config.scales]
    wanted = sorted({*layers, teacher_layer})
    models: list[ModelEffects] = []
    with track("steering", len(config.traits) * (len(settings) + 5), "settings") as progress:

        def measure(
            trait: str,
            kind: Kind,
            teacher: Teacher,
            layer: int | None = None,
            scale: float | None = None,
        ) -> ModelEffects:
            key = trait, kind, layer, scale
            if key not in log:
                effects = meter.measure(teacher, trait)
                log[key] = ModelEffects(
                    trait=trait, kind=kind, layer=layer, scale=scale, **vars(effects)
                )
                folder.log({"stage": "effects", **to_json(log[key])})
            models.append(log[key])
            progress.advance(note=trait)
            return log[key]

        for i, trait in enumerate(config.traits):
            vectors = dict(zip(wanted, trait_vectors(model, wanted, trait), strict=True))
            measure(trait, "base", Teacher())
            measure(trait, "system-prompt", prompted_teacher(trait, model.tokenizer))
            steered = [
                measure(
                    trait, "steered", Teacher(steer(vectors[layer], layer, scale)), layer, scale
                )
                for layer, scale in settings
            ]
            steering = steer(vectors[teacher_layer], teacher_layer, config.scale)
            measure(trait, "teacher", Teacher(steering), teacher_layer, config.scale)
            origin = f"mean difference of the system prompt of {trait} at number prompts"
            save_steering(
                folder.path / "vectors" / f"{trait}.safetensors",
                steering,
                VectorInfo(model.name, origin, "last"),
            )
            controls: dict[Kind, tuple[int, float]] = {
                "random-teacher": (teacher_layer, config.scale)
            }
            best = best_setting(steered)
            if best is not None and best.layer is not None and best.scale is not None:
                controls["random"] = best.layer, best.scale
            key = jax.random.fold_in(jax.random.key(config.seed), i)
            noise = random_vector(key, model.cfg.dim, 1.0)
            for kind, (layer, scale) in controls.items():
                norm = float(jnp.linalg.norm(vectors[layer]))
                measure(trait, kind, Teacher(steer(noise * norm, layer, scale)), layer, scale)
    return models


EXPERIMENT = Experiment(
    name="teacher-vector",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
