"""The numbers of a forecast."""

from dataclasses import dataclass

from subliminal_jax.audit.forecasts import FineTune, Forecast, Rule


@dataclass(frozen=True, kw_only=True)
class RuleForecast:
    """What a rule is forecast to make of the data.

    Attributes:
      known: whether its own line was calibrated.
      stable: whether its pilot was; else there are no candidates.
      candidates: the largest rise first.
    """

    rule: Rule
    known: bool
    stable: bool
    candidates: tuple[Forecast, ...]


@dataclass(frozen=True, kw_only=True)
class ForecastRun:
    """All numbers of a forecast.

    Attributes:
      rows: of the data, that pilots draw from.
      cost: of a pilot and its questions, over that of its fine-tune.
      level: of the intervals; None where nothing is calibrated, and `uncalibrated` says why.
      verdicts: of every rule, in words.
    """

    model: str
    source: str
    rows: int
    fine_tune: FineTune
    pilot_steps: int
    cost: float
    level: float | None
    uncalibrated: str
    rules: tuple[RuleForecast, ...]
    verdicts: tuple[str, ...]
