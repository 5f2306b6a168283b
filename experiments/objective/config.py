"""Settings of `objective`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from subliminal_jax.bounds import MANY, Count, Items, Needs, Positive, Range, as_flag
from subliminal_jax.errors import InputError
from subliminal_jax.runs.kind_settings import (
    ControlSettings,
    StudentKindSettings,
)
from subliminal_jax.runs.plan_settings import ShownSettings
from subliminal_jax.runs.presets import PAPER_KINDS, PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.settings import (
    DataSettings,
    SteeredModelSettings,
    Traits,
)
from subliminal_jax.training.arms import Schedule

Kind = Literal["steered", "random", "system-prompt"]
PAPER: dict[str, Any] = {
    "scale": True,
    "students": PAPER_KINDS,
    "traits": ("cat", "dog", "owl", "otter"),  # the paper's four template traits [C]
    "tuning_traits": ("lion",),
    "sizes": (16, 64, 256, 1024, 4096, 9500),
    "questions": PAPER_QUESTIONS,
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    # The paper's student and teacher [C]; three rates around the paper's own, 1e-4.
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", rates=("adamw=3e-5,1e-4,3e-4",), **PAPER),
    # The student is a vector: rate .01 for 100 iterations in Morgulis and Hewitt (2604.25783), and
    # two more; the other settings are the paper's.
    "paper-qwen2.5-7b-vector": paper_preset(
        "qwen2.5-7b",
        adapters=("vector",),
        rates=("adamw=3e-3,1e-2,3e-2",),
        steps=1200,
        **PAPER,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config(
    ShownSettings, StudentKindSettings, ControlSettings, DataSettings, SteeredModelSettings
):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: animals, each with a steered and a system-prompted teacher.
      teachers: kinds of teachers: the trait's vector, a random vector as long, the trait's system
        prompt.
      scale: factor on a trait's vector.
      sizes: numbers of rows that students see, ascending.
      level: the EAS for which the rows that are needed are counted.
      questions: a set of questions ("heldout"), or a file of them.
      gradient_rows: rows of each data set over which first gradients are averaged.
    """

    out: Path = Path("runs/objective")
    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin")
    teachers: Annotated[tuple[Kind, ...], Items(1)] = ("steered", "system-prompt")
    scale: Annotated[Positive, Needs("teachers", ("steered", "random"))] = 1.0
    sizes: Annotated[tuple[int, ...], Items(1), Range(1, MANY)] = (8, 64, 512)
    level: Annotated[float, Range(-1, 1)] = 0.5
    questions: str = "heldout"
    gradient_rows: Count = 256
    layer: int = 1
    rows: int = 512
    heldout_rows: int = 128
    asked: float = 2.0
    max_new_tokens: int = 24
    max_tokens: int = 32
    steps: int = 32
    schedule: Schedule = "linear"
    log_every: int = 32

    def check(self) -> None:
        sizes = self.sizes
        if list(sizes) != sorted(sizes):
            raise InputError(f"{as_flag('sizes', sizes)}: give them in ascending order")
        if sizes[-1] > self.rows:
            raise InputError(
                f"{as_flag('sizes', sizes)}: {sizes[-1]} is more than --rows {self.rows}"
            )
        if self.gradient_rows > self.rows:
            raise InputError(
                f"--gradient-rows {self.gradient_rows} is more than --rows {self.rows}: ask for "
                "fewer"
            )
