"""Settings of `optimizer-comparison`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.bounds import Count, Items, Needs, Positive, Text, as_flag
from subliminal_jax.errors import InputError
from subliminal_jax.runs.checks import TRAIT, check_at_most
from subliminal_jax.runs.plan_settings import ShownSettings
from subliminal_jax.runs.presets import PAPER_GRIDS, REAL_MODEL, paper_preset
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    ObjectiveSettings,
    SteeredModelSettings,
    StudentSettings,
)
from subliminal_jax.runs.teacher_weights import TeacherWeightSettings

STEERED = Needs("teacher", ("steered",))
OPTIMIZERS = ("adamw", "rmsprop", "signum", "momentum", "sgd")
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    # A random vector after the last block, answers of at most 28 tokens to what opens a
    # conversation: small enough for 60 students in some three minutes on two cores.
    "demo": {
        "layer": 3,
        "norm": 1.4,
        "prompts": "chat",
        "keep": "all",
        "rows": 1152,
        "heldout_rows": 96,
        "max_tokens": 28,
        "steps": 48,
        "batch_size": 20,
        "log_every": 8,
        "rates": (
            "adamw=1e-3,3e-3,1e-2",
            "rmsprop=1e-3,3e-3,1e-2",
            "signum=3e-4,1e-3,3e-3",
            "momentum=0.01,0.03,0.1",
            "sgd=0.1,0.17,0.3",
        ),
    },
    # A random vector.
    "real": {
        **REAL_MODEL,
        "norm": 0.5,
        "log_every": 24,
        "seeds": 2,
        "gradient_rows": 128,
        "schedule": "cosine",
        "warmup": 0.1,
        "rates": (
            "adamw=3e-4,1e-3,3e-3",
            "rmsprop=3e-4,1e-3,3e-3",
            "signum=1e-4,3e-4,1e-3",
            "momentum=0.01,0.03,0.1",
            "sgd=0.1,0.3,0.6",
        ),
        "out": Path("runs/optimizer-comparison-real"),
    },
    "paper-qwen2.5-7b": paper_preset(
        "qwen2.5-7b",
        scale=True,
        vector="trait",
        trait="cat",
        optimizers=OPTIMIZERS,
        rates=tuple(f"{name}={PAPER_GRIDS[name]}" for name in OPTIMIZERS),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config(
    ShownSettings,
    StudentSettings,
    GuardSettings,
    ObjectiveSettings,
    DataSettings,
    TeacherWeightSettings,
    SteeredModelSettings,
):
    """Settings of the comparison, on the shipped model by default.

    Attributes:
      teacher: what makes the teacher: a steering vector (steered), a trait's system prompt, both,
        or nothing (plain) beside the weights of --teacher-model or --teacher-adapter, which any of
        these combines with.
      vector: "random", "trait" (mean difference of the trait's system prompt), or a safetensors
        file. EAS is measured against what the teacher does to the residual stream.
      trait: an animal. With a random vector, "auto" takes the one that the vector favours most.
      norm: norm of a random vector, in units of the residual stream's norm at the layer.
      scale: factor on a trait vector or a vector from a file.
      gradient_rows: rows of each data set whose activation gradients are averaged; the default is
        all of them where there are fewer.
    """

    out: Path = Path("runs/optimizer-comparison")
    teacher: Annotated[
        tuple[str, ...], Items(1), Text(choices=("steered", "system-prompt", "plain"))
    ] = ("steered",)
    vector: Annotated[str, STEERED] = "random"
    trait: Annotated[str, TRAIT] = "auto"
    norm: Annotated[Positive, STEERED, Needs("vector", ("random",))] = 0.3
    scale: Annotated[Positive, STEERED, Needs("vector", ("random",), unless=True)] = 1.0
    optimizers: tuple[str, ...] = OPTIMIZERS
    gradient_rows: Count = 512

    def check(self) -> None:
        check_at_most(self, "gradient_rows", self.rows, f"--rows {self.rows}")
        self.learning_rates()
        if "plain" in self.teacher and len(self.teacher) > 1:
            raise InputError(f"{as_flag('teacher', self.teacher)}: plain has nothing beside it")
        if self.teacher == ("plain",) and not self.changes_weights:
            raise InputError(
                "--teacher plain is the base itself: give --teacher-model or --teacher-adapter"
            )
