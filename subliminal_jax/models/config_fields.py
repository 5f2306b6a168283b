"""Typed reading of the fields of a `config.json`.

A field that is absent has the value that transformers gives it; one of a wrong type is refused
rather than converted: a text "12" or `true` is no count, and 12.0 is none either.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

from subliminal_jax.errors import InputError

LARGEST = 2**31 - 1  # of a size: indices are 32 bits
MOST_LAYERS = 10_000  # a hundred times what there is; every layer has an entry in memory


class Fields:
    """The fields of one JSON object, with the file (and the place in it) for messages.

    Attributes:
      raw: the object; one of a wrong type raises InputError.
      source: starts every message.
      defaults: the values of absent fields; an absent field without one raises InputError.
      nullable: fields that may be null.
    """

    def __init__(
        self,
        raw: Any,
        source: str,
        defaults: Mapping[str, Any] | None = None,
        nullable: Collection[str] = (),
    ) -> None:
        if not isinstance(raw, Mapping):
            raise InputError(f"{source}: must hold a JSON object, not {_show(raw)}")
        self.raw = raw
        self.source = source
        self.defaults = defaults or {}
        self.nullable = nullable

    def get(self, key: str) -> Any:
        """The value of a field of any type, or its default."""
        if key not in self.raw:
            if key in self.defaults:
                return self.defaults[key]
            raise self.error(f"the field {key!r} is missing; is the file whole?")
        value = self.raw[key]
        if value is None and key not in self.nullable:
            raise self.error(f"{key} is null; give it a value, or leave it out for the default")
        return value

    def count(self, key: str, least: int = 1, largest: int = LARGEST) -> int:
        """A whole number from `least` to `largest`."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            kind = "a positive whole number" if least == 1 else f"a whole number >= {least}"
            raise self.error(f"{key} must be {kind}, not {_show(value)}")
        if value > largest:
            raise self.error(f"{key} must be at most {largest}, not {_show(value)}")
        return value

    def optional_count(self, key: str) -> int | None:
        """A positive whole number, or None for null."""
        return None if self.get(key) is None else self.count(key)

    def number(self, key: str, *, zero: bool = False) -> float:
        """A finite number above 0, or from 0 on where `zero` is allowed."""
        value = self.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64:
            value = float(value)
        finite = isinstance(value, float) and math.isfinite(value)
        if not finite or value < 0 or (value == 0 and not zero):
            bound = ">= 0" if zero else "> 0"
            raise self.error(f"{key} must be a finite number {bound}, not {_show(value)}")
        return value

    def optional_number(self, key: str) -> float | None:
        """A finite number above 0, or None for null."""
        return None if self.get(key) is None else self.number(key)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.error(f"{key} must be true or false, not {_show(value)}")
        return value

    def choice(self, key: str, choices: Collection[str], complaint: str) -> str:
        """One of `choices`; the message begins with `complaint`, with the value in place of {}."""
        value = self.get(key)
        if not isinstance(value, str) or value not in choices:
            raise self.error(
                f"{complaint.format(_show(value))}; supported are {', '.join(sorted(choices))}"
            )
        return value

    def error(self, message: str) -> InputError:
        """An InputError that names the source."""
        return InputError(f"{self.source}: {message}")


def _show(value: Any) -> str:
    """A value as JSON spells it, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) > 10**20:
        return f"a number of {int(math.log10(abs(value))) + 1} digits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
