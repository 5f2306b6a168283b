"""The page of `optimizer-transmission`, from its results alone."""

from typing import Any

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.differences import list_differences
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.rate_search import make_rates_table
from subliminal_jax.reporting.style import assign_styles
from subliminal_jax.reporting.tables import Column, Table

from .analysis import FRACTIONS, MATCHED_ON, METRICS, Results
from .claims import NAMES, describe

ON = {
    "gain": "gain on held-out rows (nats a token)",
    "weight_change": "change of the weights",
    "shift_size": "size of the shift (in units of the vector)",
}


def make_page(results: Results) -> Page:
    """Best rates, equal gains, and how the rates were found."""
    best, matched = best_table(results), matched_table(results)
    return Page(
        title="Does AdamW pass a vector on more than other optimizers do?",
        summary=summarise(results),
        blocks=[
            best,
            *pictures(results),
            matched,
            steps_table(results),
            Text(describe_method(results), "How the comparison is made"),
            make_rates_table(
                results.choices, results.tuning_traits, Column("steps", "steps", "count")
            ),
        ],
        printed=[best, matched],
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    parts = [f"Students of {describe(results, 'each optimizer')}."]
    sgd = results.find_best("sgd")
    if sgd is not None:
        lead = sgd.metrics["eas"].reference_lead
        parts.append(
            f"Each at its best rate, AdamW's students exceed their controls in EAS by "
            f"{_write(lead)} more than SGD's do."
        )
        matched = [
            arm.metrics["eas"].reference_lead for arm in results.select_matched("sgd", "gain")
        ]
        if matched:
            levels = ", ".join(f"{fraction:.0%}" for fraction in FRACTIONS)
            leads = "; ".join(_write(lead) for lead in matched)
            parts.append(f"At {levels} of AdamW's gain on held-out rows, by {leads}.")
    if results.best:
        excess = {arm.optimizer: arm.metrics["eas"].difference for arm in results.best}
        parts.append(list_differences("EAS of students over their controls", excess))
        gains = {arm.optimizer: arm.gain for arm in results.best}
        parts.append(
            list_differences("Held-out loss below the base's, nats a token", gains, "+.3f")
        )
    if results.unstable:
        parts.append(
            f"{results.unstable} of {len(results.students)} students diverged or ended above the "
            "base's own loss: they are counted and carry no number."
        )
    return "\n\n".join(parts)


def _write(interval: Any) -> str:
    return "an unknown amount" if interval is None else f"{interval:+.3f}"


def best_table(results: Results) -> Table:
    """Every optimizer at its best rate."""
    columns = [
        Column("optimizer", "optimizer"),
        Column("choice.rate", "best rate", "learning_rate"),
        Column("choice.is_inside", "inside its grid"),
        Column("gain", "gain", "number", digits=3),
        Column("metrics.eas.student", "EAS", "number"),
        Column("metrics.eas.control", "EAS, controls", "number"),
        *difference_columns(),
        Column("unstable", "unstable"),
    ]
    caption = (
        f"After {results.steps} steps; means over {len(results.traits)} vectors with 95% intervals "
        "over vectors. Gain: the base's held-out loss less the student's, nats a token. The lead "
        "is AdamW's difference to its controls less the row's, paired by vector. Unstable: data "
        "sets whose student diverged or ended above the base's loss, left out."
    )
    return Table("At the best learning rates", columns, results.best, caption)


def steps_table(results: Results) -> Table:
    """Best rates after every number of steps."""
    columns = [
        Column("choice.steps", "steps", "count"),
        Column("optimizer", "optimizer"),
        Column("choice.rate", "best rate", "learning_rate"),
        Column("choice.is_inside", "inside its grid"),
        Column("gain", "gain", "number", digits=3),
        *difference_columns(),
        Column("unstable", "unstable"),
    ]
    caption = (
        "As the table of best rates, after every number of steps, with rates found for each anew. "
        "Where the gain no longer grows with the steps, training has ended."
    )
    return Table(
        "At the best learning rates, by number of steps", columns, results.by_steps, caption
    )


def difference_columns() -> list[Column]:
    """Student minus control in every metric, and AdamW's lead in it."""
    return [
        *(
            Column(f"metrics.{metric}.difference", f"{NAMES[metric]}, student - control", "number")
            for metric in METRICS
        ),
        *(
            Column(f"metrics.{metric}.reference_lead", f"adamw's lead, {NAMES[metric]}", "number")
            for metric in METRICS
        ),
    ]


def matched_table(results: Results) -> Table:
    """Every matched optimizer at every level."""
    columns = [
        Column("on", "equal", labels=ON),
        Column("fraction", "of AdamW's", "rate", digits=0),
        Column("level", "level", "number", digits=3),
        Column("optimizer", "optimizer"),
        Column("bracketed", "vectors", "count"),
        Column("steps", "at steps", "number", digits=0),
        *difference_columns(),
    ]
    caption = (
        f"Of {len(results.traits)} vectors those on which two finished runs of neighbouring "
        "lengths bracket the level; values are interpolated between the two. Leads are over the "
        "vectors that AdamW's runs bracket, too."
    )
    return Table("At equal levels", columns, results.at_level, caption)


def pictures(results: Results) -> list[Picture]:
    """Differences at best rates, and what lengths of training do."""
    styles = assign_styles([*results.optimizers])
    lines: list[dict[str, Any]] = [
        {
            "label": NAMES[metric],
            "group": arm.optimizer,
            "interval": arm.metrics[metric].difference,
            "values": [],
        }
        for metric in METRICS
        for arm in results.best
        if arm.metrics[metric].difference is not None
    ]
    curves = [
        {"optimizer": curve.optimizer, "x": curve.gain, "mean": curve.excess["eas"]}
        for curve in results.curves
    ]
    return [
        Picture(
            "excess",
            "Student minus control",
            "Each line is one optimizer at its best rate: how much its students exceed their "
            "controls, with 95% intervals over vectors.",
            plots.forest(lines, x_label="student minus control"),
        ),
        Picture(
            "gain",
            "What is transmitted against what is learned",
            "Each point is the mean of finished runs of one length: the excess of EAS over the "
            "controls against the gain on held-out rows.",
            plots.curves(
                curves,
                x_label="gain on held-out rows (nats a token)",
                y_label="EAS, student minus control",
                styles=styles,
            ),
        ),
    ]


def describe_method(results: Results) -> str:
    """What is compared with what, and what that can show."""
    return (
        f"Each of the {len(results.traits)} vectors has a teacher, data of its own draw (prompts, "
        f"too), and for each optimizer one student with a seed of its own; {len(results.controls)} "
        "draws of the base's data give each optimizer as many controls, which are scored against "
        "every vector. Intervals are over vectors, with a correction for skewness, and widened for "
        "what the few controls have in common.\n\n"
        f"Rates were found on {len(results.tuning_traits)} further vectors, for every number of "
        f"steps anew, on grids of ratio {results.factor:g} that are extended where an edge is the "
        "best. A student that diverged or ended above the base's loss on its held-out rows is "
        "counted, and carries no number.\n\n"
        "For equal levels, runs of "
        f"{', '.join(map(str, results.lengths))} steps are compared, each with a whole schedule: "
        "where two runs of neighbouring lengths of one vector bracket the level, values are "
        f"interpolated between them. Levels are {', '.join(f'{f:.0%}' for f in FRACTIONS)} of "
        f"AdamW's mean on the tuning vectors after {results.lengths[-1]} steps, in "
        f"{', '.join(ON[on] for on in MATCHED_ON)}. Matching describes: what is matched comes "
        "after the optimizer, so a difference at equal gain does not say what caused it, and no "
        "difference does not say that the optimizer does nothing."
    )
