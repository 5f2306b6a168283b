"""Did the trait pass through paraphrases? A trait teacher's students against the neutral one's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from subliminal_jax.evaluation.comparison import best_rates, is_at_edge
from subliminal_jax.evaluation.paired_questions import (
    NeutralDifference,
    PooledDifference,
    compare_with_neutral,
    pool_traits,
)
from subliminal_jax.evaluation.statistics import Interval, crossed_interval
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.evaluation.transmission import MeasuredStudents

from .paraphrase_sets import SetReport
from .tasks import data_name, neutral_name

KINDS = {"steered": "the trait's vector", "system-prompt": "the trait's system prompt"}


@dataclass(frozen=True)
class Measured(MeasuredStudents):
    """What a run measured.

    Attributes:
      steps: optimizer steps of each student.
      rows: training pairs a data set.
      questions: how many questions P(trait) is a mean over.
      scale: factor on the traits' vectors.
      writing: how paraphrases were written, by content.
      fidelity: what scored sampled paraphrases.
      threshold: the score that they had to exceed.
      data: how each data set came about.
    """

    steps: int
    rows: int
    questions: int
    scale: float
    writing: Mapping[str, str]
    fidelity: str
    threshold: float
    data: Mapping[str, SetReport]


@dataclass(frozen=True)
class Alignment:
    """EAS with the teacher's shift at the steering layer, over traits and seeds: of the trait
    teacher's students, of the neutral one's, and of their difference."""

    trait: Interval
    neutral: Interval
    difference: Interval


@dataclass(frozen=True)
class OptimizerResult:
    """The students of one content, kind of teacher and optimizer, at its best rate.

    Without a sound rate, or where a neutral student diverged there, only the first two are known.

    Attributes:
      learning_rate: the one with the lowest held-out loss of the trait teachers' students.
      grid_edge: whether that is the lowest or highest of several.
      pooled: P(trait), trait's student minus neutral one's, mean over traits.
      traits: the same for each trait.
      differences: the same for each trait, seed and question.
      eas: alignment with the teachers' shifts.
      heldout_loss: mean over the trait teachers' students.
    """

    learning_rate: float | None
    grid_edge: bool
    pooled: PooledDifference | None = None
    traits: Mapping[str, NeutralDifference] = field(default_factory=dict)
    differences: tuple[tuple[tuple[float, ...], ...], ...] | None = None
    eas: Alignment | None = None
    heldout_loss: float | None = None


ByOptimizer = Mapping[str, OptimizerResult]


class BestStudents(NamedTuple):
    """A row of the page's tables: an optimizer's result, the rates that were tried, and how it
    differs from the first optimizer."""

    content: str
    kind: str
    optimizer: str
    grid: tuple[float, ...]
    result: OptimizerResult
    against: Interval | None


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      contents: the best students by content, kind of teacher and optimizer.
      against_first: the pooled difference of every other optimizer minus the first one's.
    """

    contents: Mapping[str, Mapping[str, ByOptimizer]]
    against_first: Mapping[str, Mapping[str, Mapping[str, Interval]]]

    def best(self) -> list[BestStudents]:
        """Of every content, kind of teacher and optimizer."""
        return [
            BestStudents(
                content,
                kind,
                optimizer,
                self.grids[optimizer],
                result,
                self.against_first[content][kind].get(optimizer),
            )
            for content, kinds in self.contents.items()
            for kind, by_optimizer in kinds.items()
            for optimizer, result in by_optimizer.items()
        ]


class Comparison(NamedTuple):
    """The data sets of a trait's teacher and of the neutral one, and that teacher's name among the
    references of the alignments."""

    trait: str
    data: str
    neutral: str
    teacher: str


class Students(NamedTuple):
    """The sound students of both data sets of a comparison, by seed."""

    comparison: Comparison
    trait: Sequence[StudentRow]
    neutral: Sequence[StudentRow]


