"""From one student of each vector, held against shared controls, to effects by kind of vector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subliminal_jax.evaluation.metric_ranges import COSINE, SHARE, UNBOUNDED
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import Comparison, compare_with_controls
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound
from subliminal_jax.evaluation.two_samples import difference_interval

METRICS = {"eas": COSINE, "component": UNBOUNDED, "loss_drop": UNBOUNDED, "variation": SHARE}
KINDS = {
    "trait": "trait vectors",
    "random": "random vectors",
    "centred": "centred trait vectors",
    "file": "vectors from files",
}
CENTRED = "-centred"  # what follows the trait in the name of its centred vector


@dataclass(frozen=True, kw_only=True)
class AddedVector:
    """What a teacher was steered by.

    Attributes:
      data: the name of the data set that it wrote.
      vector: the vector's name.
      kind: a key of `KINDS`.
      norm: in units of the residual stream's at the layer.
      layer: the block after which it is added.
    """

    data: str
    vector: str
    kind: str
    norm: float
    layer: int

    @property
    def trait(self) -> str | None:
        """The trait that the vector stands for, if any."""
        is_semantic = self.kind in ("trait", "centred")
        return self.vector.removesuffix(CENTRED) if is_semantic else None


@dataclass(frozen=True, kw_only=True)
class RefusedVector(AddedVector):
    """One that breaks the number format, so that too few lists are left; `reason` says how."""

    reason: str


@dataclass(frozen=True)
class AgainstControls:
    """A number of one student, and of the sound controls of its layer, by draw."""

    student: float
    controls: Mapping[str, float]

    @property
    def control(self) -> float | None:
        """The controls' mean; None without one."""
        return float(np.mean([*self.controls.values()])) if self.controls else None


@dataclass(frozen=True, kw_only=True)
class DistilledVector(AddedVector):
    """What a sound student took up of a vector.

    Attributes:
      valid: share of the teacher's answers that are valid lists.
      eas: cosine of the student's shift at the layer with the vector.
      component: the shift's component along the vector, in units of the vector.
      loss_drop: how far training lowers the loss on the teacher's unseen lists, nats a token.
      variation: mean total variation of the answers to the controls'; of a control to the other
        controls (a single one has none). None without a control.
      teacher_variation: of the teacher's answers to the base's.
      trait_rate, teacher_trait_rate: how often the trait is named, where there is one.
    """

    valid: float
    eas: AgainstControls
    component: AgainstControls
    loss_drop: AgainstControls
    variation: AgainstControls | None
    teacher_variation: float
    trait_rate: AgainstControls | None = None
    teacher_trait_rate: float | None = None


@dataclass(frozen=True)
class LayerChoice(RateChoice):
    """The learning rate of the students of one layer, and those that were tried."""

    layer: int


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      model: the model's name.
      steps, batch_size, schedule, warmup, adapter, optimizer: how students were trained.
      carrier: on what, in words.
      kinds: of `KINDS`, those of the vectors that were asked for.
      controls: the data sets of the plain base.
      tuning_vectors: the vectors whose students chose the rates; none where these were given.
      choices: one a layer at which vectors were added.
      vectors: those that left enough valid lists, and whose student is sound.
      refused: those that did not leave enough.
      data: how each data set came about.
      students: of the reported vectors and the controls, with "layer" and the vector's "kind"
        ("control").
      tuning_students: those that rates were chosen by.
    """

    model: str
    steps: int
    batch_size: int
    schedule: str
    warmup: float
    adapter: str
    optimizer: str
    carrier: str
    kinds: tuple[str, ...]
    controls: tuple[str, ...]
    tuning_vectors: tuple[str, ...]
    choices: tuple[LayerChoice, ...]
    vectors: tuple[DistilledVector, ...]
    refused: tuple[RefusedVector, ...]
    data: Mapping[str, Mapping[str, Any]]
    students: tuple[StudentRow, ...]
    tuning_students: tuple[StudentRow, ...]

    def list_unstable(self, *kinds: str) -> list[str]:
        """The students of these kinds of vectors (of all) and the controls that are not sound."""
        return [
            f"{row.data} at block {row['layer']}"
            for row in self.students
            if not ended_sound(row) and (not kinds or row["kind"] in (*kinds, "control"))
        ]


@dataclass(frozen=True)
class PooledVectors:
    """The vectors of one kind, layer and norm: their number, comparisons of `DistilledVector`'s
    metrics with intervals over vectors, and means."""

    kind: str
    layer: int
    norm: float
    vectors: int
    metrics: Mapping[str, Comparison]
    teacher_variation: float
    valid: float


@dataclass(frozen=True)
class KindEffects:
    """The vectors of one kind, each the mean over its layers and norms: these are not so many
    vectors, and an interval over them would be too narrow."""

    vectors: int
    norms: int
    metrics: Mapping[str, Comparison]


@dataclass(frozen=True)
class VectorValues:
    """One vector at one layer and norm; None where there is no trait, or no control."""

    vector: str
    layer: int
    norm: float
    eas: float
    component: float
    variation: float | None
    trait_rate: float | None
    control_trait_rate: float | None
    teacher_trait_rate: float | None


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      pooled: by kind, layer and norm.
      effects: of trait and random vectors, as far as there are any.
      behaviour: by how much more trait vectors move the answers than random ones do: total
        variation to the controls' answers less that among controls (Welch's t over vectors); None
        for fewer than two vectors of a kind.
      values: every vector by itself.
    """

    pooled: tuple[PooledVectors, ...]
    effects: Mapping[str, KindEffects]
    behaviour: Interval | None
    values: tuple[VectorValues, ...]


