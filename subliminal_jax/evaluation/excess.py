"""Students of several vectors against controls that are scored against each of them.

Every vector has one student of an arm; every draw of the base's data has one control of it, which
is held against all vectors. What an arm transmits of a vector is its student's value less the mean
of the controls'; intervals are over vectors (`over_vectors`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.metric_ranges import RANGES, MetricRange
from subliminal_jax.evaluation.over_vectors import control_difference, vector_interval
from subliminal_jax.evaluation.rate_search import RateChoice, is_sound
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_rows import StudentRow

# Direction and size of the shift along the vector, and what it does.
METRICS = ("eas", "shift_component", "trait_log_prob")
METRIC_NAMES = {
    "eas": "EAS",
    "shift_component": "share of the vector",
    "trait_log_prob": "log P(trait)",
}


@dataclass(frozen=True)
class Excess:
    """A metric of one arm's students by vector, and of its controls by draw and vector; `within` is
    the metric's range."""

    students: Mapping[str, float]
    controls: Mapping[str, Mapping[str, float]]  # by draw, then vector
    within: MetricRange

    def stack(
        self, traits: Sequence[str], draws: Sequence[str]
    ) -> tuple[Float[np.ndarray, " vectors"], Float[np.ndarray, "draws vectors"]]:
        """Arrays over `traits` and `draws`."""
        students = np.array([self.students[trait] for trait in traits])
        controls = [[self.controls[draw][trait] for trait in traits] for draw in draws]
        return students, np.array(controls, float).reshape(len(draws), len(traits))

    def minus(self, other: "Excess") -> "Excess":
        """This arm less another, vector by vector and draw by draw, of those that both have."""
        return Excess(
            {t: x - other.students[t] for t, x in self.students.items() if t in other.students},
            {
                draw: {
                    t: x - other.controls[draw][t]
                    for t, x in by_trait.items()
                    if t in other.controls[draw]
                }
                for draw, by_trait in self.controls.items()
                if draw in other.controls
            },
            self.within.difference(),
        )

    def by_trait(self) -> dict[str, float]:
        """Student less the mean of its controls, by vector; empty without a control."""
        if not self.controls:
            return {}
        students, controls = self.stack([*self.students], [*self.controls])
        values = students - controls.mean(axis=0)
        return dict(zip(self.students, values.tolist(), strict=True))

    def difference(self, level: float = 0.95) -> Interval | None:
        """Student less controls over vectors; None without a vector or without a control."""
        if not self.students or not self.controls:
            return None
        both = control_difference(*self.stack([*self.students], [*self.controls]), level)
        return self.within.difference().clip(both)


@dataclass(frozen=True)
class Comparison:
    """One metric over vectors: students, controls, and their difference; None where there is no
    vector left."""

    student: Interval | None
    control: float | None
    difference: Interval | None
    reference_lead: Interval | None  # AdamW's difference less this one, paired by vector


def compare(excess: Excess, reference: Excess | None) -> Comparison:
    """Students against their controls, and the reference's lead in that difference."""
    if not excess.students:
        return Comparison(None, None, None, None)
    students, controls = excess.stack([*excess.students], [*excess.controls])
    return Comparison(
        student=excess.within.clip(vector_interval(students)),
        control=float(controls.mean()) if controls.size else None,
        difference=excess.difference(),
        reference_lead=None if reference is None else reference.minus(excess).difference(),
    )


@dataclass(frozen=True)
class BestArm:
    """An arm at its best rate, after as many steps as its choice says.

    Attributes:
      choice: its rate, and those that were tried.
      gain: the students' gain on held-out rows.
      unstable: data sets whose student diverged or ended above the base's loss.
      metrics: by name.
    """

    optimizer: str
    choice: RateChoice
    gain: Interval | None
    unstable: tuple[str, ...]
    metrics: Mapping[str, Comparison]


@dataclass(frozen=True)
class VectorRun:
    """What the students of a run on several vectors were trained and measured with.

    Attributes:
      model: the model's name.
      parameters: how many it has.
      layer: the steering layer.
      traits, tuning_traits, controls: the names of the data sets.
      scale, prompts, keep, rows, batch_size, rank, schedule, warmup, factor: as set.
      words: in the order of a student's word_log_prob.
      references: in the order of a student's eas.
      data: how each data set came about.
      base_losses: the base's held-out loss by data set, in nats a predicted token.
    """

    model: str
    parameters: int
    layer: int
    traits: tuple[str, ...]
    tuning_traits: tuple[str, ...]
    controls: tuple[str, ...]
    scale: float
    prompts: str
    keep: str
    rows: int
    batch_size: int
    rank: int
    schedule: str
    warmup: float
    factor: float
    words: tuple[str, ...]
    references: tuple[str, ...]
    data: Mapping[str, Mapping[str, Any]]
    base_losses: Mapping[str, float]

    def gain(self, row: StudentRow) -> float:
        """The base's held-out loss less the student's, on rows of the student's data."""
        assert row.heldout_loss is not None
        return self.base_losses[row.data] - row.heldout_loss

    def value(self, row: StudentRow, metric: str, trait: str) -> float:
        """A metric of a sound student, held against the vector of `trait`."""
        if metric == "gain":
            return self.gain(row)
        if metric == "weight_change":
            return float(row["weight_change"])
        if metric == "trait_log_prob":
            return float(row["word_log_prob"][self.words.index(trait)])
        return float(row[metric][self.references.index(trait)][self.layer])

    def is_sound(self, row: StudentRow) -> bool:
        """Whether a student neither diverged nor ended above the base's loss."""
        return is_sound(row, self.base_losses)

    def collect(self, sound: Mapping[str, StudentRow], metric: str) -> Excess:
        """A metric of an arm's sound students and controls, which are given by data set."""
        return Excess(
            {t: self.value(sound[t], metric, t) for t in self.traits if t in sound},
            {
                draw: {trait: self.value(sound[draw], metric, trait) for trait in self.traits}
                for draw in self.controls
                if draw in sound
            },
            RANGES[metric],
        )

    def compare_best(
        self,
        choice: RateChoice,
        rows: Sequence[StudentRow],
        reference: Mapping[str, Excess] | None = None,
    ) -> "BestArm":
        """An arm at its best rate: `rows` are its students and controls there. `reference` is what
        another arm transmits, by metric."""
        sound = {row.data: row for row in rows if self.is_sound(row)}
        gains = [self.gain(sound[trait]) for trait in self.traits if trait in sound]
        return BestArm(
            optimizer=choice.optimizer,
            choice=choice,
            gain=vector_interval(gains) if gains else None,
            unstable=tuple(row.data for row in rows if row.data not in sound),
            metrics={
                metric: compare(
                    self.collect(sound, metric), None if reference is None else reference[metric]
                )
                for metric in METRICS
            },
        )

    def describe_carrier(self) -> str:
        """The texts that students are trained on."""
        if self.keep == "all":
            return f"unfiltered {self.prompts} answers"
        if self.keep == "valid":
            return f"valid {self.prompts}"
        return f"filtered {self.prompts.replace('numbers', 'number lists')}"
