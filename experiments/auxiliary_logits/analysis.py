"""From students of auxiliary logits to numbers: differences to controls, over seeds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from subliminal_jax.evaluation.metric_ranges import COSINE, EXPLAINED, SHARE, MetricRange
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_rows import TOLERANCE

SAME, OTHER, UNTRAINED = "same", "other", "untrained-teacher"
STARTS = (SAME, OTHER, UNTRAINED)  # of students of every optimizer
CHANGE = SHARE.difference()  # of accuracies


@dataclass(frozen=True)
class Student:
    """One student.

    Attributes:
      optimizer: its label.
      rate: the learning rate.
      seed: of its networks, teacher and noise.
      start: where it began (`network.make_start`), or the control of an untrained teacher.
      loss_before: the KL divergence from its teacher on held-out noise at the start, in nats.
      loss: at the end; None where it is not finite.
      accuracy_before: the share of test digits that are right at the start.
      accuracy: at the end.
    """

    optimizer: str
    rate: float
    seed: int
    start: str
    loss_before: float
    loss: float | None
    accuracy_before: float
    accuracy: float

    @property
    def is_sound(self) -> bool:
        """Whether it ended no farther from its teacher than it began, within `TOLERANCE`."""
        return self.loss is not None and self.loss <= self.loss_before + TOLERANCE


@dataclass(frozen=True)
class StepRow:
    """One step of a student on the outputs of a teacher that took one (`one_step.OneStep`).

    Attributes:
      seed: of networks and noise.
      start: where the student begins.
      loss: of the student: softmax or squared.
      eps: the teacher's step.
      inner_product: of both steps, in units of their learning rates.
      cosine: of both steps.
      changes: of the teacher's loss at the student, for each of the student's steps.
      teacher_change: of the teacher's own loss by its step.
    """

    seed: int
    start: str
    loss: str
    eps: float
    inner_product: float
    cosine: float
    changes: tuple[float, ...]
    teacher_change: float


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      network: the sizes of the network, in words.
      steps, batch_size: of every student.
      tuning_seeds: seeds on which rates were found.
      teachers: the accuracy of each reported seed's teacher.
      choices: the rates of each optimizer.
      students: all that are reported.
      alphas: sizes of a student's one step.
      one_step: what one step does.
    """

    network: str
    steps: int
    batch_size: int
    tuning_seeds: tuple[int, ...]
    teachers: tuple[float, ...]
    choices: tuple[RateChoice, ...]
    students: tuple[Student, ...]
    alphas: tuple[float, ...]
    one_step: tuple[StepRow, ...]


@dataclass(frozen=True)
class RuleResult:
    """Students of one optimizer at its best rate, over seeds whose students are all sound.

    Attributes:
      choice: how the rate was found.
      accuracy: of students that begin where their teacher did.
      other: of controls that begin elsewhere.
      untrained: of controls whose teacher was not trained.
      minus_other, minus_untrained: students less these controls.
      other_gain: what those that begin elsewhere gained over their start.
      explained: the share of the KL divergence at the start that students took away.
      values: each seed's accuracy less that of the control that begins elsewhere.
      unstable: students and controls that ended farther from their teacher than they began.
    """

    optimizer: str
    choice: RateChoice
    accuracy: Interval | None
    other: Interval | None
    untrained: Interval | None
    minus_other: Interval | None
    minus_untrained: Interval | None
    other_gain: Interval | None
    explained: Interval | None
    values: tuple[float, ...]
    unstable: int


@dataclass(frozen=True)
class StartResult:
    """Students of one optimizer that begin in one place.

    Attributes:
      accuracy: at the end.
      gain: over the start.
      minus_other: less students that begin elsewhere with everything.
    """

    optimizer: str
    start: str
    accuracy: Interval | None
    gain: Interval | None
    minus_other: Interval | None