def analyse(measured: Measured) -> Results:
    """Effects of students against the controls of their layer."""
    effects: Mapping[str, KindEffects] = {
        kind: summarise_kind([v for v in measured.vectors if v.kind == kind])
        for kind in ("trait", "random")
        if kind in measured.kinds
    }
    return Results(
        **vars(measured),
        pooled=tuple(pool_vectors(measured.vectors)),
        effects=effects,
        behaviour=compare_kinds(effects, "variation"),
        values=tuple(map(take_values, measured.vectors)),
    )


def compare_vectors(vectors: Sequence[DistilledVector], metric: str) -> Comparison:
    """Students against controls, by vector: the mean over the layers and norms of each.

    Draws of which a control is not sound at one of the layers are left out.
    """
    groups: dict[str, list[AgainstControls]] = {}
    for vector in vectors:
        if (held := getattr(vector, metric)) is not None:
            groups.setdefault(vector.vector, []).append(held)
    values = [each for group in groups.values() for each in group]
    draws = [
        draw
        for draw in (values[0].controls if values else ())
        if all(draw in each.controls for each in values)
    ]
    return compare_with_controls(
        {name: float(np.mean([each.student for each in group])) for name, group in groups.items()},
        {
            name: [float(np.mean([each.controls[draw] for each in group])) for draw in draws]
            for name, group in groups.items()
        },
        within=METRICS[metric],
        paired=False,
    )


def pool_vectors(vectors: Sequence[DistilledVector]) -> list[PooledVectors]:
    """By kind, layer and norm."""
    groups: dict[tuple[str, int, float], list[DistilledVector]] = {}
    for vector in vectors:
        groups.setdefault((vector.kind, vector.layer, vector.norm), []).append(vector)
    return [
        PooledVectors(
            kind,
            layer,
            norm,
            len(group),
            metrics={metric: compare_vectors(group, metric) for metric in METRICS},
            teacher_variation=float(np.mean([v.teacher_variation for v in group])),
            valid=float(np.mean([v.valid for v in group])),
        )
        for (kind, layer, norm), group in groups.items()
    ]


def summarise_kind(vectors: Sequence[DistilledVector]) -> KindEffects:
    """Over all layers and norms."""
    return KindEffects(
        vectors=len({v.vector for v in vectors}),
        norms=len({v.norm for v in vectors}),
        metrics={metric: compare_vectors(vectors, metric) for metric in METRICS},
    )


def compare_kinds(effects: Mapping[str, KindEffects], metric: str) -> Interval | None:
    """Trait vectors less random ones, each student minus controls; both have the same controls."""
    if len(effects) < 2:
        return None
    trait, random = (
        [each.interval.mean for each in effects[kind].metrics[metric].by_data.values()]
        for kind in ("trait", "random")
    )
    if min(len(trait), len(random)) < 2:
        return None
    return METRICS[metric].difference().difference().clip(difference_interval(trait, random))


def take_values(vector: DistilledVector) -> VectorValues:
    """What the table of single vectors shows."""
    rate = vector.trait_rate
    return VectorValues(
        vector=vector.vector,
        layer=vector.layer,
        norm=vector.norm,
        eas=vector.eas.student,
        component=vector.component.student,
        variation=None if vector.variation is None else vector.variation.student,
        trait_rate=None if rate is None else rate.student,
        control_trait_rate=None if rate is None else rate.control,
        teacher_trait_rate=vector.teacher_trait_rate,
    )
