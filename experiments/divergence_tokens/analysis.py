"""From students of chosen tokens to what these tokens carry, and to AdamW's lead on them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subliminal_jax.evaluation.excess import Excess
from subliminal_jax.evaluation.metric_ranges import RANGES, SHARE
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import (
    METRIC_NAMES,
    KindArm,
    MeasuredKinds,
    Target,
)
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound

from .config import TokenArm
from .token_sets import TokenCount, TokenGradients

# Direction and size of what is taken up, and what it does.
METRICS = ("eas", "shift_component", "word_log_prob")
NAMES = {**METRIC_NAMES, "shift_component": "share of the vector"}
# An arm and the one that it is held against.
CONTRASTS: tuple[tuple[TokenArm, TokenArm], ...] = (
    ("masked", "random-masked"),
    ("alone", "random-alone"),
    ("masked", "all"),
    ("alone", "all"),
    ("weighted", "all"),
)
LEADER, OTHER = "adamw", "sgd"


@dataclass(frozen=True)
class Measured(MeasuredKinds):
    """What a run measured; a student's `objective` is its arm, which says what tokens count.

    `base_losses` are the base's with all tokens, as is a student's "all_tokens_loss"; its
    `heldout_loss` and `base_loss` have its arm's weights, and say whether it is sound.

    Attributes:
      carrier: what students train on, in words.
      teacher: "steered" or "system-prompt".
      arms: which tokens count (`config.TokenArm`).
      emphasis: the weight of a divergence token in the arm "weighted".
      counterfactual_share: of the counterfactual teachers that have to differ; 0: at least one.
      counterfactual_traits: whose teachers read what the others wrote.
      tokens: of every data set's training answers.
      gradients: of the base, on each reported trait's data.
      data: how each data set came about.
    """

    carrier: str
    teacher: str
    arms: tuple[TokenArm, ...]
    emphasis: float
    counterfactual_share: float
    counterfactual_traits: tuple[str, ...]
    tokens: Mapping[str, TokenCount]
    gradients: tuple[TokenGradients, ...]
    data: Mapping[str, Mapping[str, Any]]

    def is_sound(self, row: StudentRow) -> bool:
        """Whether a student ended no worse than the base by the loss that it minimised."""
        return ended_sound(row)

    def read(self, row: StudentRow, metric: str, target: Target) -> float:
        if metric == "gain":
            return self.base_losses[row.data] - row["all_tokens_loss"]
        return super().read(row, metric, target)

    def collect(self, adapter: str, optimizer: str, arm: TokenArm, metric: str) -> Excess:
        """A metric of an arm's sound students by trait, and of its controls by draw and trait."""
        sound = self.select_sound(adapter=adapter, optimizer=optimizer, objective=arm)
        targets = [Target(trait, trait, trait) for trait in self.traits]
        return Excess(
            {t.data: self.read(sound[t.data], metric, t) for t in targets if t.data in sound},
            {
                draw: {t.data: self.read(sound[draw], metric, t) for t in targets}
                for draw in self.controls
                if draw in sound
            },
            RANGES[metric],
        )

    def describe_share(self) -> str:
        """How many counterfactual teachers have to differ, in words."""
        if self.counterfactual_share == 0:
            return "at least one counterfactual teacher differs"
        if self.counterfactual_share == 1:
            return "all counterfactual teachers differ"
        return f"at least {self.counterfactual_share:.0%} of the counterfactual teachers differ"


@dataclass(frozen=True)
class Arm(KindArm):
    """The students of one arm, against its controls. `gain` is that with all tokens."""

    arm: TokenArm


@dataclass(frozen=True)
class Contrast:
    """One arm less another in a metric, each minus its controls, paired by vector.

    Attributes:
      values: by trait.
    """

    adapter: str
    optimizer: str
    metric: str
    arm: TokenArm
    other: TokenArm
    difference: Interval | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class Lead:
    """AdamW's lead over SGD in a metric, each minus its controls, paired by vector.

    Attributes:
      by_arm: the lead on the tokens of each arm.
      lost: that on all tokens less that on those of each other arm: above 0 where AdamW gains from
        what the arm has not.
    """

    adapter: str
    metric: str
    by_arm: Mapping[str, Interval | None]
    lost: Mapping[str, Interval | None]


@dataclass(frozen=True)
class TraitShares:
    """What divergence tokens hold of the base's gradients on the data of one trait.

    Attributes:
      tokens, squared, component, outliers: as in `HeldShares`; no component where the whole is not
        positive.
      component_total: the whole component, a token.
    """

    tokens: float
    squared: float
    component: float | None
    outliers: float
    component_total: float


