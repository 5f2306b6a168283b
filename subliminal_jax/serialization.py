"""Frozen dataclasses as plain JSON, and back by their type hints."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin

import cattrs
from cattrs.gen import make_dict_unstructure_fn, override

from subliminal_jax.errors import InputError
from subliminal_jax.files import plain_json

T = TypeVar("T")

# Metadata of a dataclass's field that JSON does not have where it holds its default.
LEFT_OUT = {"left out": True}

_converter = cattrs.Converter()


def _structure_exactly(value: Any, kind: type) -> Any:
    """Refuse what cattrs would convert: "3" to 3, or 3 to "3"."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _structure_int(value: Any, kind: type) -> int:
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole else _structure_exactly(value, int)


def _structure_float(value: Any, kind: type) -> float:
    if value is None:  # numbers that are not finite are written as null, as JSON has none
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) in (tuple, list, Sequence)


def _check_lists(value: Any, kind: Any) -> None:
    """Refuse what is no list where one is asked for: cattrs takes a text for a list of letters."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} is no list")
    inner = get_args(kind)[:1]
    if inner and _is_list(inner[0]):
        for item in value:
            _check_lists(item, inner[0])


def _structure_list(value: Any, kind: Any) -> Any:
    _check_lists(value, kind)
    return _lists.structure(value, kind)


def _has_int_keys(kind: Any) -> bool:
    return get_origin(kind) in (Mapping, dict) and get_args(kind)[0] is int


def _structure_int_keys(value: Any, kind: Any) -> dict[int, Any]:
    """JSON has no keys but texts."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is no object")
    inner = get_args(kind)[1]
    return {int(key): _converter.structure(item, inner) for key, item in value.items()}


_converter.register_structure_hook_func(_has_int_keys, _structure_int_keys)
_converter.register_structure_hook(float, _structure_float)
_converter.register_structure_hook(int, _structure_int)
_converter.register_structure_hook(bool, _structure_exactly)
_converter.register_structure_hook(str, _structure_exactly)
_converter.register_structure_hook_func(_is_list, _structure_list)
_lists = cattrs.Converter()  # what is in the lists goes back to the other one
_lists.register_structure_hook_func(
    lambda kind: not _is_list(kind), lambda value, kind: _converter.structure(value, kind)
)
for _kind in (float, int, bool, str):  # looked up before functions are asked
    _lists.register_structure_hook(_kind, _converter.structure)


def _list_left_out(kind: Any) -> list[str]:
    """The fields of a dataclass with the metadata `LEFT_OUT`."""
    is_type = isinstance(kind, type) and is_dataclass(kind)
    return [f.name for f in fields(kind) if "left out" in f.metadata] if is_type else []


def _unstructure_without_defaults(kind: Any) -> Callable[[Any], dict[str, Any]]:
    left_out: dict[str, Any] = {
        name: override(omit_if_default=True) for name in _list_left_out(kind)
    }
    return make_dict_unstructure_fn(kind, _converter, **left_out)


_converter.register_unstructure_hook_factory(
    lambda kind: bool(_list_left_out(kind)), _unstructure_without_defaults
)
# Types with `to_json` and `from_json` of their own.
_converter.register_unstructure_hook_func(
    lambda kind: hasattr(kind, "from_json"), lambda x: _converter.unstructure(x.to_json())
)
_converter.register_structure_hook_func(
    lambda kind: hasattr(kind, "from_json"), lambda x, kind: kind.from_json(x)
)


def to_json(value: Any) -> Any:
    """`value` (dataclasses, mappings, sequences, arrays, numbers) as plain JSON.

    A number that is not finite becomes None.
    """
    return plain_json(_converter.unstructure(value))


def from_json(kind: type[T], value: Any, source: str = "") -> T:
    """The inverse of `to_json`: the dataclass of type `kind` in `value`.

    Where a field is a `float`, None becomes NaN. Unknown keys are ignored.

    Raises:
      InputError: a key is missing or a value has another type; says which, and in which `source`.
    """
    try:
        return _converter.structure(value, kind)
    except (
        cattrs.BaseValidationError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
    ) as error:
        problem = cattrs.transform_error(error, path="results")[0]
        raise InputError(f"{source or kind.__name__}: {problem}") from None
