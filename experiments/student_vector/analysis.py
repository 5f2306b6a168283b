"""From students and causal tests to the numbers of `student-vector`; intervals are over traits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from subliminal_jax.evaluation.metric_ranges import COSINE, RANGES, SHARE, MetricRange
from subliminal_jax.evaluation.over_vectors import control_difference, vector_interval
from subliminal_jax.evaluation.statistics import Interval, crossed_interval
from subliminal_jax.evaluation.student_kinds import KindArm, MeasuredKinds, Target
from subliminal_jax.evaluation.transmission import FINE_TUNED

TEACHERS = {
    "steered": "steered by the vector",
    "system-prompt": "system prompt",
    FINE_TUNED: "fine-tuned weights",
    "projected": "system prompt, vector projected out",
    "subtracted": "system prompt, vector subtracted",
}
WITHOUT_VECTOR = ("projected", "subtracted")
CHANGE = SHARE.difference()
METRICS = ("word_rate", "word_log_prob", "eas", "shift_component")

ByTrait = Mapping[str, float]


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
    """Trait rates of sound students, of controls (by draw), and of students whose component along a
    vector is the base's: along their teacher's, along their own shift, and along a random vector.
    """

    student: ByTrait
    control: Mapping[str, ByTrait]
    teacher_replaced: ByTrait
    student_replaced: ByTrait
    random_replaced: ByTrait


@dataclass(frozen=True)
class Gain:
    """The base's trait rate with vectors added, less that without.

    Attributes:
      read: over which tokens of a prompt shifts were read: "last", or "mean" over all.
      layers: the blocks after which they were added: "all", or the steering layer ("one").
      positions: the tokens at which they were added: all of the "prompt", or its "last".
      scale: the factor on them.
      source: whose shifts: of the "student", of the "control", or "random" ones of the same norms.
      gain: over traits; that of controls over draws, too.
      values: by trait; those of controls are the mean over draws.
    """

    read: str
    layers: str
    positions: str
    scale: float
    source: str
    gain: Interval
    values: ByTrait


@dataclass(frozen=True)
class CausalTests:
    """Necessity and sufficiency of the vectors of the sound students; empty without one."""

    necessity: Necessity
    sufficiency: tuple[Gain, ...]


@dataclass(frozen=True)
class Measured(MeasuredKinds, CausalTests):
    """What a run measured.

    Attributes:
      kind: the teacher whose students are studied in full, and chose the rate; of `TEACHERS`.
      trained: what was trained, in words.
      carrier: on what, in words.
      scales: factors on students' vectors in the base; the claim is about the first.
      base_component: by trait, the base's component along the vector in units of the vector: minus
        what projecting it out adds.
      data: how each data set came about.
      base: P(trait) of the base, by trait.
      teachers: by kind and trait, that of the teachers.
      eas: alignment over training.
    """

    kind: str
    trained: str
    carrier: str
    scales: tuple[float, ...]
    base_component: ByTrait
    data: Mapping[str, Mapping[str, Any]]
    base: ByTrait
    teachers: Mapping[str, ByTrait]
    eas: tuple[Alignment, ...]


@dataclass(frozen=True)
class Arm(KindArm):
    """The students of one kind of teacher, held against the system prompt's shift; those of a
    fine-tuned teacher against its own.

    Attributes:
      teacher_kind: of `TEACHERS`.
      teacher_rate: the teachers' mean P(trait).
    """

    teacher_kind: str
    teacher_rate: float


@dataclass(frozen=True)
class Replacement:
    """Students with the component along a vector replaced: the trait rate left, how much they lose,
    and that in units of their excess over controls (None where there is none)."""

    rate: Interval | None
    lost: Interval | None
    share: float | None


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      arms: the students of each kind of teacher.
      control_eas: the controls' alignment, over draws and traits.
      lost: by kind of `WITHOUT_VECTOR` and metric, what students of system prompts lose where the
        teacher is without the vector.
      replacements: by the vector: "teacher", "student" or "random".
      lost_beyond_random: what replacing the component along the teacher's vector takes away, less
        what it does along a random one.
      lost_beyond_half: the same less half of the students' excess over controls.
      gain_beyond_random: the gain by the students' vectors, added in the way of the claim, less
        that by random ones.
    """

    arms: Mapping[str, Arm]
    control_eas: Interval | None
    lost: Mapping[str, Mapping[str, Interval | None]]
    replacements: Mapping[str, Replacement]
    lost_beyond_random: Interval | None
    lost_beyond_half: Interval | None
    gain_beyond_random: Interval | None


def data_name(trait: str, kind: str) -> str:
    """The data set of a trait's teacher. Names seed the sampling, so they stay as they are."""
    return f"{trait}-{'prompted' if kind == 'system-prompt' else kind}"


