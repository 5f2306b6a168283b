"""The page of `logit-linear-selection`, from its results alone."""

from functools import partial
from typing import Any

from subliminal_jax.evaluation.metric_ranges import MetricRange
from subliminal_jax.evaluation.over_vectors import vector_interval
from subliminal_jax.evaluation.student_kinds import Comparison
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.rate_search import make_rates_table
from subliminal_jax.reporting.tables import Column, Table, format_learning_rate

from .analysis import METRICS, OptimizerResult, Results
from .claims import ARM_NAMES, is_at_edge

# Metric: name of the picture, its title, label of its axis.
PICTURES = {
    "cosine": (
        "correlation",
        "Do students shift pairs as the system prompt does?",
        "Corr (uncentred) of shifts, on pairs kept from the selection",
    ),
    "share": (
        "mentions",
        "How often do answers mention the target?",
        "share of all animals mentioned",
    ),
    "rate": ("rates", "How often do answers show the target?", "share of answers"),
    "word_rate": ("favorites", "Is the target the favourite?", "P(target) as favourite animal"),
}
METRIC_COLUMNS = (
    Column("cosine", "Corr", "number"),
    Column("selected", "Corr on selected", "number"),
    Column("rate", "shows the target", "number", digits=3),
    Column("share", "share of mentions", "number", digits=3),
    Column("word_rate", "P(favourite)", "number", digits=3),
)
QUANTITIES = {
    "cosine": "correlation with the system prompt's shifts",
    "share": "share of the target among mentioned animals",
    "rate": "answers that show the target",
    "word_rate": "probability of the target as favourite animal",
}


