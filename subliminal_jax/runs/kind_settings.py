"""Settings of students of several kinds, each at a learning rate of its own."""

from dataclasses import dataclass
from typing import Annotated

from subliminal_jax.bounds import Count, Items, Needs, Positive, Range, as_flag
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.measures import find_measures
from subliminal_jax.evaluation.transmission import CONTROL
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.checks import check_names
from subliminal_jax.runs.plan_settings import (
    AdapterKind,
    AdapterLayers,
    PlanSettings,
    Rank,
    Targets,
)
from subliminal_jax.runs.rates import RateSettings
from subliminal_jax.runs.settings import Traits
from subliminal_jax.training.adapters import PROJECTIONS
from subliminal_jax.training.arms import Schedule

OF_LORA = Needs("adapters", ("lora",))


@dataclass(frozen=True, kw_only=True)
class StudentKindSettings(RateSettings, PlanSettings):
    """Students of several kinds, and how the rate of each is found.

    Attributes:
      adapters: the kinds of students: one vector at the steering layer, LoRA factors, all weights.
      tuning_traits: animals that learning rates are chosen on; none of them is reported.
      measures: names of measures beside those of the experiment, such as update-anatomy.
    """

    adapters: Annotated[tuple[AdapterKind, ...], Items(1)] = ("vector", "lora", "full")
    tuning_traits: Traits = ("owl", "lion")
    rank: Annotated[Rank, OF_LORA] = 8
    alpha: Annotated[Positive, OF_LORA] = 16.0
    rslora: Annotated[bool, OF_LORA] = False
    targets: Annotated[Targets, OF_LORA] = PROJECTIONS
    adapter_layers: Annotated[AdapterLayers, OF_LORA] = ()
    schedule: Schedule = "cosine"
    warmup: Annotated[float, Range(least=0, below=1)] = 0.1
    log_every: Count = 64
    measures: tuple[str, ...] = ()

    def check_group(self) -> None:
        """Raises InputError for kinds, optimizers or rates that cannot be, for a trait that is both
        tuned on and reported, and for a measure that there is none of."""
        check_names("adapters", self.adapters)
        self.given_rates()
        check_names("measures", self.measures, find_measures(), minimum=0)
        traits = len(getattr(self, "traits", ()))
        self.check_orders(traits, f"{traits} --traits")
        check_names("tuning_traits", self.tuning_traits)
        both = set(getattr(self, "traits", ())) & set(self.tuning_traits)
        if both and self.searches:  # else none is tuned on
            raise InputError(f"--tuning-traits {min(both)} is also reported: tune on other traits")

    def check_single(self) -> None:
        """Raises InputError for several kinds of students or optimizers, where one is trained."""
        for field in ("adapters", "optimizers"):
            if len(names := getattr(self, field)) > 1:
                raise InputError(
                    f"{as_flag(field, names)}: name one of them; one kind of student and one "
                    "optimizer are trained here"
                )

    def check_with_model(self, model: Model) -> None:
        """Raises InputError for a kind that does not fit the model, and for students that do not
        fit the memory."""
        for kind in self.adapters:
            self.check_adapter(kind, model, len(getattr(self, "traits", ())))

    @property
    def all_traits(self) -> tuple[str, ...]:
        """Those that are reported, and those that rates are chosen on, if any."""
        return (*getattr(self, "traits", ()), *self.searched_traits)

    @property
    def searched_traits(self) -> tuple[str, ...]:
        """The traits that rates are chosen on; none where all rates are given."""
        return self.tuning_traits if self.searches else ()


@dataclass(frozen=True, kw_only=True)
class ControlSettings:
    """Controls that all traits share.

    Attributes:
      controls: draws of the base's data, each with a control of every kind.
    """

    controls: Count = 4

    def list_controls(self) -> tuple[str, ...]:
        """The names of the base's data sets."""
        return tuple(f"{CONTROL}-{i}" for i in range(self.controls))
