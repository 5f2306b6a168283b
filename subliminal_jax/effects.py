"""Settings that were given, and have no effect beside the others."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from subliminal_jax.bounds import Namer, Needs, as_argument, as_flag, field_rules, flag_or_name
from subliminal_jax.errors import InputError


def check_effects(settings: Any, given: Mapping[str, Any], name: Namer = as_argument) -> None:
    """Raises InputError for the first field that differs from its value in `given` (the defaults,
    or those of a preset), and has no effect beside the others (`Needs`)."""
    kind: Any = type(settings)
    for field, rule in field_rules(kind).items():
        value = getattr(settings, field)
        if field not in given or value == given[field]:
            continue
        for need in rule.needs:
            if not need.holds(settings):
                shown = flag_or_name(field, name) if rule.text.secret else name(field, value)
                raise InputError(f"{shown} has no effect {_describe_need(need, settings, name)}")


def _describe_need(need: Needs, settings: Any, name: Namer) -> str:
    other, current = flag_or_name(need.field, name), getattr(settings, need.field)
    if not need.values and not need.unless:
        return f"without {other}: give that, too, or leave it out"
    beside = f"beside {name(need.field, current)}"
    if isinstance(current, bool) and name is as_flag:
        return f"beside {other}: give --no-{other[2:]}, too, or leave it out"
    if need.unless:
        return f"{beside}: leave one of them out"
    if isinstance(current, tuple) and len(current) > 3:
        beside = f"beside this {other}"
    return f"{beside}: it needs {other} {' or '.join(map(str, need.values))}"


def defaults(kind: Any) -> dict[str, Any]:
    """The default values of a dataclass's fields, where they have one."""
    return {f.name: f.default for f in fields(kind) if f.default is not MISSING}
