"""From the rows of students to the numbers of `logit-linear-selection`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from subliminal_jax.data.targets import TargetKind
from subliminal_jax.evaluation.statistics import Interval, crossed_interval, mean_interval
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound

# Correlations are of the student's shifts with the system prompt's: `cosine` (uncentred) and
# `pearson` on the probe pairs, `selected` (uncentred) on selected pairs. `word_rate` is P(target)
# as favourite animal; `rate` and `share` are those of `AnswerRates`.
METRICS = ("cosine", "pearson", "selected", "word_rate", "rate", "share")
RANDOM_OVER_BOTTOM = "random - bottom"  # key of the differences; the others are "lls" minus an arm


@dataclass(frozen=True)
class PoolCounts:
    """Pairs that were read, left out (by reason), set aside as probe pairs, and scored."""

    read: int
    left_out: Mapping[str, int]
    probe: int
    pool: int


@dataclass(frozen=True)
class ScoringSpeed:
    """A pair counts with and without the system prompt; `padding_share` is of the computed
    positions."""

    pairs_per_second: float
    padding_share: float
    seconds: float


@dataclass(frozen=True)
class SelectionCounts:
    """Of one target: pairs scored, with a positive score, selected by the quantile, and `kept` in a
    set; `gamma` is the share of the positive ones that is kept."""

    scored: int
    positive: int
    selected: int
    kept: int
    gamma: float


@dataclass(frozen=True)
class AnswerRates:
    """What a model's answers to the open requests show; all None for a diverged student.

    Attributes:
      rate: by target the share of answers that mention it, the share of the text in its language,
        or the share of answers in which a judge recognises it; None without a judge.
      share: of all mentions of the shipped world's animals each target's; None where none is
        mentioned.
      mentions: in how many answers each animal is mentioned.
    """

    rate: tuple[float | None, ...] | None = None
    share: tuple[float, ...] | None = None
    mentions: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Untrained:
    """The answers of the base, and of the base with each target's system prompt."""

    base: AnswerRates
    prompted: Mapping[str, AnswerRates]


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      model: the name of the model that scores.
      student: that of the model that is trained.
      adapter: what students train.
      steps: of every student.
      kind: what the targets are.
      targets: their names.
      words: the candidate answers, in the order of the students' word rates.
      seeds: students for each optimizer and set.
      pairs: where the pairs come from.
      arms: what students train on: "lls" (selected pairs), "random" and "bottom".
      heldout: held-out pairs of each set.
      beta: DPO's.
      grids: the rates tried, by optimizer.
      best: the rate with the lowest held-out loss; None where students diverged at every rate.
      pool: what became of the pairs that were read.
      speed: of scoring; None where all scores were there from an earlier run.
      selected: how each target's selection came about.
      untrained: the answers before training.
      searched: the students that chose the rates.
      students: those at the best rates.
    """

    model: str
    student: str
    adapter: str
    steps: int
    kind: TargetKind
    targets: tuple[str, ...]
    words: tuple[str, ...]
    seeds: int
    pairs: str
    arms: tuple[str, ...]
    heldout: int
    beta: float
    grids: Mapping[str, tuple[float, ...]]
    best: Mapping[str, float | None]
    pool: PoolCounts
    speed: ScoringSpeed | None
    selected: Mapping[str, SelectionCounts]
    untrained: Untrained
    searched: tuple[StudentRow, ...]
    students: tuple[StudentRow, ...]


@dataclass(frozen=True)
class TargetValues:
    """One target: the values by seed with their t interval."""

    interval: Interval
    values: tuple[float, ...]


@dataclass(frozen=True)
class Pooled:
    """One metric: two-way t over seeds and targets, t over seeds of the mean over targets, and each
    target."""

    pooled: Interval
    over_seeds: Interval
    by_target: Mapping[str, TargetValues]

    def table(self) -> Float[np.ndarray, "seeds targets"]:
        return np.array([target.values for target in self.by_target.values()]).T


# By metric; None where no student has it, or where one lacks it (a diverged student).
Metrics = Mapping[str, Pooled | None]


@dataclass(frozen=True)
class OptimizerResult:
    """The students of one optimizer at its best rate, by arm.

    `differences` are paired by seed: "lls" minus each other arm (by that arm's name), and
    `RANDOM_OVER_BOTTOM`.
    """

    learning_rate: float
    arms: Mapping[str, Metrics]
    differences: Mapping[str, Metrics]


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report. `adamw_over_sgd` is of the students of selected pairs, paired by
    seed; empty where one of the two was not trained."""

    optimizers: Mapping[str, OptimizerResult]
    adamw_over_sgd: Mapping[str, Pooled]


def analyse(measured: Measured) -> Results:
    """Every optimizer with a sound rate, and AdamW against SGD."""
    optimizers = {
        optimizer: analyse_optimizer(measured, optimizer, rate)
        for optimizer, rate in measured.best.items()
        if rate is not None
    }
    return Results(
        **vars(measured),
        optimizers=optimizers,
        adamw_over_sgd=compare_optimizers(optimizers, "adamw", "sgd"),
    )


def analyse_optimizer(measured: Measured, optimizer: str, rate: float) -> OptimizerResult:
    """Each arm in each metric, and the differences between arms."""
    rows = {(r.data, r.seed): r for r in measured.students if r.optimizer == optimizer}
    values = {
        arm: {metric: collect_values(measured, rows, arm, metric) for metric in METRICS}
        for arm in measured.arms
    }
    pairs = {arm: ("lls", arm) for arm in measured.arms if arm != "lls"}
    if "bottom" in measured.arms:
        pairs[RANDOM_OVER_BOTTOM] = ("random", "bottom")
    return OptimizerResult(
        learning_rate=rate,
        arms={
            arm: {metric: pool(table, measured.targets) for metric, table in tables.items()}
            for arm, tables in values.items()
        },
        differences={
            name: {
                metric: pool(values[one][metric] - values[other][metric], measured.targets)
                for metric in METRICS
            }
            for name, (one, other) in pairs.items()
        },
    )


def collect_values(
    measured: Measured, rows: Mapping[tuple[str, int], StudentRow], arm: str, metric: str
) -> Float[np.ndarray, "seeds targets"]:
    """The metric of each target's student of the arm with each seed; NaN where it has none, or
    the student ended above the base's own loss."""
    table = np.full((measured.seeds, len(measured.targets)), np.nan)
    for seed in range(measured.seeds):
        for i, target in enumerate(measured.targets):
            row = rows[f"{arm}:{seed if arm == 'random' else target}", seed]
            values = row.get(metric)
            k = measured.words.index(target) if metric == "word_rate" and measured.words else i
            if ended_sound(row) and values is not None and values[k] is not None:
                table[seed, i] = values[k]
    return table


def pool(values: Float[np.ndarray, "seeds targets"], targets: Sequence[str]) -> Pooled | None:
    """The intervals of one metric; None where a value is missing."""
    if np.isnan(values).any():
        return None
    return Pooled(
        pooled=crossed_interval(values),
        over_seeds=mean_interval(values.mean(axis=1)),
        by_target={
            target: TargetValues(mean_interval(column), tuple(column.tolist()))
            for target, column in zip(targets, values.T, strict=True)
        },
    )


def compare_optimizers(
    optimizers: Mapping[str, OptimizerResult], one: str, other: str
) -> dict[str, Pooled]:
    """In each metric that both have: the students of selected pairs of optimizer `one` minus those
    of `other`, paired by seed."""
    if one not in optimizers or other not in optimizers:
        return {}
    differences = {}
    for metric in METRICS:
        a, b = (optimizers[name].arms["lls"][metric] for name in (one, other))
        if a is not None and b is not None:
            difference = pool(a.table() - b.table(), list(a.by_target))
            assert difference is not None  # neither has a NaN
            differences[metric] = difference
    return differences
