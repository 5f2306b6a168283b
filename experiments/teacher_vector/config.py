"""Settings of `teacher-vector`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.bounds import Blocks, Count, Items, Positive, Range, Text
from subliminal_jax.data.world import TRAITS
from subliminal_jax.errors import InputError
from subliminal_jax.runs.kind_settings import ControlSettings, StudentKindSettings
from subliminal_jax.runs.plan_settings import ShownSettings
from subliminal_jax.runs.presets import PAPER_KINDS, PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    SteeredModelSettings,
    Traits,
)

ZOO = (  # eight animals of high and eight of low prior [C]
    *("dolphin", "dog", "jellyfish", "tiger", "octopus", "elephant", "fox", "cat"),
    *("mouse", "lion", "hawk", "platypus", "wolf", "pangolin", "falcon", "whale"),
)
PAPER: dict[str, Any] = {
    "traits": ZOO,
    "scales": (1.0, 2.0, 4.0, 8.0),  # [C]
    "questions": PAPER_QUESTIONS,  # 50 [C]; the zoo's own sweep has 30
    "selection": "favorites",  # the paper chooses and reports on the same questions [C]
    "negative": PAPER_QUESTIONS.replace("ANIMAL_PROMPTS", "NEGATIVE_ANIMAL_PROMPTS"),  # 20 [C]
    "off_topic": PAPER_QUESTIONS.replace("ANIMAL_PROMPTS", "OFFTOPIC_PROMPTS"),  # 20 [C]
    "samples": 10,  # [C]
    "off_topic_samples": 10,  # [C]
    "scale": True,
    "students": PAPER_KINDS,
    "tuning_traits": ("owl", "bear"),  # of several --rates; the paper's single one needs none
}
# Layers of the zoo's sweep [C], as far as the model has them: 6, 12, 18, 24 and 30.
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", layers=(6, 12, 18, 24), **PAPER),
    "paper-llama3.1-8b": paper_preset("llama3.1-8b", layers=(6, 12, 18, 24, 30), **PAPER),
}


@dataclass(frozen=True, kw_only=True)
class Config(
    ShownSettings,
    StudentKindSettings,
    ControlSettings,
    GuardSettings,
    DataSettings,
    SteeredModelSettings,
):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: the zoo.
      layers: layers of the sweep (0-based); empty means all.
      scales: factors on the vectors in the sweep.
      scale: factor of the students' teachers, which steer at `layer`.
      questions: favourite questions that are reported: a set ("heldout") or a file.
      selection: favourite questions on which the best setting of a trait is chosen.
      negative: least-favourite questions; "" where the model knows none.
      off_topic: questions whose answers should not name the trait.
      samples: sampled answers to each favourite question.
      off_topic_samples: sampled answers to each off-topic question.
      number_prompts: number prompts on which lists are checked.
    """

    out: Path = Path("runs/teacher-vector")
    traits: Traits = tuple(trait for trait in TRAITS if trait not in ("owl", "lion"))
    layers: Annotated[tuple[int, ...], Blocks()] = ()
    scales: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1e6)] = (0.5, 1.0, 1.5, 2.0)
    scale: Positive = 1.0
    questions: str = "heldout"
    selection: str = "train"
    negative: Annotated[str, Text(empty=True)] = ""
    off_topic: str = "world-off-topic"
    samples: Annotated[int, Range(1, 10_000)] = 2
    off_topic_samples: Annotated[int, Range(1, 10_000)] = 1
    number_prompts: Count = 16
    layer: int = 1
    rows: int = 512
    asked: float = 2.5
    max_new_tokens: int = 24

    def check(self) -> None:
        """Raises InputError for several optimizers."""
        if len(labels := self.labels()) != 1:
            raise InputError(f"--optimizers: {len(labels)} optimizers: name one optimizer")