@dataclass(frozen=True)
class StepResult:
    """One step from one start, over seeds.

    Attributes:
      cosine: of the student's step with the teacher's.
      negative: seeds where their inner product is below zero.
      seeds: all of them.
      decrease: of the teacher's loss at the student by its step of each size in `alphas`, for each
        nat by which the teacher's own step decreased it.
    """

    loss: str
    start: str
    eps: float
    cosine: Interval
    negative: int
    seeds: int
    decrease: tuple[Interval, ...]


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      teacher: the teachers' accuracy.
      rules: every optimizer at its best rate.
      starts: students that begin between two networks, or share a part.
      steps_taken: the one-step theorem.
      adaptive_minus_sgd: AdamW's (or Adam's) students less SGD's, in accuracy beyond controls.
    """

    teacher: Interval
    rules: tuple[RuleResult, ...]
    starts: tuple[StartResult, ...]
    steps_taken: tuple[StepResult, ...]
    adaptive_minus_sgd: Interval | None

    def find_rule(self, *names: str) -> RuleResult | None:
        """The first of these optimizers that was trained."""
        by_name = {rule.optimizer: rule for rule in self.rules}
        return next((by_name[name] for name in names if name in by_name), None)

    def find_start(self, optimizer: str, start: str) -> StartResult | None:
        """Students of an optimizer that begin in one place, if there are any."""
        return next(
            (row for row in self.starts if (row.optimizer, row.start) == (optimizer, start)), None
        )

    def find_step(self, start: str) -> StepResult:
        """The smallest step of a softmax teacher from one start."""
        rows = [row for row in self.steps_taken if (row.loss, row.start) == ("softmax", start)]
        return min(rows, key=lambda row: row.eps)


def analyse(measured: Measured) -> Results:
    """Differences over seeds of every optimizer and start, and what one step does."""
    rules = tuple(compare_rule(measured, choice) for choice in measured.choices)
    return Results(
        **vars(measured),
        teacher=SHARE.clip(vector_interval(measured.teachers)),
        rules=rules,
        starts=tuple(compare_starts(measured)),
        steps_taken=tuple(compare_steps(measured.one_step)),
        adaptive_minus_sgd=subtract_sgd(measured),
    )


def by_seed(measured: Measured, optimizer: str, start: str) -> dict[int, Student]:
    """The sound students of an optimizer from one start."""
    return {
        row.seed: row
        for row in measured.students
        if (row.optimizer, row.start) == (optimizer, start) and row.is_sound
    }


def over_seeds(
    groups: Sequence[dict[int, Student]], measure: Callable[..., float], within: MetricRange
) -> Interval | None:
    """The mean of a measure of one student of each group, over seeds that all groups have; `within`
    is its range."""
    values = list_values(groups, measure)
    return within.clip(vector_interval(values)) if values else None


def list_values(
    groups: Sequence[dict[int, Student]], measure: Callable[..., float]
) -> tuple[float, ...]:
    """The measure of each seed that all groups have."""
    seeds = sorted(set.intersection(*(set(group) for group in groups)))
    return tuple(measure(*(group[seed] for group in groups)) for seed in seeds)


def subtract(student: Student, control: Student) -> float:
    """The difference of accuracies."""
    return student.accuracy - control.accuracy


def explain_loss(student: Student) -> float:
    """The share of its divergence from the teacher that a student took away."""
    assert student.loss is not None
    return 1 - student.loss / student.loss_before if student.loss_before > 0 else math.nan


def gain(student: Student) -> float:
    """What training added to the accuracy."""
    return student.accuracy - student.accuracy_before


def compare_rule(measured: Measured, choice: RateChoice) -> RuleResult:
    """An optimizer's students against both controls."""
    name = choice.optimizer
    same, other, untrained = (by_seed(measured, name, start) for start in STARTS)
    rows = [row for row in measured.students if row.optimizer == name and row.start in STARTS]
    return RuleResult(
        optimizer=name,
        choice=choice,
        accuracy=over_seeds([same], lambda row: row.accuracy, SHARE),
        other=over_seeds([other], lambda row: row.accuracy, SHARE),
        untrained=over_seeds([untrained], lambda row: row.accuracy, SHARE),
        minus_other=over_seeds([same, other], subtract, CHANGE),
        minus_untrained=over_seeds([same, untrained], subtract, CHANGE),
        other_gain=over_seeds([other], gain, CHANGE),
        explained=over_seeds([same], explain_loss, EXPLAINED),
        values=list_values([same, other], subtract),
        unstable=sum(not row.is_sound for row in rows),
    )


def compare_starts(measured: Measured) -> list[StartResult]:
    """Every start of every optimizer that has more than those of all."""
    pairs = dict.fromkeys((row.optimizer, row.start) for row in measured.students)
    further = {name for name, start in pairs if start not in STARTS}
    results = []
    for name, start in pairs:
        if name not in further or start == UNTRAINED:
            continue
        students, other = by_seed(measured, name, start), by_seed(measured, name, OTHER)
        results.append(
            StartResult(
                optimizer=name,
                start=start,
                accuracy=over_seeds([students], lambda row: row.accuracy, SHARE),
                gain=over_seeds([students], gain, CHANGE),
                minus_other=None
                if start == OTHER
                else over_seeds([students, other], subtract, CHANGE),
            )
        )
    return results


def compare_steps(rows: Sequence[StepRow]) -> list[StepResult]:
    """What one step does, by loss, start and size of the teacher's step."""
    groups: dict[tuple[str, str, float], list[StepRow]] = {}
    for row in rows:
        groups.setdefault((row.loss, row.start, row.eps), []).append(row)
    return [
        StepResult(
            *key,
            cosine=COSINE.clip(vector_interval([row.cosine for row in group])),
            negative=sum(row.inner_product < 0 for row in group),
            seeds=len(group),
            decrease=tuple(
                vector_interval(np.array(changes) / [row.teacher_change for row in group])
                for changes in zip(*(row.changes for row in group), strict=True)
            ),
        )
        for key, group in groups.items()
    ]


def subtract_sgd(measured: Measured) -> Interval | None:
    """AdamW's students beyond their controls, less SGD's, by seed."""
    names = [choice.optimizer for choice in measured.choices]
    adaptive = next((name for name in ("adamw", "adam") if name in names), None)
    if adaptive is None or "sgd" not in names:
        return None
    groups = [
        by_seed(measured, name, start) for name in (adaptive, "sgd") for start in (SAME, OTHER)
    ]
    return over_seeds(
        groups, lambda a, b, c, d: subtract(a, b) - subtract(c, d), CHANGE.difference()
    )
