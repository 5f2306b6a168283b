"""Did the trait pass through paraphrases? A trait teacher's students against the neutral one's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subliminal_jax.evaluation.metric_ranges import SHARE
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import Interval, paired_difference
from subliminal_jax.evaluation.student_kinds import KindArm, Target
from subliminal_jax.evaluation.transmission import MeasuredTransmission

from .paraphrase_sets import SetReport
from .tasks import data_name, neutral_name

METRICS = ("word_rate", "word_log_prob", "eas", "shift_component")


@dataclass(frozen=True)
class Measured(MeasuredTransmission):
    """What a run measured.

    Attributes:
      questions: how many questions P(trait) is a mean over.
      writing: how paraphrases were written, by content.
      fidelity: what scored sampled paraphrases.
      threshold: the score that they had to exceed.
      data: how each data set came about.
    """

    questions: int
    writing: Mapping[str, str]
    fidelity: str
    threshold: float
    data: Mapping[str, SetReport]


@dataclass(frozen=True)
class Arm(KindArm):
    """The students of one kind that learnt a kind of teacher's paraphrases, by one optimizer.
    `metrics` are the trait teacher's student minus the neutral one's of the same sentences.

    Attributes:
      content: "unrelated" or "contradictory" sentences.
      teacher_kind: of `evaluation.transmission.TEACHER_KINDS`.
      over_questions: by trait, P(trait) with the interval that Gisler et al. give: over questions.
      against: P(trait), less that of the first optimizer's students; at a level that holds for all
        optimizers together (Bonferroni). None for the first.
    """

    content: str
    teacher_kind: str
    over_questions: Mapping[str, Interval]
    against: Interval | None


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report: what was measured, and every arm."""

    arms: tuple[Arm, ...]

    def select_arms(self, content: str, teacher_kind: str) -> list[Arm]:
        """The arms of one content and kind of teacher."""
        return [a for a in self.arms if (a.content, a.teacher_kind) == (content, teacher_kind)]


def analyse(measured: Measured) -> Results:
    """Every content, kind of teacher, optimizer and kind of student."""
    arms = []
    for content in measured.writing:
        for teacher_kind in measured.teacher_kinds:
            for adapter in measured.adapters:
                arms += compare_optimizers(measured, content, teacher_kind, adapter)
    return Results(**vars(measured), arms=tuple(arms))


def list_targets(measured: Measured, content: str, teacher_kind: str) -> list[Target]:
    """For each trait the data set of its teacher, and the neutral one's of the same sentences."""
    return [
        Target(
            data_name(content, f"{teacher_kind}:{trait}"),
            trait,
            f"{teacher_kind}:{trait}",
            neutral_name(content, trait),
        )
        for trait in measured.traits
    ]


def compare_optimizers(
    measured: Measured, content: str, teacher_kind: str, adapter: str, level: float = 0.95
) -> list[Arm]:
    """The arms of one content, kind of teacher and kind of student."""
    targets = list_targets(measured, content, teacher_kind)
    arms = [measured.summarise(targets, METRICS, adapter, name) for name in measured.optimizers]
    first, *others = arms
    single = 1 - (1 - level) / max(1, len(others))
    return [
        Arm(
            **vars(arm),
            content=content,
            teacher_kind=teacher_kind,
            over_questions=compare_questions(measured, targets, arm),
            against=None if arm is first else measure_lead(arm, first, single),
        )
        for arm in arms
    ]


def compare_questions(
    measured: Measured, targets: Sequence[Target], arm: KindArm
) -> dict[str, Interval]:
    """By trait, P(trait) of its student minus the neutral one's, paired over questions."""
    sound = measured.select_sound(adapter=arm.adapter, optimizer=arm.optimizer)
    intervals, rise = {}, SHARE.difference()
    for target in targets:
        if target.data in sound and target.neutral in sound:
            word = measured.words.index(target.trait or "")
            student, neutral = (
                sound[name]["question_rate"][word] for name in (target.data, target.neutral)
            )
            intervals[target.data] = rise.clip(paired_difference(student, neutral).interval)
    return intervals


def measure_lead(arm: KindArm, first: KindArm, level: float) -> Interval | None:
    """P(trait) over the neutral students', less the same of the first optimizer's, by trait; None
    where no trait has both."""
    ours, theirs = (each.metrics["word_rate"].by_data for each in (arm, first))
    leads = [ours[x].interval.mean - theirs[x].interval.mean for x in ours if x in theirs]
    lead = SHARE.difference().difference()
    return lead.clip(vector_interval(leads, level)) if leads else None
