"""How strongly to steer: the strength of a given damage, and the best one within a bound on it.

Plain numbers in and out; no model is involved.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LARGEST_STRENGTH = 64.0  # no larger multiple of a vector is tried
TOLERANCE = 0.02  # relative error of a damage that counts as reached
_MOST_STEPS = 40


@dataclass(frozen=True)
class Candidate:
    """One vector at one strength.

    Attributes:
      layer: after which it is added (0-based).
      strength: the factor on the vector.
      damage: what it does to neutral text, in nats.
      effect: what it does to the measure that it is chosen by.
    """

    layer: int
    strength: float
    damage: float
    effect: float


def find_strength(damage: Callable[[float], float], target: float) -> float | None:
    """The strength up to `LARGEST_STRENGTH` whose damage is `target`, within `TOLERANCE`.

    Brackets it by powers of two from 1 on, then interpolates in logarithms, in which a damage that
    grows as a power is a line, or halves where that gains little. None where the damage stays below
    the target. A damage that is not finite counts as larger than any.
    """
    low, high = 0.0, 0.0
    low_damage = high_damage = math.nan
    strength = 1.0
    for step in range(_MOST_STEPS):
        value = damage(strength)
        value = value if math.isfinite(value) else math.inf
        if abs(value / target - 1) <= TOLERANCE:
            return strength
        if value < target:
            low, low_damage = strength, value
        else:
            high, high_damage = strength, value
        if not high:
            if low >= LARGEST_STRENGTH:
                return None
            strength = 2 * low
        elif not low:
            strength = high / 2
        else:
            strength = math.sqrt(low * high)
            if step % 2 and low_damage > 0 and math.isfinite(high_damage):
                share = math.log(target / low_damage) / math.log(high_damage / low_damage)
                strength = low * (high / low) ** share
    return strength


def choose_candidate(candidates: Sequence[Candidate], most_damage: float) -> Candidate:
    """The one with the largest effect among those whose damage is at most `most_damage` (within
    `TOLERANCE`); of equal effects the one with the least damage.

    Raises ValueError where there is none.
    """
    allowed = [c for c in candidates if c.damage <= most_damage * (1 + TOLERANCE)]
    if not allowed:
        raise ValueError(f"no candidate damages by at most {most_damage}")
    return max(allowed, key=lambda c: (c.effect, -c.damage))
