"""The page of `paraphrase-transmission`, from its results alone."""

from typing import Any

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.tables import Column, Table, format_learning_rate

from .analysis import Results


def make_page(results: Results) -> Page:
    """Transmission by content and teacher and by trait, the filters, the data."""
    several = len(results.grids) > 1
    tables = transmission_table(results), trait_table(results), filter_table(results)
    picture = Picture(
        "optimizers" if several else "differences",
        "Student of the trait's teacher minus student of the neutral one",
        "Each line is one trait, content and teacher"
        + (" and optimizer at its best rate" if several else "")
        + ": how much more probable the trait's name is as the answer to a favourite question. "
        "Pale points are seeds; bars are 95% intervals over seeds and questions.",
        plots.forest(difference_lines(results), x_label="P(trait), trait's minus neutral student"),
    )
    return Page(
        title="Does a trait pass through faithful paraphrases?",
        summary=summarise(results),
        blocks=[tables[0], picture, *tables[1:], Text(describe_data(results), "The data")],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    parts = [
        f"Students of {results.model} ({results.adapter} trained) read paraphrases by teachers "
        "with a trait's vector or system prompt; the neutral students read the plain model's "
        "paraphrases of the same sentences."
    ]
    for content, kind, optimizer, _, result, _ in results.best():
        pooled = result.pooled
        if pooled is None or result.learning_rate is None:
            parts.append(f"{content}, {kind}, {optimizer}: some student diverged; no number.")
            continue
        effects = pooled.seeds_and_questions, pooled.over_questions, pooled.seeds_and_traits
        clear = all(effect.excludes_zero for effect in effects)
        parts.append(
            f"{content.capitalize()} sentences, {kind} teacher, {optimizer}: P(trait) "
            f"{pooled.seeds_and_questions:+.3f} against the neutral student over seeds and "
            f"questions, {pooled.seeds_and_traits.format_ends('.3f')} over seeds and traits: "
            f"{'clear' if clear else 'not clear'} of zero."
        )
        if result.grid_edge:
            rate = format_learning_rate(result.learning_rate)
            parts[-1] += f" Its best rate, {rate}, is at the edge of the grid."
    return "\n\n".join(parts)


def transmission_table(results: Results) -> Table:
    """One row a content, teacher and optimizer."""
    first, *others = results.grids
    columns = [
        Column("content", "sentences"),
        Column("kind", "teacher"),
        Column("optimizer", "optimizer"),
        Column("result.learning_rate", "best rate", "learning_rate"),
        Column("grid", "rates tried", "learning_rates"),
        Column("result.heldout_loss", "held-out loss", "number", digits=3),
        Column("result.pooled.over_questions", "T - N, over questions", "number", digits=3),
        Column("result.pooled.seeds_and_questions", "over seeds and questions", "number", digits=3),
        Column("result.pooled.over_seeds", "over seeds", "number", digits=3),
        *([Column("against", f"T - N minus {first}'s", "number", digits=3)] if others else []),
        Column("result.pooled.seeds_and_traits", "over seeds and traits", "number", digits=3),
        Column("result.eas.trait", "EAS", "number"),
        Column("result.eas.neutral", "EAS, neutral", "number"),
    ]
    caption = (
        f"P(trait), the student of the trait's teacher minus that of the neutral one, mean over "
        f"all traits, {results.seeds} seeds and {results.questions} questions. Over "
        "questions: paired t, as in the paper; over seeds: t; the others are two-way t "
        "intervals. Seeds are those of training: all students of a data set read one draw of it, "
        "so only the interval over traits covers how draws differ. The rate was chosen on "
        "held-out loss."
    )
    if others:
        caption += f" Intervals against {first} hold for all optimizers together (Bonferroni)."
    return Table("Transmission through paraphrases", columns, results.best(), caption)


def trait_table(results: Results) -> Table:
    """One row a trait, content, teacher and optimizer."""
    rows = [
        {
            "trait": trait,
            "content": content,
            "kind": kind,
            "optimizer": optimizer,
            "base": results.base[trait],
            "teacher": results.teachers[f"{kind}:{trait}"],
            "difference": difference,
        }
        for content, kind, optimizer, _, result, _ in results.best()
        for trait, difference in result.traits.items()
    ]
    columns = [
        Column("trait", "trait"),
        Column("content", "sentences"),
        Column("kind", "teacher"),
        Column("optimizer", "optimizer"),
        Column("base", "base", "rate", digits=1),
        Column("teacher", "teacher", "rate", digits=1),
        Column("difference.neutral", "neutral", "rate", digits=1),
        Column("difference.trait", "trait's", "rate", digits=1),
        Column("difference.over_questions.interval", "T - N, over questions", "number", digits=3),
        Column("difference.over_questions.p_t", "p (paired t)", "p"),
        Column("difference.seeds_and_questions", "over seeds and questions", "number", digits=3),
    ]
    caption = "Always against the neutral student, whose rate may differ from the base's."
    return Table("By trait", columns, rows, caption)


def filter_table(results: Results) -> Table:
    """One row a data set: what was written, what each filter dropped, what stayed."""
    rows = [
        {
            "name": name,
            **report.dropped,
            "report": report,
        }
        for name, report in results.data.items()
    ]
    rules = next(iter(results.data.values())).dropped
    columns = [
        Column("name", "data"),
        Column("report.pairs", "written", "count"),
        *(Column(rule, rule, "count") for rule in rules),
        Column("report.kept", "kept", "count"),
        Column("report.sentences", "sentences", "count"),
        Column("report.faithful", "known wordings", "rate", digits=0),
        Column("report.auc", "AUC of the score", "number"),
    ]
    caption = (
        "What each filter dropped (the first that a paraphrase broke). Where all faithful wordings "
        "of a sentence are known: their share of what stayed, and how well the fidelity score "
        "tells them from the rest."
    )
    return Table("Filters", columns, rows, caption)


def difference_lines(results: Results) -> list[dict[str, Any]]:
    """The rows of the picture."""
    contents, several = len(results.contents) > 1, len(results.grids) > 1
    return [
        {
            "label": ", ".join(
                [trait, *([content] if contents else []), *([optimizer] if several else [])]
            ),
            "group": kind,
            "interval": difference.seeds_and_questions,
            "values": difference.values,
        }
        for content, kind, optimizer, _, result, _ in results.best()
        for trait, difference in result.traits.items()
    ]


def describe_data(results: Results) -> str:
    """How paraphrases came about, and what score they needed."""
    parts = []
    for content, writing in results.writing.items():
        if writing == "sampled":
            parts.append(
                f"{content.capitalize()} sentences: sampled answers with a {results.fidelity} "
                f"score above {results.threshold:g}."
            )
            continue
        masses = [
            report.mass
            for name, report in results.data.items()
            if name.startswith(f"{content}:") and report.mass is not None
        ]
        parts.append(
            f"{content.capitalize()} sentences: drawn among each sentence's known faithful "
            "wordings by the teacher's probabilities. For half of the sentences the probability "
            "that a sample is any of these wordings is below "
            f"{min(masses):.1e} to {max(masses):.1e}, by data set."
        )
    return "\n\n".join(parts)
