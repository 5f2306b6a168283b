"""Settings of `optimizer-transmission`, and its presets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.bounds import MANY, Count, Items, Needs, Positive, Range, Text
from subliminal_jax.data.prompts import Extraction
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.transmission import TEACHER_KINDS
from subliminal_jax.runs.presets import (
    PAPER_STUDENTS,
    REAL_MODEL,
    paper_preset,
    toy_presets,
)
from subliminal_jax.runs.teacher_weights import FineTunedSettings
from subliminal_jax.runs.vector_settings import VectorSettings
from subliminal_jax.training.optimizers import OptimizerSpec

RANDOM = "random"
# Six vectors, two more to choose rates on, two draws of controls. After 48 steps all are compared,
# after 24 AdamW and SGD, too, for equal gains.
_REAL: dict[str, Any] = {
    **REAL_MODEL,
    "traits": ("cat", "dog", "tiger", "eagle", "fox", "dolphin"),
    "tuning_traits": ("owl", "lion"),
    "stem": "My favorite animal is the",
    "controls": 2,
    "optimizers": ("adamw", "sgd", "rmsprop:decay=0.99", "signum", "momentum"),
    "matched": ("adamw", "sgd"),
    "lengths": (24, 48),
    "factor": 3.0,
    "extensions": 0,
}
PRESETS: dict[str, dict[str, Any]] = {
    **toy_presets("optimizer-transmission"),
    "real": {
        **_REAL,
        "teacher": RANDOM,
        "norm": 0.5,
        "out": Path("runs/optimizer-transmission-real"),
    },
    # What `teacher-choice --preset real` chose on owl and lion: what vectors are taken on, their
    # block and scale, and the carrier.
    "real-traits": {
        **_REAL,
        "extraction": "favorites",
        "layer": 24,
        "scale": 2.0,
        "prompts": "stories",
        "out": Path("runs/optimizer-transmission-real-traits"),
    },
    # The paper's students, a vector each; rates are searched for, and all of its run in halves.
    "paper-qwen2.5-7b": paper_preset(
        "qwen2.5-7b",
        students={},
        scale=True,
        traits=("cat", "dog", "eagle"),
        tuning_traits=("owl",),
        controls=1,
        lengths=(221, 443, 887, 1_775, 3_550),
        **{
            name: PAPER_STUDENTS[name]
            for name in ("steps", "batch_size", "rank", "alpha", "schedule", "warmup")
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config(VectorSettings, FineTunedSettings):
    """Settings.

    Attributes:
      teacher: what makes each trait's teacher: its vector (steered), its system prompt, or the
        weights of --teacher-adapter or --teacher-model (fine-tuned). Where it is not a vector,
        students are held against the shift that the teacher's activations have at the layer. Of
        "random" teachers each has a random vector in place of a trait's, and nothing is said of
        the trait.
      norm: of random vectors, in units of the residual stream's norm at the layer.
      extraction: what is asked where a trait's vector is taken.
      optimizers: all that are compared at their best rates.
      matched: those that are also compared at equal gains.
      lengths: numbers of steps of finished runs.
      steps: the number at which all are compared, one of `lengths`.
    """

    out: Path = Path("runs/optimizer-transmission")
    teacher: Annotated[str, Text(choices=(*TEACHER_KINDS, RANDOM))] = "steered"
    norm: Annotated[Positive, Needs("teacher", (RANDOM,))] = 0.3
    extraction: Annotated[Extraction, Needs("teacher", ("steered",))] = "numbers"
    optimizers: tuple[str, ...] = (
        *("adamw", "sgd", "rmsprop:decay=0.99"),
        *("signum", "momentum", "muon"),
    )
    matched: tuple[str, ...] = ("adamw", "sgd", "signum", "muon")
    lengths: Annotated[tuple[int, ...], Range(1, MANY), Items(2)] = (4, 8, 16, 32, 64, 128, 256)
    steps: Count = 64

    def check(self) -> None:
        """Raises InputError for optimizers without rates, and for lengths that do not fit
        `steps`."""
        labels = self.labels()
        for label in self.labels(self.matched):
            if label not in labels:
                raise InputError(f"--matched {label} is none of --optimizers {' '.join(labels)}")
        for label in labels:
            if not OptimizerSpec.parse(label).entry.grid:
                raise InputError(
                    f"--optimizers {label} has no default learning rates to search from: register "
                    "it with a grid"
                )
        if list(self.lengths) != sorted(set(self.lengths)):
            raise InputError(f"--lengths {self.lengths}: give each once, ascending")
        if self.steps not in self.lengths:
            raise InputError(f"--steps {self.steps} is none of --lengths {self.lengths}")

    def labels(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """The labels of optimizers (of all), each once."""
        parsed = (OptimizerSpec.parse(name).label for name in names or self.optimizers)
        return tuple(dict.fromkeys(parsed))

    def list_optimizers(self, steps: int) -> tuple[str, ...]:
        """Those that are trained for so many steps."""
        return self.labels() if steps == self.steps else self.labels(self.matched)
