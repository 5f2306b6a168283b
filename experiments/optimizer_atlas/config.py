"""Settings of `optimizer-atlas`, and its presets."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.bounds import MANY, Count, Items, Range
from subliminal_jax.errors import InputError
from subliminal_jax.runs.settings import Traits
from subliminal_jax.runs.student_files import KeptStudents
from subliminal_jax.runs.vector_settings import VectorSettings
from subliminal_jax.training.adapters import LARGEST_RANK

from .rules import EIGHT, MAP, PENALISED, RULES, TWELVE

REFERENCE = "adamw"  # whose gain sets the level at which rules are matched
LEAST_INTERVAL = 8  # steps between checkpoints, at least
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "small": {
        "model": "shipped-small",
        "rules": TWELVE,
        "out": Path("runs/optimizer-atlas-small"),
    },
    "chat": {"prompts": "chat", "keep": "all", "out": Path("runs/optimizer-atlas-chat")},
    # Does a flatter spectrum make a rule transmit less?
    "penalty": {
        "rules": ("adamw", "lion", *PENALISED),
        "out": Path("runs/optimizer-atlas-penalty"),
    },
    # Does the rule matter more than the rank?
    "factorial": {
        "rules": EIGHT,
        "further_ranks": (2, 32),
        "out": Path("runs/optimizer-atlas-factorial"),
    },
}


@dataclass(frozen=True, kw_only=True)
class Config(VectorSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      rules: those of the atlas that are trained, by name; adamw is among them.
      screen_steps: of the students that rates and settings are chosen by.
      lengths: numbers of steps of the reported students; all are compared at the last.
      further_ranks: of LoRA, at which everything is done again.
      rules_at_once: rules in one compiled program.
      most_cost: a rule whose student step costs more than this many times AdamW's is left out.
    """

    out: Path = Path("runs/optimizer-atlas")
    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "dolphin")
    controls: Count = 2
    save_students: KeptStudents = "none"  # there are a thousand
    factor: Annotated[float, Range(above=1, most=100)] = 3.0
    extensions: Annotated[int, Range(0, 100)] = 1
    rules: Annotated[tuple[str, ...], Items(1)] = MAP
    screen_steps: Count = 48
    lengths: Annotated[tuple[int, ...], Range(1, MANY), Items(2)] = (24, 96)
    further_ranks: Annotated[tuple[int, ...], Range(1, LARGEST_RANK)] = ()
    rules_at_once: Annotated[int, Range(1, 1_000)] = 9
    most_cost: Annotated[float, Range(1, 1e6)] = 4.0

    def check(self) -> None:
        """Raises InputError for a rule that the atlas has no properties of, for lengths that do not
        ascend, without the rule of reference, and for a rank that is named twice."""
        for name in self.rules:
            if name not in RULES:
                raise InputError(
                    f"--rules {name} is none of the atlas, which has {', '.join(RULES)}"
                )
        if REFERENCE not in self.rules:
            raise InputError(f"--rules needs {REFERENCE}, whose gain sets where rules are matched")
        if list(self.lengths) != sorted(set(self.lengths)):
            raise InputError(f"--lengths {self.lengths}: give each once, ascending")
        if self.rank in self.further_ranks:
            raise InputError(f"--further-ranks {self.rank} is --rank: name others")

    @property
    def ranks(self) -> tuple[int, ...]:
        """The main rank first."""
        return (self.rank, *self.further_ranks)

    @property
    def interval(self) -> int:
        """Steps between the checkpoints of reported students: a part of all lengths."""
        common = math.gcd(*self.lengths)
        return common if common >= LEAST_INTERVAL else 0
