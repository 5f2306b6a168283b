"""Teachers of several traits, each by the trait's vector or by its system prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from subliminal_jax.bounds import Items, Needs, Positive, Text
from subliminal_jax.data import world
from subliminal_jax.data.teachers import Teacher, prompted_teacher, trait_teacher
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.evaluation.transmission import TEACHER_KINDS, MeasuredStudents, name_trait
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.settings import SteeredModelSettings, StudentSettings, Traits
from subliminal_jax.runs.students import measure_teacher


@dataclass(frozen=True, kw_only=True)
class TransmissionSettings(StudentSettings, SteeredModelSettings):
    """Teachers of traits, and students that are one vector each.

    Attributes:
      traits: animals, each with teachers of its own.
      teachers: what makes a teacher: "steered", "system-prompt", or both.
      scale: factor on the trait's vector.
      questions: a set of questions ("heldout"), or a file of them.
      words: candidate answers beside the traits; empty means the 16 animals of the shipped world.
    """

    traits: Traits = ("cat", "dog", "tiger", "eagle")
    teachers: Annotated[tuple[str, ...], Items(1), Text(choices=TEACHER_KINDS)] = TEACHER_KINDS
    scale: Annotated[Positive, Needs("teachers", ("steered",))] = 1.0
    questions: str = "heldout"
    words: tuple[str, ...] = ()
    layer: int = 1
    seed: int = 1
    adapter: Literal["lora", "full", "vector"] = "vector"
    rates: tuple[str, ...] = ("adamw=0.03,0.1,0.3",)

    def check(self) -> None:
        self.learning_rates()

    def make_teachers(self, model: Model, layer: int) -> dict[str, Teacher]:
        """Teachers by name, KIND:TRAIT."""
        teachers = {}
        for trait in self.traits:
            if "steered" in self.teachers:
                teachers[f"steered:{trait}"] = trait_teacher(model, layer, trait, self.scale)
            if "system-prompt" in self.teachers:
                teachers[f"system-prompt:{trait}"] = prompted_teacher(trait, model.tokenizer)
        return teachers

    def candidate_words(self) -> list[str]:
        """The words whose probabilities are measured."""
        return list(dict.fromkeys((*(self.words or world.TRAITS), *self.traits)))

    def describe_students(
        self, panel: Panel, teachers: Mapping[str, Teacher], rows: Sequence[StudentRow]
    ) -> MeasuredStudents:
        """The students, with the rates of their teachers and of the base, one of the teachers."""
        rates = {name: measure_teacher(panel, t)["word_rate"] for name, t in teachers.items()}
        (base,) = (rates.pop(name) for name, teacher in teachers.items() if teacher.is_base)
        return MeasuredStudents(
            model=panel.model.name,
            layer=panel.layer,
            adapter=self.adapter,
            traits=self.traits,
            teacher_kinds=self.teachers,
            seeds=self.seeds,
            grids=self.grids(),
            words=panel.words,
            references=panel.references,
            base=dict(zip(panel.words, base, strict=True)),
            teachers={
                name: rate[panel.words.index(name_trait(name))] for name, rate in rates.items()
            },
            students=tuple(rows),
        )
