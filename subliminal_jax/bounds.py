"""Valid values of settings, stated beside each field and checked in one place.

    @dataclass(frozen=True)
    class Plan:
        steps: Annotated[int, Range(1, 10_000_000)]
        scales: Annotated[tuple[float, ...], Range(above=0), Items(1)] = (1.0,)

        def __post_init__(self) -> None:
            check_fields(self)

`Range` bounds a number, or each number of a tuple; `Items` bounds a tuple; `Text` says which
strings are valid. Every number needs a `Range`. A tuple may hold no value twice unless `Items`
says so, and a string may not be blank unless `Text` says so. `Needs` says beside which values of
another field this one has an effect. A subclass that only gives a field another default keeps the
bounds of its base.

Messages name a value as it was given: `rows=0` in Python, `--rows 0` on the command line.
"""

import inspect
import math
import numbers
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from subliminal_jax.errors import InputError

LEAST_NORMAL, LARGEST = 2.0**-126, 3.4e38  # of float32, in which models compute
MOST_ITEMS = 10_000  # values of one setting
LONGEST_TEXT = 100_000  # characters of one setting
LONGEST_SHOWN = 60  # characters of a value in a message
Namer = Callable[[str, Any], str]


def as_argument(name: str, value: Any) -> str:
    """A value as Python code gives it: `heldout_rows=0`."""
    return f"{name}={_show(value)}"


def as_flag(name: str, value: Any) -> str:
    """A value as the command line gives it: `--heldout-rows 0`."""
    if isinstance(value, tuple | list):
        return " ".join([flag(name), *map(_show_word, value)])
    return f"{flag(name)} {_show_word(value)}"


def flag(name: str) -> str:
    """The flag of a field: `--heldout-rows`."""
    return "--" + name.replace("_", "-")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:40]}...{text[-12:]}"


def _show_word(value: Any) -> str:
    """A value as one word of a command line, in quotes where a shell needs them."""
    plain = isinstance(value, str | PurePath) and re.fullmatch(r"[\w@%+=:,./~-]+", str(value))
    return _show(value) if not plain or len(str(value)) > LONGEST_SHOWN else str(value)


@dataclass(frozen=True)
class Range:
    """The valid values of a number, which is always finite.

    A number is valid from `least` to `most`, where `above` and `below` exclude the bound itself, or
    if it is `also`, which has a meaning of its own.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    also: float | None = None

    def __contains__(self, number: float) -> bool:
        return (self.also is not None and number == self.also) or (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        also = "" if self.also is None else f", or {_number(self.also)}"
        if self.least is not None and self.most is not None:
            return f"from {_number(self.least)} to {_number(self.most)}{also}"
        parts = []
        for words, bound in (
            ("at least", self.least),
            ("more than", self.above),
            ("at most", self.most),
            ("less than", self.below),
        ):
            if bound is not None:
                parts.append(f"{words} {_number(bound)}")
        return " and ".join(parts) + also


@dataclass(frozen=True)
class Blocks(Range):
    """Numbers of a model's blocks, from 0. That the model has them is checked once it is known."""

    least: float | None = 0
    most: float | None = 9_999


# Ranges that many settings share.
MANY = 10_000_000
Count = Annotated[int, Range(1, MANY)]
CountOrNone = Annotated[int, Range(0, MANY)]  # where 0 has a meaning of its own
Seed = Annotated[int, Range(0, 2**31 - 1)]
Layer = Annotated[int, Blocks()]
Positive = Annotated[float, Range(above=0, most=1e6)]
Share = Annotated[float, Range(above=0, below=1)]


@dataclass(frozen=True)
class Items:
    """The valid lengths of a tuple, and whether its values must differ.

    Numbers that print alike in six digits count as the same: results could not tell them apart.
    """

    least: int = 0
    most: int = MOST_ITEMS
    distinct: bool = True


@dataclass(frozen=True)
class Text:
    """The valid values of a string.

    Attributes:
      pattern: a regular expression that the whole string matches; "" allows all.
      wanted: what that is, in words.
      empty: whether it may be "", which then has a meaning of its own.
      prose: whether it may hold line breaks, and spaces at its ends.
      name: whether it becomes the name of files and data sets: no slashes, no leading dot.
      secret: whether it may hold a key by mistake: messages never show the value.
      choices: the valid values; empty allows all.
    """

    pattern: str = ""
    wanted: str = ""
    empty: bool = False
    prose: bool = False
    name: bool = False
    secret: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needs:
    """Another setting without which this one has no effect: it must be one of `values`, or hold one
    (empty: be anything but empty, zero or False). With `unless` it must not."""

    field: str
    values: tuple[Any, ...] = ()
    unless: bool = False

    def holds(self, settings: Any) -> bool:
        """Whether the other setting lets this one have an effect."""
        value = getattr(settings, self.field)
        items = value if isinstance(value, tuple) else (value,)
        met = any(item in self.values for item in items) if self.values else bool(value)
        return met != self.unless


