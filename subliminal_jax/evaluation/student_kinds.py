"""Students of several kinds (one vector, LoRA factors, all weights) held against their controls.

Every trait has data and a student of its own draw; controls are students of other draws of the
plain base's data, or one neutral student for each trait. All kinds are measured alike, each with
controls of its own kind, and a student that is not sound (`rate_search.is_sound`) has no number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subliminal_jax.evaluation.claim_settings import TrainedStudents, describe_setting
from subliminal_jax.evaluation.metric_ranges import RANGES, MetricRange
from subliminal_jax.evaluation.over_vectors import (
    control_difference,
    student_difference,
    vector_interval,
)
from subliminal_jax.evaluation.rate_search import RateChoice, is_sound
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_rows import StudentRow

KIND_NAMES = {"vector": "one vector", "lora": "LoRA", "full": "full weights"}
METRIC_NAMES = {
    "word_rate": "P(trait)",
    "word_log_prob": "log P(trait)",
    "eas": "EAS",
    "shift_component": "share of the shift",
    "gain": "gain",
}


@dataclass(frozen=True)
class KindChoice:
    """The learning rate of one kind of student.

    Attributes:
      adapter: the kind.
      rows: how many rows these students see, where that differs.
      choice: the rates that were tried on the tuning traits, and the best one.
      objective: what these students minimise, where that differs.
    """

    adapter: str
    rows: int | None
    choice: RateChoice
    objective: str | None = None


@dataclass(frozen=True)
class Target:
    """A data set whose student is held against a trait.

    Attributes:
      data: its name.
      trait: the word; None for a teacher without one.
      reference: the teacher whose shift is looked for.
      neutral: the data set of its own control; "" where the controls are shared.
    """

    data: str
    trait: str | None
    reference: str
    neutral: str = ""


@dataclass(frozen=True)
class Difference:
    """One student and the mean of its controls; `interval` allows for their draws of data and
    seeds, and has ends where there are several controls."""

    student: float
    control: float
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    """One metric of the sound students against their controls; None where there are none.

    Attributes:
      student, control: mean over traits; the students' with an interval over traits.
      difference: student minus controls, with an interval over traits.
      by_data: the same of each student.
    """

    student: Interval | None
    control: float | None
    difference: Interval | None
    by_data: Mapping[str, Difference]


@dataclass(frozen=True)
class KindArm:
    """The students of one kind that one optimizer trained.

    Attributes:
      adapter: the kind.
      choice: the learning rate, and those that were tried.
      gain: by how much the students' held-out loss is below the base's, over traits.
      unstable: data sets whose student or control diverged or ended clearly above the base's loss.
      metrics: student minus controls, by metric.
    """

    adapter: str
    optimizer: str
    choice: RateChoice
    gain: Interval | None
    unstable: tuple[str, ...]
    metrics: Mapping[str, Comparison]


@dataclass(frozen=True)
class MeasuredKinds:
    """What was measured of students of several kinds.

    Attributes:
      model: the model's name.
      layer: the steering layer, at which a "vector" student is added.
      adapters: the kinds of students, of `KIND_NAMES`.
      optimizers: labels of the optimizers.
      traits, tuning_traits: those that are reported, and those that rates were chosen on.
      controls: the data sets of the plain base.
      steps, batch_size, schedule, warmup, rank: as set.
      words: in the order of a student's word rates.
      references: in the order of a student's alignments.
      base_losses: the base's held-out loss by data set, in nats a predicted token.
      choices: the rate of every kind and optimizer.
      students: at the chosen rates, each with its "adapter"; of reported traits and controls.
      tuning_students: those that rates were chosen by.
    """

    model: str
    layer: int
    adapters: tuple[str, ...]
    optimizers: tuple[str, ...]
    traits: tuple[str, ...]
    tuning_traits: tuple[str, ...]
    controls: tuple[str, ...]
    steps: int
    batch_size: int
    schedule: str
    warmup: float
    rank: int
    words: tuple[str, ...]
    references: tuple[str, ...]
    base_losses: Mapping[str, float]
    choices: tuple[KindChoice, ...]
    students: tuple[StudentRow, ...]
    tuning_students: tuple[StudentRow, ...]

    def is_sound(self, row: StudentRow) -> bool:
        """Whether a student ended no worse than the base on held-out rows of its data."""
        return is_sound(row, self.base_losses)

    def select(self, **which: Any) -> list[StudentRow]:
        """The students whose columns have these values."""
        return [r for r in self.students if all(r[key] == x for key, x in which.items())]

    def select_sound(self, **which: Any) -> dict[str, StudentRow]:
        """The sound ones among them, by data set."""
        return {row.data: row for row in self.select(**which) if self.is_sound(row)}

    def read(self, row: StudentRow, metric: str, target: Target) -> float:
        """A metric (one of `METRIC_NAMES`) of a sound student, held against a target."""
        if metric == "gain":
            assert row.heldout_loss is not None
            return self.base_losses[row.data] - row.heldout_loss
        if metric in ("word_rate", "word_log_prob"):
            return float(row[metric][self.words.index(target.trait or "")])
        return float(row[metric][self.references.index(target.reference)][self.layer])

    def find_choice(
        self,
        adapter: str,
        optimizer: str,
        rows: int | None = None,
        objective: str | None = None,
    ) -> RateChoice:
        """How the rate of a kind was chosen."""
        wanted = (adapter, optimizer, rows, objective)
        return next(
            c.choice
            for c in self.choices
            if (c.adapter, c.choice.optimizer, c.rows, c.objective) == wanted
        )

    def compare(self, targets: Sequence[Target], metric: str, **which: Any) -> Comparison:
        """A metric of the sound students of `targets` (chosen by `which`) against their controls:
        each against its neutral one where the targets name one, else against all of `controls`."""
        sound = self.select_sound(**which)
        values: dict[str, float] = {}
        controls: dict[str, list[float]] = {}
        shared = [name for name in self.controls if name in sound]
        for target in targets:
            neutrals = [target.neutral] if target.neutral else shared
            if target.data in sound and all(name in sound for name in neutrals):
                values[target.data] = self.read(sound[target.data], metric, target)
                controls[target.data] = [self.read(sound[n], metric, target) for n in neutrals]
        return compare_with_controls(
            values,
            controls,
            within=RANGES[metric],
            paired=any(target.neutral for target in targets),
        )

    def summarise(
        self,
        targets: Sequence[Target],
        metrics: Sequence[str],
        adapter: str,
        optimizer: str,
        **which: Any,
    ) -> KindArm:
        """The students of `targets` of one kind and optimizer (and what else `which` says)."""
        which |= {"adapter": adapter, "optimizer": optimizer}
        sound = self.select_sound(**which)
        gains = [self.read(sound[t.data], "gain", t) for t in targets if t.data in sound]
        data = {*self.controls, *(t.data for t in targets), *(t.neutral for t in targets)}
        return KindArm(
            adapter=adapter,
            optimizer=optimizer,
            choice=self.find_choice(adapter, optimizer, which.get("rows"), which.get("objective")),
            gain=vector_interval(gains) if gains else None,
            unstable=tuple(
                row.data
                for row in self.select(**which)
                if row.data in data and not self.is_sound(row)
            ),
            metrics={metric: self.compare(targets, metric, **which) for metric in metrics},
        )

    def describe_choice(self) -> str:
        """How the rates were chosen, in words."""
        count = len(self.tuning_traits)
        return f"rate chosen on {count} other traits" if count else "rate as given"

    @property
    def unstable(self) -> int:
        """How many of the reported students and controls are not sound."""
        return sum(not self.is_sound(row) for row in self.students)


def describe_arm(
    measured: MeasuredKinds, arm: KindArm, vectors: str, carrier: str, *, steered: bool = True
) -> str:
    """The setting of a claim about an arm, in words.

    Args:
      vectors: whose teachers, as "vectors of 8 traits".
      carrier: what was trained on.
      steered: whether the teacher has a vector at the steering layer, so that a vector student may
        become it.
    """
    kind = KIND_NAMES[arm.adapter]
    if arm.adapter == "vector" and steered:
        kind += " (a family that holds the teacher itself)"
    return describe_setting(
        model=measured.model,
        layer=measured.layer,
        vectors=vectors,
        carrier=carrier,
        students=TrainedStudents(
            kind,
            measured.steps,
            arm.optimizer,
            measured.describe_choice(),
        ),
    )


def compare_with_controls(
    students: Mapping[str, float],
    controls: Mapping[str, Sequence[float]],
    *,
    within: MetricRange,
    paired: bool,
) -> Comparison:
    """Students against controls, by data set.

    Args:
      controls: the values of each student's controls; with `paired` the one of its own, else those
        of all draws, in one order.
      within: the range of the metric.
    """
    if not students:
        return Comparison(None, None, None, {})
    s = list(students.values())
    student = within.clip(vector_interval(s))
    if not all(controls[name] for name in students):
        return Comparison(student, None, None, {})
    c = np.array([controls[name] for name in students]).T  # [draws, traits]
    clip = within.difference().clip
    differences = {
        name: Difference(
            value, float(np.mean(controls[name])), clip(student_difference(value, controls[name]))
        )
        for name, value in students.items()
    }
    return Comparison(
        student=student,
        control=float(c.mean()),
        difference=clip(
            vector_interval(np.array(s) - c[0]) if paired else control_difference(s, c)
        ),
        by_data=differences,
    )
