"""Settings of `steering-bridge`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subliminal_jax.bounds import Positive
from subliminal_jax.data import world
from subliminal_jax.data.traits import check_traits
from subliminal_jax.errors import InputError
from subliminal_jax.runs.kind_settings import ControlSettings, StudentKindSettings
from subliminal_jax.runs.plan_settings import AdapterKind
from subliminal_jax.runs.settings import (
    DataSettings,
    GuardSettings,
    SteeredModelSettings,
    Traits,
)

PRESETS: dict[str, dict[str, Any]] = {"toy": {}}


@dataclass(frozen=True, kw_only=True)
class Config(
    StudentKindSettings, ControlSettings, GuardSettings, DataSettings, SteeredModelSettings
):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: animals of the shipped world, each with a teacher of its own.
      scale: factor on the trait's vector, in the teacher; the vector is tried unscaled.
      questions: favourite questions on which P(trait) is taken.
    """

    out: Path = Path("runs/steering-bridge")
    traits: Traits = tuple(trait for trait in world.TRAITS if trait not in ("owl", "lion"))
    scale: Positive = 1.0
    questions: str = "heldout"
    layer: int = 1
    seed: int = 1
    adapters: tuple[AdapterKind, ...] = ("lora",)
    rows: int = 512
    asked: float = 2.5
    max_new_tokens: int = 24

    def check(self) -> None:
        check_traits(self.all_traits)
        self.check_single()
        if "vector" in self.adapters:
            raise InputError("--adapters vector adds nothing to the weights: choose lora or full")