@dataclass(frozen=True)
class HeldShares:
    """What divergence tokens hold of the base's gradients, over traits.

    Attributes:
      by_trait: the same of each.
      tokens: their share of the tokens.
      squared, component, outliers: their share of the squared norm, of the component along the
        vector, and of the outliers; None where there is no component to share.
      squared_excess, component_excess, outliers_excess: these less the share of the tokens.
      component_total: the whole component a token: above 0 where a step on the data moves along
        the vector at all.
    """

    by_trait: Mapping[str, TraitShares]
    tokens: Interval
    squared: Interval
    component: Interval | None
    outliers: Interval
    squared_excess: Interval
    component_excess: Interval | None
    outliers_excess: Interval
    component_total: Interval


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report."""

    results: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]
    leads: tuple[Lead, ...]
    held: HeldShares

    def find_arm(self, adapter: str, optimizer: str, arm: str) -> Arm | None:
        """The students of an arm, if it was trained."""
        wanted = (adapter, optimizer, arm)
        return next(
            (a for a in self.results if (a.adapter, a.optimizer, a.arm) == wanted),
            None,
        )

    def find_contrast(
        self, adapter: str, optimizer: str, metric: str, arm: str, other: str
    ) -> Contrast | None:
        """One arm less another, if both were trained."""
        wanted = (adapter, optimizer, metric, arm, other)
        return next(
            (
                c
                for c in self.contrasts
                if (c.adapter, c.optimizer, c.metric, c.arm, c.other) == wanted
            ),
            None,
        )


def analyse(measured: Measured) -> Results:
    """Every arm against its controls and against its counterpart, and AdamW's lead on each."""
    kinds = [(a, o) for a in measured.adapters for o in measured.optimizers]
    return Results(
        **vars(measured),
        results=tuple(compare_arm(measured, *kind, arm) for kind in kinds for arm in measured.arms),
        contrasts=tuple(
            contrast
            for kind in kinds
            for metric in METRICS
            for contrast in list_contrasts(measured, *kind, metric)
        ),
        leads=tuple(list_leads(measured)),
        held=summarise_gradients(measured.gradients),
    )


def compare_arm(measured: Measured, adapter: str, optimizer: str, arm: TokenArm) -> Arm:
    """The students of one arm against its controls."""
    targets = [Target(trait, trait, trait) for trait in measured.traits]
    summary = measured.summarise(targets, METRICS, adapter, optimizer, objective=arm)
    return Arm(**vars(summary), arm=arm)


def list_contrasts(
    measured: Measured, adapter: str, optimizer: str, metric: str
) -> Iterator[Contrast]:
    """Those of `CONTRASTS` whose arms were trained."""
    for arm, other in CONTRASTS:
        if arm in measured.arms and other in measured.arms:
            first, second = (
                measured.collect(adapter, optimizer, each, metric) for each in (arm, other)
            )
            both = first.minus(second)
            yield Contrast(
                adapter, optimizer, metric, arm, other, both.difference(), both.by_trait()
            )


def list_leads(measured: Measured) -> Iterator[Lead]:
    """AdamW's lead over SGD, where both were trained."""
    if not {LEADER, OTHER} <= set(measured.optimizers):
        return
    for adapter in measured.adapters:
        for metric in METRICS:
            leads = {
                arm: measured.collect(adapter, LEADER, arm, metric).minus(
                    measured.collect(adapter, OTHER, arm, metric)
                )
                for arm in measured.arms
            }
            yield Lead(
                adapter=adapter,
                metric=metric,
                by_arm={arm: lead.difference() for arm, lead in leads.items()},
                lost={
                    arm: leads["all"].minus(lead).difference()
                    for arm, lead in leads.items()
                    if arm != "all" and "all" in leads
                },
            )


def summarise_gradients(gradients: Sequence[TokenGradients]) -> HeldShares:
    """Shares over traits; of the component, over those that have one to share."""
    by_trait = {
        each.trait: TraitShares(
            tokens=each.divergent / each.tokens,
            squared=each.divergent_squared / each.squared,
            component=each.divergent_component / each.component if each.component > 0 else None,
            outliers=each.divergent_outliers / each.outliers,
            component_total=each.component / each.tokens,
        )
        for each in gradients
    }
    shares = [*by_trait.values()]
    component = [(s.component, s.tokens) for s in shares if s.component is not None]
    between = SHARE.difference()
    # A share of a component is signed: above 1 where the other tokens' is negative.
    return HeldShares(
        by_trait=by_trait,
        tokens=SHARE.clip(vector_interval([s.tokens for s in shares])),
        squared=SHARE.clip(vector_interval([s.squared for s in shares])),
        component=vector_interval([share for share, _ in component]) if component else None,
        outliers=SHARE.clip(vector_interval([s.outliers for s in shares])),
        squared_excess=between.clip(vector_interval([s.squared - s.tokens for s in shares])),
        component_excess=vector_interval([x - y for x, y in component]) if component else None,
        outliers_excess=between.clip(vector_interval([s.outliers - s.tokens for s in shares])),
        component_total=vector_interval([s.component_total for s in shares]),
    )
