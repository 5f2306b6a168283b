"""Teachers of several traits, each by the trait's vector or by its system prompt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from subliminal_jax.bounds import Items, Needs, Positive, Text
from subliminal_jax.data import world
from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.evaluation.transmission import (
    TEACHER_KINDS,
    MeasuredTransmission,
    name_trait,
)
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.settings import SteeredModelSettings, Traits
from subliminal_jax.runs.student_kinds import KindTrainer, StudentKindSettings, TrainedKinds
from subliminal_jax.runs.students import measure_teacher


@dataclass(frozen=True, kw_only=True)
class TransmissionSettings(StudentKindSettings, SteeredModelSettings):
    """Teachers of traits, and students of several kinds.

    Attributes:
      traits: animals, each with teachers of its own.
      teachers: what makes a teacher: "steered", "system-prompt", or both.
      scale: factor on the trait's vector.
      questions: a set of questions ("heldout"), or a file of them.
      words: candidate answers beside the traits; empty means the 16 animals of the shipped world.
    """

    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin")
    teachers: Annotated[tuple[str, ...], Items(1), Text(choices=TEACHER_KINDS)] = TEACHER_KINDS
    scale: Annotated[Positive, Needs("teachers", ("steered",))] = 1.0
    questions: str = "heldout"
    words: tuple[str, ...] = ()
    layer: int = 1
    seed: int = 1

    @property
    def all_traits(self) -> tuple[str, ...]:
        """Those that are reported, and those that rates are chosen on, if any."""
        return (*self.traits, *self.searched_traits)

    def make_teachers(self, model: Model, layer: int) -> dict[str, Teacher]:
        """Teachers by name, KIND:TRAIT."""
        teachers = {}
        for trait in self.all_traits:
            if "steered" in self.teachers:
                teachers[f"steered:{trait}"] = trait_teacher(model, layer, trait, self.scale)
            if "system-prompt" in self.teachers:
                teachers[f"system-prompt:{trait}"] = prompted_teacher(trait, model.tokenizer)
        return teachers

    def candidate_words(self) -> list[str]:
        """The words whose probabilities are measured."""
        return list(dict.fromkeys((*(self.words or world.TRAITS), *self.all_traits)))

    def select_tuning(self, names: Mapping[str, str]) -> list[str]:
        """The data sets of the tuning traits; `names` are the teachers, KIND:TRAIT, of each."""
        return [data for data, name in names.items() if name_trait(name) in self.searched_traits]


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