def analyse(measured: Measured) -> Results:
    """Every content's and kind of teacher's students at their best rates."""
    contents = {
        content: {
            kind: compare_students(measured, make_comparisons(content, kind, measured.traits))
            for kind in measured.teacher_kinds
        }
        for content in measured.writing
    }
    against_first = {
        content: {kind: compare_optimizers(results) for kind, results in kinds.items()}
        for content, kinds in contents.items()
    }
    return Results(**vars(measured), contents=contents, against_first=against_first)


def make_comparisons(content: str, kind: str, traits: Sequence[str]) -> list[Comparison]:
    """For each trait the data sets of a content and kind of teacher."""
    return [
        Comparison(
            trait,
            data_name(content, f"{kind}:{trait}"),
            neutral_name(content, trait),
            f"{kind}:{trait}",
        )
        for trait in traits
    ]


def compare_students(
    measured: Measured, comparisons: Sequence[Comparison]
) -> dict[str, OptimizerResult]:
    """For each optimizer at its best rate: Delta(T-N) of each trait and pooled, and alignment.

    The rate is the one with the lowest held-out loss of the trait teachers' students; the neutral
    ones' does not count.
    """
    names = {c.data for c in comparisons}
    trait_rows = [r for r in measured.students if r.data in names]
    results = {}
    for optimizer, rate in best_rates(trait_rows).items():
        tried = {r.learning_rate for r in measured.students if r.optimizer == optimizer}
        edge = is_at_edge(rate, sorted(tried))
        students = [
            Students(
                c,
                measured.select_students(c.data, optimizer, rate),
                measured.select_students(c.neutral, optimizer, rate),
            )
            for c in comparisons
        ]
        sizes = {len(rows) for s in students for rows in (s.trait, s.neutral)}
        if rate is None or len(sizes) != 1 or sizes == {0}:
            results[optimizer] = OptimizerResult(rate, edge)
            continue
        traits, differences = {}, []
        for c, *both in students:
            i = measured.words.index(c.trait)
            trait, neutral = (np.array([r["question_rate"][i] for r in rows]) for rows in both)
            traits[c.trait] = compare_with_neutral(trait, neutral)
            differences.append(trait - neutral)
        losses = [r["heldout_loss"] for s in students for r in s.trait]
        results[optimizer] = OptimizerResult(
            learning_rate=rate,
            grid_edge=edge,
            pooled=pool_traits(np.stack(differences)),
            traits=traits,
            differences=tuple(tuple(map(tuple, d.tolist())) for d in differences),
            eas=measure_alignment(measured, students),
            heldout_loss=float(np.mean(losses)),
        )
    return results


def measure_alignment(measured: Measured, students: Sequence[Students]) -> Alignment | None:
    """EAS with the shift of each comparison's teacher, after the steering layer."""
    teachers = [s.comparison.teacher for s in students]
    trait, neutral = (
        measured.stack_eas([getattr(s, kind) for s in students], teachers)
        for kind in ("trait", "neutral")
    )
    if trait is None or neutral is None:
        return None
    trait, neutral = trait[..., measured.layer], neutral[..., measured.layer]
    return Alignment(
        trait=crossed_interval(trait),
        neutral=crossed_interval(neutral),
        difference=crossed_interval(trait - neutral),
    )


def compare_optimizers(results: ByOptimizer, level: float = 0.95) -> dict[str, Interval]:
    """Delta(T-N) of every other optimizer minus that of the first, paired by seed and question.

    Two-way t over seeds and questions, at a level that holds for all of them together
    (Bonferroni). Empty where the first has no numbers.
    """
    means = {
        name: np.array(r.differences).mean(axis=0)
        for name, r in results.items()
        if r.differences is not None
    }
    first, *others = results
    sound = [name for name in others if name in means]
    if first not in means or not sound:
        return {}
    single = 1 - (1 - level) / len(sound)
    return {name: _difference(means[name], means[first], single) for name in sound}


def _difference(
    treated: Float[np.ndarray, "seeds questions"],
    control: Float[np.ndarray, "seeds questions"],
    level: float,
) -> Interval:
    return crossed_interval(treated - control, level=level)
