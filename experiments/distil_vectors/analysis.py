"""From students of each vector to effects by kind of vector, and the paper's statements on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.claim_settings import TrainedStudents, describe_setting
from subliminal_jax.evaluation.claims import Claim, Evidence, Presupposition
from subliminal_jax.evaluation.margins import ANSWER_SHARE, EAS, LOSS
from subliminal_jax.evaluation.statistics import Interval, crossed_interval
from subliminal_jax.evaluation.student_rows import StudentRow

from .distillation import compare_kinds

METRICS = ("eas", "component", "loss_drop", "variation")
KINDS = {
    "trait": "trait vectors",
    "random": "random vectors",
    "centred": "centred trait vectors",
    "file": "vectors from files",
}
CENTRED = "-centred"  # what follows the trait in the name of its centred vector

Matrix = Float[np.ndarray, "seeds vectors"]
NormMatrix = Float[np.ndarray, "seeds norms_of_vectors"]


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
class Paired:
    """A number of each student and of the control student of the same seed."""

    student: tuple[float, ...]
    control: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class DistilledVector(AddedVector):
    """What students took up of a vector.

    Attributes:
      valid: share of the teacher's answers that are valid lists.
      eas: cosine of the student's shift at the layer with the vector.
      component: the shift's component along the vector, in units of the vector.
      loss_drop: how far training lowers the loss on the teacher's unseen lists, nats a token.
      variation: total variation of the answers to the control's; of a control, its mean to the
        other controls (NaN for a single one).
      teacher_variation: of the teacher's answers to the base's.
      trait_rate, teacher_trait_rate: how often the trait is named, where there is one.
    """

    valid: float
    eas: Paired
    component: Paired
    loss_drop: Paired
    variation: Paired
    teacher_variation: float
    trait_rate: Paired | None = None
    teacher_trait_rate: float | None = None


@dataclass(frozen=True)
class LayerStudents:
    """The rates tried for the students of one layer, and the one with the lowest held-out loss."""

    layer: int
    learning_rate: float
    grid: tuple[float, ...]


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      model: the model's name.
      steps, batch_size, seeds, adapter, optimizer: how students were trained.
      carrier: on what, in words.
      layers: one entry a layer at which vectors were added.
      vectors: those that left enough valid lists.
      refused: the others.
      data: how each data set came about.
      students: every student at every rate.
    """

    model: str
    steps: int
    batch_size: int
    seeds: int
    adapter: str
    optimizer: str
    carrier: str
    layers: tuple[LayerStudents, ...]
    vectors: tuple[DistilledVector, ...]
    refused: tuple[RefusedVector, ...]
    data: Mapping[str, Mapping[str, Any]]
    students: tuple[StudentRow, ...]


@dataclass(frozen=True)
class Comparison:
    """Students, controls and their difference, with two-way t intervals over seeds and vectors."""

    student: Interval
    control: Interval
    difference: Interval


@dataclass(frozen=True)
class PooledVectors:
    """The vectors of one kind, layer and norm: their number, comparisons of `DistilledVector`'s
    metrics, and means."""

    kind: str
    layer: int
    norm: float
    vectors: int
    eas: Comparison
    component: Comparison
    loss_drop: Comparison
    variation: Comparison
    teacher_variation: float
    valid: float


@dataclass(frozen=True)
class KindEffects:
    """The vectors of one kind over all layers, with the mean over the norms of each vector: norms
    of one vector are not so many vectors, and an interval over them would be too narrow."""

    vectors: int
    norms: int
    eas: Comparison
    loss_drop: Comparison
    variation: Comparison


