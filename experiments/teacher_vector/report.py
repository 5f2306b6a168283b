"""The page of `teacher-vector`, from its results alone."""

import numpy as np

from subliminal_jax.evaluation.comparison import is_at_edge
from subliminal_jax.reporting.page import Block, Page, Picture, Text
from subliminal_jax.reporting.tables import Column, Table, format_grid, format_learning_rate

from . import plots
from .analysis import Results

PANELS = {  # attribute of `ModelEffects` -> title of its heat map
    "rate": "names the trait",
    "off_topic": "off-topic answers that name it",
    "valid_numbers": "valid number lists",
    "kl": "KL from the base, nats a token",
}


def make_page(results: Results) -> Page:
    """Prompt against vector, over settings and by trait; what passes to students."""
    tables = vector_table(results), student_table(results)
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
    if passed := [trait for trait in results.zoo if trait.difference is not None]:
        blocks.append(
            Picture(
                "prediction",
                "Does steerability predict transmission?",
                "Each point is a trait: how much the teacher's vector raises its probability, "
                "against how much of that its students show over their controls (with 95% "
                "intervals over seeds; grey where that holds zero).",
                plots.gains_against_differences(passed),
            )
        )
    return Page(
        title="How well is a system prompt approximated by a vector?",
        summary=summarise(results),
        blocks=[*blocks, Text(describe_measurement(results), "How it was measured")],
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
    elicitation, prediction = results.elicitation, results.prediction
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
    rate = results.learning_rate
    if rate is None:
        parts.append("Some student diverged at every rate, so no further ones were trained.")
        return "\n\n".join(parts)
    predictor = prediction.teacher_gain
    text = (
        f"{prediction.transmitted} of {prediction.traits} traits pass to students (paired interval "
        "above zero). Steered rate minus base rate at the students' teacher's setting against "
        f"what passes: Spearman {predictor.rate:.2f}"
    )
    if prediction.transmitted in (0, prediction.traits):
        text += "; an AUC needs traits that pass and traits that do not, so there is none."
    else:
        text += f", AUC {predictor.auc:.2f}."
    parts.append(text)
    if is_at_edge(rate, results.grid):
        parts.append(f"The chosen rate, {format_learning_rate(rate)}, is at the edge of its grid.")
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


def student_table(results: Results) -> Table:
    """One row a trait: teacher and students."""
    columns = [
        Column("trait", "trait"),
        Column("base", "base", "rate", digits=1),
        Column("teacher", "teacher", "rate", digits=1),
        Column("random_teacher", "random vector", "rate", digits=1),
        Column("student", "student", "rate", digits=1),
        Column("control", "control", "rate", digits=1),
        Column("difference", "student - control", "number", digits=3),
        Column("log_difference", "of log P", "number"),
        Column("eas", "EAS", "number"),
        Column("transmitted", "passes"),
    ]
    rate = results.learning_rate
    caption = (
        f"Teachers steer after layer {results.layer} at scale {results.scale:g} and write "
        f"filtered number lists; {results.seeds} seeds; differences are paired by seed, with t "
        f"intervals. Rate {format_learning_rate(rate) if rate else 'none'} of "
        f"{format_grid(results.grid)}, by held-out loss. EAS: cosine "
        "with the teacher's shift at that layer."
    )
    return Table("What passes to students", columns, results.zoo, caption)


def describe_measurement(results: Results) -> str:
    """What a reader should know about the numbers."""
    sets, prediction = results.sets, results.prediction
    parts = [
        f"{sets.questions} reported questions, {sets.selection} that choose settings, "
        f"{sets.off_topic} off-topic ones, {sets.negative} about least favourites.",
        "Rates are not alike in scale from trait to trait: both the steered rate and what passes "
        "depend on how probable the trait is to begin with. In log-probabilities of the student "
        f"the rank correlation with the steered gain is {prediction.teacher_gain.log_prob:.2f}; "
        f"that of the base's rate with what passes is {prediction.base.rate:.2f}.",
    ]
    if results.model == "shipped":
        parts.append(
            "The students' setting on this model (layer, scale, adapter, grid) was found by "
            "looking at owl, wolf, penguin and lion with the same data seed; the other traits had "
            "no part in it."
        )
    kept = [d["kept"] / d["pairs"] for d in results.data.values() if "kept" in d]
    if kept:
        parts.append(
            f"Between {min(kept):.0%} and {max(kept):.0%} of the answers passed the filter."
        )
    return "\n\n".join(parts)
