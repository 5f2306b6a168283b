"""From students of every rule to the map of rules, and to what their properties predict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from subliminal_jax.evaluation.excess import METRICS, Excess, VectorRun
from subliminal_jax.evaluation.matching import bracket_level
from subliminal_jax.evaluation.metric_ranges import NOT_NEGATIVE, RANGES, SHARE, MetricRange
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_rows import StudentRow

from .config import REFERENCE
from .properties import PropertyModel, Spread, fit_properties, measure_spread
from .rules import PENALISED, Rule

SPECTRUM = ("effective_rank", "stable_rank", "top_share")
SPECTRUM_RANGES: Mapping[str, MetricRange] = {
    "effective_rank": NOT_NEGATIVE,
    "stable_rank": NOT_NEGATIVE,
    "top_share": SHARE,
}
BEST, MATCHED = "best", "matched"  # where rules are compared


@dataclass(frozen=True)
class Chosen:
    """The setting and the rate of a rule that the tuning vectors chose at a rank of LoRA; no rate
    where none was sound."""

    rule: str
    rank: int
    setting: str
    rate: float | None
    is_inside: bool


def choose_setting(rule: str, rank: int, choices: Sequence[RateChoice]) -> Chosen:
    """That with the lowest held-out loss; the first of those without one."""

    def loss(choice: RateChoice) -> float:
        return min((x for x in choice.losses if x is not None), default=math.inf)

    best = min(choices, key=loss)
    return Chosen(rule, rank, best.optimizer, best.rate, best.is_inside)


@dataclass(frozen=True)
class Measured(VectorRun):
    """What a run measured; `rank` is the main one.

    Attributes:
      rules: those of the atlas, with their properties.
      costs: of a student's step, in units of AdamW's.
      most_cost: the largest that is reported.
      left_out: the rules that cost more.
      screen_steps: of the students that settings and rates were chosen by.
      lengths: of the reported students; all are compared at the last.
      ranks: of LoRA, the main one first.
      choices: the rate of each setting, rank by rank.
      chosen: the setting of each rule and rank.
      students: the reported ones, with their rule, steps and rank.
      tuning_students: those of the screen.
      seconds: that each stage took, compiling included.
    """

    rules: Mapping[str, Rule]
    costs: Mapping[str, float]
    most_cost: float
    left_out: tuple[str, ...]
    screen_steps: int
    lengths: tuple[int, ...]
    ranks: tuple[int, ...]
    choices: tuple[RateChoice, ...]
    chosen: tuple[Chosen, ...]
    students: tuple[StudentRow, ...]
    tuning_students: tuple[StudentRow, ...]
    seconds: Mapping[str, float] = field(default_factory=dict, kw_only=True)

    @property
    def steps(self) -> int:
        """At which all are compared."""
        return self.lengths[-1]

    def select(self, rule: str, rank: int, steps: int) -> list[StudentRow]:
        """The students of a rule, on tuning vectors, too."""
        which = rule, rank, steps
        return [r for r in self.students if (r["rule"], r.rank, r["steps"]) == which]

    def sound(self, rule: str, rank: int, steps: int) -> dict[str, StudentRow]:
        """Those by data set, without any that blew up."""
        return {row.data: row for row in self.select(rule, rank, steps) if self.is_sound(row)}


@dataclass(frozen=True)
class Reading:
    """A rule's students at one place: after the longest runs, or where they pass the level.

    Attributes:
      vectors: how many of them there are.
      metrics: student minus controls over vectors, by name.
      by_vector: the same of each vector.
      spectrum: means over vectors, projections and layers.
      lead: AdamW's student minus controls less this rule's, by name, paired by vector.
    """

    vectors: int
    metrics: Mapping[str, Interval | None]
    by_vector: Mapping[str, Mapping[str, float]]
    spectrum: Mapping[str, Interval | None]
    lead: Mapping[str, Interval | None]


@dataclass(frozen=True)
class RuleResult:
    """All of one rule at one rank.

    Attributes:
      gain: of the students after the longest runs, on held-out rows.
      unstable: data sets whose student blew up there.
      best, matched: what is transmitted after the longest runs, and at the common level of gain.
    """

    rule: str
    family: str
    rank: int
    chosen: Chosen
    cost: float
    gain: Interval | None
    unstable: tuple[str, ...]
    best: Reading
    matched: Reading


@dataclass(frozen=True)
class Penalty:
    """A rule with a spectral penalty less the rule without, paired by vector, at best rates.

    Attributes:
      rule: with it; `without` is the rule without.
      metrics: student minus controls, by name.
      effective_rank: of the change of the weights.
      gain: on held-out rows.
    """

    rule: str
    without: str
    metrics: Mapping[str, Interval | None]
    effective_rank: Interval | None
    gain: Interval | None


@dataclass(frozen=True)
class Results(Measured):
    """All numbers of the report.

    Attributes:
      level: of the gain at which rules are matched, by rank; None without a sound reference.
      results: of every rule and rank.
      models: of the properties, by where rules are compared and the metric.
      spreads: of what is transmitted over rules, vectors and ranks, by metric.
      muon_lead: Muon's student minus controls less the mean of the adaptive rules', by metric.
      penalties: of each rule with a spectral penalty.
      unstable: reported students that blew up.
    """

    level: Mapping[str, float | None]
    results: tuple[RuleResult, ...]
    models: tuple[PropertyModel, ...]
    spreads: Mapping[str, Spread]
    muon_lead: Mapping[str, Interval | None]
    unstable: int
    penalties: tuple[Penalty, ...] = field(default=(), kw_only=True)

    def find(self, rule: str, rank: int | None = None) -> RuleResult | None:
        """A rule at a rank (the main one)."""
        which = rule, rank or self.rank
        return next((r for r in self.results if (r.rule, r.rank) == which), None)

    def list_main(self) -> list[RuleResult]:
        """The rules at the main rank."""
        return [r for r in self.results if r.rank == self.rank]

    def find_model(self, place: str, metric: str) -> PropertyModel:
        """The model of a metric, at best rates or matched."""
        return next(m for m in self.models if (m.place, m.metric) == (place, metric))


def analyse(measured: Measured) -> Results:
    """Every rule, the models of properties, and how rules spread."""
    level = {str(rank): find_level(measured, rank) for rank in measured.ranks}
    results = tuple(
        summarise_rule(measured, chosen, level[str(chosen.rank)]) for chosen in measured.chosen
    )
    main = [r for r in results if r.rank == measured.rank]
    return Results(
        **vars(measured),
        level=level,
        results=results,
        models=tuple(
            fit_properties(
                place,
                metric,
                {
                    r.rule: (metrics.mean, rank.mean)
                    for r in main
                    for reading in [r.best if place == BEST else r.matched]
                    for metrics, rank in [
                        (reading.metrics[metric], reading.spectrum["effective_rank"])
                    ]
                    if metrics is not None and rank is not None
                },
                measured.rules,
            )
            for place in (BEST, MATCHED)
            for metric in METRICS
        ),
        spreads={
            metric: measure_spread(
                {(r.rule, r.rank): r.best.by_vector[metric] for r in results},
                {name: rule.family for name, rule in measured.rules.items()},
                measured.traits,
            )
            for metric in METRICS
        },
        muon_lead={metric: compare_muon(measured, main, metric) for metric in METRICS},
        penalties=tuple(
            compare_penalty(measured, rule, without)
            for rule, without in PENALISED.items()
            if {rule, without} <= {r.rule for r in main}
        ),
        unstable=sum(not measured.is_sound(row) for row in measured.students),
    )


def find_level(measured: Measured, rank: int) -> float | None:
    """Halfway between the reference's gains after the shortest and the longest runs, on the tuning
    vectors: its own runs bracket that, and no reported student has a part in it. None where the
    reference gains nothing by longer runs."""
    ends = [measured.sound(REFERENCE, rank, measured.lengths[i]) for i in (0, -1)]
    both = [name for name in measured.tuning_traits if all(name in sound for sound in ends)]
    if not both:
        return None
    first, last = (float(np.mean([measured.gain(s[name]) for name in both])) for s in ends)
    return (first + last) / 2 if last > max(first, 0.0) else None


def summarise_rule(measured: Measured, chosen: Chosen, level: float | None) -> RuleResult:
    """A rule after the longest runs, and where its runs pass the level."""
    rule, rank = chosen.rule, chosen.rank
    rows = [r for r in measured.select(rule, rank, measured.steps) if r.data in measured.traits]
    rows += [r for r in measured.select(rule, rank, measured.steps) if r.data in measured.controls]
    sound = {row.data: row for row in rows if measured.is_sound(row)}
    gains = [measured.gain(sound[trait]) for trait in measured.traits if trait in sound]
    return RuleResult(
        rule=rule,
        family=measured.rules[rule].family,
        rank=rank,
        chosen=chosen,
        cost=measured.costs[rule],
        gain=vector_interval(gains) if gains else None,
        unstable=tuple(row.data for row in rows if row.data not in sound),
        best=make_reading(
            read_best(measured, rule, rank), read_best(measured, REFERENCE, rank), rule
        ),
        matched=make_reading(
            read_matched(measured, rule, rank, level),
            read_matched(measured, REFERENCE, rank, level),
            rule,
        ),
    )


# By vector: metrics, those of its controls by draw ("control-0 eas"), and the spectrum.
Values = Mapping[str, Mapping[str, float]]


def read_best(measured: Measured, rule: str, rank: int) -> Values:
    """After the longest runs."""
    sound = measured.sound(rule, rank, measured.steps)
    draws = [name for name in measured.controls if name in sound]
    traits = [name for name in measured.traits if name in sound]
    return {trait: read_student(measured, sound, trait, draws) for trait in traits}


def read_matched(measured: Measured, rule: str, rank: int, level: float | None) -> Values:
    """Where the finished runs of a vector pass the level of gain, interpolated between the two that
    bracket it, its controls with the same weight. A run that blew up brackets nothing."""
    if level is None:
        return {}
    runs = [measured.sound(rule, rank, steps) for steps in measured.lengths]
    draws = [name for name in measured.controls if all(name in sound for sound in runs)]
    values = {}
    for trait in measured.traits:
        gains = [measured.gain(sound[trait]) if trait in sound else float("nan") for sound in runs]
        bracket = bracket_level(gains, level)
        if bracket is None:
            continue
        ends = [
            read_student(measured, runs[i], trait, draws)
            for i in (bracket.first, bracket.first + 1)
        ]
        values[trait] = {
            key: first + bracket.weight * (ends[1][key] - first) for key, first in ends[0].items()
        }
    return values


def read_student(
    measured: Measured, sound: Mapping[str, StudentRow], trait: str, draws: Sequence[str]
) -> dict[str, float]:
    """The numbers of the student of a vector, and of its controls."""
    values = {metric: measured.value(sound[trait], metric, trait) for metric in METRICS}
    values |= {
        f"{draw} {metric}": measured.value(sound[draw], metric, trait)
        for draw in draws
        for metric in METRICS
    }
    return values | {name: float(np.mean(sound[trait][name])) for name in SPECTRUM}


def make_reading(values: Values, reference: Values, rule: str) -> Reading:
    """What a rule's students exceed their controls by, and its spectra."""
    excesses = {metric: split(values, metric) for metric in METRICS}
    return Reading(
        vectors=len(values),
        metrics={metric: excess.difference() for metric, excess in excesses.items()},
        by_vector={metric: excess.by_trait() for metric, excess in excesses.items()},
        spectrum={
            name: SPECTRUM_RANGES[name].clip(vector_interval([v[name] for v in values.values()]))
            if values
            else None
            for name in SPECTRUM
        },
        lead={
            metric: None
            if rule == REFERENCE
            else split(reference, metric).minus(excess).difference()
            for metric, excess in excesses.items()
        },
    )


