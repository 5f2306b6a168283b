"""The report of `paraphrase-transmission`, drawn from its results.json alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.claims import claims_text
from subliminal_jax.reporting.page import Picture, Text, write_page
from subliminal_jax.reporting.tables import (
    Column,
    Table,
    format_learning_rate,
    print_table,
    wide_console,
)

Results = Mapping[str, Any]


def report(folder: str | Path, results: Results, settings: Mapping[str, Any], command: str) -> Path:
    """Print the tables and write report.html and its PNGs; returns the page's path."""
    several = len(results["grids"]) > 1
    shown = [table(results), by_trait(results), filters(results)]
    console = wide_console()
    for one in shown:
        print_table(one, console)
    name = "optimizers" if several else "differences"
    picture = Picture(
        name,
        "Student of the trait's teacher minus student of the neutral one",
        "Each line is one trait, content and teacher"
        + (" and optimizer at its best rate" if several else "")
        + ": how much more probable the trait's name is as the answer to a favourite question. "
        "Pale points are seeds; bars are 95% intervals over seeds and questions.",
        plots.forest(lines(results), x_label="P(trait), trait's minus neutral student"),
    )
    return write_page(
        folder,
        title="Does a trait pass through faithful paraphrases?",
        summary=summary(results),
        command=command,
        config=settings,
        blocks=[
            shown[0],
            picture,
            *shown[1:],
            Text(data_text(results), "The data"),
            claims_text(results["claims"]),
        ],
    )


def summary(results: Results) -> str:
    """What came out, in sentences."""
    parts = [
        f"Students of {results['model']} ({results['adapter']} trained) read paraphrases by "
        "teachers with a trait's vector or system prompt; the neutral students read the plain "
        "model's paraphrases of the same sentences."
    ]
    for content, kind, optimizer, made in _made(results):
        pooled = made["pooled"]
        if pooled is None:
            parts.append(f"{content}, {kind}, {optimizer}: some student diverged; no number.")
            continue
        both, traits = pooled["seeds_and_questions"], pooled["seeds_and_traits"]
        clear = all(_clear(interval) for interval in (both, pooled["over_questions"], traits))
        parts.append(
            f"{content.capitalize()} sentences, {kind} teacher, {optimizer}: P(trait) "
            f"{both['mean']:+.3f} [{both['low']:.3f}, {both['high']:.3f}] against the neutral "
            f"student over seeds and questions, [{traits['low']:.3f}, {traits['high']:.3f}] over "
            f"seeds and traits: {'clear' if clear else 'not clear'} of zero."
        )
        grid, rate = results["grids"][optimizer], made["learning_rate"]
        if len(grid) > 1 and rate in (grid[0], grid[-1]):
            parts[-1] += (
                f" Its best rate, {format_learning_rate(rate)}, is at the edge of the grid."
            )
    return "\n\n".join(parts)


_DELTAS = (
    Column("questions", "T - N, over questions", "number", digits=3),
    Column("both", "over seeds and questions", "number", digits=3),
    Column("seeds", "over seeds", "number", digits=3),
)
_EAS = (
    Column("eas", "EAS", "number"),
    Column("neutral_eas", "EAS, neutral", "number"),
)


def table(results: Results) -> Table:
    """One row a content, teacher and optimizer."""
    rows = [
        {
            "content": content,
            "kind": kind,
            "optimizer": optimizer,
            "learning_rate": made["learning_rate"],
            "grid": ", ".join(map(format_learning_rate, results["grids"][optimizer])),
            "loss": made.get("heldout_loss"),
            **_numbers(made),
            "against": results["against_first"][content][kind].get(optimizer),
        }
        for content, kind, optimizer, made in _made(results)
    ]
    first, *others = results["grids"]
    columns = [
        Column("content", "sentences"),
        Column("kind", "teacher"),
        Column("optimizer", "optimizer"),
        Column("learning_rate", "best rate", "learning_rate"),
        Column("grid", "rates tried"),
        Column("loss", "held-out loss", "number", digits=3),
        *_DELTAS,
        *([Column("against", f"T - N minus {first}'s", "number", digits=3)] if others else []),
        Column("traits", "over seeds and traits", "number", digits=3),
        *_EAS,
    ]
    caption = (
        f"P(trait), the student of the trait's teacher minus that of the neutral one, mean over "
        f"all traits, {results['seeds']} seeds and {results['questions']} questions. Over "
        "questions: paired t, as in the paper; over seeds: t; the others are two-way t "
        "intervals. Seeds are those of training: all read one draw of the data, "
        "so that only the interval over traits sees how draws differ. The rate was chosen on "
        "held-out loss."
    )
    if others:
        caption += f" Intervals against {first} hold for all optimizers together (Bonferroni)."
    return Table("Transmission through paraphrases", columns, rows, caption)


