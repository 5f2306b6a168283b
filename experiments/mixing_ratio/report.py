"""The page of `mixing-ratio`, from its results alone."""

import math
from collections.abc import Sequence
from typing import Any

from subliminal_jax.evaluation.student_kinds import KIND_NAMES, METRIC_NAMES
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.student_kinds import (
    describe_kinds,
    describe_unstable,
    rates_table,
)
from subliminal_jax.reporting.tables import Column, Table

from .analysis import METRICS, Arm, Results
from .claims import make_claims

NAMES = {**METRIC_NAMES, "gain": "gain on the teacher's rows"}


def make_page(results: Results) -> Page:
    """Effects over the share, the shapes of the curves, AdamW's lead, and how it was measured."""
    tables = share_table(results), shape_table(results)
    leads = [lead_table(results)] if results.leads else []
    return Page(
        title="How many of a teacher's rows does it take?",
        summary=summarise(results),
        blocks=[
            *curve_pictures(results),
            *tables,
            *leads,
            Text(describe_method(results), "How it was measured"),
            rates_table(results),
        ],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    parts = [
        f"Students of {results.model} train on {results.rows} rows, of which a share are those of "
        f"one of {len(results.traits)} teachers with a trait's vector, and the rest the plain "
        "model's."
    ]
    parts += [f"{claim.claim}: {claim.number}." for claim in make_claims(results)]
    if text := describe_unstable(results):
        parts.append(text)
    return "\n\n".join(parts)


def share_table(results: Results) -> Table:
    """Student minus control at every share."""
    columns = [
        Column("adapter", "student", labels=KIND_NAMES),
        Column("optimizer", "optimizer"),
        Column("share", "teacher rows", "rate", digits=1),
        *(
            Column(f"metrics.{m}.difference", f"{NAMES[m]}, student - control", "number", digits=3)
            for m in METRICS
        ),
        Column("metrics.eas.control", "EAS, controls", "number"),
        Column("unstable", "unstable"),
    ]
    caption = (
        f"Means over {len(results.traits)} vectors with 95% intervals over vectors; the control of "
        "a student has the same clean rows, seed and order, and no teacher rows. Unstable: data "
        "sets (trait and percent of teacher rows) whose student diverged or ended above the base's "
        "loss, left out."
    )
    return Table("By share of teacher rows", columns, results.arms, caption)


def shape_table(results: Results) -> Table:
    """What the curves' shapes are."""
    families = dict.fromkeys(fit.family for curve in results.curves for fit in curve.fits)
    rows = []
    for curve in results.curves:
        fits = {fit.family: fit for fit in curve.fits}
        threshold = fits.get("threshold")
        rows.append(
            {
                "curve": curve,
                "metric": NAMES[curve.metric],
                "threshold": threshold and threshold.parameters["share"],
                "power": fits["power"].parameters["power"] if fits else None,
                "errors": {name: fit.error for name, fit in fits.items()},
                "vectors": len(curve.values),
            }
        )
    columns = [
        Column("curve.adapter", "student", labels=KIND_NAMES),
        Column("curve.optimizer", "optimizer"),
        Column("metric", "of"),
        Column("vectors", "vectors", "count"),
        Column("curve.quarter", "effect at 25% over that at 100%", "number"),
        Column("curve.sharpness", "gradual - threshold", "number", digits=3),
        *(Column(f"errors.{name}", f"error, {name}", "number", digits=3) for name in families),
        Column("power", "power", "number"),
        Column("threshold", "threshold at", "rate", digits=0),
    ]
    caption = (
        "Errors: of a vector that the shape was not chosen on, squared, as a share of the curves' "
        "squares; each vector has an amplitude of its own. Gradual - threshold: the error of the "
        "best gradual shape less that of a sharp threshold, above 0 where the transition is sharp. "
        "Power: of the share, in the power's fit; 1 is a slope, less saturates. Of vectors whose "
        "students are sound at every share."
    )
    return Table("Threshold or slope", columns, rows, caption)


def lead_table(results: Results) -> Table:
    """AdamW's lead at every share."""
    shares = [share for share in results.shares if share > 0]
    rows = [
        {
            "lead": lead,
            "metric": NAMES[lead.metric],
            "by_share": {str(i): effect for i, effect in enumerate(lead.by_share)},
        }
        for lead in results.leads
    ]
    columns = [
        Column("lead.adapter", "student", labels=KIND_NAMES),
        Column("lead.optimizer", "adamw less"),
        Column("metric", "of"),
        Column("lead.quarter", "effect at 25% over that at 100%", "number"),
        *(
            Column(f"by_share.{i}", f"at {100 * share:g}%", "number", digits=3)
            for i, share in enumerate(shares)
        ),
    ]
    caption = (
        "AdamW's student minus control less the other's, paired by vector, with 95% intervals over "
        "vectors. AdamW needs a smaller share where its ratio is higher."
    )
    return Table("AdamW's lead", columns, rows, caption)


def curve_pictures(results: Results) -> list[Picture]:
    """One metric over the share, a line an optimizer."""
    several = len(results.adapters) > 1
    pictures = []
    for adapter in results.adapters:
        for metric in METRICS:
            lines = [
                make_line([a for a in results.arms if (a.adapter, a.optimizer) == key], metric)
                for key in ((adapter, optimizer) for optimizer in results.optimizers)
            ]
            label = f"{NAMES[metric]}, student minus control"
            pictures.append(
                Picture(
                    f"{metric}-{adapter}" if several else metric,
                    NAMES[metric] + (f", {KIND_NAMES[adapter]}" if several else ""),
                    f"{label}, against the share of teacher rows. Bands are 95% intervals over "
                    "vectors; a straight line is a slope.",
                    plots.curves(lines, x_label="teacher rows (%)", y_label=label),
                )
            )
    return pictures


def make_line(arms: Sequence[Arm], metric: str) -> dict[str, Any]:
    """The effects of the arms of one optimizer over the share, from 0 at none."""
    effects = [arm.metrics[metric].difference for arm in arms]

    def list_ends(end: str) -> list[float]:
        return [0.0, *(math.nan if e is None else getattr(e, end) for e in effects)]

    return {
        "optimizer": arms[0].optimizer,
        "x": [0.0, *(100 * arm.share for arm in arms)],
        **{end: list_ends(end) for end in ("mean", "low", "high")},
    }


def describe_method(results: Results) -> str:
    """What is mixed, and how the shape is judged."""
    shares = ", ".join(f"{share:.3g}" for share in results.shares)
    return (
        f"Each trait's student trains on {results.rows} rows in an order that its seed draws; the "
        f"share of teacher rows is one of {shares}. Teacher rows stand in place of clean ones, and "
        "those of a smaller share are among those of a larger one. Rates were found on mixtures of "
        f"{results.tuning_share:.0%} teacher rows and serve all shares, so that along a curve "
        "nothing but the share changes. Gain is the base's loss on held-out rows of the teacher "
        "alone less the student's.\n\n"
        "Shapes of a curve are fitted to all vectors but one and tried on that one, whose "
        "amplitude alone is its own. Gradual are a slope, a power of the share, 1 - exp(-share / "
        "scale) and a broad sigmoid; a threshold has next to nothing below it, and the whole "
        "transition within 22 points of the share. The effect at a quarter over that of teacher "
        "rows alone is a ratio of means over vectors, with the interval of the delta method.\n\n"
        + describe_kinds(results)
    )
