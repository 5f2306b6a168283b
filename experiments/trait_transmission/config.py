"""Settings of `trait-transmission`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subliminal_jax.runs.kind_settings import ControlSettings
from subliminal_jax.runs.presets import PAPER_KINDS, PAPER_QUESTIONS, paper_preset
from subliminal_jax.runs.settings import DataSettings, GuardSettings, ObjectiveSettings
from subliminal_jax.runs.transmission_settings import TransmissionSettings

ZOO = ("cat", "dog", "owl", "otter")  # the paper's four template traits [C]
PAPER: dict[str, Any] = {
    "scale": True,
    "students": PAPER_KINDS,
    "traits": ZOO,
    "tuning_traits": ("lion", "wolf"),  # of several --rates; the paper's single one needs none
    "questions": PAPER_QUESTIONS,
}
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper-qwen2.5-7b": paper_preset("qwen2.5-7b", **PAPER),
    "paper-llama3.1-8b": paper_preset("llama3.1-8b", **PAPER),
    "paper-gemma3-4b": paper_preset("gemma3-4b", **PAPER),
}


@dataclass(frozen=True, kw_only=True)
class Config(TransmissionSettings, ControlSettings, GuardSettings, ObjectiveSettings, DataSettings):
    """Settings; the defaults are the toy's."""

    out: Path = Path("runs/trait-transmission")
    rows: int = 512
    asked: float = 2.5
    max_new_tokens: int = 24
