"""Flags of the command line as a dataclass, by tyro; whatever is wrong with them is one line."""

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from subliminal_jax.bounds import (
    as_flag,
    check_fields,
    check_value,
    field_rules,
    leaf_kinds,
    parse_number,
)
from subliminal_jax.errors import InputError

_FRAME = re.compile(r"[─━╭╮╰╯│┃]|\x1b\[[0-9;]*m")


def parse_flags(kind: Any, flags: Sequence[str], **options: Any) -> Any:
    """The dataclass `kind` with the values of `flags`; prints help and exits where they ask for it.

    Numbers are read in ASCII digits alone (`bounds.parse_number`).

    Args:
      options: of `tyro.cli`, such as `prog`, `description` and `default`.

    Raises InputError for flags that are not known or contradict each other, and for values that
    cannot be read or break the bounds of their fields (`bounds.check_fields`).
    """
    import tyro

    flags = list(flags)
    check_opposites(flags)
    check_elsewhere(kind, flags)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed = tyro.cli(kind, args=flags, registry=_registry(), **options)
    except _Unreadable as error:
        _refuse_number(kind, flags, str(error))
    except SystemExit as exit:
        if not exit.code:
            raise
        raise InputError(_one_line(errors.getvalue())) from None
    check_fields(parsed[0] if isinstance(parsed, tuple) else parsed, as_flag)
    return parsed


def check_opposites(flags: Sequence[str]) -> None:
    """Raises InputError for a flag beside its opposite, `--no-FLAG`. (Of a flag that is given twice
    the last value holds, so that a script can add flags to a command.)"""
    names = {text.partition("=")[0].replace("_", "-") for text in flags if text.startswith("--")}
    for name in sorted(names):
        if (opposite := f"--no-{name[2:]}") in names:
            raise InputError(f"{name} and {opposite} contradict each other: leave one of them out")


def check_elsewhere(kind: Any, flags: Sequence[str]) -> None:
    """Raises InputError for a flag of another command that `kind` names in its attribute
    `elsewhere`, a mapping from flags to what to do instead, unless it is a field of `kind` too."""
    for text in flags:
        name = text.partition("=")[0].replace("_", "-")
        advice = getattr(kind, "elsewhere", {}).get(name)
        if advice and name[2:].replace("-", "_") not in field_rules(kind):
            raise InputError(f"{name} is no flag of this command: {advice}")


def _registry() -> Any:
    """How tyro reads numbers and paths."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def read_number(info: Any) -> Any:
        if info.type not in (int, float):
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=info.type.__name__.upper(),
            instance_from_str=lambda words: _number(words[0], info.type),
            is_instance=lambda x: isinstance(x, int | info.type) and not isinstance(x, bool),
            str_from_instance=lambda x: [str(x)],
        )

    @registry.primitive_rule
    def read_path(info: Any) -> Any:
        if info.type is not Path:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="PATH",
            instance_from_str=lambda words: _path(words[0]),
            is_instance=lambda x: isinstance(x, Path),
            str_from_instance=lambda x: [str(x)],
        )

    return registry


class _Unreadable(Exception):
    """A word that is no number; not a ValueError, for which tyro would say less."""


def _number(word: str, kind: type) -> int | float:
    try:
        return parse_number(word, kind)
    except ValueError:
        raise _Unreadable(word) from None


def _refuse_number(kind: Any, flags: Sequence[str], word: str) -> NoReturn:
    """Raises InputError for the flag that has `word` in place of a number."""
    field = ""
    for text in flags:
        value = text
        if text.startswith("--"):
            name, equals, value = text[2:].partition("=")
            field = name.replace("-", "_")
            if not equals:
                continue
        rule = field_rules(kind).get(field)
        if value == word and rule is not None and {int, float} & set(leaf_kinds(rule.kind)):
            check_value(field, word, replace(rule, kind=leaf_kinds(rule.kind)[0]), as_flag)
    raise InputError(f"{word!r} is no number")


def _path(text: str) -> Path:
    if not text.strip():
        raise ValueError("the path is blank: name a file or a folder (. is the current folder)")
    return Path(text)


def _one_line(box: str) -> str:
    """The first part of tyro's framed error message, in one line."""
    parts: list[list[str]] = [[]]
    for line in box.splitlines():
        text = _FRAME.sub(" ", line).strip()
        if text and line.strip()[0] not in "╭╰":
            parts[-1].append(text)
        elif re.search("─{10}|━{10}", line) and line.strip()[0] not in "╭╰":
            parts.append([])
    sentences = [" ".join(" ".join(part).split()) for part in parts]
    kept = [text for text in sentences if text and not text.startswith("Argument helptext")]
    return "; ".join(kept)
