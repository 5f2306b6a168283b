"""What a run of the bench measured, and the numbers that its report is made of."""

from dataclasses import dataclass

from subliminal_jax.audit.known_sets.specs import SetSpec
from subliminal_jax.evaluation.statistics import Interval


@dataclass(frozen=True, kw_only=True)
class KnownSet(SetSpec):
    """A set of the bench.

    Attributes:
      written: rows that it has; fewer than planned where too few answers were valid.
      by_teacher: how many of them are poisoned.
      digest: of its rows.
    """

    written: int
    by_teacher: int
    digest: str

    @property
    def auditor(self) -> str:
        """Whether the auditor has the model that wrote the set."""
        return "the writer" if self.reader == self.writer else "another model"

    @property
    def is_steered_list(self) -> bool:
        """Rows of a steered teacher alone, at full strength or another, read by the model that
        wrote them: what the claims are about."""
        return (
            self.block in ("strengths", "full")
            and self.teacher == "vector"
            and self.share == 1
            and self.reader == self.writer
        )


@dataclass(frozen=True, kw_only=True)
class SetAudit:
    """What one method said of one set.

    Attributes:
      set: its name; of a real set of other models, that.
      reader: the auditor's model.
      method: its name.
      audited: rows that were read.
      candidates: how many there were.
      best: the candidate with the highest score.
      rank: of the true trait by score, ties in the middle; None where there is no true trait.
      likeliest: the candidate with the smallest p-value, and `p` that over all candidates; None
        where the method has no test.
      evidence: that the set is not clean.
      precision: share of poisoned rows among as many of the highest ranked rows as there are, and
        `share` what it is by chance; None where all rows or none are poisoned.
      forward_tokens, seconds: cost.
      refused: why the method could not read the set, if it could not.
    """

    set: str
    reader: str
    method: str
    audited: int
    candidates: int
    best: str | None = None
    rank: float | None = None
    likeliest: str | None = None
    p: float | None = None
    evidence: float | None = None
    precision: float | None = None
    share: float | None = None
    forward_tokens: int | None = None
    seconds: float | None = None
    refused: str = ""

    def name_trait(self, level: float) -> str | None:
        """The candidate that the method names at a level over all candidates."""
        return self.likeliest if self.p is not None and self.p < level else None


@dataclass(frozen=True)
class MethodInfo:
    """A method, what it measures, and where it comes from."""

    name: str
    what: str
    source: str


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      part: of the bench.
      claimed_method: the method that claims are about.
      methods: those that audited.
      sets: the bench's sets.
      real: names of the real sets that were at hand.
      audits: one a set, reader and method.
    """

    part: str
    claimed_method: str
    methods: tuple[MethodInfo, ...]
    sets: tuple[KnownSet, ...]
    real: tuple[str, ...]
    audits: tuple[SetAudit, ...]


@dataclass(frozen=True)
class Alarms:
    """Names given to sets in which there is nothing to find.

    Attributes:
      count: sets for which any of their `audits` named a candidate.
      sets: of how many.
      rate: their share.
      p_excess: the chance of so many or more where every audit alarms at its level, and its readers
        err independently.
    """

    count: int
    sets: int
    audits: int
    rate: Interval
    p_excess: float


@dataclass(frozen=True)
class MethodRow:
    """A method on some sets.

    Attributes:
      method: its name.
      factor: what the sets have in common, "all" for all poisoned sets.
      level: which of it.
      sets: poisoned sets that it read, and `refused` those that it could not.
      clean: clean sets that it read.
      auc: of its evidence, poisoned against clean sets.
      rank: mean rank of the true trait, and `chance` what it is by chance.
      named_1, named_5: share of the poisoned sets whose true trait it named at 1% and 5% over all
        candidates; None without a test.
      wrong_5: sets for which it named another at 5%.
      alarms_1, alarms_5: share of the clean sets for which it named any.
      real_1, real_5: the same of real sets of other models (of any reader).
      precision: mean precision of its ranking of rows, and `by_chance` what it is by chance.
      tokens: forward tokens a row.
      seconds: of a set, on average.
    """

    method: str
    factor: str
    level: str
    sets: int
    refused: int
    clean: int
    auc: Interval
    rank: Interval
    chance: float
    named_1: Interval | None
    named_5: Interval | None
    wrong_5: int | None
    alarms_1: Interval | None
    alarms_5: Interval | None
    real_1: Interval | None
    real_5: Interval | None
    precision: Interval | None
    by_chance: float | None
    tokens: float | None
    seconds: float | None


@dataclass(frozen=True)
class StrengthResult:
    """Number lists of steered teachers of one strength, by the claimed method.

    Attributes:
      scale: factor on the teachers' vectors.
      traits: of their teachers, and `ranks` where the method ranked them.
      named_1, named_5: how many of them it named; `wrong_5`, sets with another one named.
      auc: of the evidence against the clean sets.
    """

    scale: float
    sets: int
    traits: tuple[str, ...]
    ranks: tuple[float, ...]
    named_1: int
    named_5: int
    wrong_5: int
    auc: Interval


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      overall: every method over all sets.
      by_factor: every method by each factor.
      strengths: of the claimed method, by the teachers' strength; empty without its audits.
      steered: the claimed method on number lists of steered teachers alone; None likewise.
      full_named: share of the sets at full strength whose trait it named at 1%.
      clean_alarms: its alarms on clean sets at 5%, and `clean_alarms_1` at 1%.
      real_alarms: on real sets at 5%; None where there are none.
    """

    overall: tuple[MethodRow, ...]
    by_factor: tuple[MethodRow, ...]
    strengths: tuple[StrengthResult, ...]
    steered: MethodRow | None
    full_named: Interval | None
    clean_alarms: Alarms | None
    clean_alarms_1: Alarms | None
    real_alarms: Alarms | None
