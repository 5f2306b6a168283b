"""The report of `steering-reliability`, drawn from its results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.reporting.claims import claims_text, print_claims
from subliminal_jax.reporting.page import Block, Picture, Text, write_page
from subliminal_jax.reporting.tables import Column, Table, print_table, wide_console

from . import plots as reliability_plots

Results = Mapping[str, Any]
SMALL = 50_000_000  # parameters below which no persona is to be expected
MOST_PRINTED = 40  # lines of a table on the terminal


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the tables and write report.html and its PNGs; returns the page's path."""
    console = wide_console()
    made = set_table(results), given_table(results), world_table(results)
    tables = [table for table in made if table.rows]
    for table in tables:
        shown = Table(table.title, table.columns, table.rows[:MOST_PRINTED], table.caption)
        print_table(shown, console)
    print_claims(results["claims"], console)
    return write_page(
        folder,
        title="On which inputs do steering vectors work, and on which backwards?",
        summary=summary(results),
        command=command,
        config=settings,
        blocks=[
            *pictures(results), *tables, *matrix_tables(results), claims_text(results["claims"]),
            Text(data_text(results), "The data"),
        ],
    )  # fmt: skip


def summary(results: Results) -> str:
    """What came out, in sentences."""
    parts = []
    over = results["over_sets"]
    if over is not None:
        s, against = over["steerability"], over["against_random"]["interval"]
        parts.append(
            f"{over['sets']} sets of contrastive questions on {results['model']}, vectors after "
            f"block {results['layer']}: the mean steerability is {_with_ends(s)} logits a "
            f"multiplier, {_with_ends(against)} more than that of random vectors of the same norm. "
            f"On {100 * over['anti_steerable']['mean']:.0f}% of the rows the vectors work "
            "backwards. "
            + (
                "With equal weight for both letters the steerability is "
                f"{_with_ends(over['balanced'])}: what exceeds it comes from splits in which (A) "
                "or (B) matches more often."
                if over["balanced"]["mean"] is not None
                else "No set has answers of both letters, so a leaning to one of them cannot be "
                "told from steering."
            )
        )
        if results["parameters"] < SMALL:
            parts.append(
                f"A model of {results['parameters']:,} parameters knows none of these personas: on "
                "these sets the numbers test the machinery and say nothing of steering."
            )
    for kind, of in results["over_traits"].items():
        parts.append(
            f"In the world of {results['world_model']} ({kind}, {of['traits']} traits), whose "
            f"traits are real for it, a trait's vector has a steerability of "
            f"{_with_ends(of['steerability'], 2)} logits a multiplier, "
            f"{_with_ends(of['against_random']['interval'], 2)} more than a random one, and works "
            f"backwards on {100 * of['anti_steerable']['mean']:.0f}% of the questions."
        )
    return "\n\n".join(parts) or "No set was measured."


def pictures(results: Results) -> list[Block]:
    """The figures of the paper, and where the analytic slope leaves the finite one."""
    sets, world = results["sets"], results["world"]
    out: list[Block] = []
    for rows, name, title in ((sets, "sets", "sets"), (world, "world", "the shipped world")):
        if not rows:
            continue
        out += [
            Picture(
                f"slopes-{name}",
                f"Per-sample steerability: {title}",
                "The slope of the preference for the matching answer over the multipliers, row by "
                "row: a point is a set's median, a thick line the middle half of its rows, a thin "
                "one 5 to 95%; left of zero the vector works backwards. Grey: the middle half of a "
                "random vector of the same norm.",
                reliability_plots.slope_distributions(rows),
            ),
            Picture(
                f"anti-steerable-{name}",
                f"Anti-steerable rows: {title}",
                "The share of rows on which the vector works backwards, with 95% bootstrap "
                "intervals; a vector that does nothing has half (dashed).",
                reliability_plots.anti_steerable_bars(rows),
            ),
        ]
    if sets:
        out += [
            Picture(
                "decomposition",
                "What explains the spread of the slopes",
                "Shares of the variance over rows: the letter of the matching answer, whether it "
                "says Yes, and neither.",
                reliability_plots.decomposition_bars(sets),
            ),
        ]
    if sets and results["over_sets"]["shifts"]:
        out.append(
            Picture(
                "shifts",
                "The same vector under another prompt",
                "A point is a set: the steerability of its vector in the setting it comes from, "
                "and in another one. Of a vector that only leans to a letter both hold the same "
                "imbalance of letters in the set's splits, and agree for no better reason.",
                reliability_plots.shift_scatter(results["over_sets"]["shifts"]),
            )
        )
    if sets or world:
        groups = {"sets": sets, "the shipped world": world}
        out.append(
            Picture(
                "analytic",
                "The slope as a derivative, and where it bends",
                "Correlation over rows of the derivative at zero with the slope over seven "
                "multipliers, as these grow; a thin line is a set, the thick one their median, "
                "dashed 0.99.",
                reliability_plots.analytic_correlations(groups),
            )
        )
    return out


def set_table(results: Results) -> Table:
    columns = [
        Column("name", "set"),
        Column("test", "rows", "count"),
        Column("steerability", "steerability", "number", 4),
        Column("balanced", "balanced", "number", 4),
        Column("random", "random", "number", 4),
        Column("anti_steerable", "anti-steerable", "rate", 0),
        Column("rank", "rank corr.", "number"),
        Column("explained", "explained", "rate", 0),
        Column("first", "analytic, smallest", "number", 4),
        Column("reach", "linear to", "number"),
    ]
    return Table(
        "Sets", columns, [_line(row) for row in results["sets"]],
        "Steerability is the mean slope, in logits a multiplier, of the set's own vector and of a "
        "random one of its norm; balanced: with equal weight for the rows that (A) matches and "
        "those that (B) does; explained: share of the slopes' variance that letter and Yes or "
        "No explain; analytic: correlation of the derivative at zero with the finite slope at the "
        "smallest multipliers; linear to: the largest multiplier that the derivative predicts "
        "within 10%. Brackets are 95% bootstrap intervals over rows.",
    )  # fmt: skip


