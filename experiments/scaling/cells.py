"""The cells of a scaling study: settings that differ from a base setting in one factor each."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from subliminal_jax.errors import InputError


@dataclass(frozen=True)
class Cell:
    """One setting. `blocks` 0 is the whole model, `rows` 0 all rows; `rank` 0 is no LoRA."""

    model: str
    blocks: int
    rank: int
    norm: float
    rows: int
    tail: str

    @property
    def world(self) -> tuple[str, int]:
        """What shares a model, data and a compiled program."""
        return self.model, self.blocks

    @property
    def data(self) -> str:
        """The name of its data set."""
        return f"norm-{self.norm:g}" + ("" if self.tail == "all" else f"+{self.tail}")

    @property
    def control(self) -> str:
        """The name of its control's: what the plain model wrote, weighted alike."""
        return "control" if self.tail == "all" else f"control+{self.norm:g}+{self.tail}"

    def label(self, factor: str) -> str:
        """Its level of a factor, in words."""
        value = getattr(self, factor)
        if value == 0:
            return "all"
        return f"{value:g}" if isinstance(value, float) else str(value)


FACTORS = tuple(field.name for field in fields(Cell))


def one_factor_at_a_time(
    base: Cell, levels: Mapping[str, Sequence[Any]], plane: Sequence[str] = ()
) -> list[Cell]:
    """The base, then for each factor the base with each of its levels; each cell once.

    `plane` are two factors of which every level is combined with every one of the other. Raises
    InputError for an unknown factor.
    """
    for factor in (*levels, *plane):
        if factor not in FACTORS:
            raise InputError(f"unknown factor {factor!r}; there are {', '.join(FACTORS)}")
    cells = [base]
    for factor, values in levels.items():
        cells += [replace(base, **{factor: value}) for value in values]
    if plane:
        axes = [(getattr(base, factor), *levels.get(factor, ())) for factor in plane]
        combined = itertools.product(*axes)
        cells += [replace(base, **dict(zip(plane, at, strict=True))) for at in combined]
    return list(dict.fromkeys(cells))


def of_factor(cells: Sequence[Cell], base: Cell, factor: str) -> list[Cell]:
    """The cells that differ from the base in `factor` at most, by its level (0, all, last)."""
    mine = [c for c in cells if replace(c, **{factor: getattr(base, factor)}) == base]

    def level(cell: Cell) -> Any:
        value = getattr(cell, factor)
        return (value == 0, value) if not isinstance(value, str) else (value != "all", "")

    return sorted(mine, key=level)
