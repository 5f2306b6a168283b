"""Teachers of several traits, each by the trait's vector or by its system prompt."""

from collections.abc import Mapping

from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.evaluation.transmission import (
    MeasuredTransmission,
    name_trait,
)
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.student_kinds import KindTrainer, TrainedKinds
from subliminal_jax.runs.students import measure_teacher
from subliminal_jax.runs.transmission_settings import TransmissionSettings


def make_trait_teachers(
    settings: TransmissionSettings, model: Model, layer: int
) -> dict[str, Teacher]:
    """Teachers by name, KIND:TRAIT."""
    teachers = {}
    for trait in settings.all_traits:
        if "steered" in settings.teachers:
            teachers[f"steered:{trait}"] = trait_teacher(model, layer, trait, settings.scale)
        if "system-prompt" in settings.teachers:
            teachers[f"system-prompt:{trait}"] = prompted_teacher(trait, model.tokenizer)
    return teachers


def describe_transmission(
    settings: TransmissionSettings,
    trainer: KindTrainer,
    trained: TrainedKinds,
    teachers: Mapping[str, Teacher],
    rows: int,
) -> MeasuredTransmission:
    """What was measured, with the rates of the `teachers` KIND:TRAIT and of the base."""
    panel = trainer.panel
    base = measure_teacher(panel, Teacher())["word_rate"]
    rates = {
        name: measure_teacher(panel, teacher)["word_rate"] for name, teacher in teachers.items()
    }
    return MeasuredTransmission(
        **vars(trainer.describe(settings.traits, trained)),
        teacher_kinds=settings.teachers,
        base=dict(zip(panel.words, base, strict=True)),
        teachers={name: rate[panel.words.index(name_trait(name))] for name, rate in rates.items()},
        scale=settings.scale,
        rows=rows,
    )
