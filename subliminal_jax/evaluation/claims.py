"""A claim of a paper, what was measured of it, and the verdict that follows.

docs/method.md says in plain words what each verdict means.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from subliminal_jax.evaluation.p_values import p_value
from subliminal_jax.evaluation.statistics import Interval

REPRODUCED = "reproduced at toy scale"
CONTRADICTED = "contradicted"
REFUTED = "refuted"
INCONCLUSIVE = "inconclusive"
VERDICTS = (REPRODUCED, CONTRADICTED, REFUTED, INCONCLUSIVE)
ALPHA = 0.05  # a row whose p-value is at most this is decided
OWN_QUESTION = "our own question"  # the section of claims that no paper makes

Claimed = Literal["above", "below", "different", "same"]


@dataclass(frozen=True)
class Margin:
    """How far from the null an effect counts as none, in the units of the effect, and why."""

    size: float
    reason: str


@dataclass(frozen=True)
class Presupposition:
    """What a claim takes for granted, such as that a student transmits at all.

    Attributes:
      text: in words.
      effect: has to be clear of `null`, above it.
      holds: where no interval decides, whether it does.
      to_refute: the claim can be refuted only where the effect's estimate is further above the null
        than this, too: two things that are not there are equal, which refutes nothing. None where
        it is a part of what is claimed, and the claim falls with it.
    """

    text: str
    effect: Interval | None = None
    null: float = 0.0
    holds: bool | None = None
    to_refute: float | None = 0.0

    def p_value(self) -> float:
        """That of its effect; 1 where the effect is not above the null, or is unknown."""
        if self.holds is not None:
            return 0.0 if self.holds else 1.0
        if self.effect is None or not self.effect.mean > self.null:
            return 1.0
        return p_value(self.effect, self.null)

    def lets_refute(self) -> bool:
        """Whether the claim can be refuted, as far as this goes."""
        if self.to_refute is None:
            return True
        if self.effect is not None and not self.effect.mean > self.null + self.to_refute:
            return False
        return self.p_value() <= ALPHA


@dataclass(frozen=True)
class Evidence:
    """What a verdict follows from.

    Attributes:
      effect: the measured quantity; None where no sound student is left.
      claimed: where the claim says it lies: "above" or "below" the null, or anywhere but there
        ("different"); or no farther from it than the margin ("same").
      null: its value where there is no effect.
      margin: effects of this size count as none; without one, nothing is refuted.
      presupposes: what must hold, too, for "reproduced".
    """

    effect: Interval | None
    claimed: Claimed = "above"
    null: float = 0.0
    margin: Margin | None = None
    presupposes: tuple[Presupposition, ...] = ()

    def __post_init__(self) -> None:
        if self.claimed == "same" and self.margin is None:
            raise ValueError('a claim that something is the "same" needs a margin')

    def supports(self) -> bool:
        """Whether the estimate lies where the claim says."""
        if self.effect is None:
            return False
        distance = self.effect.mean - self.null
        if self.claimed == "same":
            assert self.margin is not None
            return abs(distance) < self.margin.size
        return {"above": distance > 0, "below": distance < 0, "different": distance != 0}[
            self.claimed
        ]

    def p_value(self) -> float:
        """The two-sided p-value of the verdict that the estimate leans to.

        Where it supports the claim, the largest of the effect's and of the presuppositions', for
        all have to hold; else the effect's own.
        """
        if self.effect is None:
            return 1.0
        if self.claimed == "same":
            assert self.margin is not None
            bounds = [self.null - self.margin.size, self.null + self.margin.size]
            both = [p_value(self.effect, bound) for bound in bounds]
            p = max(both) if self.supports() else both[int(self.effect.mean > self.null)]
        else:
            p = p_value(self.effect, self.null)
        if self.supports():
            p = max([p, *(each.p_value() for each in self.presupposes)])
        return p

    def is_within_margin(self) -> bool:
        """Whether the margin lies around the whole interval, and is no part of the claim."""
        if self.effect is None or self.margin is None or self.claimed == "same":
            return False
        ends = np.array([self.effect.low, self.effect.high]) - self.null
        return bool((np.abs(ends) < self.margin.size).all())

    def judge(self, p: float | None = None) -> str:
        """The verdict.

        Reproduced or contradicted where the p-value is at most `ALPHA`: by the side of the
        estimate. Otherwise refuted where the margin lies around the interval and what the claim is
        about was there (`Presupposition.to_refute`), else inconclusive.

        Args:
          p: the p-value corrected for other rows; by default `p_value()`.
        """
        if (self.p_value() if p is None else p) <= ALPHA:
            return REPRODUCED if self.supports() else CONTRADICTED
        is_refuted = self.is_within_margin() and all(e.lets_refute() for e in self.presupposes)
        return REFUTED if is_refuted else INCONCLUSIVE


@dataclass(frozen=True)
class Claim:
    """One row of the table of claims.

    Attributes:
      id: EXPERIMENT/NAME, unique among the claims of one run.
      claim: what the paper states.
      section: where it states it, as "PAPER, SECTION" with what is finer after another comma, or
        `OWN_QUESTION`.
      setting: model, layer, vectors, data, students and how their rate was chosen.
      number: what came out, as text with its interval.
      seeds: vectors, students or draws behind the interval.
      verdict: one of `VERDICTS`; that of the evidence, where there is any.
      evidence: what the verdict follows from.
      rule: what it follows from where no interval decides, in words.
      unstable: students that the number leaves out because they diverged, or ended above the base's
        own loss.
      model: whose students or numbers these are.

    Raises ValueError for a verdict that is none.
    """

    id: str
    claim: str
    section: str
    setting: str
    number: str
    seeds: int
    verdict: str = ""
    evidence: Evidence | None = None
    rule: str = ""
    unstable: int = 0
    model: str = ""

    def __post_init__(self) -> None:
        if self.evidence is not None:
            object.__setattr__(self, "verdict", self.evidence.judge())
        if self.verdict not in VERDICTS:
            raise ValueError(f"{self.verdict!r} is no verdict: choose from {VERDICTS}")

    @property
    def family(self) -> tuple[str, str]:
        """The rows with which it is corrected for multiplicity: those of one section of one paper
        on one model; our own questions are those of one experiment."""
        source = ", ".join(self.section.split(", ")[:2])
        if self.section == OWN_QUESTION:
            source = f"{self.id.partition('/')[0]}, {OWN_QUESTION}"
        return source, self.model