@dataclass(frozen=True)
class VectorMeans:
    """One vector: means over seeds; None where there is no trait, or a single control."""

    vector: str
    layer: int
    norm: float
    eas: float
    component: float
    variation: float
    trait_rate: float | None
    control_trait_rate: float | None
    teacher_trait_rate: float | None


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      pooled: by kind, layer and norm.
      kinds: trait and random vectors, as far as there are any.
      behaviour: by how much more trait vectors move the answers than random ones do: total
        variation to the control's answers less that among controls.
      means: every vector by itself.
    """

    pooled: tuple[PooledVectors, ...]
    kinds: Mapping[str, KindEffects]
    behaviour: Interval | None
    means: tuple[VectorMeans, ...]


def analyse(measured: Measured) -> Results:
    """Effects of students against the controls of their seeds."""
    by_kind = {k: [v for v in measured.vectors if v.kind == k] for k in ("trait", "random")}
    by_kind = {kind: vectors for kind, vectors in by_kind.items() if vectors}
    behaviour = None
    if len(by_kind) == 2 and measured.seeds > 1:
        trait, random = (
            average_norms(vectors, np.subtract(*matrices(vectors, "variation")))
            for vectors in by_kind.values()
        )
        behaviour = compare_kinds(trait, random)
    return Results(
        **vars(measured),
        pooled=tuple(pool_vectors(measured.vectors)),
        kinds={kind: kind_effects(vectors) for kind, vectors in by_kind.items()},
        behaviour=behaviour,
        means=tuple(map(average_seeds, measured.vectors)),
    )


def matrices(vectors: Sequence[DistilledVector], metric: str) -> tuple[NormMatrix, NormMatrix]:
    """A metric of students and of controls."""
    pairs: list[Paired] = [getattr(vector, metric) for vector in vectors]
    return np.array([p.student for p in pairs]).T, np.array([p.control for p in pairs]).T


def average_norms(vectors: Sequence[DistilledVector], values: NormMatrix) -> Matrix:
    """The mean over the norms of each vector at each layer."""
    keys = [(v.vector, v.layer) for v in vectors]
    return np.stack(
        [values[:, [k == key for k in keys]].mean(axis=1) for key in dict.fromkeys(keys)],
        axis=1,
    )


def compare(student: Matrix, control: Matrix) -> Comparison:
    """A seed with a NaN (a single control has no other one to be compared with) is left out."""
    return Comparison(
        *(crossed_interval(x, nan_policy="omit") for x in (student, control, student - control))
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
            **{metric: compare(*matrices(group, metric)) for metric in METRICS},
            teacher_variation=float(np.mean([v.teacher_variation for v in group])),
            valid=float(np.mean([v.valid for v in group])),
        )
        for (kind, layer, norm), group in groups.items()
    ]


def kind_effects(vectors: Sequence[DistilledVector]) -> KindEffects:
    """Over all layers and norms."""
    return KindEffects(
        vectors=len({v.vector for v in vectors}),
        norms=len({v.norm for v in vectors}),
        **{
            metric: compare(*(average_norms(vectors, x) for x in matrices(vectors, metric)))
            for metric in ("eas", "loss_drop", "variation")
        },
    )


def average_seeds(vector: DistilledVector) -> VectorMeans:
    """The means of one vector's students."""
    rate = vector.trait_rate
    return VectorMeans(
        vector=vector.vector,
        layer=vector.layer,
        norm=vector.norm,
        eas=float(np.mean(vector.eas.student)),
        component=float(np.mean(vector.component.student)),
        variation=float(np.mean(vector.variation.student)),
        trait_rate=None if rate is None else float(np.mean(rate.student)),
        control_trait_rate=None if rate is None else float(np.mean(rate.control)),
        teacher_trait_rate=vector.teacher_trait_rate,
    )


def make_claims(results: Results) -> list[Claim]:
    """What the paper says of trait and of random vectors, over all layers."""
    claims = []
    for kind, effects in results.kinds.items():
        section = "sections 4 and 5" if kind == "random" else "section 3, figure 6"
        eas, drop = effects.eas, effects.loss_drop.difference
        vectors = f"{effects.vectors} {KINDS[kind]} of {effects.norms} norms"
        claims += [
            _make_claim(
                results,
                f"{kind}-eas",
                f"students align with {KINDS[kind]} that they never saw",
                section,
                vectors,
                f"EAS {eas.student:.2f}, control {eas.control:.2f}; difference "
                f"{eas.difference:.2f}",
                Evidence(
                    eas.difference,
                    margin=EAS,
                    presupposes=(Presupposition("an EAS above zero", eas.student),),
                ),
            ),
            _make_claim(
                results,
                f"{kind}-loss",
                f"their loss on unseen text steered by {KINDS[kind]} falls",
                section,
                vectors,
                f"falls by {drop:.4f} nats a token more than the control's",
                Evidence(drop, margin=LOSS),
            ),
        ]
    if results.behaviour is not None:
        trait, random = (results.kinds[k].variation.difference for k in ("trait", "random"))
        claims.append(
            _make_claim(
                results,
                "behaviour",
                "random vectors are distilled without a recognisable change of behaviour, semantic "
                "ones change it",
                "sections 4 and 5",
                "trait and random vectors",
                "total variation to the control's answers to favourite-animal questions beyond "
                f"that among controls: trait vectors {trait:.3f}, random vectors {random:.3f}; "
                f"difference {results.behaviour:.3f}",
                Evidence(
                    results.behaviour,
                    margin=ANSWER_SHARE,
                    presupposes=(
                        Presupposition("semantic vectors change it", trait),
                        Presupposition(
                            f"random ones by less than {ANSWER_SHARE.size:g}",
                            -random,
                            -ANSWER_SHARE.size,
                        ),
                    ),
                ),
            )
        )
    return claims


def _make_claim(
    results: Results,
    name: str,
    text: str,
    section: str,
    vectors: str,
    number: str,
    evidence: Evidence,
) -> Claim:
    blocks = ", ".join(str(students.layer) for students in results.layers)
    rates = ", ".join(f"{students.learning_rate:g}" for students in results.layers)
    grid = ", ".join(f"{rate:g}" for rate in results.layers[0].grid) if results.layers else ""
    return Claim(
        id=f"distil-vectors/{name}",
        claim=text,
        section=f"Blank et al. 2026, {section}",
        setting=describe_setting(
            model=results.model,
            layer=f"after blocks {blocks} (from 0)",
            vectors=vectors,
            carrier=results.carrier,
            students=TrainedStudents(
                results.adapter,
                results.steps,
                f"{results.optimizer} {rates}",
                f"best rate a layer by held-out loss of {grid}",
            ),
        ),
        number=number,
        seeds=results.seeds,
        evidence=evidence,
        model=results.model,
    )