@dataclass(frozen=True)
class Rule:
    """What is known of one field: its type, its bounds, and what gives it an effect."""

    kind: Any
    range: Range | None = None
    items: Items = Items()
    text: Text = Text()
    needs: tuple[Needs, ...] = ()


def check_fields(settings: Any, name: Namer = as_argument) -> None:
    """Raises InputError for the first field of a dataclass whose value is not valid.

    Args:
      name: how messages name a field with its value (`as_argument`, `as_flag`).
    """
    kind: Any = type(settings)
    for field_name, rule in field_rules(kind).items():
        check_value(field_name, getattr(settings, field_name), rule, name)


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raises InputError for arguments of a function that break the bounds of its annotations."""
    for name, rule in _argument_rules(function).items():
        if name in arguments and (rule.range or rule.text != Text() or rule.items != Items()):
            check_value(name, arguments[name], rule, as_argument)


@cache
def _argument_rules(function: Callable[..., Any]) -> dict[str, Rule]:
    hints = inspect.get_annotations(inspect.unwrap(function), eval_str=True)
    return {name: _make_rule(hint, None) for name, hint in hints.items()}


@cache
def field_rules(kind: Any) -> Mapping[str, Rule]:
    """The rule of each field of a dataclass, in their order; bounds are inherited by name."""
    rules: dict[str, Rule] = {}
    for base in reversed(kind.__mro__):
        if "__dataclass_fields__" in vars(base):
            for name, hint in inspect.get_annotations(base, eval_str=True).items():
                rules[name] = _make_rule(hint, rules.get(name))
    return {field.name: rules[field.name] for field in fields(kind) if field.init}


def _make_rule(hint: Any, inherited: Rule | None) -> Rule:
    kind, metadata = hint, tuple[Any, ...]()
    if get_origin(hint) is Annotated:
        kind, *rest = get_args(hint)
        metadata = tuple(rest)
    given: dict[str, Any] = {}
    for key, bound in (("range", Range), ("items", Items), ("text", Text)):
        for value in metadata:
            if isinstance(value, bound):
                given[key] = value
        if key not in given and inherited is not None:
            given[key] = getattr(inherited, key)
    needs = tuple(value for value in metadata if isinstance(value, Needs))
    return Rule(kind, **given, needs=(*(inherited.needs if inherited else ()), *needs))


def leaf_kinds(kind: Any) -> tuple[Any, ...]:
    """The types of the single values of a field: int for `tuple[int, ...] | None`."""
    if get_origin(kind) in (Union, types.UnionType, tuple):
        kinds = [leaf for part in get_args(kind) for leaf in leaf_kinds(part)]
        return tuple(k for k in dict.fromkeys(kinds) if k not in (type(None), Ellipsis))
    return (kind,)


def check_value(field: str, value: Any, rule: Rule, name: Namer = as_argument) -> None:
    """Raises InputError unless `value` is valid for the field's rule."""
    kind, origin = rule.kind, get_origin(rule.kind)
    if origin in (Union, types.UnionType):
        options = [k for k in get_args(kind) if k is not type(None)]
        if value is None and len(options) < len(get_args(kind)):
            return
        if len(options) != 1:
            return
        check_value(field, value, Rule(options[0], rule.range, rule.items, rule.text), name)
    elif origin is Literal:
        if value not in get_args(kind) or isinstance(value, bool):
            choices = ", ".join(map(str, get_args(kind)))
            raise InputError(f"{name(field, value)} is not valid: choose from {choices}")
    elif origin is tuple:
        _check_tuple(field, value, rule, name)
    elif kind in (int, float):
        _check_number(field, value, rule, name)
    elif kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{name(field, value)} is not valid: give True or False")
    elif kind is str:
        if not isinstance(value, str):
            raise InputError(f"{name(field, value)} is not valid: give a text")
        _check_text(field, value, rule.text, name)
    elif isinstance(kind, type) and issubclass(kind, PurePath):
        _check_text(field, str(value), Text(), name, value)


