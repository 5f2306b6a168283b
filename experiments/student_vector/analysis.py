"""From students and causal tests to the numbers of `student-vector`.

Matrices are [seeds, traits]; intervals are two-way t over both.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.statistics import Interval, crossed_interval
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound
from subliminal_jax.evaluation.transmission import Transmission, measure_transmission

KINDS = {
    "steered": "steered by the vector",
    "system-prompt": "system prompt",
    "projected": "system prompt, vector projected out",
    "subtracted": "system prompt, vector subtracted",
    "control": "none (control)",
}
TEACHERS = [kind for kind in KINDS if kind != "control"]

Matrix = Float[np.ndarray, "seeds traits"]
Rows = tuple[tuple[float, ...], ...]  # a matrix, as results.json holds it


@dataclass(frozen=True)
class Alignment:
    """EAS after a block at one logged step: of students with their own teacher's shift ("student"),
    or of controls with each trait's ("control"); None where some student has none."""

    data: str
    step: int
    layer: int
    eas: Interval | None


@dataclass(frozen=True)
class Necessity:
    """Trait rates of students and of controls, and of students whose component along a vector is
    the base's: along their teacher's, along their own shift, and along a random vector."""

    student: Rows
    control: Rows
    teacher_replaced: Rows
    student_replaced: Rows
    random_replaced: Rows


@dataclass(frozen=True)
class Gain:
    """The base's trait rate with vectors added, less that without.

    Attributes:
      read: over which tokens of a prompt shifts were read: "last", or "mean" over all.
      layers: the blocks after which they were added: "all", or the steering layer ("one").
      positions: the tokens at which they were added: all of the "prompt", or its "last".
      scale: the factor on them.
      source: whose shifts: of the "student", of the "control", or "random" ones of the same norms.
      gain: its interval.
      values: the matrix.
    """

    read: str
    layers: str
    positions: str
    scale: float
    source: str
    gain: Interval
    values: Rows


@dataclass(frozen=True)
class CausalTests:
    """Necessity and sufficiency of students' vectors."""

    necessity: Necessity
    sufficiency: tuple[Gain, ...]


@dataclass(frozen=True)
class Measured(CausalTests):
    """What a run measured.

    Attributes:
      model: the model's name.
      layer: the steering layer.
      kind: the teacher whose students are studied in full; `TEACHERS` has all.
      traits: each has teachers and students of its own.
      steps, batch_size, seeds: how students were trained.
      trained: what was trained, in words.
      carrier: on what, in words.
      optimizer: its label.
      grid: the rates tried.
      learning_rate: the one with the lowest held-out loss.
      references: the teachers, in the order of the students' alignments.
      base_component: by trait, the base's component along the vector in units of the vector: minus
        what projecting it out adds.
      data: how each data set came about.
      teachers: by kind and trait, how often teachers name the trait; the base's under "control".
      students: every student.
      eas: alignment over training.
    """

    model: str
    layer: int
    kind: str
    traits: tuple[str, ...]
    steps: int
    batch_size: int
    seeds: int
    trained: str
    carrier: str
    optimizer: str
    grid: tuple[float, ...]
    learning_rate: float
    references: tuple[str, ...]
    base_component: Mapping[str, float]
    data: Mapping[str, Mapping[str, Any]]
    teachers: Mapping[str, Mapping[str, float]]
    students: tuple[StudentRow, ...]
    eas: tuple[Alignment, ...]


@dataclass(frozen=True)
class FinalValues:
    """The students of one kind of teacher at the end; a seed of which some student diverged is left
    out.

    Attributes:
      eas, component: alignment with the system prompt's shift at the steering layer, and the
        component along it in its units.
      rate, log_prob: P(trait), and its log.
    """

    eas: Rows
    component: Rows
    rate: Rows
    log_prob: Rows


@dataclass(frozen=True)
class StudentSummary:
    """`FinalValues` with intervals, None where no seed is left; `difference` is the rate less the
    controls', `teacher_rate` the teachers' mean."""

    teacher_rate: float
    eas: Interval | None
    component: Interval | None
    rate: Interval | None
    log_prob: Interval | None
    difference: Interval | None


