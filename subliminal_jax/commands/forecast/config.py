"""Settings of `forecast`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from subliminal_jax.audit.settings import parse_source
from subliminal_jax.bounds import Count, CountOrNone, Items, Range, as_flag
from subliminal_jax.data import world
from subliminal_jax.errors import InputError
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.checks import check_names
from subliminal_jax.runs.plan_settings import Rank
from subliminal_jax.runs.rates import choose_single_rates, read_grids
from subliminal_jax.runs.settings import SteeredModelSettings, Traits
from subliminal_jax.training.adapters import LoRA, check_rank
from subliminal_jax.training.optimizers import OptimizerSpec

PRESETS: dict[str, dict[str, Any]] = {"toy": {}}


@dataclass(frozen=True, kw_only=True)
class Config(SteeredModelSettings):
    """Settings of a forecast.

    Attributes:
      data: a JSONL file or hub name with prompt/completion pairs; or what the project's own teacher
        writes: "clean", "steered:TRAIT:SCALE" or "system-prompt:TRAIT".
      traits: candidates: words that the student may come to name as its favourite.
      optimizers: rules of the fine-tune, each of which gets a forecast.
      rates: the peak rate of each, as "adamw=2e-3"; else that of the calibration, or the middle of
        the rule's default grid.
      ranks: of the fine-tune's LoRA factors, each of which gets a forecast.
      steps: of the whole fine-tune; 0: as calibrated.
      batch_size: rows a step; 0: as calibrated.
      pilot_steps: of the pilot, where nothing is calibrated; 0: an eighth of the fine-tune's.
      rows: of the data that are drawn, at most.
      calibration: the folder of a `forecast-benchmark`, in place of the package's calibration for
        the model.
    """

    out: Path = Path("runs/forecast")
    data: str = "steered:wolf:1"
    traits: Traits = world.TRAITS
    optimizers: Annotated[tuple[str, ...], Items(1)] = ("adamw", "muon", "sgd")
    rates: tuple[str, ...] = ()
    ranks: Annotated[tuple[Rank, ...], Items(1)] = (8,)
    steps: CountOrNone = 0
    batch_size: CountOrNone = 0
    pilot_steps: CountOrNone = 0
    rows: Annotated[Count, Range(16, 10_000_000)] = 2048
    calibration: Path | None = None

    def check(self) -> None:
        """Raises InputError for rules or rates that cannot be."""
        check_names("ranks", tuple(map(str, self.ranks)))
        if 0 < self.steps <= self.pilot_steps:
            raise InputError(
                f"--pilot-steps {self.pilot_steps} is no less than --steps {self.steps}: a pilot "
                "is a part of the fine-tune"
            )
        self.given_rates()

    def given_rates(self) -> dict[str, float | None]:
        """The rate of each optimizer, by its label; None where none is given.

        Raises InputError as `choose_single_rates` does.
        """
        rates = choose_single_rates(self.optimizers, "rates", self.rates)
        given = {OptimizerSpec.parse(text).label for text in read_grids("rates", self.rates)}
        return {label: rate if label in given else None for label, rate in rates.items()}

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for a teacher of `data` that cannot be, and ranks without room."""
        parse_source(self.data, model)
        for rank in self.ranks:
            check_rank(LoRA(rank=rank), model.cfg, as_flag)