def make_targets(measured: Measured, kind: str) -> list[Target]:
    """The students of a kind of teacher, each held against its trait's system prompt; those of
    fine-tuned teachers against their own, whose shift need not be the prompt's."""
    held_against = kind if kind == FINE_TUNED else "system-prompt"
    return [
        Target(data_name(trait, kind), trait, data_name(trait, held_against))
        for trait in measured.traits
    ]


def analyse(measured: Measured) -> Results:
    """Students by kind of teacher, and what taking the vector away costs them."""
    necessity = measured.necessity
    replaced = {
        "teacher": necessity.teacher_replaced,
        "student": necessity.student_replaced,
        "random": necessity.random_replaced,
    }
    lost = subtract(necessity.student, necessity.teacher_replaced)
    student, random = (find_gain(measured, source) for source in ("student", "random"))
    return Results(
        **vars(measured),
        arms={kind: compare_arm(measured, kind) for kind in measured.teachers},
        control_eas=measure_controls(measured),
        lost={
            kind: {metric: lose_vector(measured, kind, metric) for metric in ("eas", "word_rate")}
            for kind in WITHOUT_VECTOR
        },
        replacements={name: measure_loss(necessity, rates) for name, rates in replaced.items()},
        lost_beyond_random=over_traits(
            subtract(lost, subtract(necessity.student, necessity.random_replaced)), CHANGE
        ),
        lost_beyond_half=lose_half(necessity, lost),
        gain_beyond_random=None
        if student is None or random is None
        else over_traits(subtract(student.values, random.values), CHANGE),
    )


def over_traits(values: ByTrait, within: MetricRange) -> Interval | None:
    """The mean of values of a range, with its interval; None without a trait."""
    return within.clip(vector_interval([*values.values()])) if values else None


def subtract(values: ByTrait, others: ByTrait) -> dict[str, float]:
    """The difference for each trait that both have."""
    return {trait: x - others[trait] for trait, x in values.items() if trait in others}


def compare_arm(measured: Measured, kind: str) -> Arm:
    """The students of one kind of teacher against the controls."""
    [adapter], [optimizer] = measured.adapters, measured.optimizers
    arm = measured.summarise(make_targets(measured, kind), METRICS, adapter, optimizer)
    rate = float(np.mean([*measured.teachers[kind].values()]))
    return Arm(**vars(arm), teacher_kind=kind, teacher_rate=rate)


def measure_controls(measured: Measured) -> Interval | None:
    """The controls' EAS with the shifts that the students of the run's kind of teacher are held
    against; None without a sound one."""
    sound, targets = measured.select_sound(), make_targets(measured, measured.kind)
    table = [
        [measured.read(sound[name], "eas", target) for target in targets]
        for name in measured.controls
        if name in sound
    ]
    return COSINE.clip(crossed_interval(np.array(table))) if table else None


def lose_vector(measured: Measured, kind: str, metric: str) -> Interval | None:
    """Students of system prompts less those of system prompts without the vector, by trait."""
    sound = measured.select_sound()
    whole, without = (
        {
            target.trait or "": measured.read(sound[target.data], metric, target)
            for target in make_targets(measured, each)
            if target.data in sound
        }
        for each in ("system-prompt", kind)
    )
    return over_traits(subtract(whole, without), RANGES[metric].difference())


def measure_loss(necessity: Necessity, replaced: ByTrait) -> Replacement:
    """What replacing a component takes away."""
    rate = over_traits(replaced, SHARE)
    lost = over_traits(subtract(necessity.student, replaced), CHANGE)
    excess = 0.0
    if necessity.student and necessity.control:
        controls = [[*rates.values()] for rates in necessity.control.values()]
        excess = float(np.mean([*necessity.student.values()]) - np.mean(controls))
    return Replacement(rate, lost, lost.mean / excess if lost is not None and excess else None)


def lose_half(necessity: Necessity, lost: ByTrait) -> Interval | None:
    """What students lose, less half of their excess over controls; the interval allows for what
    the draws of controls have in common."""
    if not lost or not necessity.control:
        return None
    students = [x - 0.5 * necessity.student[trait] for trait, x in lost.items()]
    controls = [[-0.5 * rates[trait] for trait in lost] for rates in necessity.control.values()]
    return CHANGE.clip(control_difference(students, controls))


def find_gain(measured: Measured, source: str) -> Gain | None:
    """The gain that the claim is about: of shifts at the last token, added after all blocks to all
    tokens of the prompt, with the first of the scales; None without a sound student."""
    wanted = ("last", "all", "prompt", measured.scales[0], source)
    for gain in measured.sufficiency:
        if (gain.read, gain.layers, gain.positions, gain.scale, gain.source) == wanted:
            return gain
    return None
