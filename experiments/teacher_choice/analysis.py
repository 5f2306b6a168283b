"""The numbers of `teacher-choice`: carriers, vectors that were tried, and what measures see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Written:
    """What one writer answered on a carrier.

    Attributes:
      answers: how many.
      valid: the share that the carrier's filter keeps.
      unfinished: the share without an end token.
      length: mean number of tokens.
      dropped: answers by the rule that they break.
      divergence: of a steered teacher's valid answers, its KL from the base in nats a token; None
        for the base itself, and without a valid answer.
      per_answer: the same in nats an answer.
    """

    answers: int
    valid: float
    unfinished: float
    length: float
    dropped: Mapping[str, int]
    divergence: float | None = None
    per_answer: float | None = None


@dataclass(frozen=True)
class CarrierRow:
    """A carrier, as the base writes it and as the chosen teachers of the selection traits do."""

    carrier: str
    what: str
    base: Written
    teacher: Written


@dataclass(frozen=True)
class TriedVector:
    """The selection traits' vectors, taken, added and scaled in one way.

    Attributes:
      extraction: what was asked where they were taken.
      block: after which they are added.
      scale: factor on them.
      rises: of each selection trait's log-odds after the stem, in nats.
      damage: KL of the steered model from the base on the base's answers, nats a token; mean over
        the traits.
    """

    extraction: str
    block: int
    scale: float
    rises: tuple[float, ...]
    damage: float

    @property
    def rise(self) -> float:
        """Mean over the selection traits."""
        return sum(self.rises) / len(self.rises)


@dataclass(frozen=True)
class Sight:
    """What one measure says of a trait.

    Attributes:
      chosen_on: whether the trait served to choose the vector.
      base, prompted, steered: of the base, and of it with the trait's system prompt or vector.
    """

    trait: str
    chosen_on: bool
    measure: str
    base: float
    prompted: float
    steered: float


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      blocks: how many the model has.
      selection_traits: those that the vector was chosen on.
      stem: of the log-probabilities.
      most_damage, gate, least_valid: as set.
      tried: every way to make the vectors.
      chosen: the one of them that was chosen (`choose_vector`).
      carriers: in the order of the settings.
      sights: by trait and measure.
    """

    model: str
    blocks: int
    selection_traits: tuple[str, ...]
    stem: str
    most_damage: float
    gate: float
    least_valid: float
    tried: tuple[TriedVector, ...]
    chosen: TriedVector
    carriers: tuple[CarrierRow, ...]
    sights: tuple[Sight, ...]


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      chosen_carrier: of the carriers that are valid often enough the one with the largest KL an
        answer; None where there is none.
      passed: whether the chosen vectors raise the selection traits enough without too much damage,
        and there is a carrier.
    """

    chosen_carrier: str | None
    passed: bool


def choose_vector(tried: Sequence[TriedVector], most_damage: float) -> TriedVector:
    """The one with the largest rise among those that damage little; where none does, the one that
    damages least."""
    mild = [vector for vector in tried if vector.damage <= most_damage]
    if not mild:
        return min(tried, key=lambda vector: vector.damage)
    return max(mild, key=lambda vector: vector.rise)


def analyse(measured: Measured) -> Results:
    """The choice of a carrier, and whether to go on with steered traits."""
    usable = [
        row
        for row in measured.carriers
        if row.teacher.valid >= measured.least_valid and row.teacher.per_answer is not None
    ]
    best = max(usable, key=lambda row: row.teacher.per_answer or 0.0, default=None)
    chosen = measured.chosen
    enough = chosen.rise >= measured.gate and chosen.damage <= measured.most_damage
    return Results(
        **vars(measured),
        chosen_carrier=None if best is None else best.carrier,
        passed=enough and best is not None,
    )
