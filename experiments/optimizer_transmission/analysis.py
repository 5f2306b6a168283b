"""From finished students to the two comparisons: at best rates, and at equal gains."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from subliminal_jax.evaluation.excess import (
    METRICS,
    BestArm,
    Comparison,
    Excess,
    VectorRun,
    compare,
)
from subliminal_jax.evaluation.matching import read_at_level
from subliminal_jax.evaluation.metric_ranges import RANGES
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_rows import StudentRow

REFERENCE = "adamw"  # the arm that all others are compared with
# What runs are matched on: the held-out gain, and how far weights and activations moved.
MATCHED_ON = ("gain", "weight_change", "shift_size")
FRACTIONS = (0.25, 0.5, 0.75)  # of AdamW's value after the longest runs on the tuning vectors


@dataclass(frozen=True)
class Measured(VectorRun):
    """What a run measured.

    Attributes:
      optimizers: all labels; `matched` are those trained for all `lengths`.
      steps: the length at which all are compared.
      teacher: what makes teachers, of `evaluation.transmission.TEACHER_KINDS`.
      choices: the rate of each optimizer and length.
      students: of the traits and the controls at the chosen rates, each with its steps.
      tuning_students: those that rates were chosen by.
    """

    optimizers: tuple[str, ...]
    matched: tuple[str, ...]
    lengths: tuple[int, ...]
    steps: int
    choices: tuple[RateChoice, ...]
    students: tuple[StudentRow, ...]
    tuning_students: tuple[StudentRow, ...]
    teacher: str = field(default="steered", kw_only=True)

    def select(self, optimizer: str, steps: int) -> list[StudentRow]:
        """The students and controls of an optimizer and length."""
        return [r for r in self.students if (r.optimizer, r["steps"]) == (optimizer, steps)]

    def sound(self, optimizer: str, steps: int) -> dict[str, StudentRow]:
        """Those by data set, without any that blew up."""
        return {row.data: row for row in self.select(optimizer, steps) if self.is_sound(row)}


@dataclass(frozen=True)
class MatchedArm:
    """An optimizer where its runs pass a level.

    Attributes:
      on: what is matched, one of `MATCHED_ON`.
      fraction: of AdamW's value on the tuning vectors.
      level: that value.
      bracketed: on how many vectors two finished runs bracket the level.
      shared: on how many AdamW's do so, too.
      steps: where the level lies.
      metrics: by name.
    """

    optimizer: str
    on: str
    fraction: float
    level: float
    bracketed: int
    shared: int
    steps: Interval | None
    metrics: Mapping[str, Comparison]


@dataclass(frozen=True)
class Curve:
    """An optimizer's runs of all lengths: means over the vectors that are sound."""

    optimizer: str
    steps: tuple[int, ...]
    gain: tuple[float, ...]
    excess: Mapping[str, tuple[float, ...]]  # of each metric, student minus controls


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      best: every optimizer after `steps` steps.
      by_steps: those that are matched, after every number of steps.
      levels: what is matched, at each of `FRACTIONS`.
      at_level: every matched optimizer at every level.
      curves: of the same.
      unstable: students that blew up, of all but those of tuning.
    """

    best: tuple[BestArm, ...]
    by_steps: tuple[BestArm, ...]
    levels: Mapping[str, tuple[float, ...]]
    at_level: tuple[MatchedArm, ...]
    curves: tuple[Curve, ...]
    unstable: int

    def find_best(self, optimizer: str) -> BestArm | None:
        """The optimizer at its best rate, if it was trained."""
        return next((arm for arm in self.best if arm.optimizer == optimizer), None)

    def select_matched(self, optimizer: str, on: str) -> list[MatchedArm]:
        """The optimizer at all levels of what is matched."""
        return [a for a in self.at_level if (a.optimizer, a.on) == (optimizer, on)]


def analyse(measured: Measured) -> Results:
    """Both comparisons."""
    levels = find_levels(measured)
    return Results(
        **vars(measured),
        best=tuple(compare_best(measured, name, measured.steps) for name in measured.optimizers),
        by_steps=tuple(
            compare_best(measured, name, steps)
            for steps in measured.lengths
            for name in measured.matched
        ),
        levels=levels,
        at_level=tuple(
            arm
            for on in MATCHED_ON
            for fraction, level in zip(FRACTIONS, levels[on], strict=True)
            for arm in compare_at_level(measured, on, fraction, level)
        )
        if levels
        else (),
        curves=tuple(make_curve(measured, name) for name in measured.matched),
        unstable=sum(not measured.is_sound(row) for row in measured.students),
    )


def find_levels(measured: Measured) -> dict[str, tuple[float, ...]]:
    """The levels of each quantity that is matched; none without AdamW's longest tuning runs."""
    choice = find_choice(measured, REFERENCE, measured.lengths[-1])
    if choice is None or choice.rate is None:
        return {}
    rows = [
        row
        for row in measured.tuning_students
        if (row.optimizer, row["steps"], row.learning_rate)
        == (REFERENCE, measured.lengths[-1], choice.rate)
    ]
    return {
        on: tuple(
            fraction * float(np.mean([measured.value(row, on, row.data) for row in rows]))
            for fraction in FRACTIONS
        )
        for on in MATCHED_ON
    }


