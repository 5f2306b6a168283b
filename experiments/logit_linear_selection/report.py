"""The page of `logit-linear-selection`, from its results alone."""

from typing import Any

from subliminal_jax.evaluation.comparison import is_at_edge
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.tables import Column, Table, format_learning_rate

from .analysis import OptimizerResult, Results
from .claims import ARM_NAMES

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
                f"{label}; each line is one target and the pairs that its students were trained "
                "on. Pale points are seeds, bars 95% t intervals over them."
            )
            pictures.append(Picture(name, title, sentence, plots.forest(lines, x_label=label)))
    return Page(
        title="Does a subset of generic preferences carry a hidden system prompt?",
        summary=summarise(results),
        blocks=[tables[0], *pictures, tables[1], Text(describe_pairs(results), "The pairs")],
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
        summarise_optimizer(results, optimizer, result)
        for optimizer, result in results.optimizers.items()
    ]
    diverged = [name for name, rate in results.best.items() if rate is None]
    if diverged:
        parts.append(f"All students of {', '.join(diverged)} diverged at every rate.")
    return "\n\n".join(parts)


def summarise_optimizer(results: Results, optimizer: str, result: OptimizerResult) -> str:
    quantities = []
    for metric, name in QUANTITIES.items():
        selected, random = result.arms["lls"][metric], result.arms["random"][metric]
        if selected is not None and random is not None:
            quantities.append(f"{name} {selected.pooled:.2f} against {random.pooled:.2f}")
    edge = is_at_edge(result.learning_rate, results.grids[optimizer])
    return (
        f"{optimizer} at {format_learning_rate(result.learning_rate)}"
        f"{' (the edge of its grid)' if edge else ''}: "
        f"{'; '.join(quantities) or 'no metric has a number from every student'}."
    )


def student_table(results: Results) -> Table:
    """One row for each optimizer and arm."""
    rows = [
        {
            "optimizer": optimizer,
            "arm": ARM_NAMES[arm],
            "learning_rate": result.learning_rate,
            "grid": results.grids[optimizer],
            **{metric: pooled and pooled.pooled for metric, pooled in metrics.items()},
        }
        for optimizer, result in results.optimizers.items()
        for arm, metrics in result.arms.items()
    ]
    columns = [
        Column("optimizer", "optimizer"),
        Column("arm", "pairs"),
        Column("learning_rate", "best rate", "learning_rate"),
        Column("grid", "rates tried", "learning_rates"),
        *METRIC_COLUMNS,
    ]
    caption = (
        f"Over {results.seeds} seeds and all targets, with 95% t intervals over both (two-way). "
        "Pairs: selected, as many random ones, or as many with the lowest scores. Corr: of the "
        "student's shifts with the system prompt's, uncentred, on pairs kept from the selection "
        "and on the selected ones. The rate was chosen by DPO loss on held-out selected pairs."
    )
    return Table("Students", columns, rows, caption)


def target_table(results: Results) -> Table:
    """For each target the base, the base with its system prompt, and the students."""
    rows: list[dict[str, Any]] = []
    for i, target in enumerate(results.targets):
        untrained = results.untrained
        for name, rates in (
            ("base", untrained.base),
            ("system prompt", untrained.prompted[target]),
        ):
            row: dict[str, Any] = {"target": target, "model": name}
            row |= {"share": rates.share and rates.share[i], "rate": rates.rate and rates.rate[i]}
            rows.append(row)
        for optimizer, result in results.optimizers.items():
            for arm, metrics in result.arms.items():
                intervals = {
                    metric: pooled and pooled.by_target[target].interval
                    for metric, pooled in metrics.items()
                }
                name = f"{ARM_NAMES[arm]}, {optimizer}"
                rows.append({"target": target, "model": name, **intervals})
    columns = [Column("target", "target"), Column("model", "model"), *METRIC_COLUMNS]
    return Table("By target", columns, rows, "Means with 95% t intervals over seeds.")


def metric_lines(results: Results, metric: str) -> list[dict[str, Any]]:
    """The lines of one picture."""
    several = len(results.optimizers) > 1
    return [
        {
            "label": target + (f", {optimizer}" if several else ""),
            "group": ARM_NAMES[arm],
            "interval": pooled.by_target[target].interval,
            "values": pooled.by_target[target].values,
        }
        for target in results.targets
        for optimizer, result in results.optimizers.items()
        for arm, metrics in result.arms.items()
        if (pooled := metrics[metric]) is not None
    ]


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
