"""From finished students to the two comparisons: at best rates, and at equal gains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.matching import read_at_level
from subliminal_jax.evaluation.over_vectors import control_difference, vector_interval
from subliminal_jax.evaluation.rate_search import RateChoice, is_sound
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_rows import StudentRow

REFERENCE = "adamw"  # the arm that all others are compared with
# Direction and size of the shift along the vector, and what it does.
METRICS = ("eas", "shift_component", "trait_log_prob")
# What runs are matched on: the held-out gain, and how far weights and activations moved.
MATCHED_ON = ("gain", "weight_change", "shift_size")
FRACTIONS = (0.25, 0.5, 0.75)  # of AdamW's value after the longest runs on the tuning vectors


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      model: the model's name.
      parameters: how many it has.
      layer: the steering layer.
      traits, tuning_traits, controls: the names of the data sets.
      scale, prompts, keep, rows, batch_size, rank, schedule, warmup, factor: as set.
      optimizers: all labels; `matched` are those trained for all `lengths`.
      steps: the length at which all are compared.
      words: in the order of a student's word_log_prob.
      references: in the order of a student's eas.
      data: how each data set came about.
      base_losses: the base's held-out loss by data set, in nats a predicted token.
      choices: the rate of each optimizer and length.
      students: of the traits and the controls at the chosen rates, each with its steps.
      tuning_students: those that rates were chosen by.
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
    optimizers: tuple[str, ...]
    matched: tuple[str, ...]
    lengths: tuple[int, ...]
    steps: int
    words: tuple[str, ...]
    references: tuple[str, ...]
    data: Mapping[str, Mapping[str, Any]]
    base_losses: Mapping[str, float]
    choices: tuple[RateChoice, ...]
    students: tuple[StudentRow, ...]
    tuning_students: tuple[StudentRow, ...]

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

    def sound(self, optimizer: str, steps: int) -> dict[str, StudentRow]:
        """The students of an optimizer and length by data set, without those that blew up."""
        return {
            row.data: row
            for row in self.students
            if (row.optimizer, row["steps"]) == (optimizer, steps)
            and is_sound(row, self.base_losses)
        }


@dataclass(frozen=True)
class Comparison:
    """One metric over vectors: students, controls, and their difference; None where there is no
    vector left."""

    student: Interval | None
    control: float | None
    difference: Interval | None
    reference_lead: Interval | None  # AdamW's difference less this one, paired by vector


@dataclass(frozen=True)
class BestArm:
    """An optimizer at its best rate, after as many steps as its choice says.

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


@dataclass(frozen=True)
class Excess:
    """A metric of one optimizer's students by vector, and of its controls by draw and vector."""

    students: Mapping[str, float]
    controls: Mapping[str, Mapping[str, float]]  # by draw, then vector

    def stack(
        self, traits: Sequence[str], draws: Sequence[str]
    ) -> tuple[Float[np.ndarray, " vectors"], Float[np.ndarray, "draws vectors"]]:
        """Arrays over `traits` and `draws`."""
        students = np.array([self.students[trait] for trait in traits])
        controls = np.array([[self.controls[draw][trait] for trait in traits] for draw in draws])
        return students, controls


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
        unstable=sum(not is_sound(row, measured.base_losses) for row in measured.students),
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
    sound = measured.sound(optimizer, steps)
    trained = [
        row.data for row in measured.students if (row.optimizer, row["steps"]) == (optimizer, steps)
    ]
    gains = [measured.gain(sound[trait]) for trait in measured.traits if trait in sound]
    metrics = {}
    for metric in METRICS:
        excess = collect(measured, optimizer, steps, metric)
        reference = collect(measured, REFERENCE, steps, metric)
        metrics[metric] = compare(excess, None if optimizer == REFERENCE else reference)
    return BestArm(
        optimizer=optimizer,
        choice=choice,
        gain=vector_interval(gains) if gains else None,
        unstable=tuple(name for name in trained if name not in sound),
        metrics=metrics,
    )


def collect(measured: Measured, optimizer: str, steps: int, metric: str) -> Excess:
    """The metric of an optimizer's sound students and controls after `steps` steps."""
    sound = measured.sound(optimizer, steps)
    return Excess(
        {t: measured.value(sound[t], metric, t) for t in measured.traits if t in sound},
        {
            draw: {trait: measured.value(sound[draw], metric, trait) for trait in measured.traits}
            for draw in measured.controls
            if draw in sound
        },
    )


def compare(excess: Excess, reference: Excess | None) -> Comparison:
    """Students against their controls, and the reference's lead in that difference."""
    traits, draws = list(excess.students), list(excess.controls)
    if not traits:
        return Comparison(None, None, None, None)
    students, controls = excess.stack(traits, draws)
    difference = control_difference(students, controls) if draws else None
    lead = None
    if reference is not None:
        traits = [trait for trait in traits if trait in reference.students]
        draws = [draw for draw in draws if draw in reference.controls]
        if traits and draws:
            ours, theirs = excess.stack(traits, draws), reference.stack(traits, draws)
            lead = control_difference(theirs[0] - ours[0], theirs[1] - ours[1])
    return Comparison(
        student=vector_interval(students),
        control=float(controls.mean()) if draws and controls.size else None,
        difference=difference,
        reference_lead=lead,
    )


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
            excess = collect(measured, optimizer, length, metric)
            students, controls = excess.stack(traits, draws)
            excesses[metric].append(float(np.mean(students - controls.mean(axis=0))))
    return Curve(
        optimizer, tuple(steps), tuple(gains), {name: tuple(x) for name, x in excesses.items()}
    )