def split(values: Values, metric: str) -> Excess:
    """Students and controls of one metric."""
    names = next(iter(values.values()), {})
    draws = [name.removesuffix(f" {metric}") for name in names if name.endswith(f" {metric}")]
    return Excess(
        {trait: each[metric] for trait, each in values.items()},
        {
            draw: {trait: each[f"{draw} {metric}"] for trait, each in values.items()}
            for draw in draws
        },
        RANGES[metric],
    )


def compare_muon(measured: Measured, results: Sequence[RuleResult], metric: str) -> Interval | None:
    """Muon's student minus controls less the mean of those rules that normalise each coordinate,
    vector by vector; None without Muon, such rules, or a vector."""
    adaptive: list[Mapping[str, float]] = []
    muon: Mapping[str, float] = {}
    for result in results:
        rule, values = measured.rules[result.rule], result.best.by_vector[metric]
        if result.rule == "muon":
            muon = values
        elif rule.normalisation == "coordinate" and not rule.separating and values:
            adaptive.append(values)
    differences = [
        muon[trait] - float(np.mean([values[trait] for values in adaptive if trait in values]))
        for trait in muon
        if any(trait in values for values in adaptive)
    ]
    if not differences:
        return None
    return RANGES[metric].difference().difference().clip(vector_interval(differences))


def compare_penalty(measured: Measured, rule: str, without: str) -> Penalty:
    """A rule with the penalty less the one without."""
    values, others = (read_best(measured, name, measured.rank) for name in (rule, without))
    sound, plain = (measured.sound(name, measured.rank, measured.steps) for name in (rule, without))
    both = [trait for trait in values if trait in others]

    def average(differences: Sequence[float], within: MetricRange) -> Interval | None:
        return within.difference().clip(vector_interval(differences)) if differences else None

    return Penalty(
        rule=rule,
        without=without,
        metrics={
            metric: split(values, metric).minus(split(others, metric)).difference()
            for metric in METRICS
        },
        effective_rank=average(
            [values[t]["effective_rank"] - others[t]["effective_rank"] for t in both],
            SPECTRUM_RANGES["effective_rank"],
        ),
        gain=average(
            [measured.gain(sound[t]) - measured.gain(plain[t]) for t in both], RANGES["gain"]
        ),
    )


def list_rows(rows: Sequence[Any]) -> list[Any]:
    """The rows by what they transmit, the most first; those without a number last."""

    def key(row: RuleResult) -> float:
        effect = row.best.metrics["eas"]
        return math.inf if effect is None else -effect.mean

    return sorted(rows, key=key)
