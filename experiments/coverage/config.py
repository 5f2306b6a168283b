"""Settings of `coverage`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from subliminal_jax.bounds import Count, Items, Needs, Positive, as_flag
from subliminal_jax.data.traits import check_traits
from subliminal_jax.errors import InputError
from subliminal_jax.runs.kind_settings import ControlSettings, StudentKindSettings
from subliminal_jax.runs.plan_settings import AdapterKind
from subliminal_jax.runs.settings import DataSettings, SteeredModelSettings, Traits
from subliminal_jax.training.arms import Schedule
from subliminal_jax.training.optimizers import OptimizerSpec

TeacherKind = Literal["steered", "fine-tuned"]
PRESETS: dict[str, dict[str, Any]] = {"toy": {}}


@dataclass(frozen=True, kw_only=True)
class Config(StudentKindSettings, ControlSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: animals of the shipped world, each with a teacher of every kind.
      teachers: kinds of teachers: the trait's vector, or weights that are fine-tuned on what the
        trait's system prompt makes the base answer to questions.
      scale: factor on a trait's vector.
      teacher_rows: answers that a fine-tuned teacher trains on.
      teacher_steps: its steps.
      gradient_rows: training rows of each data set over which the first gradient is taken.
      questions: a set of questions ("heldout"), or a file of them, on which P(trait) is taken.
    """

    out: Path = Path("runs/coverage")
    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin")
    teachers: Annotated[tuple[TeacherKind, ...], Items(1)] = ("steered", "fine-tuned")
    scale: Annotated[Positive, Needs("teachers", ("steered",))] = 1.0
    teacher_rows: Annotated[Count, Needs("teachers", ("fine-tuned",))] = 256
    teacher_steps: Annotated[Count, Needs("teachers", ("fine-tuned",))] = 64
    gradient_rows: Count = 256
    questions: str = "heldout"
    layer: int = 1
    adapters: tuple[AdapterKind, ...] = ("lora",)
    optimizers: tuple[str, ...] = (
        *("adamw", "sgd", "rmsprop:decay=0.99", "signum"),
        *("lion", "muon", "soap"),
    )
    controls: Count = 3
    rows: int = 512
    asked: float = 2.5
    max_new_tokens: int = 24
    steps: int = 48
    schedule: Schedule = "cosine"
    log_every: int = 48
    factor: float = 3.0

    def check(self) -> None:
        """Raises InputError for traits outside the shipped world, students that have no weights,
        and rules whose first update does not follow from the gradient."""
        check_traits(self.all_traits)
        if "vector" in self.adapters:
            raise InputError("--adapters vector changes no weight: choose lora or full")
        for label in self.labels():
            if "obj_fn" in OptimizerSpec.parse(label).entry.needs:
                raise InputError(
                    f"--optimizers {label} samples the loss at other weights: its first update "
                    "does not follow from the gradient; leave it out"
                )
        if self.gradient_rows > self.rows:
            raise InputError(
                f"{as_flag('gradient_rows', self.gradient_rows)} is more than --rows {self.rows}"
            )
        if self.batch_size > self.teacher_rows:
            raise InputError(
                f"--batch-size {self.batch_size} is more than --teacher-rows {self.teacher_rows}"
            )
