"""Settings of `blocking`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.bounds import Count, Items, Positive, Range
from subliminal_jax.errors import InputError
from subliminal_jax.runs.checks import VectorSource
from subliminal_jax.runs.kind_settings import (
    OF_LORA,
    ControlSettings,
    StudentKindSettings,
)
from subliminal_jax.runs.plan_settings import AdapterKind, AdapterLayers
from subliminal_jax.runs.presets import PAPER_KINDS, PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.settings import DataSettings, SteeredModelSettings, Traits

from .cases import make_cases

PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    # The paper's teachers, prompts and students [C]; it has no guards. Its temperature is 1 [C]:
    # then plain data hold nothing to learn, and there is no task that a guard could cost.
    "paper-qwen2.5-7b": paper_preset(
        "qwen2.5-7b",
        scale=True,
        students=PAPER_KINDS,
        traits=("cat", "owl"),
        tuning_traits=("lion", "wolf"),  # of several --rates; the paper's single one needs none
        questions=PAPER_QUESTIONS,
        asked=4.0,
        temperature=0.7,
        shares=(0.1, 0.5),
        adapter_layers=(),
        blind_steps=1_000,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config(StudentKindSettings, ControlSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's. `rows` is what every student trains on. The first of
    `adapters` is trained under every guard, the others under those that act in each step.

    Attributes:
      traits: animals, each with a teacher of its own.
      scale: factor on the trait's vector.
      questions: a set of questions ("heldout"), or a file of them.
      shares: shares of the rows that drop-rows leaves out, of as many more rows.
      blind_steps: steps that train the blind vectors.
      guard_vector: the known vector: "teacher" (each data set's own), or a safetensors file.
    """

    out: Path = Path("runs/blocking")
    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin")
    adapters: Annotated[tuple[AdapterKind, ...], Items(1)] = ("lora", "vector")
    scale: Positive = 1.0
    questions: str = "heldout"
    shares: Annotated[tuple[float, ...], Items(1), Range(above=0, below=1)] = (0.5,)
    blind_steps: Count = 96
    guard_vector: Annotated[str, VectorSource(words=("teacher", "blind"))] = "teacher"
    layer: int = 1
    seed: int = 1
    rows: int = 512
    heldout_rows: int = 128
    asked: float = 1.4
    max_new_tokens: int = 24
    temperature: float = 0.7
    adapter_layers: Annotated[AdapterLayers, OF_LORA] = (0, 1)

    def check(self) -> None:
        if self.guard_vector == "blind":
            raise InputError(
                "--guard-vector blind: blocking has a blind vector beside the known one; give "
                "teacher or a file"
            )
        make_cases(self.shares)
