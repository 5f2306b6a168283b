"""The numbers of `steering-reliability`, of its sets and of the shipped world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subliminal_jax.evaluation.reliability import (
    SetReliability,
    SetSummary,
    Table,
    VectorReliability,
    summarise_sets,
)
from subliminal_jax.evaluation.shares import share_interval
from subliminal_jax.evaluation.statistics import (
    Interval,
    PairedDifference,
    mean_interval,
    paired_difference,
    spearman_interval,
)

from .config import PAPER_BACKWARDS


@dataclass(frozen=True)
class LocalSlope:
    """The slope of a vector as a derivative at multiplier zero.

    Attributes:
      scales: factors on the multipliers of the finite slope.
      correlation: of derivative and finite slope over rows, at each scale; None where one of them
        is constant.
      slope: mean over rows, in logits a multiplier.
      curvature: mean absolute second derivative.
      reach: the largest multiplier that the derivative predicts within 10%.
    """

    scales: tuple[float, ...]
    correlation: tuple[float | None, ...]
    slope: float
    curvature: float
    reach: float

    @property
    def smallest_correlation(self) -> float | None:
        """That at the smallest scale."""
        return self.correlation[0]


@dataclass(frozen=True, kw_only=True)
class GivenVector(VectorReliability):
    """A vector of a file on one set, in the plain setting."""

    norm: float
    local: LocalSlope


@dataclass(frozen=True, kw_only=True)
class SetFile:
    """What was read of a set.

    Attributes:
      name: SUITE/NAME, or the file.
      read: its rows; `too_long` of them exceed the model's context in some setting.
      personas: the sentences that give and deny the behaviour ("positive", "negative"), if any.
      digest: of all that the numbers depend on and no flag says.
    """

    name: str
    read: int
    too_long: int
    personas: Mapping[str, str] | None
    digest: str


@dataclass(frozen=True, kw_only=True)
class SkippedSet(SetFile):
    """A set without numbers; `skipped` is the reason."""

    skipped: str


@dataclass(frozen=True, kw_only=True)
class MeasuredSet(SetFile, SetReliability):
    """All numbers of one set.

    Attributes:
      train, test: rows for the vectors and for their slopes.
      norm: of the set's vector in the plain setting.
      given_vectors: the vectors of files, by name.
      local: the derivative along the set's own vector.
    """

    train: int
    test: int
    norm: float
    given_vectors: Mapping[str, GivenVector]
    local: LocalSlope


@dataclass(frozen=True, kw_only=True)
class MeasuredTrait(VectorReliability):
    """A trait's vector on one kind of question in the shipped world.

    Attributes:
      name: TRAIT/KIND.
      kind: "compare" (the trait or another animal?) or "like" (do you like the trait, or another
        animal?).
      test: questions.
      norm: of the vector.
      random: a random vector of that norm.
      by_trait: mean slope of every trait's vector on these questions.
      other_traits: the mean of the other traits' slopes; None where there is no other.
      local: the derivative along the vector.
    """

    name: str
    trait: str
    kind: str
    test: int
    norm: float
    random: VectorReliability
    by_trait: Mapping[str, float]
    other_traits: float | None
    local: LocalSlope


@dataclass(frozen=True)
class OtherModel:
    """A second model on the same sets, in the plain setting; `sets` by name."""

    model: str
    parameters: int
    layer: int
    sets: Mapping[str, MeasuredSet]


@dataclass(frozen=True)
class Measured:
    """What a run measured.

    Attributes:
      model: the name of the model of the sets; None where there are no sets.
      parameters: how many it has.
      layer: its steering layer.
      world_model, world_layer: the same of the model of the shipped world.
      method: how vectors were made.
      kind: what the propensity is a difference of.
      other: a second model, if any.
      sets, skipped: the sets with and without numbers.
      world: two records a trait.
    """

    model: str | None
    parameters: int | None
    layer: int | None
    world_model: str | None
    world_layer: int | None
    method: str
    kind: str
    other: OtherModel | None
    sets: tuple[MeasuredSet, ...]
    skipped: tuple[SkippedSet, ...]
    world: tuple[MeasuredTrait, ...]


@dataclass(frozen=True)
class MeanMatrix:
    """Mean over sets of the steerability of every vector in every setting."""

    settings: tuple[str, ...]
    vectors: tuple[str, ...]
    steerability: Table


@dataclass(frozen=True)
class TraitSummary:
    """All traits on one kind of question.

    Attributes:
      traits: how many.
      steerability: of the traits' own vectors.
      against_random: minus random vectors'.
      anti_steerable: share of questions with a slope of at most 0.
      clearly_anti_steerable: share of questions whose slope is clear of zero from below.
      against_others: minus the mean of the other traits' vectors; None where there is one trait.
    """

    traits: int
    steerability: Interval
    against_random: PairedDifference
    anti_steerable: Interval
    clearly_anti_steerable: Interval
    against_others: PairedDifference | None


@dataclass(frozen=True)
class SetRow:
    """A set's numbers in short, for summaries, which have no room for all.

    Attributes:
      steerability, random: mean slopes of its vector and of a random one.
      balanced: with equal weight for both letters.
      anti_steerable: share of rows with a slope of at most 0.
      explained, letter, yes_no: shares of the slopes' variance.
      paper: the share in `PAPER_BACKWARDS`, if there is one.
      other: the steerability on the second model; `other_anti_steerable` the share there.
    """

    name: str
    steerability: float
    random: float
    balanced: float | None
    anti_steerable: float
    explained: float | None
    letter: float | None
    yes_no: float | None
    paper: float | None
    other: float | None
    other_anti_steerable: float | None


@dataclass(frozen=True)
class Agreement:
    """Rank correlations over sets with other models.

    Attributes:
      other: steerability here and on the second model.
      other_random: the same of random vectors, which says what letters alone make alike.
      other_sets: how many.
      paper: the share of rows on which vectors work backwards, here and on Llama-2-7B-chat in the
        paper.
      paper_sets: how many.
    """

    other: Interval
    other_random: Interval
    other_sets: int
    paper: Interval
    paper_sets: int


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      by_set: a line a set.
      agreement: with other models; None where there are no sets.
      over_sets: all sets together; None where there are none.
      mean_matrix: over the sets that were asked in several settings, if any.
      over_traits: all traits together, by kind of question.
    """

    by_set: tuple[SetRow, ...]
    agreement: Agreement | None
    over_sets: SetSummary | None
    mean_matrix: MeanMatrix | None
    over_traits: Mapping[str, TraitSummary]


