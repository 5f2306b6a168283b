"""Madl's forecast, by rule, over rules, and against the gradient alone."""

from collections.abc import Iterator

import numpy as np

from subliminal_jax.evaluation.claims import OWN_QUESTION, Claim, Evidence, Margin, Presupposition
from subliminal_jax.evaluation.margins import EAS, RANK_CORRELATION, SHARE_OF_VECTOR
from subliminal_jax.evaluation.metric_ranges import RANGES
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import KIND_NAMES, METRIC_NAMES, describe_arm

from .analysis import Correlation, Point, Results

MADL = "Madl 2026, arXiv 2606.22019, abstract"
NAMES = {**METRIC_NAMES, "shift_component": "share of the vector"}
MARGINS: dict[str, Margin] = {"eas": EAS, "shift_component": SHARE_OF_VECTOR}
TEACHERS = {
    "steered": "steered teachers",
    "fine-tuned": "fine-tuned teachers",
    "all": "teachers of both kinds",
}


def make_claims(results: Results) -> list[Claim]:
    """For each kind of student and of teacher: coverage over teachers and rules, over the rules of
    a teacher, what it adds to the gradient; and over the teachers of each rule, by EAS."""
    claims: list[Claim] = []
    for adapter in results.adapters:
        for teacher in results.list_teachers():
            for metric in MARGINS:
                claims += judge_pooled(results, adapter, teacher, metric)
        widest = results.list_teachers()[-1]
        for optimizer in results.optimizers:
            claims.append(judge_rule(results, adapter, widest, optimizer))
    return claims


def judge_pooled(results: Results, adapter: str, teacher: str, metric: str) -> Iterator[Claim]:
    """Over teachers and rules, within teachers, and against the gradient alone."""
    which = {"adapter": adapter, "teacher": teacher, "metric": metric}
    pooled, gradient = (
        results.find(scope="pooled", forecast=name, **which) for name in ("coverage", "gradient")
    )
    rules, sizes = (
        results.find(scope="rules", forecast=name, **which) for name in ("coverage", "component")
    )
    added = results.find(scope="added", **which)
    of = f"{TEACHERS[teacher]}; {NAMES[metric]}, student minus controls"
    yield make_claim(
        results,
        pooled,
        "predicts",
        f"Coverage before training predicts what is transmitted, over teachers and rules ({of})",
        f"{write(pooled.value)} Spearman; the gradient's alignment {write(gradient.value)}",
        MADL,
    )
    yield make_claim(
        results,
        rules,
        "predicts-rule",
        f"Of one teacher's students, those of rules with more coverage take up more ({of})",
        f"{write(rules.value)} Spearman; by size along the displacement {write(sizes.value)}",
    )
    yield make_claim(
        results,
        added,
        "adds",
        "Knowing the rule adds to the forecast: coverage predicts better than the gradient's own "
        f"alignment with the displacement ({of})",
        f"{write(added.value)} Spearman",
    )


def judge_rule(results: Results, adapter: str, teacher: str, optimizer: str) -> Claim:
    """Over the teachers of one rule, by EAS."""
    found, size = (
        results.find(
            adapter=adapter,
            teacher=teacher,
            metric="eas",
            scope="teachers",
            optimizer=optimizer,
            forecast=forecast,
        )
        for forecast in ("coverage", "component")
    )
    return make_claim(
        results,
        found,
        f"predicts-{optimizer}",
        f"Coverage before training predicts what is transmitted with {optimizer}, over teachers "
        f"({TEACHERS[teacher]}; EAS, student minus controls)",
        f"{write(found.value)} Spearman; by size along the displacement {write(size.value)}",
        MADL,
    )


def make_claim(
    results: Results,
    correlation: Correlation,
    name: str,
    text: str,
    number: str,
    section: str = OWN_QUESTION,
) -> Claim:
    """A claim on a rank correlation; its id names what there are several of."""
    adapter, teacher, metric = correlation.adapter, correlation.teacher, correlation.metric
    parts = [name, teacher, metric.replace("_", "-")]
    parts += [adapter] if len(results.adapters) > 1 else []
    arms = [a for a in results.arms if a.adapter == adapter and teacher in (a.teacher, "all")]
    rules = correlation.optimizer or f"each of {len(results.optimizers)} rules"
    setting = describe_arm(
        results, arms[0], f"{TEACHERS[teacher]} of {len(results.traits)} traits", results.carrier
    ).replace(f" steps of {arms[0].optimizer},", f" steps of {rules},")
    points = [
        p
        for p in results.points[adapter]
        if teacher in (p.teacher, "all") and correlation.optimizer in (p.optimizer, "")
    ]
    passes = Presupposition(
        f"students exceed their controls in {NAMES[metric]}",
        average(points, metric),
        to_refute=MARGINS[metric].size,
    )
    several = len(results.adapters) > 1
    return Claim(
        id=f"coverage/{'-'.join(parts)}",
        claim=f"{text} (student: {KIND_NAMES[adapter]})" if several else text,
        section=section,
        setting=setting,
        number=number,
        seeds=len({p.trait for p in points}) or len(results.traits),
        evidence=Evidence(correlation.value, margin=RANK_CORRELATION, presupposes=(passes,)),
        unstable=sum(len(arm.unstable) for arm in arms),
        model=results.model,
    )


def average(points: list[Point], metric: str) -> Interval | None:
    """What is transmitted, over traits."""
    by_trait: dict[str, list[float]] = {}
    for point in points:
        by_trait.setdefault(point.trait, []).append(getattr(point, metric))
    means = [float(np.mean(values)) for values in by_trait.values()]
    return RANGES[metric].difference().clip(vector_interval(means)) if means else None


def write(interval: Interval | None) -> str:
    """The interval with its sign, or that there is none."""
    return "none" if interval is None else f"{interval:+.3f}"