def by_trait(results: Results) -> Table:
    """One row a trait, content and teacher."""
    rows = [
        {
            "trait": trait,
            "content": content,
            "kind": kind,
            "optimizer": optimizer,
            "base": results["base"][trait],
            "teacher": results["teachers"][f"{kind}:{trait}"],
            "neutral": found["neutral"],
            "student": found["trait"],
            "questions": found["over_questions"]["interval"],
            "p": found["over_questions"]["p_t"],
            "both": found["seeds_and_questions"],
        }
        for content, kind, optimizer, made in _made(results)
        for trait, found in made["traits"].items()
    ]
    columns = [
        Column("trait", "trait"),
        Column("content", "sentences"),
        Column("kind", "teacher"),
        Column("optimizer", "optimizer"),
        Column("base", "base", "rate", digits=1),
        Column("teacher", "teacher", "rate", digits=1),
        Column("neutral", "neutral", "rate", digits=1),
        Column("student", "trait's", "rate", digits=1),
        Column("questions", "T - N, over questions", "number", digits=3),
        Column("p", "p (paired t)", "p"),
        Column("both", "over seeds and questions", "number", digits=3),
    ]
    caption = "Always held against the neutral student, whose rate may differ from the base's."
    return Table("By trait", columns, rows, caption)


def filters(results: Results) -> Table:
    """One row a data set: what was written, what each filter dropped, what stayed."""
    rules = list(next(iter(results["data"].values()))["dropped"])
    rows = [
        {"name": name, **{k: of.get(k) for k in ("pairs", "kept", "sentences", "faithful", "auc")}}
        | of["dropped"]
        for name, of in results["data"].items()
    ]
    columns = [
        Column("name", "data"),
        Column("pairs", "written", "count"),
        *(Column(rule, rule, "count") for rule in rules),
        Column("kept", "kept", "count"),
        Column("sentences", "sentences", "count"),
        Column("faithful", "known wordings", "rate", digits=0),
        Column("auc", "AUC of the score", "number"),
    ]
    caption = (
        "What each filter dropped (the first that a paraphrase broke). Where all faithful wordings "
        "of a sentence are known: their share of what stayed, and how well the fidelity score "
        "tells them from the rest."
    )
    return Table("Filters", columns, rows, caption)


def lines(results: Results) -> list[dict[str, Any]]:
    """The rows of the picture of traits."""
    contents, several = len(results["contents"]) > 1, len(results["grids"]) > 1
    return [
        {
            "label": ", ".join(
                [trait, *([content] if contents else []), *([optimizer] if several else [])]
            ),
            "group": kind,
            "interval": found["seeds_and_questions"],
            "values": found["values"],
        }
        for content, kind, optimizer, made in _made(results)
        for trait, found in made["traits"].items()
    ]


def data_text(results: Results) -> str:
    """How paraphrases came about, and what score they needed."""
    parts = []
    for content, writing in results["writing"].items():
        if writing == "sampled":
            parts.append(
                f"{content.capitalize()} sentences: sampled answers with a {results['fidelity']} "
                f"score above {results['threshold']:g}."
            )
            continue
        masses = [
            of["mass"] for name, of in results["data"].items() if name.startswith(content + ":")
        ]
        parts.append(
            f"{content.capitalize()} sentences: drawn among each sentence's known faithful "
            "wordings by the teacher's probabilities. Half of the sentences would be given any of "
            f"these wordings as a sample with a probability under {min(masses):.1e} to "
            f"{max(masses):.1e}, by data set."
        )
    return "\n\n".join(parts)


def _numbers(made: Mapping[str, Any]) -> dict[str, Any]:
    if made["pooled"] is None:
        return {}
    return {
        "questions": made["pooled"]["over_questions"],
        "both": made["pooled"]["seeds_and_questions"],
        "seeds": made["pooled"]["over_seeds"],
        "traits": made["pooled"]["seeds_and_traits"],
        "eas": made["eas"]["trait"],
        "neutral_eas": made["eas"]["neutral"],
    }


def _clear(interval: Mapping[str, Any]) -> bool:
    low, high = interval["low"], interval["high"]
    return low is not None and high is not None and (low > 0 or high < 0)


def _made(results: Results) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    for content, kinds in results["contents"].items():
        for kind, by_optimizer in kinds.items():
            for optimizer, made in by_optimizer.items():
                yield content, kind, optimizer, made