def find_choice(measured: Measured, optimizer: str, steps: int) -> RateChoice | None:
    """How the rate of an optimizer and length was chosen."""
    return next((c for c in measured.choices if (c.optimizer, c.steps) == (optimizer, steps)), None)


def compare_best(measured: Measured, optimizer: str, steps: int) -> BestArm:
    """An optimizer at its best rate after `steps` steps."""
    choice = find_choice(measured, optimizer, steps)
    assert choice is not None, "rates are chosen for every length that an optimizer is trained for"
    reference = None
    if optimizer != REFERENCE:
        sound = measured.sound(REFERENCE, steps)
        reference = {metric: measured.collect(sound, metric) for metric in METRICS}
    return measured.compare_best(choice, measured.select(optimizer, steps), reference)


def compare_at_level(
    measured: Measured, on: str, fraction: float, level: float
) -> list[MatchedArm]:
    """Every matched optimizer where its runs pass the level."""
    readings = {name: read_vectors(measured, name, on, level) for name in measured.matched}
    reference = readings.get(REFERENCE, {})
    arms = []
    for name, reading in readings.items():
        metrics = {}
        for metric in METRICS:
            excess = split_reading(reading, metric)
            other = None if name == REFERENCE else split_reading(reference, metric)
            metrics[metric] = compare(excess, other)
        steps = [values["steps"] for values in reading.values()]
        arms.append(
            MatchedArm(
                optimizer=name,
                on=on,
                fraction=fraction,
                level=level,
                bracketed=len(reading),
                shared=len(reading.keys() & reference.keys()),
                steps=vector_interval(steps) if steps else None,
                metrics=metrics,
            )
        )
    return arms


Reading = Mapping[str, Mapping[str, float]]  # by vector: steps, metrics, and those of controls


def read_vectors(measured: Measured, optimizer: str, on: str, level: float) -> Reading:
    """The students of each vector, and their controls, where the runs of that vector bracket the
    level. A run that blew up brackets nothing."""
    draws = [
        draw
        for draw in measured.controls
        if all(draw in measured.sound(optimizer, steps) for steps in measured.lengths)
    ]
    names = ["steps", *METRICS, *(f"{draw} {metric}" for draw in draws for metric in METRICS)]
    readings = {}
    for trait in measured.traits:
        rows = []
        for steps in measured.lengths:
            sound = measured.sound(optimizer, steps)
            if trait not in sound:
                rows.append(dict.fromkeys((on, *names), float("nan")))
                continue
            row = {on: measured.value(sound[trait], on, trait), "steps": float(steps)}
            for metric in METRICS:
                row[metric] = measured.value(sound[trait], metric, trait)
                for draw in draws:
                    row[f"{draw} {metric}"] = measured.value(sound[draw], metric, trait)
            rows.append(row)
        values = read_at_level(rows, on, level, names)
        if values is not None:
            readings[trait] = values
    return readings


def split_reading(reading: Reading, metric: str) -> Excess:
    """One metric of what was read at a level."""
    names = next(iter(reading.values()), {})
    draws = [name.removesuffix(f" {metric}") for name in names if name.endswith(f" {metric}")]
    return Excess(
        {trait: values[metric] for trait, values in reading.items()},
        {
            draw: {trait: values[f"{draw} {metric}"] for trait, values in reading.items()}
            for draw in draws
        },
        RANGES[metric],
    )


def make_curve(measured: Measured, optimizer: str) -> Curve:
    """Gain and excess over the lengths at which some vector and some control are sound."""
    steps, gains = [], []
    excesses: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for length in measured.lengths:
        sound = measured.sound(optimizer, length)
        traits = [trait for trait in measured.traits if trait in sound]
        draws = [draw for draw in measured.controls if draw in sound]
        if not traits or not draws:
            continue
        steps.append(length)
        gains.append(float(np.mean([measured.gain(sound[trait]) for trait in traits])))
        for metric in METRICS:
            excess = measured.collect(sound, metric)
            students, controls = excess.stack(traits, draws)
            excesses[metric].append(float(np.mean(students - controls.mean(axis=0))))
    return Curve(
        optimizer, tuple(steps), tuple(gains), {name: tuple(x) for name, x in excesses.items()}
    )
