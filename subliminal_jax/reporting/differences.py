"""Sentences that say whether students differ from their controls and from the base."""

from collections.abc import Mapping

from subliminal_jax.evaluation.statistics import Interval

UNKNOWN = "unknown (no sound student and control)"


def describe_difference(effect: Interval | None, spec: str = "+.2f") -> str:
    """The difference with its interval, and whether that is clear of zero."""
    if effect is None:
        return UNKNOWN
    return f"{effect:{spec}}, {'clear' if effect.excludes_zero else 'not clear'} of zero"


def list_differences(what: str, effects: Mapping[str, Interval | None], spec: str = "+.2f") -> str:
    """One sentence on a difference of several arms, by name."""
    listed = "; ".join(
        f"{name} {describe_difference(effect, spec)}" for name, effect in effects.items()
    )
    return f"{what}: {listed}."