@dataclass(frozen=True)
class Replacement:
    """Students with the component along a vector replaced: the trait rate left, how much they lose,
    and that in units of their excess over controls (None where there is none)."""

    rate: Interval
    lost: Interval
    share: float | None


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      heldout_loss: of every student, by rate.
      final, summaries: the students of each kind of teacher.
      transmission: of the students of `kind`, by metric.
      replacements: by the vector: "teacher", "student" or "random".
    """

    heldout_loss: Mapping[str, tuple[float | None, ...]]
    final: Mapping[str, FinalValues]
    summaries: Mapping[str, StudentSummary]
    transmission: Mapping[str, Transmission]
    replacements: Mapping[str, Replacement]


def data_name(trait: str, kind: str) -> str:
    """The data set of a trait's teacher. Names seed the sampling, so they stay as they are."""
    if kind == "control":
        return "control"
    return f"{trait}-{'prompted' if kind == 'system-prompt' else kind}"


def to_rows(values: Matrix) -> Rows:
    """The matrix as plain numbers."""
    return tuple(map(tuple, values.tolist()))


def pool(rows: Rows) -> Interval | None:
    """The mean with its interval; None of an empty matrix."""
    return crossed_interval(np.array(rows)) if rows else None


def analyse(measured: Measured) -> Results:
    """Students by kind of teacher, transmission, and what replacing components takes away."""
    rate, optimizer = measured.learning_rate, measured.optimizer
    sound = [r for r in measured.students if r.learning_rate == rate and ended_sound(r)]
    final = {kind: select_final_values(measured, sound, kind) for kind in KINDS}
    index = {data_name(trait, measured.kind): i for i, trait in enumerate(measured.traits)}
    necessity = measured.necessity
    replaced = {
        "teacher": necessity.teacher_replaced,
        "student": necessity.student_replaced,
        "random": necessity.random_replaced,
    }
    return Results(
        **vars(measured),
        heldout_loss={
            f"{r:g}": tuple(x.heldout_loss for x in measured.students if x.learning_rate == r)
            for r in measured.grid
        },
        final=final,
        summaries={
            kind: summarise_students(values, final["control"], measured.teachers[kind].values())
            for kind, values in final.items()
        },
        transmission={
            metric: measure_transmission(sound, index, metric, optimizer=optimizer, rate=rate)
            for metric in ("word_rate", "word_log_prob")
        },
        replacements={name: measure_loss(necessity, rates) for name, rates in replaced.items()},
    )


def select_final_values(measured: Measured, sound: Sequence[StudentRow], kind: str) -> FinalValues:
    """Of the sound students at the chosen rate."""
    by_name = {(row.data, row.seed): row for row in sound}
    references = [
        measured.references.index(data_name(trait, "system-prompt")) for trait in measured.traits
    ]
    names = [data_name(trait, kind) for trait in measured.traits]
    seeds = [s for s in range(measured.seeds) if all((name, s) in by_name for name in names)]
    students = [[by_name[name, seed] for name in names] for seed in seeds]

    def by_reference(column: str) -> Rows:
        return tuple(
            tuple(row[column][i][measured.layer] for i, row in zip(references, rows, strict=True))
            for rows in students
        )

    def by_word(column: str) -> Rows:
        return tuple(tuple(row[column][i] for i, row in enumerate(rows)) for rows in students)

    return FinalValues(
        eas=by_reference("eas"),
        component=by_reference("shift_component"),
        rate=by_word("word_rate"),
        log_prob=by_word("word_log_prob"),
    )


def summarise_students(
    values: FinalValues, control: FinalValues, teacher_rates: Iterable[float]
) -> StudentSummary:
    """Intervals of the students of one kind of teacher."""
    difference = rate_differences(values, control)
    return StudentSummary(
        teacher_rate=float(np.mean(list(teacher_rates))),
        eas=pool(values.eas),
        component=pool(values.component),
        rate=pool(values.rate),
        log_prob=pool(values.log_prob),
        difference=None if difference is None else crossed_interval(difference),
    )


def rate_differences(values: FinalValues, control: FinalValues) -> Matrix | None:
    """Trait rates less the controls'; None where they have not the same seeds."""
    if not values.rate or len(values.rate) != len(control.rate):
        return None
    return np.subtract(values.rate, control.rate)


def measure_loss(necessity: Necessity, replaced: Rows) -> Replacement:
    """What replacing a component takes away."""
    lost = np.subtract(necessity.student, replaced)
    excess = float(np.subtract(necessity.student, necessity.control).mean())
    return Replacement(
        rate=crossed_interval(np.array(replaced)),
        lost=crossed_interval(lost),
        share=float(lost.mean()) / excess if excess else None,
    )
