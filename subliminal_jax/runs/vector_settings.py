"""Settings of students of several vectors."""

from dataclasses import dataclass
from typing import Annotated

from subliminal_jax.bounds import Count, Positive, Range, Text
from subliminal_jax.errors import InputError
from subliminal_jax.runs.plan_settings import ShownSettings
from subliminal_jax.runs.rates import SearchSettings
from subliminal_jax.runs.settings import DataSettings, SteeredModelSettings, Traits
from subliminal_jax.training.adapters import LARGEST_RANK, LoRA
from subliminal_jax.training.arms import Schedule, TrainConfig


@dataclass(frozen=True, kw_only=True)
class VectorSettings(ShownSettings, SearchSettings, DataSettings, SteeredModelSettings):
    """Students of several vectors.

    Attributes:
      traits: animals whose vectors are reported.
      tuning_traits: animals on whose vectors rates are chosen; none of them is reported.
      scale: factor on a trait's vector.
      stem: what answers begin with before the trait where its probability is taken, such as "My
        favorite animal is the"; for models that answer in sentences.
      controls: draws of the base's data, each with a control of every optimizer.
      batch_size: rows in each step.
      rank: of LoRA, on all projections.
      alpha: LoRA's alpha.
      rslora: scale LoRA by alpha/sqrt(rank) (rank-stabilised) in place of alpha/rank.
      schedule: what follows the warm-up.
      warmup: share of the steps.
    """

    layer: int = 1
    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin")
    tuning_traits: Traits = ("owl", "lion")
    scale: Positive = 1.0
    stem: Annotated[str, Text(empty=True, prose=True)] = ""
    controls: Count = 4
    rows: Count = 512
    heldout_rows: Count = 128
    batch_size: Count = 16
    rank: Annotated[int, Range(1, LARGEST_RANK)] = 8
    alpha: Positive = 16.0
    rslora: bool = False
    schedule: Schedule = "cosine"
    warmup: Annotated[float, Range(least=0, below=1)] = 0.1

    @property
    def all_traits(self) -> tuple[str, ...]:
        """Those that are reported, and those that rates are chosen on."""
        return (*self.traits, *self.tuning_traits)

    def check_group(self) -> None:
        """Raises InputError for a trait of both kinds of vectors."""
        if both := set(self.traits) & set(self.tuning_traits):
            raise InputError(f"--tuning-traits {min(both)} is also reported: tune on other vectors")

    def list_controls(self) -> tuple[str, ...]:
        """The names of the base's data sets."""
        return tuple(f"control-{i}" for i in range(self.controls))

    def plan(self, steps: int) -> TrainConfig:
        """How students of so many steps are trained; they are measured at the end."""
        return TrainConfig(
            steps=steps,
            batch_size=self.batch_size,
            adapter=LoRA(self.rank, self.alpha, rslora=self.rslora),
            schedule=self.schedule,
            warmup=self.warmup,
            log_every=steps,
        )