def _check_tuple(field: str, value: Any, rule: Rule, name: Namer) -> None:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f"{name(field, value)} is not valid: give a tuple of values")
    kinds = get_args(rule.kind)
    if kinds[-1] is Ellipsis:
        least, most = rule.items.least, rule.items.most
    else:
        least = most = len(kinds)
    if not least <= len(value) <= most:
        if most == least:
            wanted = f"exactly {most}"
        else:
            wanted = f"at least {least}" if len(value) < least else f"at most {_number(most)}"
        if value:
            problem = f"{name(field, tuple(value[:5]))}: {len(value)} are too "
            problem += "few" if len(value) < least else "many"
        else:
            problem = f"{flag_or_name(field, name)} is empty"
        raise InputError(f"{problem}; give {wanted}")
    for i, item in enumerate(value):
        kind = kinds[0] if kinds[-1] is Ellipsis else kinds[i]
        check_value(field, item, Rule(kind, rule.range, rule.items, rule.text), name)
    if rule.items.distinct:
        check_distinct(field, value, name)


def check_distinct(field: str, values: Sequence[Any], name: Namer = as_argument) -> None:
    """Raises InputError where one of `values` is given twice, also by another spelling."""
    seen: dict[Any, Any] = {}
    for value in values:
        key = f"{value:g}" if isinstance(value, float) else value
        if key in seen:
            other = "" if repr(seen[key]) == repr(value) else f" (as {seen[key]!r} and {value!r})"
            raise InputError(
                f"{name(field, tuple(values))} holds {_show_word(value)} twice{other}: give each "
                "value once"
            )
        seen[key] = value


def flag_or_name(field: str, name: Namer) -> str:
    """The field's name alone, in the manner of `name`."""
    return flag(field) if name is as_flag else field


def _check_number(field: str, value: Any, rule: Rule, name: Namer) -> None:
    whole = rule.kind is int
    wanted = f"a {'whole' if whole else 'finite'} number"
    if rule.range is not None:
        wanted += f" {rule.range}" if str(rule.range).startswith("from") else f", {rule.range}"
    number_type = numbers.Integral if whole else numbers.Real
    valid = isinstance(value, number_type) and not isinstance(value, bool)
    if valid and not whole:
        valid = math.isfinite(value) and abs(value) <= LARGEST
        if valid and 0 < abs(value) < LEAST_NORMAL:
            raise InputError(
                f"{name(field, value)} is not valid: it is 0 in float32; give {wanted}"
            )
    if not valid or (rule.range is not None and value not in rule.range):
        raise InputError(f"{name(field, value)} is not valid: give {wanted}")


def _check_text(field: str, text: str, rule: Text, name: Namer, shown: Any = None) -> None:
    named = name(field, text if shown is None else shown)
    if rule.secret:
        named = flag_or_name(field, name)
    if rule.choices and text not in rule.choices and not (rule.empty and not text):
        raise InputError(f"{named} is not valid: choose from {', '.join(rule.choices)}")
    if not text and rule.empty:
        return
    if not text.strip():
        raise InputError(
            f"{named} is blank: give a value, or leave {flag_or_name(field, name)} out"
        )
    if len(text) > LONGEST_TEXT:
        raise InputError(f"{named} has {len(text):,} characters: give at most {LONGEST_TEXT:,}")
    allowed = "\n\t" if rule.prose else ""
    if any((ord(c) < 32 or ord(c) == 127) and c not in allowed for c in text):
        raise InputError(f"{named} holds a control character: leave it out")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise InputError(f"{named} is not valid UTF-8: give it in that encoding")
    if text != text.strip() and not rule.prose:
        raise InputError(f"{named} begins or ends with a space: leave it out")
    if rule.pattern and not re.fullmatch(rule.pattern, text):
        raise InputError(f"{named} is not valid: give {rule.wanted}")
    if rule.name and (text.startswith(".") or "/" in text or "\\" in text):
        raise InputError(f"{named} becomes the name of a file: leave slashes and a first dot out")


def parse_number(text: str, kind: type) -> int | float:
    """The number that `text` spells in ASCII digits, a whole one where `kind` is int.

    Infinities and NaN are read, so that a message can name the range that they are not in.

    Raises ValueError for other texts: underscores, spaces, digits of other scripts.
    """
    whole = r"[+-]?[0-9]{1,400}"
    decimal = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,6})?|[+-]?(inf|infinity|nan)"
    if not re.fullmatch(whole if kind is int else decimal, text, re.IGNORECASE | re.ASCII):
        raise ValueError(f"{_show_word(text)} is no {'whole ' if kind is int else ''}number")
    return kind(text)


def _number(value: float) -> str:
    """A bound as messages show it: 10,000,000, 0.5, 1e+30."""
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:g}"
