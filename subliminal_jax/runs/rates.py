"""Learning rates: as the flag `--rates` takes them (adamw=1e-3,3e-3), or to be searched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from subliminal_jax.bounds import (
    Items,
    Range,
    Rule,
    as_flag,
    check_distinct,
    check_value,
    flag,
    parse_number,
)
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.rate_search import (
    RateChoice,
    Train,
    choose_from_grids,
    choose_rates,
)
from subliminal_jax.training.optimizers import OptimizerSpec

RATE = Rule(float, Range(above=0, most=1e38))  # one that is too high diverges, and is counted


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How far a search for learning rates goes.

    Attributes:
      factor: between neighbouring rates of a search.
      extensions: rounds by which a search may be extended.
    """

    factor: Annotated[float, Range(above=1, most=100)] = 2.0
    extensions: Annotated[int, Range(0, 100)] = 4


@dataclass(frozen=True, kw_only=True)
class RateSettings(SearchSettings):
    """Optimizers, and how the learning rate of each is found.

    Attributes:
      optimizers: names of the registry, with hyper-parameters as in "adamw:b1=0.8", or builders of
        your own as "my_module:my_rule" or "my_module:my_rule,b1=0.8".
      rates: learning rates as "adamw=1e-3,3e-3" that are tried in place of a search (for every kind
        of student); of one rate nothing is tried.
    """

    optimizers: Annotated[tuple[str, ...], Items(1)] = ("adamw",)
    rates: tuple[str, ...] = ()

    def given_rates(self) -> dict[str, tuple[float, ...]]:
        """The rates of each optimizer, by its label, that are tried in place of a search; none
        where there is one.

        Raises InputError as `choose_grids` does.
        """
        given = {OptimizerSpec.parse(name).label for name in read_grids("rates", self.rates)}
        chosen = choose_grids(self.optimizers, "rates", self.rates, 1)
        return {s.label: grid if s.label in given else () for s, grid in chosen.items()}

    @property
    def searches(self) -> bool:
        """Whether any rate has to be found."""
        return any(len(grid) != 1 for grid in self.given_rates().values())

    def labels(self) -> tuple[str, ...]:
        """The labels of the optimizers."""
        return tuple(self.given_rates())

    def find_rates(
        self, centers: Mapping[str, float], steps: int, train: Train
    ) -> tuple[RateChoice, ...]:
        """The rate of each optimizer: the best of those that are given, or of a search.

        Args:
          centers: where a search begins, by the label of each optimizer that has no rates given.
          steps: of the runs.
          train: (round, rates by label) -> their losses.
        """
        grids = self.given_rates()
        given = {label: grid for label, grid in grids.items() if grid}
        chosen = choose_from_grids(given, steps, train) if given else ()
        if searched := {label: centers[label] for label, grid in grids.items() if not grid}:
            chosen += choose_rates(
                searched,
                steps,
                lambda number, rates: train(number + 1, rates),
                factor=self.factor,
                extensions=self.extensions,
            )
        return chosen


def default_rate(label: str) -> float:
    """The middle rate of an optimizer's default grid."""
    grid = OptimizerSpec.parse(label).entry.grid
    return grid[len(grid) // 2]


def read_grids(field: str, texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """The learning rates, ascending, by what stands before the last "=" of each text.

    Args:
      field: the setting that the texts are from, whose flag is named in errors.

    Raises InputError for a text that cannot be read, a rate out of range, and a name or a rate that
    is given twice.
    """
    grids: dict[str, tuple[float, ...]] = {}
    for text in texts:
        label, _, values = (piece.strip() for piece in text.rpartition("="))
        try:
            rates = [float(parse_number(value.strip(), float)) for value in values.split(",")]
        except ValueError:
            rates = []
        if not label or not rates:
            raise InputError(
                f"{flag(field)} {text!r} cannot be read; write them as adamw=1e-3,3e-3"
            )

        def name(_: str, value: object, text: str = text) -> str:
            return f"{as_flag(field, text)}: the rate {value}"

        for rate in rates:
            check_value(field, rate, RATE, name)
        check_distinct(field, rates, lambda *_, text=text: as_flag(field, text))
        if label in grids:
            raise InputError(f"{flag(field)} has two grids for {label}: give all its rates in one")
        grids[label] = tuple(sorted(rates))
    return grids


def choose_grids(
    optimizers: Sequence[str], field: str, texts: Sequence[str], points: int
) -> dict[OptimizerSpec, tuple[float, ...]]:
    """The learning rates of each optimizer, ascending: those that are given, else the `points` in
    the middle of its default grid.

    Args:
      field: the setting that the grids `texts` are from (`read_grids`).

    Raises InputError for what cannot be read, for an optimizer that is named twice, also in another
    spelling, for grids of others, and for an optimizer without a grid.
    """
    specs = [_parse_optimizer(text, "optimizers") for text in optimizers]
    same: dict[Any, OptimizerSpec] = {}
    for spec in specs:
        if (first := same.setdefault(spec.identity, spec)) is not spec:
            raise InputError(
                f"--optimizers {first.label} and {spec.label} are the same: name it once"
            )
    given: dict[str, tuple[float, ...]] = {}
    for text, grid in read_grids(field, texts).items():
        label = _parse_optimizer(text, field).label
        if label in given:
            raise InputError(f"{flag(field)} has two grids for {label}: give its rates in one")
        given[label] = grid
    if unused := given.keys() - {spec.label for spec in specs}:
        names = ", ".join(sorted(unused))
        raise InputError(f"{flag(field)} for {names}, which is none of the optimizers")
    grids = {}
    for spec in specs:
        default = spec.entry.grid
        if not default and spec.label not in given:
            raise InputError(
                f"{spec.label} has no default learning rates; give them as "
                f"{flag(field)} {spec.label}=1e-3,3e-3"
            )
        start = max(0, (len(default) - points) // 2)
        grids[spec] = given.get(spec.label, default[start : start + points])
    return grids


def choose_single_rates(
    optimizers: Sequence[str], field: str, texts: Sequence[str]
) -> dict[str, float]:
    """One learning rate of each optimizer, by its label: that which is given, else the middle one
    of its default grid.

    Raises InputError as `choose_grids` does, and for several rates of one optimizer.
    """
    grids = choose_grids(optimizers, field, texts, 1)
    for spec, grid in grids.items():
        if len(grid) > 1:
            raise InputError(f"{flag(field)} has {len(grid)} for {spec.label}: give one")
    return {spec.label: grid[0] for spec, grid in grids.items()}


def _parse_optimizer(text: str, field: str) -> OptimizerSpec:
    try:
        return OptimizerSpec.parse(text)
    except InputError as error:
        raise InputError(f"{flag(field)}: {error}") from None
