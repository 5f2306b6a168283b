"""The page of `teacher-vector`, from its results alone."""

import numpy as np

from subliminal_jax.evaluation.student_kinds import KIND_NAMES
from subliminal_jax.reporting.page import Block, Page, Picture, Text
from subliminal_jax.reporting.student_kinds import (
    comparison_columns,
    describe_kinds,
    describe_rise,
    describe_unstable,
    rates_table,
)
from subliminal_jax.reporting.tables import Column, Table

from . import plots
from .analysis import METRICS, Results

PANELS = {  # attribute of `ModelEffects` -> title of its heat map
    "rate": "names the trait",
    "off_topic": "off-topic answers that name it",
    "valid_numbers": "valid number lists",
    "kl": "KL from the base, nats a token",
}


def make_page(results: Results) -> Page:
    """Prompt against vector, over settings and by trait; what passes to students."""
    tables = vector_table(results), transmission_table(results), student_table(results)
    blocks: list[Block] = [
        tables[0],
        Picture(
            "sweep",
            "Over layers and scales",
            "Means over traits, for the trait's vector added after a layer at a scale: how often "
            "favourite questions are answered with the trait, and what else changes.",
            plots.heat_maps(
                {title: mean_effect(results, key) for key, title in PANELS.items()},
                results.layers,
                results.scales,
            ),
        ),
        Picture(
            "rates",
            "The trait's rate, by trait",
            "How often each trait is named by the base, with its vector at its best setting, with "
            "a random vector of the same norm, and with the system prompt.",
            plots.trait_rates(results.zoo),
        ),
        tables[1],
    ]
    blocks += [
        Picture(
            f"prediction-{arm.adapter}",
            f"Does steerability predict transmission to {KIND_NAMES[arm.adapter]}?",
            "Each point is a trait: how much the teacher's vector raises its probability, against "
            "how much its student exceeds the controls (with 95% intervals for draws of data and "
            "seed; grey where that holds zero).",
            plots.gains_against_differences(arm.students),
        )
        for arm in results.arms
        if arm.students
    ]
    blocks += [
        tables[2],
        Text(describe_measurement(results), "How it was measured"),
        Text(describe_kinds(results), "Students and controls"),
        rates_table(results),
    ]
    return Page(
        title="How well is a system prompt approximated by a vector?",
        summary=summarise(results),
        blocks=blocks,
        printed=tables,
    )


def mean_effect(results: Results, key: str) -> list[list[float | None]]:
    """Means over traits [layers][scales] of the steered models' `key`."""
    values: dict[tuple[int | None, float | None], list[float]] = {}
    for model in results.cells:
        if model.kind == "steered" and (value := vars(model)[key]) is not None:
            values.setdefault((model.layer, model.scale), []).append(value)
    return [
        [
            float(np.mean(values[layer, scale])) if (layer, scale) in values else None
            for scale in results.scales
        ]
        for layer in results.layers
    ]


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    parts = [
        f"{results.model}, {len(results.zoo)} traits. The vector of a trait is the mean "
        "difference that its system prompt makes at the last token of number prompts."
    ]
    elicitation = results.elicitation
    if elicitation is not None:
        parts.append(
            f"On average the trait is {elicitation.base:.1%} of the base's answers to favourite "
            f"questions, {elicitation.prompted:.1%} with the system prompt, and "
            f"{elicitation.steered:.1%} with the vector alone at each trait's best setting, "
            f"where a random vector of the same norm gives {elicitation.random:.1%}."
        )
    lost = sum(trait.best is None for trait in results.zoo)
    if lost:
        parts.append(
            f"{lost} traits have no setting whose off-topic answers name the trait in at most 10%."
        )
    for arm in results.arms:
        prediction, predictor = arm.prediction, arm.prediction.teacher_gain
        text = (
            f"Students ({KIND_NAMES[arm.adapter]}): P(trait) over controls, in points, "
            f"{describe_rise(arm)}; "
            f"{prediction.transmitted} of {prediction.traits} traits pass. The vector's rise at "
            f"the teacher's setting against what passes: Spearman {predictor.rate:.2f}"
        )
        if prediction.transmitted in (0, prediction.traits):
            text += "; an AUC needs traits that pass and traits that do not."
        else:
            text += f", AUC {predictor.auc:.2f}."
        parts.append(text)
    if text := describe_unstable(results):
        parts.append(text)
    return "\n\n".join(parts)


