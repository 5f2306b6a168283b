"""The page of `steering-reliability`, from its results alone."""

import math
from collections.abc import Sequence
from dataclasses import replace

from subliminal_jax.evaluation.reliability import SetSummary
from subliminal_jax.reporting.page import Block, Page, Picture, Text
from subliminal_jax.reporting.tables import Column, Table

from . import plots
from .analysis import MeasuredSet, MeasuredTrait, Results

SMALL = 50_000_000  # parameters below which no persona is to be expected
MOST_PRINTED = 40  # lines of a table on the terminal
LOCAL_COLUMNS = (
    Column("local.smallest_correlation", "analytic, smallest", "number", 4),
    Column("local.reach", "linear to", "number"),
)


def make_page(results: Results) -> Page:
    """The pictures of the paper, the tables of sets, vectors and traits, the data."""
    tables = [
        table
        for table in (
            set_table(results),
            model_table(results),
            given_table(results),
            world_table(results),
        )
        if table.rows
    ]
    return Page(
        title="On which inputs do steering vectors work, and on which backwards?",
        summary=summarise(results),
        blocks=[
            *make_pictures(results),
            *tables,
            *setting_tables(results),
            Text(describe_data(results), "The data"),
        ],
        printed=[replace(table, rows=table.rows[:MOST_PRINTED]) for table in tables],
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    parts = []
    if results.over_sets is not None and results.parameters is not None:
        parts.append(summarise_sets(results, results.over_sets))
        if results.parameters < SMALL:
            parts.append(
                f"A model of {results.parameters:,} parameters knows none of these personas: on "
                "these sets the numbers test the machinery and say nothing of steering."
            )
    for kind, summary in results.over_traits.items():
        parts.append(
            f"In the world of {results.world_model} ({kind}, {summary.traits} traits), whose "
            f"traits are real for it, a trait's vector has a steerability of "
            f"{summary.steerability:+.2f} logits a multiplier, "
            f"{summary.against_random.interval:+.2f} more than a random one, and works backwards "
            f"on {summary.anti_steerable.mean:.0%} of the questions."
        )
    return "\n\n".join(parts) or "No set was measured."


def summarise_sets(results: Results, summary: SetSummary) -> str:
    """What came out of the sets."""
    text = (
        f"{summary.sets} sets of contrastive questions on {results.model}, vectors after block "
        f"{results.layer}: the mean steerability is {summary.steerability:+.4f} logits a "
        f"multiplier, {summary.against_random.interval:+.4f} more than that of random vectors of "
        f"the same norm. On {summary.anti_steerable.mean:.0%} of the rows the vectors work "
        "backwards. "
    )
    if math.isnan(summary.balanced.mean):
        return text + (
            "No set has answers of both letters, so a leaning to one of them cannot be told from "
            "steering."
        )
    return text + (
        f"With equal weight for both letters the steerability is {summary.balanced:+.4f}: what "
        "exceeds it comes from splits in which (A) or (B) matches more often."
    )


def make_pictures(results: Results) -> list[Block]:
    """The figures of the paper, and where the analytic slope leaves the finite one."""
    sets, world = results.sets, results.world
    blocks: list[Block] = []
    if sets:
        blocks += slope_pictures(sets, "sets", "sets")
    if world:
        blocks += slope_pictures(world, "world", "the shipped world")
    if sets:
        blocks.append(
            Picture(
                "decomposition",
                "What explains the spread of the slopes",
                "Shares of the variance over rows: the letter of the matching answer, whether it "
                "says Yes, and neither.",
                plots.decomposition_bars(sets),
            )
        )
    if results.over_sets is not None and results.over_sets.shifts:
        blocks.append(
            Picture(
                "shifts",
                "The same vector under another prompt",
                "A point is a set: the steerability of its vector in the setting it comes from, "
                "and in another one. A vector that only leans to a letter has the same value in "
                "both, which comes from the imbalance of letters in the set's splits.",
                plots.shift_scatter(results.over_sets.shifts),
            )
        )
    if sets or world:
        blocks.append(
            Picture(
                "analytic",
                "The slope as a derivative, and where it bends",
                "Correlation over rows of the derivative at zero with the slope over seven "
                "multipliers, as these grow; a thin line is a set, the thick one their median, "
                "dashed 0.99.",
                plots.analytic_correlations({"sets": sets, "the shipped world": world}),
            )
        )
    return blocks


def slope_pictures(
    records: Sequence[MeasuredSet | MeasuredTrait], name: str, title: str
) -> list[Picture]:
    """How slopes are spread over rows, and how many are backwards."""
    return [
        Picture(
            f"slopes-{name}",
            f"Per-sample steerability: {title}",
            "The slope of the preference for the matching answer over the multipliers, row by row: "
            "a point is a set's median, a thick line the middle half of its rows, a thin one 5 to "
            "95%; left of zero the vector works backwards. Grey: the middle half of a random "
            "vector of the same norm.",
            plots.slope_distributions(records),
        ),
        Picture(
            f"anti-steerable-{name}",
            f"Anti-steerable rows: {title}",
            "The share of rows on which the vector works backwards, with 95% bootstrap intervals; "
            "a vector that does nothing has half (dashed).",
            plots.anti_steerable_bars(records),
        ),
    ]


def set_table(results: Results) -> Table:
    """One row a set."""
    columns = [
        Column("name", "set"),
        Column("test", "rows", "count"),
        Column("steerability", "steerability", "number", 4),
        Column("balanced", "balanced", "number", 4),
        Column("random.steerability.mean", "random", "number", 4),
        Column("anti_steerable", "anti-steerable", "rate", 0),
        Column("rank", "rank corr.", "number"),
        Column("decomposition.explained_share.mean", "explained", "rate", 0),
        *LOCAL_COLUMNS,
    ]
    caption = (
        "Steerability is the mean slope, in logits a multiplier, of the set's own vector and of a "
        "random one of its norm; balanced: with equal weight for the rows that (A) matches and "
        "those that (B) does; explained: share of the slopes' variance that letter and Yes or "
        "No explain; analytic: correlation of the derivative at zero with the finite slope at the "
        "smallest multipliers; linear to: the largest multiplier that the derivative predicts "
        "within 10%. Brackets are 95% bootstrap intervals over rows."
    )
    return Table("Sets", columns, results.sets, caption)


def model_table(results: Results) -> Table:
    """The sets beside the second model's and the paper's numbers; empty without a second model."""
    columns = [
        Column("name", "set"),
        Column("steerability", f"steerability, {results.model}", "number", 3),
        Column("other", "the other model's", "number", 3),
        Column("anti_steerable", "anti-steerable", "rate", 0),
        Column("other_anti_steerable", "the other model's", "rate", 0),
        Column("paper", "Llama-2-7B-chat's (paper)", "rate", 0),
        Column("letter", "by letter", "rate", 0),
        Column("yes_no", "by Yes or No", "rate", 0),
    ]
    other, agreement = results.other, results.agreement
    if other is None or agreement is None:
        return Table("Models", columns, [])
    caption = (
        f"The other model is {other.model}, steered after block {other.layer}. Rank correlations "
        f"over sets: steerability {agreement.other:.2f} (random vectors "
        f"{agreement.other_random:.2f}); anti-steerable shares with the paper's figure "
        f"{agreement.paper:.2f} over {agreement.paper_sets} sets. By letter, by Yes or No: shares "
        "of the slopes' variance."
    )
    return Table("Models", columns, results.by_set, caption)


def given_table(results: Results) -> Table:
    """The vectors of `--vectors`, each on each set, in the plain setting."""
    rows = [
        {"set": s.name, "name": name, **vars(vector)}
        for s in results.sets
        for name, vector in s.given_vectors.items()
    ]
    columns = [
        Column("set", "set"),
        Column("name", "vector"),
        Column("norm", "norm", "number"),
        Column("steerability", "steerability", "number", 4),
        Column("local.slope", "local slope", "number", 4),
        Column("anti_steerable", "anti-steerable", "rate", 0),
        Column("clearly_anti_steerable", "clearly so", "rate", 0),
        Column("rank", "rank corr.", "number"),
        Column("decomposition.letter_share", "by letter", "rate", 0),
        Column("decomposition.yes_no_share", "by Yes or No", "rate", 0),
        *LOCAL_COLUMNS,
    ]
    caption = (
        "Each at its own norm (a factor on the norm is one on the slope, as far as it is linear), "
        "in the plain setting. Local slope: the mean derivative at zero, in logits a multiplier; "
        "clearly so: rows whose own slope is clear of zero from below; by letter, by Yes or No: "
        "shares of the slopes' variance that these explain."
    )
    return Table("Given vectors", columns, rows, caption)


def world_table(results: Results) -> Table:
    """One row a trait and kind of question."""
    columns = [
        Column("name", "trait and question"),
        Column("test", "rows", "count"),
        Column("steerability", "steerability", "number"),
        Column("random.steerability.mean", "random", "number"),
        Column("other_traits", "other traits' vectors", "number"),
        Column("anti_steerable", "anti-steerable", "rate", 0),
        Column("rank", "rank corr.", "number"),
        *LOCAL_COLUMNS,
    ]
    caption = (
        "The vector of the trait's system prompt, on the choice between the trait and each other "
        "animal (compare) and on whether one likes it, or another animal (like)."
    )
    return Table("Trait vectors in the shipped world", columns, results.world, caption)


def setting_tables(results: Results) -> list[Table]:
    """Every vector in every setting, mean over sets, and the shifts of the prompt."""
    matrix, summary = results.mean_matrix, results.over_sets
    if matrix is None or summary is None:
        return []
    rows = [
        {"setting": setting, **dict(zip(matrix.vectors, values, strict=True))}
        for setting, values in zip(matrix.settings, matrix.steerability, strict=True)
    ]
    columns = [Column("setting", "asked in")]
    columns += [Column(vector, vector, "number", 4) for vector in matrix.vectors]
    caption = (
        "Mean steerability over sets of the vector of each column in the setting of each row. The "
        "vectors of a set's own settings, their mean and the random one have one norm"
        + ("; given vectors keep theirs." if results.sets[0].given_vectors else ".")
    )
    shift_columns = [
        Column("name", "shift"),
        Column("correlation", "rank correlation over sets", "number"),
        Column("ratio_of_means", "shifted mean / own mean", "number"),
        Column("negative", "sets with a negative shifted slope", "count"),
    ]
    shifts = [
        {**vars(shift), "name": f"{shift.vector} to {shift.setting}"} for shift in summary.shifts
    ]
    return [
        Table("Vectors and settings", columns, rows, caption),
        Table("Shifts of the prompt", shift_columns, shifts),
    ]


def describe_data(results: Results) -> str:
    """Where the rows come from, and what was left out."""
    parts = [
        "The persona and risk sets are Anthropic's model-written evaluations (Perez et al. 2022); "
        "sentences that give or deny a persona follow from the set's name by our rules and are not "
        "those of Tan et al. Prompts are written in the model's own chat template, answers follow "
        "it without a space."
    ]
    plain = [s.name for s in results.sets if not s.personas]
    if plain:
        parts.append(f"These sets are asked in the plain setting alone: {', '.join(plain)}.")
    long = [s.too_long for s in results.sets if s.too_long]
    if long:
        parts.append(
            f"{sum(long):,} rows of {len(long)} sets exceed the model's context in some setting "
            "and are left out."
        )
    parts += [f"{s.name} is left out: {s.skipped}." for s in results.skipped]
    return "\n\n".join(parts)
