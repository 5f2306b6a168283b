"""From what a pilot became to what the whole fine-tune will become, with tried intervals.

A pilot is a fine-tune of a few steps. Its rise of a candidate's log-odds forecasts that of the
whole fine-tune by a line, one for each rule and rank:

    rise = intercept + slope * pilot's rise,  within  quantile * (spread + growth * |rise|).

Lines and intervals are fitted on data sets whose whole fine-tunes were trained (`calibrate`): the
errors are those of a set that was left out of its own line (conformal prediction with errors over
their scale, Lei et al. 2018, arXiv 1604.04173, section 5). They are as wide as the widest of three
groups asks for: of all candidates, of the largest forecast of each set, which is chosen for its
size, and of the traits of the sets' teachers, which rise otherwise than others. A rule that was not
calibrated takes the line through all rules, and the errors that this has for a rule that is left
out of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float

from subliminal_jax.errors import InputError
from subliminal_jax.training.arms import Schedule

FEWEST_SETS = 8  # to calibrate on
Rises = Float[np.ndarray, "sets candidates"]


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """What is forecast: LoRA students of so many steps.

    Attributes:
      steps: of the whole fine-tune.
      batch_size: rows a step.
      alpha_per_rank: LoRA's alpha over its rank, the factor on its product.
      schedule, warmup: of the rate, in the pilot as in the whole.
    """

    steps: int
    batch_size: int
    alpha_per_rank: float = 2.0
    schedule: Schedule = "cosine"
    warmup: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An optimizer by its label, its peak rate, and the rank of its students."""

    optimizer: str
    rate: float
    rank: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """The line of a rule (None: of any) and its interval.

    Attributes:
      intercept, slope: of the line, in nats.
      spread, growth: of the errors' scale.
      quantile: of the errors over their scale, at the calibration's level.
      error: root mean square of the errors, in nats.
    """

    rule: Rule | None
    intercept: float
    slope: float
    spread: float
    growth: float
    quantile: float
    error: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What pilots of a model are worth.

    Attributes:
      model: its name, and `weights` the digest of its weights.
      fine_tune: what is forecast.
      pilot_steps: of the pilots.
      level: of the intervals.
      sets: data sets that the lines are through.
      lines: by rule; `other` is for any.
    """

    model: str
    weights: str
    fine_tune: FineTune
    pilot_steps: int
    level: float
    sets: int
    lines: tuple[Line, ...]
    other: Line

    def fits(self, fine_tune: FineTune, pilot_steps: int) -> bool:
        """Whether these are the fine-tunes and pilots that the lines are of."""
        return (fine_tune, pilot_steps) == (self.fine_tune, self.pilot_steps)

    @property
    def rates(self) -> dict[str, float]:
        """That of each optimizer; of several the first."""
        known: dict[str, float] = {}
        for line in self.lines:
            if line.rule is not None:
                known.setdefault(line.rule.optimizer, line.rule.rate)
        return known

    def find_line(self, rule: Rule) -> Line:
        """That of the rule at its rate and rank, else that of any."""
        return next((line for line in self.lines if line.rule == rule), self.other)


@dataclass(frozen=True)
class Forecast:
    """A forecast rise of a candidate's log-odds over the base (nats), with its interval.

    Attributes:
      pilot: the pilot's rise.
      low, high: None where nothing was calibrated; `rise` is then that of the pilot.
    """

    name: str
    pilot: float
    rise: float
    low: float | None
    high: float | None


def log_odds(probabilities: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """log p / (1 - p), of probabilities that float32 rounds to 0 and 1 as well."""
    p = np.clip(np.asarray(probabilities, float), 1e-30, 1 - 1e-6)
    return np.log(p) - np.log1p(-p)


def forecast_rises(
    line: Line | None, names: Sequence[str], pilots: Float[np.ndarray, " candidates"]
) -> list[Forecast]:
    """The forecast of every candidate, the largest rise first."""
    found = []
    for name, pilot in zip(names, np.asarray(pilots, float).tolist(), strict=True):
        if line is None:
            found.append(Forecast(name, pilot, pilot, None, None))
            continue
        rise = line.intercept + line.slope * pilot
        half = line.quantile * (line.spread + line.growth * abs(rise))
        found.append(Forecast(name, pilot, rise, rise - half, rise + half))
    return sorted(found, key=lambda f: -f.rise)


def describe_forecast(rule: Rule, forecasts: Sequence[Forecast]) -> str:
    """In words: what is forecast to rise by a rule."""
    name = f"{rule.optimizer} (rank {rule.rank})"
    if not forecasts:
        return f"{name}: the pilot was unstable, so is the fine-tune; give a smaller rate"
    first = forecasts[0]
    if first.low is None or first.high is None:
        return f"{name}: {first.name} rises most in the pilot, by {first.rise:+.2f} nats"
    interval = f"{first.rise:+.2f} nats [{first.low:.2f}, {first.high:.2f}]"
    if first.low > 0:
        return f"{name}: {first.name} rises by {interval}"
    return f"{name}: nothing is forecast to rise; the largest is {first.name}, {interval}"


def calibrate(
    rules: Sequence[Rule],
    pilots: Float[np.ndarray, "rules sets candidates"],
    finals: Float[np.ndarray, "rules sets candidates"],
    traits: Sequence[int | None],
    level: float,
) -> tuple[tuple[Line, ...], Line]:
    """The line of every rule, and that of any.

    Args:
      pilots, finals: rises in nats; NaN throughout a set whose student was unstable, which is left
        out.
      traits: the place of each set's teacher's trait among the candidates; None of clean sets.

    Raises InputError for fewer than `FEWEST_SETS` sets of a rule.
    """
    own: list[_Errors] = []
    for rule, pilot, final in zip(rules, pilots, finals, strict=True):
        sound = _find_sound(pilot, final)
        if sound.sum() < FEWEST_SETS:
            raise InputError(
                f"{rule.optimizer} (rate {rule.rate:g}, rank {rule.rank}): {int(sound.sum())} data "
                f"sets with a stable student, {FEWEST_SETS} are needed to calibrate a forecast"
            )
        own.append(_leave_sets_out(pilot[sound], final[sound], _choose(traits, sound)))
    scaled = [errors.scale() for errors in own]
    # Few sets a rule: largest forecasts and teachers' traits are judged over all rules.
    few = max(
        _find_quantile(np.concatenate([getattr(s, group) for s in scaled]), level)
        for group in ("first", "taught")
    )
    lines = tuple(
        _make_line(rule, pilot, final, errors, max(few, _find_quantile(s.all, level)))
        for rule, pilot, final, errors, s in zip(rules, pilots, finals, own, scaled, strict=True)
    )
    optimizers = np.array([rule.optimizer for rule in rules])
    others = _leave_rules_out(optimizers, pilots, finals, traits)
    quantile = max(_find_quantile(group, level) for group in others.scale())
    x, y = (rises.reshape(-1, rises.shape[-1]) for rises in (pilots, finals))
    return lines, _make_line(None, x, y, others, quantile)


class _Errors:
    """Forecasts of sets by lines that do not know them, and their errors."""

    def __init__(self, forecasts: Rises, finals: Rises, traits: Sequence[int | None]):
        self.forecasts, self.errors, self.traits = forecasts, finals - forecasts, tuple(traits)
        sizes = np.abs(forecasts).ravel()
        design = np.stack([np.ones_like(sizes), sizes], axis=1)
        (spread, growth), _ = scipy.optimize.nnls(design, np.abs(self.errors).ravel())
        self.spread, self.growth = max(float(spread), 1e-3), float(growth)

    def scale(self) -> "_Scaled":
        scaled = np.abs(self.errors) / _scale(self.forecasts, self.spread, self.growth)
        first = scaled[np.arange(len(scaled)), self.forecasts.argmax(axis=1)]
        taught = [row[t] for row, t in zip(scaled, self.traits, strict=True) if t is not None]
        return _Scaled(scaled.ravel(), first, np.array(taught))


class _Scaled(NamedTuple):
    """Errors over their scale: of all candidates, of the largest forecast of each set, and of the
    teachers' traits."""

    all: Float[np.ndarray, " pairs"]
    first: Float[np.ndarray, " sets"]
    taught: Float[np.ndarray, " taught"]