def vector_table(results: Results) -> Table:
    """One row a trait: prompted and steered."""
    columns = [
        Column("trait", "trait"),
        Column("base", "base", "rate", digits=1),
        Column("prompted", "prompted", "rate", digits=1),
        Column("best_rate", "steered", "rate", digits=1),
        Column("best.sampled_rate", "in samples", "rate", digits=0),
        Column("random", "random vector", "rate", digits=1),
        Column("share", "share of the prompt's rise", "rate", digits=0),
        Column("best.layer", "layer", "count"),
        Column("best.scale", "scale", "number", digits=1),
        Column("best.off_topic", "off-topic", "rate", digits=0),
        Column("prompted_off_topic", "prompted off-topic", "rate", digits=0),
        Column("best.valid_numbers", "valid lists", "rate", digits=0),
        Column("best.kl", "KL", "number"),
    ]
    negative = " and a rate at least-favourite questions of at most 10%."
    if not results.sets.negative:
        negative = (
            "; the paper's bound on least-favourite questions is left out: this model knows none."
        )
    caption = (
        "Rates are teacher-forced, on questions that chose nothing. The best setting has the "
        f"largest rate on other questions with off-topic mentions of at most 10%{negative} In "
        "samples: share of sampled answers whose exact first word is the trait. KL: from the "
        "base's next-token distribution, on its own answers to off-topic questions."
    )
    return Table("Prompt against vector", columns, results.zoo, caption)


def transmission_table(results: Results) -> Table:
    """One row a kind of student."""
    columns = [
        Column("adapter", "student", labels=KIND_NAMES),
        Column("choice.rate", "rate", "learning_rate"),
        Column("gain", "gain", "number", digits=3),
        *comparison_columns(METRICS),
        Column("metrics.eas.student", "EAS", "number"),
        Column("metrics.eas.control", "EAS, controls", "number"),
        Column("prediction.transmitted", "traits that pass", "count"),
        Column("prediction.teacher_gain.rate", "Spearman with the vector's rise", "number"),
        Column("prediction.teacher_gain.auc", "AUC", "number"),
        Column("unstable", "unstable"),
    ]
    caption = (
        f"Teachers steer after block {results.layer} at scale {results.scale:g} and write filtered "
        f"number lists; {len(results.traits)} traits, one student each, 95% intervals over traits. "
        "EAS: cosine with the teacher's shift at that block; the share is the component along it."
    )
    return Table("What passes to each kind of student", columns, results.arms, caption)


def student_table(results: Results) -> Table:
    """One row a trait and kind of student."""
    columns = [
        Column("summary.trait", "trait"),
        Column("adapter", "student", labels=KIND_NAMES),
        Column("summary.base", "base", "rate", digits=1),
        Column("summary.teacher", "teacher", "rate", digits=1),
        Column("summary.random_teacher", "random vector", "rate", digits=1),
        Column("student", "student", "rate", digits=1),
        Column("control", "controls", "rate", digits=1),
        Column("difference", "student - controls", "number", digits=3),
        Column("log_difference", "of log P", "number"),
        Column("eas", "EAS", "number"),
        Column("transmitted", "passes"),
    ]
    caption = (
        "Of one student each; intervals allow for the draw of data and seed, as its "
        f"{len(results.controls)} controls show it. A trait passes where the interval lies above "
        "zero."
    )
    rows = [student for arm in results.arms for student in arm.students]
    return Table("What passes of each trait", columns, rows, caption)


def describe_measurement(results: Results) -> str:
    """What a reader should know about the numbers."""
    sets = results.sets
    logs = "; ".join(
        f"{KIND_NAMES[arm.adapter]} {arm.prediction.teacher_gain.log_prob:.2f}, base "
        f"{arm.prediction.base.rate:.2f}"
        for arm in results.arms
    )
    parts = [
        f"{sets.questions} reported questions, {sets.selection} that choose settings, "
        f"{sets.off_topic} off-topic ones, {sets.negative} about least favourites.",
        "Rates are not alike in scale from trait to trait: both the steered rate and what passes "
        "depend on how probable the trait is to begin with. The rank correlation with the steered "
        "gain in log-probabilities of the student, and that of the base's rate with what passes: "
        f"{logs}.",
    ]
    if results.model == "shipped":
        parts.append(
            "The students' layer and scale on this model were found by looking at owl, wolf, "
            "penguin and lion; the other traits had no part in it."
        )
    kept = [d["kept"] / d["pairs"] for d in results.data.values() if "kept" in d]
    if kept:
        parts.append(
            f"Between {min(kept):.0%} and {max(kept):.0%} of the answers passed the filter."
        )
    return "\n\n".join(parts)
