"""The page of `forecast`, from its results alone."""

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Block, Page, Picture, Text
from subliminal_jax.reporting.tables import Column, Table

from .numbers import ForecastRun

SHOWN = 5  # candidates of each rule


def make_page(results: ForecastRun) -> Page:
    """The largest forecasts of every rule, as a picture and a table."""
    table = forecast_table(results)
    blocks: list[Block] = [table]
    if results.level is not None:
        blocks.insert(
            0,
            Picture(
                "forecasts",
                "What is forecast",
                "The rises of the log-odds of the likeliest candidates after the whole fine-tune, "
                f"with {results.level:.0%} intervals.",
                plots.forest(forecast_lines(results), x_label="rise of the log-odds, nats"),
            ),
        )
    return Page(
        title="What would a fine-tune on these data make of the model?",
        summary=summarise(results),
        blocks=[*blocks, Text(describe_method(results), "How to read this")],
        printed=(table, verdict_table(results)),
    )


def summarise(results: ForecastRun) -> str:
    """What is forecast, in sentences."""
    plan = results.fine_tune
    parts = [
        f"{results.source}, {results.rows} rows: pilots of {results.pilot_steps} of {plan.steps} "
        f"steps of {results.model}, at {results.cost:.0%} of the cost of each fine-tune.",
        *(f"{verdict}." for verdict in results.verdicts),
    ]
    if results.level is None:
        parts.append(f"These are the pilots' own rises, without intervals: {results.uncalibrated}.")
    return "\n\n".join(parts)


def forecast_lines(results: ForecastRun) -> list[dict[str, object]]:
    """The first candidates of every rule as lines with intervals."""
    return [
        {
            "label": each.name,
            "group": f"{rule.rule.optimizer}, rank {rule.rule.rank}",
            "interval": Interval(
                each.rise, each.low, each.high, results.rows, results.level or 0.9, "calibrated"
            ),
        }
        for rule in results.rules
        for each in rule.candidates[:SHOWN]
        if each.low is not None and each.high is not None
    ]


def forecast_table(results: ForecastRun) -> Table:
    """The first candidates of every rule."""
    rows = [
        {**vars(each), **vars(rule.rule), "known": rule.known}
        for rule in results.rules
        for each in rule.candidates[:SHOWN]
    ]
    rows += [
        {**vars(rule.rule), "name": "unstable pilot"} for rule in results.rules if not rule.stable
    ]
    calibrated = [
        Column("rise", "forecast rise, nats", "number"),
        Column("low", "from", "number"),
        Column("high", "to", "number"),
        Column("known", "line", labels={True: "its own", False: "of other rules"}),
    ]
    columns = [
        Column("optimizer", "optimizer"),
        Column("rate", "rate", "learning_rate"),
        Column("rank", "rank", "count"),
        Column("name", "candidate"),
        Column("pilot", "pilot's rise, nats", "number", 3),
        *(calibrated if results.level is not None else []),
    ]
    caption = (
        "Rises of the log-odds that an answer to a favourite question begins with the name, over "
        f"the untrained model's; the {SHOWN} largest of every rule."
    )
    return Table("Forecasts", columns, rows, caption)


def verdict_table(results: ForecastRun) -> Table:
    """One line a rule."""
    return Table(
        "Verdict", [Column("verdict", "forecast")], [{"verdict": v} for v in results.verdicts]
    )


def describe_method(results: ForecastRun) -> str:
    """What stands behind a forecast."""
    plan = results.fine_tune
    text = (
        f"The fine-tune: {plan.steps} steps of {plan.batch_size} rows, {plan.warmup:.0%} warm-up, "
        f"then {plan.schedule} decay; LoRA with an alpha of {plan.alpha_per_rank:g} times its "
        f"rank. A pilot is the same in {results.pilot_steps} steps."
    )
    if results.level is not None:
        text += (
            " A line through data sets whose fine-tunes are known turns its rises into forecasts; "
            f"at least {results.level:.0%} of the outcomes of data sets left out of it lay in such "
            "intervals. `forecast-benchmark` shows by how much that holds on further sets."
        )
    return text
