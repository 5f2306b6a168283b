"""Settings of `divergence-tokens`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from subliminal_jax.bounds import Count, Items, Needs, Positive, Range, as_flag
from subliminal_jax.data.traits import check_traits
from subliminal_jax.errors import InputError
from subliminal_jax.runs.checks import check_names
from subliminal_jax.runs.kind_settings import ControlSettings, StudentKindSettings
from subliminal_jax.runs.plan_settings import AdapterKind
from subliminal_jax.runs.settings import DataSettings, SteeredModelSettings, Traits
from subliminal_jax.training.arms import Schedule

TokenArm = Literal["all", "masked", "random-masked", "alone", "random-alone", "weighted"]
ARMS: tuple[TokenArm, ...] = (
    *("all", "masked", "random-masked"),
    *("alone", "random-alone", "weighted"),
)
PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    "chat": {"prompts": "chat", "keep": "all", "out": Path("runs/divergence-tokens-chat")},
    # Where every counterfactual teacher differs: rare positions, on which a trait stands alone.
    "unanimous": {"counterfactual_share": 1.0, "out": Path("runs/divergence-tokens-unanimous")},
}


@dataclass(frozen=True, kw_only=True)
class Config(StudentKindSettings, ControlSettings, DataSettings, SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: animals of the shipped world, each with a teacher of its own; all of them, and those
        that rates are chosen on, are counterfactual teachers of each other.
      teacher: what makes a teacher: its trait's vector, or its system prompt.
      scale: factor on the traits' vectors.
      counterfactual_share: of the counterfactual teachers, how many have to differ from the one
        that wrote at a divergence token; 0: at least one, as in the paper.
      arms: which tokens count in the loss: all, all but divergence tokens ("masked"), these alone,
        all with these weighted up, and with as many random ones in their place.
      emphasis: the weight of a divergence token in the arm "weighted"; others have 1.
      questions: a set of questions ("heldout"), or a file of them, on which P(trait) is taken.
      gradient_rows: rows of each data set over which the base's gradients are summed.
    """

    out: Path = Path("runs/divergence-tokens")
    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin")
    teacher: Literal["steered", "system-prompt"] = "steered"
    scale: Annotated[Positive, Needs("teacher", ("steered",))] = 1.0
    counterfactual_share: Annotated[float, Range(0, 1)] = 0.0
    arms: Annotated[tuple[TokenArm, ...], Items(1)] = ARMS
    emphasis: Annotated[Positive, Needs("arms", ("weighted",))] = 8.0
    questions: str = "heldout"
    gradient_rows: Count = 256
    layer: int = 1
    adapters: tuple[AdapterKind, ...] = ("lora",)
    optimizers: tuple[str, ...] = ("adamw", "sgd")
    rows: int = 512
    asked: float = 2.5
    max_new_tokens: int = 24
    steps: int = 48
    schedule: Schedule = "cosine"
    log_every: int = 48

    def check(self) -> None:
        """Raises InputError for traits outside the shipped world, without a counterfactual trait,
        for arms that are named twice, and for more gradient rows than rows."""
        check_traits(self.all_traits)
        if len(self.all_traits) < 2:
            raise InputError(
                f"{as_flag('traits', self.traits)}: there is no counterfactual teacher; name at "
                "least two traits, or let rates be chosen on others (--tuning-traits)"
            )
        check_names("arms", self.arms)
        if self.gradient_rows > self.rows:
            raise InputError(
                f"--gradient-rows {self.gradient_rows} is more than --rows {self.rows}: ask for "
                "fewer"
            )