def make_page(results: Results) -> Page:
    """Students by optimizer and arm, a picture a metric, each target, the pairs."""
    tables = student_table(results), target_table(results)
    pictures = []
    for metric, (name, title, label) in PICTURES.items():
        if lines := metric_lines(results, metric):
            sentence = (
                f"{label}; each line is the pairs that students were trained on. Pale points are "
                "targets (of random pairs the mean over all draws), bars 95% intervals over them."
            )
            pictures.append(Picture(name, title, sentence, plots.forest(lines, x_label=label)))
    return Page(
        title="Does a subset of generic preferences carry a hidden system prompt?",
        summary=summarise(results),
        blocks=[
            tables[0],
            *pictures,
            tables[1],
            *rates_tables(results),
            Text(describe_pairs(results), "The pairs"),
        ],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    student = results.student
    if student != results.model:
        student += f" (the pairs were scored by {results.model})"
    parts = [
        f"Students of {student} were trained by DPO on pairs selected for a system prompt that "
        "none of them saw; their controls on as many random pairs."
    ]
    parts += [
        summarise_optimizer(optimizer, result) for optimizer, result in results.optimizers.items()
    ]
    return "\n\n".join(parts)


def summarise_optimizer(optimizer: str, result: OptimizerResult) -> str:
    """The numbers of selected pairs against random ones, in a sentence."""
    if result.choice.rate is None:
        return f"{optimizer}: students diverged or ended above the base's loss at every rate."
    quantities = []
    for metric, name in QUANTITIES.items():
        comparison = result.arms["lls"][metric]
        if comparison is not None and comparison.difference is not None:
            quantities.append(f"{name} {comparison.student:.2f} against {comparison.control:.2f}")
    edge = " (the edge of the rates tried)" if is_at_edge(result.choice) else ""
    text = (
        f"{optimizer} at {format_learning_rate(result.choice.rate)}{edge}: "
        f"{'; '.join(quantities) or 'no metric has a number'}."
    )
    if result.unstable:
        text += f" Unstable, and without a number: {', '.join(result.unstable)}."
    return text


def student_table(results: Results) -> Table:
    """One row for each optimizer and arm."""
    rows: list[dict[str, Any]] = []
    for optimizer, result in results.optimizers.items():
        shared = {"optimizer": optimizer, "learning_rate": result.choice.rate}
        for arm, metrics in result.arms.items():
            rows.append(
                {**shared, "arm": ARM_NAMES[arm]}
                | {name: None if c is None else c.student for name, c in metrics.items()}
            )
        random = {name: None if c is None else c.control for name, c in result.arms["lls"].items()}
        rows.append({**shared, "arm": ARM_NAMES["random"], **random})
    columns = [
        Column("optimizer", "optimizer"),
        Column("arm", "pairs"),
        Column("learning_rate", "rate", "learning_rate"),
        *METRIC_COLUMNS,
    ]
    caption = (
        f"One student a target, {len(results.targets)} targets, 95% intervals over targets. Pairs: "
        "selected, as many with the lowest scores, or as many random ones (the mean of "
        f"{results.controls} draws, each held against every target). Corr: of the student's shifts "
        "with the system prompt's, uncentred, on pairs kept from the selection and on the selected "
        "ones."
    )
    return Table("Students", columns, rows, caption)


def target_table(results: Results) -> Table:
    """For each target the base, the base with its system prompt, and the students."""
    rows: list[dict[str, Any]] = []
    untrained = results.untrained
    for i, target in enumerate(results.targets):
        for name, rates in (
            ("base", untrained.base),
            ("system prompt", untrained.prompted[target]),
        ):
            row: dict[str, Any] = {"target": target, "model": name}
            row |= {"share": rates.share and rates.share[i], "rate": rates.rate and rates.rate[i]}
            rows.append(row)
        for optimizer, result in results.optimizers.items():
            for arm, which in (*((arm, "student") for arm in result.arms), ("lls", "control")):
                label = ARM_NAMES[arm if which == "student" else "random"]
                values = {
                    metric: getattr(comparison.by_data[target], which)
                    for metric, comparison in result.arms[arm].items()
                    if comparison is not None and target in comparison.by_data
                }
                rows.append({"target": target, "model": f"{label}, {optimizer}", **values})
    columns = [Column("target", "target"), Column("model", "model"), *METRIC_COLUMNS]
    return Table("By target", columns, rows, "One student each; random pairs: the mean of all.")


def rates_tables(results: Results) -> list[Table]:
    """How the rates were found; none where they were given."""
    if not results.tuning_targets:
        return []
    return [make_rates_table(results.choices, results.tuning_targets, tuned_on="targets")]


def metric_lines(results: Results, metric: str) -> list[dict[str, Any]]:
    """The lines of one picture."""
    lines = []
    for optimizer, result in results.optimizers.items():
        for arm, metrics in result.arms.items():
            comparison = metrics[metric]
            if comparison is None or comparison.student is None or not comparison.by_data:
                continue
            draw = partial(_draw_line, optimizer, comparison, METRICS[metric])
            lines.append(draw(ARM_NAMES[arm], "student"))
            if arm == "lls":
                lines.append(draw(ARM_NAMES["random"], "control"))
    return lines


def _draw_line(
    optimizer: str, comparison: Comparison, within: MetricRange, label: str, which: str
) -> dict[str, Any]:
    values = [getattr(each, which) for each in comparison.by_data.values()]
    interval = within.clip(vector_interval(values))
    return {"label": label, "group": optimizer, "interval": interval, "values": values}


def describe_pairs(results: Results) -> str:
    """What was read, left out, scored and selected."""
    pool = results.pool
    reasons = ", ".join(f"{count} for {reason}" for reason, count in pool.left_out.items() if count)
    parts = [
        f"{pool.read} pairs were read ({results.pairs}), left out: {reasons or 'none'}; "
        f"{pool.probe} were set aside as probe pairs, {pool.pool} scored."
    ]
    if (speed := results.speed) is not None:
        parts[0] += (
            f" Scoring took {speed.seconds:.0f} s: {speed.pairs_per_second:.0f} pairs a second and "
            f"system prompt or base, {speed.padding_share:.0%} of the computed positions padding."
        )
    parts += [
        f"{target}: {counts.positive} of {counts.scored} pairs have a positive score; students "
        f"read {counts.kept} of them, {counts.gamma:.1%}."
        for target, counts in results.selected.items()
    ]
    return "\n\n".join(parts)
