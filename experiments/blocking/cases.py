"""The guards that `blocking` compares, and the data sets that their students train on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from subliminal_jax.errors import InputError
from subliminal_jax.runs.settings import GuardKind

_CONTROL = " control"


@dataclass(frozen=True)
class Case:
    """One guard.

    Attributes:
      name: as tables show it.
      kind: what it does.
      vector: which vector it guards from.
      share: of the rows that are dropped.
      at_random: whether those rows are drawn at random.
      controls: whether a control of each trait is trained with it, too.
    """

    name: str
    kind: GuardKind
    vector: Literal["known", "blind", "none"] = "known"
    share: float = 0.0
    at_random: bool = False
    controls: bool = False


UNGUARDED = Case("none", "none", "none")
# The guards of the kinds of students beside the first.
STEP_CASES = (Case("project", "project"), Case("inoculate", "inoculate"))


def make_cases(shares: Sequence[float]) -> tuple[Case, ...]:
    """Every guard with the known vector and with the blind one.

    Each of `shares` of the rows is dropped by the known vector, the largest also at random and by
    the blind vector.

    Raises InputError for shares outside 0 to 1, and where two are the same in percent.
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise InputError(f"shares {shares} must be shares of the rows, between 0 and 1")
    shares, largest = sorted(shares), max(shares)
    percents = [f"{share:.0%}" for share in shares]
    if len(set(percents)) < len(percents):
        raise InputError(f"shares {shares} are {' '.join(percents)}: no two may be one in percent")
    drops = [
        Case(f"drop {percent}", "drop-rows", share=share, controls=share == largest)
        for percent, share in zip(percents, shares, strict=True)
    ]
    most = f"drop {percents[-1]}"
    return (
        Case("project", "project", controls=True),
        Case("inoculate", "inoculate", controls=True),
        *drops,
        Case(f"{most} at random", "drop-rows", "none", largest, at_random=True),
        Case("project, blind", "project", "blind"),
        Case("inoculate, blind", "inoculate", "blind"),
        Case(f"{most}, blind", "drop-rows", "blind", largest),
    )


def control_name(trait: str) -> str:
    """The data set of a trait's guarded control: a draw of the plain base's rows, guarded from the
    trait's vector."""
    return trait + _CONTROL


def trait_name(data: str) -> str:
    """The trait of a data set, a teacher's or its guarded control's."""
    return data.removesuffix(_CONTROL)


def choose_draws(traits: Sequence[str], controls: Sequence[str]) -> dict[str, str]:
    """The draw of the plain base's rows that each trait's guarded control trains on."""
    return {trait: controls[i % len(controls)] for i, trait in enumerate(traits)}


def pool_size(rows: int, share: float) -> int:
    """How many rows leave `rows` of them when `share` is dropped."""
    return math.ceil(rows / (1 - share))
