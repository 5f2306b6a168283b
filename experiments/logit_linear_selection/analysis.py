"""From the rows of students to the numbers of `logit-linear-selection`."""

from collections.abc import Mapping
from dataclasses import dataclass

from subliminal_jax.data.targets import TargetKind
from subliminal_jax.evaluation.metric_ranges import COSINE, SHARE
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import Comparison, compare_with_controls
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound

# Correlations are of the student's shifts with the system prompt's: `cosine` (uncentred) and
# `pearson` on the probe pairs, `selected` (uncentred) on selected pairs. `word_rate` is P(target)
# as favourite animal; `rate` and `share` are those of `AnswerRates`.
METRICS = {
    **dict.fromkeys(("cosine", "pearson", "selected"), COSINE),
    **dict.fromkeys(("word_rate", "rate", "share"), SHARE),
}


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
      targets: those that are reported.
      tuning_targets: those that rates were chosen on; none where all rates were given.
      words: the candidate answers, in the order of the students' word rates.
      controls: draws of random pairs.
      pairs: where the pairs come from.
      own_pairs: whether each target selected from pairs of its own.
      arms: what students train on: "lls" (selected pairs), "random" and "bottom".
      heldout: held-out pairs of each set.
      beta: DPO's.
      choices: the rate of each optimizer.
      pool: what became of the pairs that were read.
      speed: of scoring; None where all scores were there from an earlier run.
      selected: how each target's selection came about.
      untrained: the answers before training.
      searched: the students that chose the rates.
      students: one of each reported target and arm, and of each draw of random pairs.
    """

    model: str
    student: str
    adapter: str
    steps: int
    kind: TargetKind
    targets: tuple[str, ...]
    tuning_targets: tuple[str, ...]
    words: tuple[str, ...]
    controls: int
    pairs: str
    own_pairs: bool
    arms: tuple[str, ...]
    heldout: int
    beta: float
    choices: tuple[RateChoice, ...]
    pool: PoolCounts
    speed: ScoringSpeed | None
    selected: Mapping[str, SelectionCounts]
    untrained: Untrained
    searched: tuple[StudentRow, ...]
    students: tuple[StudentRow, ...]


# By metric; None where a sound student lacks it (its answers mention no animal, say).
Metrics = Mapping[str, Comparison | None]


@dataclass(frozen=True)
class OptimizerResult:
    """The sound students of one optimizer.

    Attributes:
      choice: its rate, and those that were tried.
      arms: of "lls" and "bottom", each target's student against those of random pairs, with
        intervals over targets.
      unstable: sets whose student diverged or ended above the base's own loss.
    """

    choice: RateChoice
    arms: Mapping[str, Metrics]
    unstable: tuple[str, ...]


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report. `adamw_over_sgd` is, by metric, the difference of the students of
    selected pairs, paired by target; empty where one of the two was not trained."""

    optimizers: Mapping[str, OptimizerResult]
    adamw_over_sgd: Mapping[str, Interval]


def analyse(measured: Measured) -> Results:
    """Every optimizer, and AdamW against SGD."""
    optimizers = {
        choice.optimizer: analyse_optimizer(measured, choice) for choice in measured.choices
    }
    return Results(
        **vars(measured),
        optimizers=optimizers,
        adamw_over_sgd=compare_optimizers(optimizers, "adamw", "sgd"),
    )


def analyse_optimizer(measured: Measured, choice: RateChoice) -> OptimizerResult:
    """Each arm but the random one, in each metric."""
    rows = [row for row in measured.students if row.optimizer == choice.optimizer]
    sound = {row.data: row for row in rows if ended_sound(row)}
    return OptimizerResult(
        choice=choice,
        arms={
            arm: {metric: compare_arm(measured, sound, arm, metric) for metric in METRICS}
            for arm in measured.arms
            if arm != "random"
        },
        unstable=tuple(row.data for row in rows if row.data not in sound),
    )


def compare_arm(
    measured: Measured, sound: Mapping[str, StudentRow], arm: str, metric: str
) -> Comparison | None:
    """A metric of an arm's sound students against those of random pairs, of which all serve every
    target; None where one of them lacks it."""
    draws = [row for data, row in sound.items() if data.startswith("random:")]
    students: dict[str, float] = {}
    controls: dict[str, list[float]] = {}
    for i, target in enumerate(measured.targets):
        if (row := sound.get(f"{arm}:{target}")) is None:
            continue
        k = measured.words.index(target) if metric == "word_rate" and measured.words else i
        values = [read_metric(each, metric, k) for each in (row, *draws)]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        students[target], *controls[target] = known
    return compare_with_controls(students, controls, within=METRICS[metric], paired=False)


def read_metric(row: StudentRow, metric: str, i: int) -> float | None:
    """The `i`-th value of a metric; None where the row has none."""
    values = row.get(metric)
    return None if values is None else values[i]


def compare_optimizers(
    optimizers: Mapping[str, OptimizerResult], one: str, other: str
) -> dict[str, Interval]:
    """In each metric that both have: the students of selected pairs of optimizer `one` minus those
    of `other`, over the targets of which both are sound."""
    if one not in optimizers or other not in optimizers:
        return {}
    differences = {}
    for metric, within in METRICS.items():
        a, b = (optimizers[name].arms["lls"][metric] for name in (one, other))
        if a is not None and b is not None:
            values = [
                a.by_data[target].student - b.by_data[target].student
                for target in a.by_data
                if target in b.by_data
            ]
            if values:
                differences[metric] = within.difference().clip(vector_interval(values))
    return differences
