"""Teachers of several traits, each by the trait's vector, by its system prompt or by weights."""

from collections.abc import Mapping

from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.data.traits import check_trait
from subliminal_jax.evaluation.transmission import (
    TEACHER_KINDS,
    MeasuredTransmission,
    name_trait,
)
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.student_kinds import KindTrainer, TrainedKinds
from subliminal_jax.runs.students import measure_teacher
from subliminal_jax.runs.teacher_weights import FineTunedSettings
from subliminal_jax.runs.transmission_settings import TransmissionSettings


def make_teacher(
    settings: FineTunedSettings, kind: str, model: Model, layer: int, trait: str, scale: float
) -> Teacher:
    """A trait's teacher of one of `TEACHER_KINDS`; `scale` is a factor on its vector.

    Raises InputError for a trait without a word, and for weights that do not fit the model.
    """
    if kind == "steered":
        return trait_teacher(model, layer, trait, scale)
    if kind == "system-prompt":
        return prompted_teacher(trait, model.tokenizer)
    check_trait(trait, model.tokenizer)
    return settings.give_weights(Teacher(), model, trait)


def make_trait_teachers(
    settings: TransmissionSettings, model: Model, layer: int
) -> dict[str, Teacher]:
    """Teachers by name, KIND:TRAIT."""
    return {
        f"{kind}:{trait}": make_teacher(settings, kind, model, layer, trait, settings.scale)
        for trait in settings.all_traits
        for kind in TEACHER_KINDS
        if kind in settings.teachers
    }


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
