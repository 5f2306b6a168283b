"""From the students of `own-data` to its numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.comparison import BestStudents, best_rates, summarise_best
from subliminal_jax.evaluation.statistics import Interval, crossed_interval
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound


@dataclass(frozen=True)
class DataSet:
    """One data set: its name, whether it is a control, and how it came about."""

    name: str
    is_control: bool
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Effect:
    """The losses of one student on groups of held-out rows of every data set, in nats a token."""

    optimizer: str
    learning_rate: float
    seed: int
    data: str
    losses: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Direction:
    """Where the students of a data set and optimizer move, at the best rate.

    Attributes:
      agreement: mean cosine of the shifts of two seeds; None for one seed.
      control_cosine: mean cosine of a student's shift with a control's; None without control.
      tokens: those that the mean shift from the base raises most.
      differing_tokens: those that its difference to the controls' mean shift raises most.
    """

    data: str
    optimizer: str
    agreement: float | None
    control_cosine: float | None
    tokens: tuple[str, ...]
    differing_tokens: tuple[str, ...] | None


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      vector: "trait", a file, or "" where no vector is asked about.
      trait: None where none is asked about.
      probe: the kind of prompts on which activations are compared.
      rows: training rows of each data set.
      heldout_rows: rows of each on which students are compared; as many others choose the rates.
      data: the data sets, those that the question is about first.
      base_trait_rate: how often the untrained model names the trait.
      base_losses: the untrained model's, on groups of held-out rows of each data set.
      students: every student at every rate, and those of control rows at the best one.
      effects: of the students that ended sound.
      directions: of each data set and optimizer at its best rate.
    """

    model: str
    layer: int
    vector: str
    trait: str | None
    probe: str
    rows: int
    heldout_rows: int
    steps: int
    batch_size: int
    seeds: int
    guard: str
    guard_vector: str
    clip: float | None
    data: tuple[DataSet, ...]
    base_trait_rate: float | None
    base_losses: Mapping[str, tuple[float, ...]]
    students: tuple[StudentRow, ...]
    effects: tuple[Effect, ...]
    directions: tuple[Direction, ...]

    @property
    def data_names(self) -> tuple[str, ...]:
        """The data sets that the question is about."""
        return tuple(each.name for each in self.data if not each.is_control)

    @property
    def control_names(self) -> tuple[str, ...]:
        """Those that they are held against."""
        return tuple(each.name for each in self.data if each.is_control)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The columns of students that are held against those of the controls."""
        vector = ("eas", "shift_component") if self.vector else ()
        trait = ("trait_rate", "trait_log_prob") if self.trait else ()
        return ("weight_change", "activation_shift", *vector, *trait)


@dataclass(frozen=True)
class Arm:
    """The students of one data set and optimizer, at the optimizer's best rate.

    Losses are on held-out rows of the data set, in nats a token; intervals are over seeds and
    groups of rows at once. None without a sound student (and control).

    Attributes:
      best: the rate, and each metric of students, of controls, and their difference over seeds.
      gain: the untrained model's loss less the student's.
      control_gain: the untrained model's loss less that of the controls, on the same rows.
      over_control: the control's loss less the student's of the same seed.
    """

    data: str
    optimizer: str
    best: BestStudents
    gain: Interval | None
    control_gain: Interval | None
    over_control: Interval | None
    direction: Direction | None

    @property
    def effect(self) -> Interval | None:
        """What the question is judged by: over the control, or without one over the base."""
        return self.gain if self.control_gain is None else self.over_control


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report, and the question that they answer."""

    question: str
    arms: tuple[Arm, ...]


def analyse(measured: Measured) -> Results:
    """Every data set and optimizer, held against the controls."""
    rates = best_rates(measured.students, measured.control_names)
    arms = tuple(
        compare_arm(measured, name, optimizer, rate)
        for name in measured.data_names
        for optimizer, rate in rates.items()
    )
    return Results(**vars(measured), question=state_question(measured), arms=arms)


def state_question(measured: Measured) -> str:
    """What was asked, in a sentence."""
    names = " and of ".join(measured.data_names)
    if measured.control_names:
        others = " and ".join(measured.control_names)
        question = (
            f"Do the rows of {names} carry something that those of {others} do not, and which "
            "optimizer picks it up"
        )
    else:
        question = f"What do students learn from the rows of {names}, and with which optimizer"
    if measured.vector:
        vector = f"{measured.trait}'s vector" if measured.vector == "trait" else measured.vector
        question += f"; is it {vector}"
    if measured.trait:
        question += f"; do they name {measured.trait}"
    return question + "?"


def compare_arm(measured: Measured, data: str, optimizer: str, rate: float | None) -> Arm:
    """The students of one data set and optimizer."""
    own = [row for row in measured.students if row["data"] == data]
    controls = average_controls(measured, optimizer, rate)
    students = [
        {**row, "data": "steered"} for row in own if row["optimizer"] == optimizer
    ] + controls
    losses = stack_losses(measured, data, [data], optimizer, rate)
    control_losses = stack_losses(measured, data, measured.control_names, optimizer, rate)
    base = np.asarray(measured.base_losses[data])
    paired = sorted(losses.keys() & control_losses.keys())
    return Arm(
        data=data,
        optimizer=optimizer,
        best=summarise_best(students, {optimizer: rate}, measured.metrics)[0],
        gain=_interval([base - losses[seed] for seed in sorted(losses)]),
        control_gain=_interval([base - control_losses[seed] for seed in sorted(control_losses)]),
        over_control=_interval([control_losses[seed] - losses[seed] for seed in paired]),
        direction=next(
            (d for d in measured.directions if (d.data, d.optimizer) == (data, optimizer)), None
        ),
    )


def average_controls(
    measured: Measured, optimizer: str, rate: float | None
) -> list[dict[str, Any]]:
    """The control of each seed, the mean over the control data sets of those that ended sound."""
    sound = [
        row
        for row in measured.students
        if row["data"] in measured.control_names
        and (row["optimizer"], row["learning_rate"]) == (optimizer, rate)
        and ended_sound(row)
    ]
    return [
        {
            **{key: rows[0][key] for key in ("optimizer", "learning_rate", "seed", "diverged")},
            "data": "control",
            "heldout_loss": None,
            **{key: float(np.mean([row[key] for row in rows])) for key in measured.metrics},
        }
        for seed in sorted({row["seed"] for row in sound})
        if (rows := [row for row in sound if row["seed"] == seed])
    ]


def stack_losses(
    measured: Measured,
    rows_of: str,
    trained_on: Sequence[str],
    optimizer: str,
    rate: float | None,
) -> dict[int, Float[np.ndarray, " groups"]]:
    """The losses of students on the groups of held-out rows of one data set, by seed, the mean over
    the data sets that they trained on."""
    by_seed: dict[int, list[tuple[float, ...]]] = {}
    for effect in measured.effects:
        if effect.data in trained_on and (effect.optimizer, effect.learning_rate) == (
            optimizer,
            rate,
        ):
            by_seed.setdefault(effect.seed, []).append(effect.losses[rows_of])
    return {seed: np.mean(losses, axis=0) for seed, losses in by_seed.items()}


def _interval(differences: Sequence[Float[np.ndarray, " groups"]]) -> Interval | None:
    return crossed_interval(np.stack(differences)) if differences else None
