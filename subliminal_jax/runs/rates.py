"""Learning rates as the flag `--rates` takes them: adamw=1e-3,3e-3."""

from collections.abc import Sequence

from subliminal_jax.bounds import (
    Range,
    Rule,
    as_flag,
    check_distinct,
    check_value,
    flag,
    parse_number,
)
from subliminal_jax.errors import InputError

RATE = Rule(float, Range(above=0, most=1e38))  # one that is too high diverges, and is counted


def read_grids(field: str, texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """The learning rates, ascending, by what stands before the last "=" of each text.

    Args:
      field: the setting that the texts are from, whose flag is named in errors.

    Raises InputError for a text that cannot be read, a rate out of range, and a name or a rate that
    is given twice.
    """
    grids: dict[str, tuple[float, ...]] = {}
    for text in texts:
        label, _, values = (piece.strip() for piece in text.rpartition("="))
        try:
            rates = [float(parse_number(value.strip(), float)) for value in values.split(",")]
        except ValueError:
            rates = []
        if not label or not rates:
            raise InputError(
                f"{flag(field)} {text!r} cannot be read; write them as adamw=1e-3,3e-3"
            )

        def name(_: str, value: object, text: str = text) -> str:
            return f"{as_flag(field, text)}: the rate {value}"

        for rate in rates:
            check_value(field, rate, RATE, name)
        check_distinct(field, rates, lambda *_, text=text: as_flag(field, text))
        if label in grids:
            raise InputError(f"{flag(field)} has two grids for {label}: give all its rates in one")
        grids[label] = tuple(sorted(rates))
    return grids
