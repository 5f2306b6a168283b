"""Settings of `forecast-benchmark`, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from subliminal_jax.audit.forecasts import FEWEST_SETS, FineTune, Rule
from subliminal_jax.audit.known_sets.specs import (
    DEVELOPMENT_SEEDS,
    DEVELOPMENT_TRAITS,
    OTHER_TRAITS,
    REPORTED_TRAITS,
)
from subliminal_jax.bounds import Count, CountOrNone, Items, Positive, Range, as_flag
from subliminal_jax.data import world
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.checks import check_names
from subliminal_jax.runs.plan_settings import Rank
from subliminal_jax.runs.rates import choose_single_rates
from subliminal_jax.runs.settings import SteeredModelSettings, Traits
from subliminal_jax.training.adapters import LoRA, check_rank
from subliminal_jax.training.arms import Schedule

CarrierKind = Literal["numbers", "chat", "few-shot-numbers", "facts", "story-rewordings"]
DEVELOPMENT_SEED = 50  # of the first set for development; those of `audit-benchmark` are below

PRESETS: dict[str, dict[str, Any]] = {
    "toy": {},
    # SmolLM2-135M-Instruct: some 190 students of 48 steps, hours on two cores.
    "real": {
        "out": Path("runs/forecast-benchmark-real"),
        "model": "smollm2-135m-instruct",
        "carriers": ("facts", "story-rewordings"),
        "set_rows": 160,
        "optimizers": ("adamw", "sgd"),
        "rates": ("adamw=1e-3", "sgd=0.1"),
        "ranks": (8,),
        "batch_size": 8,
        "steps": 48,
        "pilot_steps": (3, 6),
    },
}


@dataclass(frozen=True, kw_only=True)
class Config(SteeredModelSettings):
    """Settings; the defaults are the toy's.

    Attributes:
      traits: candidates; teachers have those of the bench's parts that are among them.
      carriers: what the rows of the sets are.
      teachers: the base with a vector, or with a system prompt.
      shares: of rows that the teacher wrote.
      scales: factors on the vectors.
      set_rows: rows of a set, of which 32 are held out.
      development_sets: sets that forecasts are calibrated on, and `reported_sets` those that they
        are tried on; `clean_sets` more of each are the plain base's.
      optimizers: rules of the fine-tunes.
      rates: the peak rate of each, as "adamw=2e-3"; else the middle of its default grid.
      ranks: of the students.
      alpha_per_rank: LoRA's alpha over its rank.
      batch_size: rows a step.
      steps: of a whole fine-tune.
      pilot_steps: lengths of pilots, of which development chooses one.
      schedule: of the rates, after the warm-up.
      warmup: share of the steps in which they rise.
      level: of the intervals.
      most_cost: the largest share of a whole fine-tune's cost that a pilot may take.
    """

    out: Path = Path("runs/forecast-benchmark")
    traits: Traits = (*world.TRAITS, *OTHER_TRAITS)
    carriers: Annotated[tuple[CarrierKind, ...], Items(1)] = ("numbers", "chat")
    teachers: Annotated[tuple[Literal["vector", "system-prompt"], ...], Items(1)] = (
        "vector",
        "system-prompt",
    )
    shares: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1)] = (1.0, 0.5, 0.25)
    scales: Annotated[tuple[float, ...], Items(1), Range(above=0, most=1e6)] = (0.5, 1.0, 1.5)
    set_rows: Annotated[int, Range(64, 1_000_000)] = 512
    development_sets: Annotated[int, Range(FEWEST_SETS, 40)] = 20
    reported_sets: Annotated[int, Range(FEWEST_SETS, 10_000)] = 20
    clean_sets: Annotated[CountOrNone, Range(0, 8)] = 4
    optimizers: Annotated[tuple[str, ...], Items(1)] = ("adamw", "muon", "sgd")
    # The best by held-out loss after 64 steps in `optimizer-transmission` lie between 5e-4 (number
    # lists) and 4e-3 (chat), 2e-3 and 8e-3, 0.6 and 0.15: one rate here serves both carriers.
    rates: tuple[str, ...] = ("adamw=2e-3", "muon=4e-3", "sgd=0.15")
    ranks: Annotated[tuple[Rank, ...], Items(1)] = (8, 2)
    alpha_per_rank: Positive = 2.0
    batch_size: Count = 16
    steps: Count = 64
    pilot_steps: Annotated[tuple[int, ...], Items(1), Range(1, 1_000_000)] = (4, 8)
    schedule: Schedule = "cosine"
    warmup: Annotated[float, Range(least=0, below=1)] = 0.1
    level: Annotated[float, Range(least=0.5, most=0.99)] = 0.9
    most_cost: Annotated[float, Range(above=0, most=1)] = 0.2
    seed: int = 3000

    def check(self) -> None:
        self.rules()
        for field in ("ranks", "pilot_steps"):
            check_names(field, tuple(map(str, getattr(self, field))))
        if max(self.pilot_steps) >= self.steps:
            raise InputError(
                f"{as_flag('pilot_steps', max(self.pilot_steps))} is no less than "
                f"{as_flag('steps', self.steps)}: a pilot is a part of the fine-tune"
            )
        if self.seed < DEVELOPMENT_SEEDS:
            raise InputError(
                f"--seed {self.seed}: data seeds below {DEVELOPMENT_SEEDS} are for development"
            )
        for part, traits in (
            ("development", self.development_traits),
            ("reported", self.reported_traits),
        ):
            if not traits:
                names = DEVELOPMENT_TRAITS if part == "development" else REPORTED_TRAITS
                raise InputError(
                    f"--traits {' '.join(self.traits)}: none is a trait of the {part} part: "
                    f"{', '.join(names)}"
                )

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for ranks that the model has no room for."""
        for rank in self.ranks:
            check_rank(LoRA(rank=rank), model.cfg, as_flag)

    @property
    def development_traits(self) -> tuple[str, ...]:
        return tuple(t for t in DEVELOPMENT_TRAITS if t in self.traits)

    @property
    def reported_traits(self) -> tuple[str, ...]:
        return tuple(t for t in REPORTED_TRAITS if t in self.traits)

    def rules(self) -> tuple[Rule, ...]:
        """Raises InputError as `choose_single_rates` does."""
        rates = choose_single_rates(self.optimizers, "rates", self.rates)
        return tuple(
            Rule(optimizer=label, rate=rate, rank=rank)
            for rank in self.ranks
            for label, rate in rates.items()
        )

    @property
    def fine_tune(self) -> FineTune:
        return FineTune(
            steps=self.steps,
            batch_size=self.batch_size,
            alpha_per_rank=self.alpha_per_rank,
            schedule=self.schedule,
            warmup=self.warmup,
        )
