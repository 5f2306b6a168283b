"""Transmission of traits: students whose teachers each have one, by vector, prompt or weights."""

from collections.abc import Mapping
from dataclasses import dataclass

from subliminal_jax.evaluation.student_kinds import MeasuredKinds

CONTROL = "control"  # the data set of the controls; of several draws control-0, control-1 ...
FINE_TUNED = "fine-tuned"
# What makes a teacher, in words: of one, "a teacher with its vector", and of several.
TEACHER_WORDS = {
    "steered": "vector",
    "system-prompt": "system prompt",
    FINE_TUNED: "fine-tuned weights",
}
TEACHER_KINDS = tuple(TEACHER_WORDS)


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


def name_teachers(kind: str, traits: str) -> str:
    """Teachers of a kind in words: "vectors of 8 traits"."""
    words = TEACHER_WORDS[kind]
    return f"{words if kind == FINE_TUNED else f'{words}s'} of {traits}"


def name_trait(teacher: str) -> str:
    """The trait of the teacher KIND:TRAIT."""
    return teacher.partition(":")[2]
