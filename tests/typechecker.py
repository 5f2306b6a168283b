"""The checker of annotations in the tests: beartype, with jaxtyping's sizes of axes."""

import functools
from dataclasses import is_dataclass
from inspect import isclass
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

# PEP 484: what is annotated float takes an int too, as every static type checker has it.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_scope = jaxtyping.jaxtyped("context")


def install() -> None:
    """Check the package's annotations on each call; before anything of the package is imported.

    The hook rewrites modules as they are loaded, so that `jaxtyping.jaxtyped` decorates all their
    functions and dataclasses. For its messages it binds a call's arguments and checks them twice.
    What stands in for it here checks them once, in half of the time, and opens a scope of axis
    sizes only where an annotation speaks of arrays.
    """
    jaxtyping.jaxtyped = _decorate
    jaxtyping.install_import_hook("subliminal_jax", f"{__name__}.check")


def _decorate(function: Any = None, *, typechecker: Any) -> Any:
    if function is None:
        return functools.partial(_decorate, typechecker=typechecker)
    if isclass(function):
        if is_dataclass(function) and "__init__" in vars(function):
            function.__init__ = _decorate(function.__init__, typechecker=typechecker)
        return function
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(_decorate(function.__func__, typechecker=typechecker))
    written = getattr(function, "__annotations__", None)
    if not written:
        return function
    hints = {name: _resolve(hint, function.__globals__) for name, hint in written.items()}
    function.__annotations__ = hints
    checked = typechecker(function)
    function.__annotations__ = checked.__annotations__ = written
    if not any(_speaks_of_arrays(hint) for hint in hints.values()):
        return checked

    @functools.wraps(checked)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        with _scope:
            return checked(*args, **kwargs)

    return scoped


def _resolve(hint: Any, names: dict[str, Any]) -> Any:
    """An annotation without strings; Any where it names what is not there yet, as in jaxtyping."""

    def holder() -> None: ...

    holder.__annotations__ = {"hint": hint}
    try:
        return get_type_hints(holder, names, include_extras=True)["hint"]
    except Exception:
        return Any


def _speaks_of_arrays(hint: Any) -> bool:
    if isinstance(hint, list):  # the arguments of a Callable
        return any(map(_speaks_of_arrays, hint))
    if isclass(hint) and hint.__module__.split(".")[0] == "jaxtyping":
        return True
    return any(map(_speaks_of_arrays, get_args(hint)))
