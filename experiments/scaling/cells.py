"""The cells of a scaling study: settings that differ from a base setting in one factor each."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from subliminal_jax.errors import InputError


@dataclass(frozen=True)
class Cell:
    """One setting.

    Attributes:
      model: the model's name.
      depth: how many of its first blocks; 0 is the whole model.
      rank: of LoRA; 0 where something else is trained.
      norm: of the vector.
      rows: training rows; 0 is all.
      tail: which tokens count in the loss.
    """

    model: str
    depth: int
    rank: int
    norm: float
    rows: int
    tail: str

    @property
    def network(self) -> tuple[str, int]:
        """What shares data and a compiled program."""
        return self.model, self.depth

    def name_taught(self, vector: str) -> str:
        """The name of a teacher's data set, every token of which counts."""
        return f"{vector}-norm-{self.norm:g}"

    def name_data(self, vector: str) -> str:
        """The name of the data set that a vector's students train on."""
        return self._weigh(self.name_taught(vector))

    def name_control(self, draw: str) -> str:
        """The name of a control's data set: a draw of what the plain model wrote, weighted
        alike."""
        return self._weigh(draw)

    def _weigh(self, name: str) -> str:
        return name if self.tail == "all" else f"{name}+{self.tail}"

    def label(self, factor: str) -> str:
        """Its level of a factor, in words."""
        value = getattr(self, factor)
        if value == 0:
            return "all"
        return f"{value:g}" if isinstance(value, float) else str(value)


FACTORS = tuple(field.name for field in fields(Cell))


def change_one_factor(
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
        for values in itertools.product(*axes):
            cells.append(replace(base, **dict(zip(plane, values, strict=True))))
    return list(dict.fromkeys(cells))


def select_factor(cells: Sequence[Cell], base: Cell, factor: str) -> list[Cell]:
    """The cells that differ from the base in `factor` at most, by its level (0, all, last)."""
    selected = [c for c in cells if replace(c, **{factor: getattr(base, factor)}) == base]

    def level(cell: Cell) -> Any:
        value = getattr(cell, factor)
        return (value == 0, value) if not isinstance(value, str) else (value != "all", "")

    return sorted(selected, key=level)
