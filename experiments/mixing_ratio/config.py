"""Settings of `mixing-ratio`, and its presets."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.bounds import Items, Positive, Range, as_flag
from subliminal_jax.data.traits import check_traits
from subliminal_jax.errors import InputError
from subliminal_jax.runs.kind_settings import StudentKindSettings
from subliminal_jax.runs.plan_settings import AdapterKind
from subliminal_jax.runs.settings import DataSettings, SteeredModelSettings, Traits
from subliminal_jax.training.arms import Schedule

PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "chat": {"prompts": "chat", "keep": "all", "out": Path("runs/mixing-ratio-chat")},
}
# Rates are found on tuning traits' mixtures of this share, and serve all shares: along a curve
# nothing but the share changes, and it favours neither end.
TUNING_SHARE = 0.5
QUARTER = 0.25  # the share whose effect is held against that of teacher rows alone


@dataclass(frozen=True, kw_only=True)
class Config(StudentKindSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: animals of the shipped world, each with a teacher, clean rows and a student's seed of
        its own.
      scale: factor on the trait's vector.
      shares: of the teacher's rows among a student's, ascending, from 0 (the control) to 1.
      questions: a set of questions ("heldout"), or a file of them, on which P(trait) is taken.
    """

    out: Path = Path("runs/mixing-ratio")
    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin")
    scale: Positive = 1.0
    shares: Annotated[tuple[float, ...], Items(5), Range(0, 1)] = (
        *(0.0, 0.02, 0.05, 0.1),
        *(0.25, 0.5, 0.75, 1.0),
    )
    questions: str = "heldout"
    layer: int = 1
    adapters: tuple[AdapterKind, ...] = ("lora",)
    optimizers: tuple[str, ...] = ("adamw", "sgd")
    rows: int = 512
    asked: float = 2.5
    max_new_tokens: int = 24
    schedule: Schedule = "cosine"
    log_every: int = 64

    def check(self) -> None:
        """Raises InputError for traits outside the shipped world, and for shares without those that
        the comparison needs, or that come to the same number of rows."""
        check_traits(self.all_traits)
        given = as_flag("shares", self.shares)
        if list(self.shares) != sorted(self.shares):
            raise InputError(f"{given}: give them ascending")
        for needed in (0.0, QUARTER, 1.0):
            if needed not in self.shares:
                raise InputError(f"{given}: {needed:g} is missing, with which others are compared")
        for low, high in pairwise(self.shares):
            if round(low * self.rows) == round(high * self.rows):
                raise InputError(
                    f"{given}: {low:g} and {high:g} are as many of --rows {self.rows}; give more "
                    "rows, or other shares"
                )
