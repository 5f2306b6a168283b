"""What pages say of students of several kinds: columns, the search for rates, the method."""

from collections.abc import Mapping, Sequence
from typing import Any

from subliminal_jax.evaluation.metric_ranges import SHARE
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.student_kinds import (
    KIND_NAMES,
    METRIC_NAMES,
    KindArm,
    MeasuredKinds,
)
from subliminal_jax.evaluation.student_rows import TOLERANCE
from subliminal_jax.evaluation.transmission import TEACHER_WORDS, MeasuredTransmission
from subliminal_jax.reporting.differences import describe_difference
from subliminal_jax.reporting.tables import Column, Table

RATE = "word_rate"
POINTS = "+.1f"  # percentage points


def comparison_columns(
    metrics: Sequence[str], prefix: str = "metrics", rate_digits: int = 3
) -> list[Column]:
    """Student minus controls in each metric, of rows whose `prefix` holds `Comparison`s.

    Args:
      rate_digits: after the point, of P(trait); other metrics have two.
    """
    return [
        Column(
            f"{prefix}.{metric}.difference",
            f"{METRIC_NAMES[metric]}, student - controls",
            "number",
            digits=rate_digits if metric == RATE else 2,
        )
        for metric in metrics
    ]


def trait_rows(results: MeasuredTransmission, arms: Sequence[Any]) -> list[dict[str, Any]]:
    """P(trait) of single students: one row a trait and arm (a `KindArm` with a `teacher_kind`)."""
    return [
        {
            "trait": trait,
            "arm": arm,
            "student": name_arm(results, arm),
            "data": data,
            "base": results.base[trait],
            "teacher": results.teachers[f"{arm.teacher_kind}:{trait}"],
            "difference": difference,
        }
        for arm in arms
        for data, difference in arm.metrics[RATE].by_data.items()
        for trait in [data.rpartition(":")[2]]
    ]


TRAIT_COLUMNS = (
    Column("base", "base", "rate", digits=1),
    Column("teacher", "teacher", "rate", digits=1),
    Column("difference.student", "student", "rate", digits=1),
    Column("difference.control", "control", "rate", digits=1),
    Column("difference.interval", "student - control", "number", digits=3),
)


def describe_rise(arm: KindArm, base: Mapping[str, float] | None = None) -> str:
    """The rise of P(trait) in points over the controls and whether it is clear of zero; over the
    base, too, where its rates are given, by the data set's name after its last colon."""
    effect = arm.metrics[RATE].difference
    if effect is None or base is None:
        return describe_difference(effect and 100 * effect, POINTS)
    rises = [
        difference.student - base[data.rpartition(":")[2]]
        for data, difference in arm.metrics[RATE].by_data.items()
    ]
    over_base = describe_difference(100 * SHARE.difference().clip(vector_interval(rises)), POINTS)
    return f"{describe_difference(100 * effect, POINTS)} (over the base {over_base})"


def name_arm(results: MeasuredKinds, arm: KindArm) -> str:
    """The kind of student, with the optimizer where there are several."""
    name = KIND_NAMES[arm.adapter]
    return name if len(results.optimizers) == 1 else f"{name}, {arm.optimizer}"


def rates_table(results: MeasuredKinds) -> Table:
    """The search for the rates, one row a kind and optimizer (and number of rows)."""
    columns = [
        Column("adapter", "student", labels=KIND_NAMES),
        Column("choice.optimizer", "optimizer"),
        *([Column("objective", "objective")] if any(c.objective for c in results.choices) else []),
        *([Column("rows", "rows", "count")] if any(c.rows for c in results.choices) else []),
        Column("choice.rate", "best rate", "learning_rate"),
        Column("choice.grid", "rates tried", "learning_rates"),
        Column("choice.losses", "held-out loss", "number", digits=3),
        Column("choice.is_inside", "inside"),
    ]
    caption = "A single rate that was given is taken as it is."
    if results.tuning_traits:
        caption = (
            f"On the tuning traits ({', '.join(results.tuning_traits)}), which are not reported. A "
            "rate at which a student diverged or ended clearly above the base's loss has no loss. "
            f"{caption} Inside: rates on both sides were tried."
        )
    return Table("How the rates were found", columns, results.choices, caption)


def describe_kinds(results: MeasuredKinds) -> str:
    """How students of several kinds are trained and compared."""
    kinds = ", ".join(KIND_NAMES[kind] for kind in results.adapters)
    rates = "Learning rates are as given."
    if results.tuning_traits:
        rates = (
            "The learning rate of each kind was found by held-out loss on "
            f"{' and '.join(results.tuning_traits)}, which are not reported."
        )
    parts = [
        f"Kinds of students: {kinds}. Every reported trait has data of its own draw and, of each "
        "kind, one student with a seed of its own; intervals are over traits, with a correction "
        "for skewness. Each kind has controls of its own, which learn the plain model's data"
        + (
            f" ({len(results.controls)} draws, scored against every trait; the intervals are "
            "widened for what these few have in common)."
            if results.controls
            else "."
        ),
        f"All take {results.steps} steps of {results.batch_size} rows, with {results.warmup:.0%} "
        f"warm-up and a {results.schedule} schedule. {rates} A student that diverged or ended "
        f"above the base's loss on held-out rows of its data (by more than {TOLERANCE:g} nats) is "
        "unstable: it is counted, and carries no number.",
    ]
    if "vector" in results.adapters:
        parts.append(
            f"A vector student is one vector after block {results.layer}, where steered teachers "
            "have theirs: a family that holds the teacher itself. What it takes up says what the "
            "data hold; LoRA and full weights say what training takes from them."
        )
    return "\n\n".join(parts)


def describe_teachers(results: MeasuredTransmission) -> str:
    """What made the teachers: "vector or system prompt"."""
    return " or ".join(TEACHER_WORDS[kind] for kind in results.teacher_kinds)


def describe_unstable(results: MeasuredKinds) -> str:
    """How many students are unstable, by kind; empty where none is."""
    counts = {
        kind: sum(not results.is_sound(row) for row in results.select(adapter=kind))
        for kind in results.adapters
    }
    missing = [KIND_NAMES[c.adapter] for c in results.choices if c.choice.rate is None]
    parts = []
    if any(counts.values()):
        listed = ", ".join(f"{KIND_NAMES[kind]} {count}" for kind, count in counts.items() if count)
        parts.append(
            f"{sum(counts.values())} of {len(results.students)} students and controls are unstable "
            f"({listed}): they are counted and carry no number."
        )
    if missing:
        parts.append(
            f"No rate was sound, so no student was trained: {', '.join(dict.fromkeys(missing))}."
        )
    outside = [
        c
        for c in results.choices
        if c.choice.rate and len(c.choice.grid) > 1 and not c.choice.is_inside
    ]
    if outside:
        names = ", ".join(dict.fromkeys(KIND_NAMES[c.adapter] for c in outside))
        parts.append(f"Still at the edge of the rates that were tried: {names}.")
    return " ".join(parts)
