"""Settings of experiments in which teachers pass on traits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from subliminal_jax.bounds import Items, Needs, Positive, Text
from subliminal_jax.data import world
from subliminal_jax.evaluation.transmission import (
    TEACHER_KINDS,
    name_trait,
)
from subliminal_jax.runs.kind_settings import StudentKindSettings
from subliminal_jax.runs.plan_settings import ShownSettings
from subliminal_jax.runs.settings import SteeredModelSettings, Traits
from subliminal_jax.runs.teacher_weights import FineTunedSettings


@dataclass(frozen=True, kw_only=True)
class TransmissionSettings(
    ShownSettings, StudentKindSettings, FineTunedSettings, SteeredModelSettings
):
    """Teachers of traits, and students of several kinds.

    Attributes:
      traits: animals, each with teachers of its own.
      teachers: what makes a teacher, one data set each: the trait's vector (steered), its system
        prompt (system-prompt), the weights of --teacher-adapter or --teacher-model (fine-tuned).
      scale: factor on the trait's vector.
      questions: a set of questions ("heldout"), or a file of them.
      words: candidate answers beside the traits; empty means the 16 animals of the shipped world.
    """

    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin")
    teachers: Annotated[tuple[str, ...], Items(1), Text(choices=TEACHER_KINDS)] = (
        "steered",
        "system-prompt",
    )
    scale: Annotated[Positive, Needs("teachers", ("steered",))] = 1.0
    questions: str = "heldout"
    words: tuple[str, ...] = ()
    layer: int = 1
    seed: int = 1

    def candidate_words(self) -> list[str]:
        """The words whose probabilities are measured."""
        return list(dict.fromkeys((*(self.words or world.TRAITS), *self.all_traits)))

    def select_tuning(self, names: Mapping[str, str]) -> list[str]:
        """The data sets of the tuning traits; `names` are the teachers, KIND:TRAIT, of each."""
        return [data for data, name in names.items() if name_trait(name) in self.searched_traits]
