"""What a measure is, and where they are found."""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
from jaxtyping import Array

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.student_view import StudentView


@dataclass(frozen=True)
class MeasureColumn:
    """One quantity that a measure gives of each student.

    Attributes:
      name: its key in metrics.jsonl and in the final rows.
      title: its heading in tables.
      axes: what the axes of its values stand for, as in ("references", "layers"); none: a number.
      final: whether the final rows of students hold it.
      kind: how a table writes it: "number" or "rate".
      digits: after the point.
    """

    name: str
    title: str
    axes: tuple[str, ...] = ()
    final: bool = True
    kind: str = "number"
    digits: int = 3


class Measure(ABC):
    """A pytree whose leaves are the arrays that it needs: they are arguments of the compiled
    program, where a measure that closed over them would make them constants.

    A subclass is a frozen dataclass registered with JAX (`jax.tree_util.register_dataclass`), whose
    fields that are no arrays are marked static.

    Attributes:
      name: how `--measures` calls it.
      columns: what it may give; `measure_student` returns values of these names.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[MeasureColumn, ...]]

    @classmethod
    def from_panel(cls, panel: Panel) -> "Measure":
        """The measure for the students of a run.

        Raises InputError where it cannot be made from a panel alone.
        """
        raise InputError(f"the measure {cls.name} is not for students of teachers")

    @abstractmethod
    def measure_student(self, view: StudentView, cfg: ModelConfig) -> dict[str, Array]:
        """The values of one student, by column; inside a compiled program, mapped over students."""

    def of_model(
        self, params: Params, cfg: ModelConfig, steering: Steering | None
    ) -> dict[str, Array]:
        """The values of a model that is not being trained (base, teacher), where they have a
        meaning without training; else none."""
        return {}


def find_measures() -> dict[str, type[Measure]]:
    """The measures of this folder by name, sorted."""
    package = importlib.import_module(__package__)
    modules = [
        importlib.import_module(f"{__package__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    ]
    classes = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Measure) and value is not Measure
    }
    return {measure.name: measure for measure in sorted(classes, key=lambda m: m.name)}


def named_measures(names: Sequence[str], panel: Panel) -> tuple[Measure, ...]:
    """The measures of these names, each once, for the students of a run.

    Raises InputError for a name that is none.
    """
    check_measures(names)
    known = find_measures()
    return tuple(known[name].from_panel(panel) for name in dict.fromkeys(names))


def check_measures(names: Sequence[str]) -> None:
    """Raises InputError for a name that is no measure's."""
    known = find_measures()
    for name in names:
        if name not in known:
            raise InputError(f"unknown measure {name!r}; there are: {', '.join(known)}")


def measure_model(
    measures: Sequence[Measure], params: Params, cfg: ModelConfig, steering: Steering | None = None
) -> dict[str, Any]:
    """What the measures say of a model that is not being trained, as numpy arrays by column."""
    return jax.device_get(_values_of_model(tuple(measures), params, cfg, steering))


@partial(jax.jit, static_argnames="cfg")
def _values_of_model(
    measures: tuple[Measure, ...], params: Params, cfg: ModelConfig, steering: Steering | None
) -> dict[str, Array]:
    values: dict[str, Array] = {}
    for measure in measures:
        values |= measure.of_model(params, cfg, steering)
    return values
