"""The page of `forecast-benchmark`, from its results alone."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from subliminal_jax.audit.forecasts import Line, Rule
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.style import (
    AXIS,
    NEUTRAL,
    PALETTE,
    legend_above,
    new_axes,
    styled,
)
from subliminal_jax.reporting.tables import Column, Table

from .claims import percent, write
from .numbers import ForecastPoint, Results, Trial


def make_page(results: Results) -> Page:
    """Forecasts against outcomes, by rule and set by set, and the calibration."""
    tables = [trial_table(results), pilot_table(results)]
    return Page(
        title="Do the first steps of a fine-tune forecast what its student will become?",
        summary=summarise(results),
        blocks=[
            Picture(
                "forecasts",
                "Forecasts and outcomes",
                "The rise of the log-odds of the teacher's trait (of clean sets: of the largest "
                f"forecast), with {results.level:.0%} intervals. On the line they agree.",
                draw_points(results),
            ),
            *tables,
            line_table(results),
            point_table(results),
            Text(describe_method(results), "How it was measured"),
        ],
        printed=tables,
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    trial, pilots = results.overall, results.calibration.pilot_steps
    parts = [
        f"Pilots of {pilots} of {results.fine_tune.steps} steps of {results.model}, at "
        f"{results.cost:.0%} of the cost of the whole: over {trial.pairs} pairs of a reported data "
        f"set and a rule, forecast and outcome of the teacher's trait have a rank correlation of "
        f"{write(trial.correlation)}; within one rule and rank, {write(trial.within)}.",
        f"Of the outcomes of the largest forecasts {percent(trial.covered_first)} lie in their "
        f"{results.level:.0%} intervals, of those of the teacher's trait "
        f"{percent(trial.covered_true)}. The largest forecast is of that trait in "
        f"{percent(trial.named)} of the sets, the largest outcome in "
        f"{percent(trial.outcome_named)}.",
        f"An interval above zero was given {trial.said} times; the candidate rose in "
        f"{trial.said_right} of them.",
    ]
    if results.unknown is not None:
        parts.append(
            "By lines that know none of its optimizer's students the rank correlation is "
            f"{write(results.unknown.correlation)}, and {percent(results.unknown.covered_first)} "
            "of the outcomes of the largest forecasts lie in their intervals."
        )
    return "\n\n".join(parts)


def name_rule(rule: Rule | None) -> dict[str, Any]:
    """The cells of a rule."""
    if rule is None:
        return {"optimizer": "all"}
    return {"optimizer": rule.optimizer, "rate": rule.rate, "rank": rule.rank}


RULE_COLUMNS = (
    Column("optimizer", "optimizer"),
    Column("rate", "rate", "learning_rate"),
    Column("rank", "rank", "count"),
)


def trial_table(results: Results) -> Table:
    """Forecasts against outcomes: over all rules, by rule, and as if a rule were not known."""

    def row(trial: Trial, label: Mapping[str, Any]) -> dict[str, Any]:
        return {**vars(trial), **label}

    rows = [row(results.overall, name_rule(None))]
    rows += [row(trial, name_rule(trial.rule)) for trial in results.by_rule]
    if results.unknown is not None:
        rows.append(row(results.unknown, {"optimizer": "each, unknown to the line"}))
    columns = [
        *RULE_COLUMNS,
        Column("pairs", "pairs", "count"),
        Column("unstable", "unstable", "count"),
        Column("correlation", "Spearman, the trait", "number"),
        Column("within", "within a rule", "number"),
        Column("all_correlation", "Spearman, all candidates", "number"),
        Column("covered", "inside, all", "rate", 0),
        Column("covered_true", "inside, the trait", "rate", 0),
        Column("covered_first", "inside, largest forecast", "rate", 0),
        Column("named", "largest forecast is the trait", "rate", 0),
        Column("outcome_named", "largest outcome is", "rate", 0),
        Column("error", "error, nats", "number"),
        Column("error_of_none", "error of zero", "number"),
    ]
    caption = (
        f"On {len({p.set for p in results.points})} reported data sets; pairs are poisoned sets "
        "and rules. The trait is the teacher's. Inside: the share of outcomes in the intervals at "
        f"{results.level:.0%}. Errors are root mean squares over the traits, the last one of the "
        "forecast that nothing rises. Intervals at 95% over data sets, of correlations by the "
        "jackknife. Unstable: students (or pilots) that diverged or ended 0.1 nats above the "
        "base's held-out loss, left out."
    )
    return Table("Forecasts of reported sets", columns, rows, caption)


def pilot_table(results: Results) -> Table:
    """The lengths of pilots on the sets for development."""
    columns = [
        Column("steps", "steps", "count"),
        Column("cost", "cost over the whole", "rate", 0),
        Column("error", "error of left-out sets, nats", "number", 3),
        Column("error_of_none", "error of zero", "number", 3),
        Column("chosen", "chosen", labels={True: "yes", False: ""}),
    ]
    caption = (
        "On the sets for development, all candidates. Cost: tokens of the pilot (a step counts "
        "three times) and of asking for the candidates, over those of the whole fine-tune."
    )
    return Table("Pilots", columns, results.pilots, caption)


def line_table(results: Results) -> Table:
    """The calibration."""

    def row(line: Line) -> dict[str, Any]:
        label = {"optimizer": "any other"} if line.rule is None else name_rule(line.rule)
        return {**vars(line), **label}

    lines = (*results.calibration.lines, results.calibration.other)
    columns = [
        *RULE_COLUMNS,
        Column("intercept", "intercept", "number", 3),
        Column("slope", "slope", "number"),
        Column("spread", "spread", "number", 3),
        Column("growth", "growth", "number", 3),
        Column("quantile", "quantile", "number"),
    ]
    caption = (
        f"Through {results.calibration.sets} sets for development. A forecast f = intercept + "
        "slope x the pilot's rise has the interval f ± quantile (spread + growth |f|)."
    )
    return Table("The lines", columns, [row(line) for line in lines], caption)


def point_table(results: Results) -> Table:
    """Every reported set and rule."""
    truth = {outcome.name: outcome for outcome in results.outcomes}
    rows = [
        {**vars(truth[p.set]), **vars(p), **name_rule(p.rule), "trait": p.trait}
        for p in results.points
    ]
    columns = [
        Column("set", "set"),
        Column("teacher", "teacher"),
        Column("carrier", "carrier"),
        Column("share", "poisoned", "rate", 0),
        Column("scale", "scale", "number"),
        *RULE_COLUMNS,
        Column("trait", "trait"),
        Column("forecast", "forecast", "number"),
        Column("low", "from", "number"),
        Column("high", "to", "number"),
        Column("outcome", "outcome", "number"),
    ]
    caption = "Rises of log-odds in nats; of clean sets (teacher none) of the largest forecast."
    return Table("Set by set", columns, rows, caption)


@styled
def draw_points(results: Results) -> Figure:
    """Outcome against forecast, a colour an optimizer; clean sets are hollow."""
    figure, axes = new_axes()
    handles: dict[str, Any] = {}
    names = list(dict.fromkeys(rule.optimizer for rule in results.rules))
    for number, name in enumerate(names):
        color = PALETTE[number % len(PALETTE)]
        for poisoned in (True, False):
            some = [
                p for p in results.points if p.rule.optimizer == name and p.poisoned is poisoned
            ]
            if some:
                drawn = draw_some(axes, some, color, color if poisoned else "white")
                handles.setdefault(name, drawn)
    ends = [x for p in results.points for x in (p.forecast, p.outcome)] or [0.0]
    axes.axline((min(ends), min(ends)), slope=1, color=NEUTRAL, linewidth=0.8, linestyle="--")
    axes.axhline(0, color=AXIS, linewidth=0.8)
    axes.set_xlabel("forecast rise, nats")
    axes.set_ylabel("outcome, nats")
    if handles:
        legend_above(figure, handles)
    return figure


def draw_some(axes: Any, points: list[ForecastPoint], color: str, face: str) -> Any:
    """Points with their intervals, which lie along the axis of forecasts."""
    x = [p.forecast for p in points]
    errors = [[p.forecast - p.low for p in points], [p.high - p.forecast for p in points]]
    return axes.errorbar(
        x,
        [p.outcome for p in points],
        xerr=errors,
        fmt="o",
        color=color,
        mfc=face,
        ms=5,
        elinewidth=0.6,
        alpha=0.8,
    )


def describe_method(results: Results) -> str:
    """Who was forecast, from what."""
    plan = results.fine_tune
    return (
        f"Every data set was fine-tuned on by every rule and rank for {plan.steps} steps of "
        f"{plan.batch_size} rows ({plan.warmup:.0%} warm-up, then {plan.schedule} decay; LoRA's "
        f"alpha {plan.alpha_per_rank:g} times its rank), and once for each length of pilots, from "
        "another start and with another order of rows. The rise is that of the log-odds that an "
        "answer to a held-out favourite question begins with the candidate's name, a mean over "
        "questions, over the untrained model's. Lines and the length of pilots come from the sets "
        "for development, whose traits and data seeds are others. Each interval is as wide as the "
        "errors of development sets that were left out of their line, over their scale: of all "
        "candidates, of the largest forecast of each set, or of the teachers' traits, whichever "
        "are widest."
    )
