"""Optimizers by name: those of the table, registered ones, and functions of users' modules."""

import difflib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import MappingProxyType

import optax
from jaxtyping import PyTree

from subliminal_jax.errors import InputError
from subliminal_jax.training.optimizers.entries import Entry, Hyper, HyperValue, training_point
from subliminal_jax.training.optimizers.modifiers import MODIFIERS
from subliminal_jax.training.optimizers.table import TABLE

Builder = Callable[..., optax.GradientTransformation]

_entries = dict(TABLE)
OPTIMIZERS: Mapping[str, Entry] = MappingProxyType(_entries)


def register_optimizer(
    name: str,
    builder: Builder,
    *,
    grid: Sequence[float] = (),
    hyper: Mapping[str, Hyper | HyperValue] | None = None,
    eval_params: Callable[[PyTree, PyTree], PyTree] = training_point,
) -> None:
    """Make an optimizer known under `name`, as `--optimizers NAME` and in `OptimizerSpec`.

    It is lifted: it sees one leaf a layer and one matrix a projection. A name that was registered
    before is replaced.

    Args:
      builder: `builder(learning_rate, **hyper) -> optax.GradientTransformation`; the learning rate
        may be a traced scalar or a schedule, to be passed on as it comes.
      grid: learning rates to try by default; without them `--rates` has to say.
      hyper: its hyper-parameters, with their ranges (`Hyper`); by default the builder's keyword
        arguments that have a number or a bool as default, without a range.
      eval_params: (parameters, state) -> the point to evaluate at.

    Raises InputError for a name of the package's own table or with other characters than letters,
    digits, ".", "_" and "-", and for a builder that does not build.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"optimizer name {name!r}: use letters, digits, '.', '_' and '-'")
    if name in TABLE or name in MODIFIERS:
        raise InputError(f"optimizer name {name!r} is taken by the package; choose another")
    _entries[name] = make_entry(builder, name, tuple(sorted(grid)), hyper, eval_params)


def make_entry(
    builder: Builder,
    name: str,
    grid: tuple[float, ...] = (),
    hyper: Mapping[str, Hyper | HyperValue] | None = None,
    eval_params: Callable[[PyTree, PyTree], PyTree] = training_point,
) -> Entry:
    """The entry of a user's builder. Raises InputError for a builder that does not build."""
    entry = Entry(
        builder,
        paper="",
        kind="unknown",
        learning_rate="as its builder takes it",
        grid=grid,
        hyper=_read_hyper(builder) if hyper is None else hyper,
        eval_params=eval_params,
        stacked=False,
    )
    check_builder(builder, name, entry.defaults)
    return entry


@cache
def get_builder_entry(builder: Builder, name: str) -> Entry:
    """`make_entry`, once for each builder."""
    return make_entry(builder, name)


def check_builder(builder: Builder, name: str, hyper: Mapping[str, HyperValue]) -> None:
    """Raises InputError unless `builder` makes an optax rule of a schedule and these values."""
    try:
        rule = builder(lambda count: 1e-3, **hyper)
    except Exception as error:
        raise InputError(
            f"optimizer {name}: its builder fails on a learning-rate schedule (count -> rate): "
            f"{_one_line(error)}"
        ) from error
    if not isinstance(rule, optax.GradientTransformation):
        raise InputError(
            f"optimizer {name}: its builder returns a {type(rule).__name__}, not an "
            "optax.GradientTransformation"
        )


def import_builder(module_name: str, function: str) -> Builder:
    """The function of a module that is installed or lies in the current folder.

    Raises InputError for a module that cannot be imported and for a missing function.
    """
    place = f"optimizer {module_name}:{function}"
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(f"{place}: {module_name} imports {_one_line(error)}") from error
        raise InputError(
            f"{place}: there is no module {error.name!r}, neither installed nor in the current "
            f"folder{_suggest(module_name, OPTIMIZERS)}"
        ) from None
    except Exception as error:
        raise InputError(f"{place}: importing {module_name} fails: {_one_line(error)}") from error
    builder = getattr(module, function, None)
    if not callable(builder):
        functions = [name for name, value in vars(module).items() if callable(value)]
        raise InputError(
            f"{place}: {module_name} has no function {function!r}{_suggest(function, functions)}"
        )
    return builder


def unknown_name_message(what: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not among the known ones."""
    known = list(known)
    return f"unknown {what} {name!r}{_suggest(name, known)}; known: {join_names(known)}"


def join_names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _read_hyper(builder: Builder) -> dict[str, Hyper | HyperValue]:
    """The builder's arguments after the first that have a number or a bool as default."""
    try:
        arguments = list(inspect.signature(builder).parameters.values())[1:]
    except (TypeError, ValueError):  # a callable without a signature
        return {}
    return {
        argument.name: Hyper(argument.default, least=float("-inf"))
        for argument in arguments
        if isinstance(argument.default, bool | int | float)
    }


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
