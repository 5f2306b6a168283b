"""A claim of a paper, and the verdict that an interval gives on it."""

from dataclasses import dataclass

from subliminal_jax.evaluation.statistics import Interval

REPRODUCED = "reproduced at toy scale"
NOT_REPRODUCED = "not reproduced"
CONTRADICTED = "contradicted"
NEEDS_LARGE_MODELS = "needs large models"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, CONTRADICTED, NEEDS_LARGE_MODELS)


@dataclass(frozen=True)
class Claim:
    """One row of the table of claims.

    Attributes:
      id: EXPERIMENT/NAME, unique among the claims of one run.
      claim: what the paper states.
      section: where it states it.
      setting: model, data, students and optimizer of the test here.
      number: what came out, as text with its interval.
      seeds: students (or draws) behind the interval.
      verdict: one of `VERDICTS`; another one raises ValueError.
    """

    id: str
    claim: str
    section: str
    setting: str
    number: str
    seeds: int
    verdict: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"{self.verdict!r} is no verdict: choose from {VERDICTS}")


def verdict(effect: Interval | None, claimed: int = 1) -> str:
    """The verdict on a claimed direction (1 or -1) of `effect`, measured against its control.

    Reproduced where the interval is clear of zero in the claimed direction, contradicted where it
    is clear of zero in the other one, else (and where there is no interval) not reproduced.
    """
    if effect is None or not effect.excludes_zero:
        return NOT_REPRODUCED
    return REPRODUCED if (effect.low > 0) == (claimed > 0) else CONTRADICTED


def joint_verdict(*effects: Interval) -> str:
    """The verdict that all effects share, each clear of zero on the same side; above is claimed."""
    verdicts = {verdict(effect) for effect in effects}
    return verdicts.pop() if len(verdicts) == 1 else NOT_REPRODUCED
