"""Learning rates as the flag `--rates` takes them: adamw=1e-3,3e-3."""

from collections.abc import Sequence
from typing import Any

from subliminal_jax.bounds import (
    Range,
    Rule,
    as_flag,
    check_distinct,
    check_value,
    flag,
    parse_number,
)
from subliminal_jax.errors import InputError
from subliminal_jax.training.optimizers import OptimizerSpec

RATE = Rule(float, Range(above=0, most=1e38))  # one that is too high diverges, and is counted


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


def _parse_optimizer(text: str, field: str) -> OptimizerSpec:
    try:
        return OptimizerSpec.parse(text)
    except InputError as error:
        raise InputError(f"{flag(field)}: {error}") from None