def given_table(results: Results) -> Table:
    """The vectors of `--vectors`, each on each set, in the plain setting."""
    rows = [
        {**_line({**of, "random": row["random"]}), "name": row["name"], "vector": name}
        for row in results["sets"]
        for name, of in row["given"].items()
    ]
    columns = [
        Column("name", "set"),
        Column("vector", "vector"),
        Column("norm", "norm", "number"),
        Column("steerability", "steerability", "number", 4),
        Column("slope", "local slope", "number", 4),
        Column("anti_steerable", "anti-steerable", "rate", 0),
        Column("clearly_anti_steerable", "clearly so", "rate", 0),
        Column("rank", "rank corr.", "number"),
        Column("letter", "by letter", "rate", 0),
        Column("yes_no", "by Yes or No", "rate", 0),
        Column("first", "analytic, smallest", "number", 4),
        Column("reach", "linear to", "number"),
    ]
    return Table(
        "Given vectors", columns, rows,
        "Each at its own norm (a factor on the norm is one on the slope, as far as it is linear), "
        "in the plain setting. Local slope: the mean derivative at zero, in logits a multiplier; "
        "clearly so: rows whose own slope is clear of zero from below; by letter, by Yes or No: "
        "shares of the slopes' variance that these explain.",
    )  # fmt: skip


def world_table(results: Results) -> Table:
    columns = [
        Column("name", "trait and question"),
        Column("test", "rows", "count"),
        Column("steerability", "steerability", "number"),
        Column("random", "random", "number"),
        Column("others", "other traits' vectors", "number"),
        Column("anti_steerable", "anti-steerable", "rate", 0),
        Column("rank", "rank corr.", "number"),
        Column("first", "analytic, smallest", "number", 4),
        Column("reach", "linear to", "number"),
    ]
    return Table(
        "Trait vectors in the shipped world", columns, [_line(row) for row in results["world"]],
        "The vector of the trait's system prompt, on the choice between the trait and each other "
        "animal (compare) and on whether one likes it, or another animal (like).",
    )  # fmt: skip


def matrix_tables(results: Results) -> list[Block]:
    """Every vector in every setting, the mean over sets."""
    sets = [row for row in results["sets"] if row["personas"]]  # the others have one setting
    if not sets:
        return []
    settings, vectors = (sets[0]["matrix"][key] for key in ("settings", "vectors"))
    rows = [
        {
            "setting": setting,
            **{
                v: sum(s["matrix"]["steerability"][i][j] for s in sets) / len(sets)
                for j, v in enumerate(vectors)
            },
        }
        for i, setting in enumerate(settings)
    ]
    columns = [Column("setting", "asked in"), *(Column(v, v, "number", 4) for v in vectors)]
    caption = (
        "Mean steerability over sets of the vector of each column in the setting of each row. The "
        "vectors of a set's own settings, their mean and the random one have one norm"
        + ("; given vectors keep theirs." if sets[0]["given"] else ".")
    )
    shifts = [
        {**shift, "name": f"{shift['vector']} to {shift['setting']}"}
        for shift in results["over_sets"]["shifts"]
    ]
    return [
        Table("Vectors and settings", columns, rows, caption),
        Table(
            "Shifts of the prompt",
            [
                Column("name", "shift"),
                Column("correlation", "rank correlation over sets", "number"),
                Column("ratio_of_means", "shifted mean / own mean", "number"),
                Column("negative", "sets with a negative shifted slope", "count"),
            ],
            shifts,
        ),
    ]


def data_text(results: Results) -> str:
    """Where the rows come from, and what was left out."""
    parts = [
        "The persona and risk sets are Anthropic's model-written evaluations (Perez et al. 2022); "
        "sentences that give or deny a persona follow from the set's name by our rules and are not "
        "those of Tan et al. Prompts are "
        "written in the model's own chat template, answers follow it without a space."
    ]
    plain = [row["name"] for row in results["sets"] if not row["personas"]]
    if plain:
        parts.append(
            f"Without --personas these sets are asked in the plain setting alone: "
            f"{', '.join(plain)}."
        )
    long = [row for row in results["sets"] if row["too_long"]]
    if long:
        count = sum(row["too_long"] for row in long)
        parts.append(
            f"{count:,} rows of {len(long)} sets exceed the model's context in some setting and "
            "are left out."
        )
    parts += [f"{row['name']} is left out: {row['skipped']}." for row in results["skipped"]]
    return "\n\n".join(parts)


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    others = [value for t, value in row.get("by_trait", {}).items() if t != row.get("trait")]
    return {
        **row,
        "random": row["random"]["steerability"]["mean"],
        "others": sum(others) / len(others) if others else None,
        "explained": row["decomposition"]["explained_share"]["mean"],
        **_shares(row["decomposition"]),
        "slope": row["local"]["slope"],
        "first": row["local"]["correlation"][0],
        "reach": row["local"]["reach"],
    }


def _shares(parts: Mapping[str, Any]) -> dict[str, float | None]:
    """Of the variance of the slopes, by letter and by Yes or No; None where there is none."""
    variance = parts["variance"]
    return {name: parts[name] / variance if variance else None for name in ("letter", "yes_no")}


def _with_ends(interval: Mapping[str, Any], digits: int = 4) -> str:
    low, high = interval["low"], interval["high"]
    mean = f"{interval['mean']:+.{digits}f}"
    return mean if low is None or high is None else f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"