def analyse(measured: Measured) -> Results:
    """Sets and traits together."""
    kinds = dict.fromkeys(trait.kind for trait in measured.world)
    return Results(
        **vars(measured),
        by_set=tuple(shorten(s, measured.other) for s in measured.sets),
        agreement=correlate_models(measured) if measured.sets else None,
        over_sets=summarise_sets(measured.sets) if measured.sets else None,
        mean_matrix=average_matrices(measured.sets),
        over_traits={
            kind: summarise_traits([t for t in measured.world if t.kind == kind]) for kind in kinds
        },
    )


def shorten(measured: MeasuredSet, other: OtherModel | None) -> SetRow:
    """A set in one line."""
    there = None if other is None else other.sets.get(measured.name)
    variance = measured.decomposition
    explained = variance.explained_share.mean
    return SetRow(
        name=measured.name,
        steerability=measured.steerability.mean,
        random=measured.random.steerability.mean,
        balanced=measured.balanced,
        anti_steerable=measured.anti_steerable.mean,
        explained=explained if np.isfinite(explained) else None,
        letter=variance.letter_share,
        yes_no=variance.yes_no_share,
        paper=PAPER_BACKWARDS.get(measured.name),
        other=None if there is None else there.steerability.mean,
        other_anti_steerable=None if there is None else there.anti_steerable.mean,
    )


def correlate_models(measured: Measured) -> Agreement:
    """Rank correlations over the sets that both have."""
    others = {} if measured.other is None else measured.other.sets
    both = [(s, others[s.name]) for s in measured.sets if s.name in others]
    paper = [
        (s.anti_steerable.mean, PAPER_BACKWARDS[s.name])
        for s in measured.sets
        if s.name in PAPER_BACKWARDS
    ]
    return Agreement(
        other=spearman_interval(
            [s.steerability.mean for s, _ in both], [o.steerability.mean for _, o in both]
        ),
        other_random=spearman_interval(
            [s.random.steerability.mean for s, _ in both],
            [o.random.steerability.mean for _, o in both],
        ),
        other_sets=len(both),
        paper=spearman_interval([ours for ours, _ in paper], [theirs for _, theirs in paper]),
        paper_sets=len(paper),
    )


def average_matrices(sets: Sequence[MeasuredSet]) -> MeanMatrix | None:
    """The mean over the sets with personas: the others have one setting."""
    matrices = [s.matrix for s in sets if s.personas]
    if not matrices:
        return None
    mean = np.mean([matrix.steerability for matrix in matrices], axis=0)
    first = matrices[0]
    return MeanMatrix(first.settings, first.vectors, tuple(map(tuple, mean.tolist())))


def summarise_traits(traits: Sequence[MeasuredTrait]) -> TraitSummary:
    """All traits on one kind of question."""
    steerability = [t.steerability.mean for t in traits]
    others = [t.other_traits for t in traits if t.other_traits is not None]
    return TraitSummary(
        traits=len(traits),
        steerability=mean_interval(steerability),
        against_random=paired_difference(
            steerability, [t.random.steerability.mean for t in traits]
        ),
        anti_steerable=share_interval([t.anti_steerable.mean for t in traits]),
        clearly_anti_steerable=share_interval([t.clearly_anti_steerable for t in traits]),
        against_others=paired_difference(steerability, others)
        if len(others) == len(traits)
        else None,
    )
