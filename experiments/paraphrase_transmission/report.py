"""The page of `paraphrase-transmission`, from its results alone."""

from typing import Any

from subliminal_jax.evaluation.student_kinds import KIND_NAMES
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.student_kinds import (
    TRAIT_COLUMNS,
    comparison_columns,
    describe_kinds,
    describe_rise,
    describe_teachers,
    describe_unstable,
    name_arm,
    rates_table,
    trait_rows,
)
from subliminal_jax.reporting.tables import Column, Table

from .analysis import METRICS, Results


def make_page(results: Results) -> Page:
    """Transmission by content, teacher and kind of student, by trait, the filters, the data."""
    tables = transmission_table(results), trait_table(results), filter_table(results)
    picture = Picture(
        "differences",
        "Student of the trait's teacher minus student of the neutral one",
        "Each line is one content, teacher and kind of student: how much more probable the trait's "
        "name is as the answer to a favourite question. Pale points are traits, bars 95% intervals "
        "over traits.",
        plots.forest(difference_lines(results), x_label="P(trait), trait's minus neutral student"),
    )
    return Page(
        title="Does a trait pass through faithful paraphrases?",
        summary=summarise(results),
        blocks=[
            tables[0],
            picture,
            *tables[1:],
            Text(describe_kinds(results), "How it was measured"),
            rates_table(results),
            Text(describe_data(results), "The data"),
        ],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    parts = [
        f"Students of {results.model} read paraphrases by teachers with a trait's "
        f"{describe_teachers(results)}; the neutral students, of the same kind and seed, read the "
        "plain model's paraphrases of the same sentences."
    ]
    for content in results.writing:
        for kind in results.teacher_kinds:
            effects = "; ".join(
                f"{name_arm(results, arm)} {describe_rise(arm, results.base)}"
                for arm in results.select_arms(content, kind)
            )
            parts.append(
                f"{content.capitalize()} sentences, {kind} teacher, P(trait) of students over that "
                f"of the neutral ones, in points: {effects}."
            )
    if text := describe_unstable(results):
        parts.append(text)
    return "\n\n".join(parts)


def transmission_table(results: Results) -> Table:
    """One row a content, teacher, kind of student and optimizer."""
    first, *others = results.optimizers
    columns = [
        Column("content", "sentences"),
        Column("teacher_kind", "teacher"),
        Column("adapter", "student", labels=KIND_NAMES),
        Column("optimizer", "optimizer"),
        Column("choice.rate", "rate", "learning_rate"),
        Column("gain", "gain", "number", digits=3),
        *comparison_columns(METRICS),
        *([Column("against", f"P(trait) over {first}'s", "number", digits=3)] if others else []),
        Column("metrics.eas.student", "EAS", "number"),
        Column("metrics.eas.control", "EAS, neutral", "number"),
        Column("unstable", "unstable"),
    ]
    caption = (
        "The student of the trait's teacher minus that of the neutral one (the control), of the "
        f"same sentences and seed; {len(results.traits)} traits, each with sentences of its own "
        f"draw, {results.questions} questions; 95% intervals over traits. Gain: the base's "
        "held-out loss less the student's, nats a token. EAS: cosine with the teacher's shift; the "
        "share is the component along it, in units of the shift."
    )
    if others:
        caption += f" Intervals against {first} hold for all optimizers together (Bonferroni)."
    return Table("Transmission through paraphrases", columns, results.arms, caption)


def trait_table(results: Results) -> Table:
    """One row a trait, content, teacher and kind of student."""
    rows = [
        {**row, "over_questions": row["arm"].over_questions[row["data"]]}
        for row in trait_rows(results, results.arms)
    ]
    columns = [
        Column("trait", "trait"),
        Column("arm.content", "sentences"),
        Column("arm.teacher_kind", "by"),
        Column("student", "trained"),
        *TRAIT_COLUMNS[:-1],
        Column("over_questions", "student - control, over questions", "number", digits=3),
    ]
    caption = (
        "The control is the neutral student, whose rate may differ from the base's. The interval "
        "is the paper's: paired t over questions. It takes the answers of one student for a "
        "sample, and does not say what another draw of the data would give."
    )
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
    several = len(results.writing) > 1
    return [
        {
            "label": name_arm(results, arm) + (f", {arm.content}" if several else ""),
            "group": arm.teacher_kind,
            "interval": comparison.difference,
            "values": [each.interval.mean for each in comparison.by_data.values()],
        }
        for arm in results.arms
        if (comparison := arm.metrics["word_rate"]).difference is not None
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
