"""Transmission of traits: students whose teachers each have one, by its vector or system prompt."""

from collections.abc import Mapping
from dataclasses import dataclass

from subliminal_jax.evaluation.student_kinds import MeasuredKinds

CONTROL = "control"  # the data set of the controls; of several draws control-0, control-1 ...
TEACHER_KINDS = ("steered", "system-prompt")  # what makes a teacher: a trait's vector, or prompt


@dataclass(frozen=True)
class MeasuredTransmission(MeasuredKinds):
    """What was measured of students of several kinds, whose teachers each have a trait.

    Attributes:
      teacher_kinds: what made the teachers, of `TEACHER_KINDS`.
      base: P(word) of the base, by word.
      teachers: P(its trait) of each teacher, KIND:TRAIT.
      scale: factor on the traits' vectors.
      rows: training pairs of each data set.
    """

    teacher_kinds: tuple[str, ...]
    base: Mapping[str, float]
    teachers: Mapping[str, float]
    scale: float
    rows: int


def name_trait(teacher: str) -> str:
    """The trait of the teacher KIND:TRAIT."""
    return teacher.partition(":")[2]
