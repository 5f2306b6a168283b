"""What `forecast-benchmark` measures and finds."""

from dataclasses import dataclass

from subliminal_jax.audit.forecasts import Calibration, FineTune, Rule
from subliminal_jax.evaluation.statistics import Interval


@dataclass(frozen=True)
class RuleRises:
    """The rises of the candidates' log-odds over the base (nats) by one rule; None of unstable
    students.

    Attributes:
      pilots: by length.
      final: after the whole fine-tune.
    """

    pilots: tuple[tuple[float, ...] | None, ...]
    final: tuple[float, ...] | None


@dataclass(frozen=True, kw_only=True)
class KnownOutcome:
    """A data set, the truth about it, and what its students became.

    Attributes:
      part: "development" or "reported".
      teacher: "none" for clean sets.
      written: rows, of which the teacher wrote `by_teacher`.
      rises: by rule.
    """

    name: str
    part: str
    teacher: str
    trait: str | None
    carrier: str
    share: float
    scale: float
    seed: int
    written: int
    by_teacher: int
    rises: tuple[RuleRises, ...]


@dataclass(frozen=True)
class PilotCost:
    """What a pilot of some length costs on rows of a carrier, over a whole fine-tune."""

    carrier: str
    steps: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a run measured.

    Attributes:
      weights: the digest of the model's.
      most_cost: of pilots that may be chosen.
    """

    model: str
    weights: str
    candidates: tuple[str, ...]
    fine_tune: FineTune
    rules: tuple[Rule, ...]
    pilot_steps: tuple[int, ...]
    level: float
    most_cost: float
    costs: tuple[PilotCost, ...]
    outcomes: tuple[KnownOutcome, ...]


@dataclass(frozen=True)
class PilotRow:
    """A length of pilots: its cost, and the error of forecasts of left-out sets for development,
    beside that of the forecast that nothing rises (nats, root mean squares)."""

    steps: int
    cost: float
    error: float
    error_of_none: float
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Forecasts of reported sets against outcomes.

    Attributes:
      rule: None for all together.
      known: whether the lines know the rule; else they are through the other optimizers.
      pairs: poisoned data sets and rules with a stable student, and `unstable` those without.
      correlation: Spearman of forecast and outcome of the teacher's trait over these pairs, the
        interval over data sets.
      within: the same within one rule and rank, a mean over them: what no knowledge of the rules
        alone can give.
      all_correlation: as `correlation`, over all candidates of all sets, clean ones too.
      covered: share of all outcomes in their intervals, of `covered_true` those of the teacher's
        trait, of `covered_first` those of the largest forecast; over data sets.
      named: share of poisoned sets whose largest forecast is of the teacher's trait, and
        `outcome_named` whose largest outcome is.
      error: root mean square of the trait's forecast, and `error_of_none` of the forecast that
        nothing rises.
      said, said_right: pairs whose largest forecast's interval lies above zero, and those of them
        in which that candidate rose.
    """

    rule: Rule | None
    known: bool
    pairs: int
    unstable: int
    correlation: Interval | None
    within: Interval | None
    all_correlation: Interval | None
    covered: Interval | None
    covered_true: Interval | None
    covered_first: Interval | None
    named: Interval | None
    outcome_named: Interval | None
    error: float
    error_of_none: float
    said: int
    said_right: int


@dataclass(frozen=True, kw_only=True)
class ForecastPoint:
    """A reported data set and rule: forecast and outcome of the teacher's trait (of a clean set, of
    the largest forecast)."""

    set: str
    rule: Rule
    trait: str
    poisoned: bool
    forecast: float
    low: float
    high: float
    outcome: float


@dataclass(frozen=True, kw_only=True)
class Results(Measured):
    """Attributes:
    pilots: the lengths that were tried.
    calibration: what `forecast` takes.
    cost: of the chosen pilots, the largest over carriers.
    overall: of all rules, `unknown` of all rules as if none were known.
    by_rule: of each.
    points: of the reported sets.
    """

    pilots: tuple[PilotRow, ...]
    calibration: Calibration
    cost: float
    overall: Trial
    unknown: Trial | None
    by_rule: tuple[Trial, ...]
    points: tuple[ForecastPoint, ...]