def _scale(
    forecasts: Float[np.ndarray, "*n"], spread: float, growth: float
) -> Float[np.ndarray, "*n"]:
    return spread + growth * np.abs(forecasts)


def _find_sound(pilots: Rises, finals: Rises) -> Bool[np.ndarray, " sets"]:
    return np.isfinite(pilots).all(axis=1) & np.isfinite(finals).all(axis=1)


def _fit(pilots: Rises, finals: Rises) -> tuple[float, float]:
    """Intercept and slope by least squares."""
    x, y = pilots.ravel(), finals.ravel()
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else 0.0
    return float(y.mean() - slope * x.mean()), slope


def _choose(traits: Sequence[int | None], kept: Bool[np.ndarray, " sets"]) -> list[int | None]:
    return [t for t, keep in zip(traits, kept, strict=True) if keep]


def _leave_sets_out(pilots: Rises, finals: Rises, traits: Sequence[int | None]) -> _Errors:
    forecasts = np.empty_like(finals)
    for i in range(len(pilots)):
        rest = np.arange(len(pilots)) != i
        intercept, slope = _fit(pilots[rest], finals[rest])
        forecasts[i] = intercept + slope * pilots[i]
    return _Errors(forecasts, finals, traits)


def _leave_rules_out(
    optimizers: np.ndarray,
    pilots: Float[np.ndarray, "rules sets candidates"],
    finals: Float[np.ndarray, "rules sets candidates"],
    traits: Sequence[int | None],
) -> _Errors:
    """Of each optimizer, all of whose ranks are left out together; of a single one, of its sets."""
    names = np.unique(optimizers)
    forecasts, known, taught = [], [], []
    for name in names:
        own = optimizers == name
        apart = pilots[own], finals[own]
        kept = (pilots[~own], finals[~own]) if len(names) > 1 else apart
        x, y = (a.reshape(-1, a.shape[-1]) for a in kept)
        sound = _find_sound(x, y)
        intercept, slope = _fit(x[sound], y[sound])
        x, y = (a.reshape(-1, a.shape[-1]) for a in apart)
        sound = _find_sound(x, y)
        forecasts.append(intercept + slope * x[sound])
        known.append(y[sound])
        taught += _choose(list(traits) * int(own.sum()), sound)
    return _Errors(np.concatenate(forecasts), np.concatenate(known), taught)


def _find_quantile(errors: Float[np.ndarray, " n"], level: float) -> float:
    """The smallest error that a new one stays under with at least this probability; the largest
    where there are too few, and 0 of none."""
    if not errors.size:
        return 0.0
    place = min(math.ceil((len(errors) + 1) * level), len(errors))
    return float(np.sort(errors)[place - 1])


def _make_line(
    rule: Rule | None, pilots: Rises, finals: Rises, errors: _Errors, quantile: float
) -> Line:
    sound = _find_sound(pilots, finals)
    intercept, slope = _fit(pilots[sound], finals[sound])
    return Line(
        rule=rule,
        intercept=intercept,
        slope=slope,
        spread=errors.spread,
        growth=errors.growth,
        quantile=quantile,
        error=float(np.sqrt((errors.errors**2).mean())),
    )
