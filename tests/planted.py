"""Planted measurements: dataclasses of which a test names what it is about."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def fill(kind: type[T], /, **given: Any) -> T:
    """A dataclass with these fields; every other one has its default, or is empty or zero."""
    hints = get_type_hints(kind)
    rest = {
        field.name: empty(hints[field.name])
        for field in fields(kind)  # type: ignore[arg-type]
        if field.name not in given and field.default is field.default_factory is MISSING
    }
    return kind(**given, **rest)


def empty(hint: Any) -> Any:
    """The empty or zero value of a type: None, "", 0, (), {} or a filled dataclass."""
    origin, options = get_origin(hint) or hint, get_args(hint)
    if hint is Any or (origin in (Union, types.UnionType) and type(None) in options):
        return None
    if origin is Literal:
        return options[0]
    if is_dataclass(origin):
        return fill(origin)
    if issubclass(origin, tuple) and options and Ellipsis not in options:
        return tuple(map(empty, options))
    if issubclass(origin, str | bool | int | float | tuple | dict):
        return origin()
    if issubclass(origin, Mapping):
        return {}
    if issubclass(origin, Sequence):
        return ()
    raise TypeError(f"{hint} has no empty value: name the field")
