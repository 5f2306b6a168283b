"""Frozen dataclasses as plain JSON, and back by their type hints."""

import math
from typing import Any, TypeVar

import cattrs

from subliminal_jax.errors import InputError
from subliminal_jax.files import plain_json

T = TypeVar("T")

_converter = cattrs.Converter()
# Numbers that are not finite are written as null, as JSON has none.
_converter.register_structure_hook(float, lambda x, _: math.nan if x is None else float(x))
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
    except (cattrs.BaseValidationError, TypeError, ValueError, KeyError) as error:
        problem = cattrs.transform_error(error, path="results")[0]
        raise InputError(f"{source or kind.__name__}: {problem}") from None
