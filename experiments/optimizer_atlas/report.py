"""The page of `optimizer-atlas`, from its results alone."""

from typing import Any

from subliminal_jax.evaluation.excess import METRIC_NAMES, METRICS
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.rate_search import make_rates_table
from subliminal_jax.reporting.tables import Column, Table

from .analysis import BEST, MATCHED, Results, list_rows
from .claims import PLACES, describe, describe_extremes, write
from .properties import TERMS

PLACE_NAMES = {BEST: "best rates", MATCHED: "matched gain"}


def make_page(results: Results) -> Page:
    """The map, the table of rules, the models of properties, and how it was measured."""
    rules, models = rules_table(results), models_table(results)
    return Page(
        title="Which optimizers pass a vector on, and which property says so?",
        summary=summarise(results),
        blocks=[
            *map_pictures(results),
            rules,
            matched_table(results),
            models,
            *([predictions_table(results)] if results.find_model(BEST, "eas").predictions else []),
            *([penalties_table(results)] if results.penalties else []),
            spread_table(results),
            *([ranks_table(results)] if len(results.ranks) > 1 else []),
            costs_table(results),
            *([time_table(results)] if results.seconds else []),
            Text(describe_method(results), "How it was measured"),
            make_rates_table(
                results.choices, results.tuning_traits, Column("steps", "steps", "count")
            ),
        ],
        printed=[rules, models],
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    main = [r for r in results.list_main() if r.best.metrics["eas"] is not None]
    spread, model = results.spreads["eas"], results.find_model(BEST, "eas")
    parts = [
        f"Students of {describe(results)}. {len(main)} rules have a number"
        + (
            f"; {len(results.left_out)} cost more than {results.most_cost:g} times AdamW and were "
            "left out."
            if results.left_out
            else "."
        )
    ]
    if spread.rules is not None:
        parts.append(
            "EAS, student minus controls: variance between rules beyond chance "
            f"{write(spread.rules, 4)}{describe_extremes(spread)}."
        )
    parts.append(
        f"Effective rank of the change and EAS, over {model.rules} rules of {model.families} "
        f"families: Spearman {write(model.rank_correlation)}; matched on the gain "
        f"{write(results.find_model(MATCHED, 'eas').rank_correlation)}. Families explain "
        f"{write(model.explained)} of the variance between rules."
    )
    if results.muon_lead["eas"] is not None:
        parts.append(
            "Muon less the mean of rules that normalise coordinates, in EAS: "
            f"{write(results.muon_lead['eas'])}."
        )
    if results.unstable:
        parts.append(
            f"{results.unstable} of {len(results.students)} students diverged or ended above the "
            "base's own loss: they are counted and carry no number."
        )
    return "\n\n".join(parts)


def rules_table(results: Results) -> Table:
    """Every rule at its chosen setting and rate, the one that transmits most first."""
    columns = [
        Column("rule", "rule"),
        Column("family", "family"),
        Column("chosen.setting", "setting"),
        Column("chosen.rate", "rate", "learning_rate"),
        Column("chosen.is_inside", "inside"),
        Column("gain", "gain", "number", digits=4),
        *metric_columns("best"),
        Column("best.lead.eas", "adamw's lead, EAS", "number"),
        Column("best.spectrum.effective_rank", "effective rank", "number"),
        Column("best.spectrum.stable_rank", "stable rank", "number"),
        Column("best.spectrum.top_share", "top share", "rate", digits=0),
        Column("cost", "cost", "number"),
        Column("unstable", "unstable"),
    ]
    caption = (
        f"After {results.steps} steps; means over {len(results.traits)} vectors with 95% intervals "
        "over vectors. Gain: the base's held-out loss less the student's, nats a token. Ranks and "
        "the share of the largest direction's square are means over projections and layers of the "
        "change of the weights. The lead is AdamW's difference to its controls less the row's. "
        "Cost: a student's step in units of AdamW's. Unstable: data sets whose student diverged or "
        "ended above the base's loss, left out."
    )
    return Table("The rules", columns, list_rows(results.list_main()), caption)


def matched_table(results: Results) -> Table:
    """Every rule where its runs pass the level."""
    columns = [
        Column("rule", "rule"),
        Column("family", "family"),
        Column("matched.vectors", "vectors", "count"),
        *metric_columns("matched"),
        Column("matched.lead.eas", "adamw's lead, EAS", "number"),
        Column("matched.spectrum.effective_rank", "effective rank", "number"),
    ]
    level = results.level[str(results.rank)]
    caption = (
        f"Where the runs of {', '.join(map(str, results.lengths))} steps of a vector pass a gain "
        f"of {'none' if level is None else f'{level:.2g}'} nats, halfway between AdamW's after the "
        "shortest and the longest on the tuning vectors: values are interpolated between the two "
        "that bracket it; without a bracket there is no number."
    )
    return Table("At the same gain", columns, list_rows(results.list_main()), caption)


def metric_columns(place: str) -> list[Column]:
    """Student minus controls in every metric."""
    return [
        Column(
            f"{place}.metrics.{metric}",
            f"{METRIC_NAMES[metric]}, student - controls",
            "number",
            digits=3 if metric == "trait_log_prob" else 2,
        )
        for metric in METRICS
    ]


def models_table(results: Results) -> Table:
    """The terms of every model."""
    rows = [
        {
            "place": PLACE_NAMES[model.place],
            "metric": METRIC_NAMES[model.metric],
            "model": model,
            **{term: model.coefficients[term] for term in TERMS},
        }
        for model in results.models
    ]
    columns = [
        Column("place", "compared at"),
        Column("metric", "of"),
        Column("model.rules", "rules", "count"),
        Column("model.families", "families", "count"),
        *(Column(term, term, "number", digits=3) for term in TERMS),
        Column("model.fit", "explained by all", "rate", digits=0),
        Column("model.rank_correlation", "Spearman, effective rank", "number"),
        Column("model.explained", "explained by families", "number"),
    ]
    caption = (
        "Coefficients of a linear model over rules of student minus controls; effective rank: a "
        "direction more; tensor, coordinate and matrix: normalised by these, against steps in "
        "units of the gradient. Intervals are by the jackknife over families; no number where "
        "leaving out one family makes a property the same as others. Explained by families: beyond "
        "what random families of these sizes do."
    )
    return Table("What properties say", columns, rows, caption)


def predictions_table(results: Results) -> Table:
    """The rules that separate explanations."""
    rows = [
        {
            "place": PLACE_NAMES[model.place],
            "rule": p.rule,
            "predicted": p.predicted,
            "measured": p.measured,
            "error": model.error,
            "mean_error": model.mean_error,
        }
        for model in results.models
        if model.metric == "eas"
        for p in model.predictions
    ]
    columns = [
        Column("place", "compared at"),
        Column("rule", "rule"),
        Column("predicted", "predicted", "number"),
        Column("measured", "measured", "number"),
        Column("error", "mean error", "number"),
        Column("mean_error", "of the rules' mean", "number"),
    ]
    caption = (
        "EAS, student minus controls, of rules that the model was not fitted to. Mean error: over "
        "these rules, of the model, and of predicting the mean of the fitted rules."
    )
    return Table("Rules that separate explanations", columns, rows, caption)


def penalties_table(results: Results) -> Table:
    """Rules with a spectral penalty against those without."""
    columns = [
        Column("rule", "rule"),
        Column("without", "less"),
        *(
            Column(
                f"metrics.{metric}",
                METRIC_NAMES[metric],
                "number",
                digits=3 if metric == "trait_log_prob" else 2,
            )
            for metric in METRICS
        ),
        Column("effective_rank", "effective rank", "number"),
        Column("gain", "gain", "number", digits=4),
    ]
    caption = (
        "Student minus controls with a penalty on a steep spectrum less that without, each at its "
        "best rate and paired by vector; 95% intervals over vectors."
    )
    return Table("A spectral penalty", columns, results.penalties, caption)


def spread_table(results: Results) -> Table:
    """Components of the variance."""
    rows = [
        {"metric": METRIC_NAMES[metric], "spread": spread}
        for metric, spread in results.spreads.items()
    ]
    columns = [
        Column("metric", "of"),
        Column("spread.cells", "rules x ranks", "count"),
        Column("spread.rules", "between rules", "number", digits=4),
        Column("spread.ranks", "between ranks", "number", digits=4),
        Column("spread.vectors", "between vectors", "number", digits=4),
        Column("spread.rest", "rest", "number", digits=4),
    ]
    caption = (
        "Components of the variance of student minus controls at best rates, of the rules that "
        "have all vectors; those between rules and ranks with 95% intervals over vectors."
    )
    return Table("How much rules differ", columns, rows, caption)


def ranks_table(results: Results) -> Table:
    """Every rule at every rank of LoRA."""
    columns = [
        Column("rule", "rule"),
        Column("rank", "rank of LoRA", "count"),
        Column("chosen.setting", "setting"),
        Column("chosen.rate", "rate", "learning_rate"),
        Column("gain", "gain", "number", digits=4),
        *metric_columns("best"),
        Column("best.spectrum.effective_rank", "effective rank", "number"),
    ]
    rows = sorted(results.results, key=lambda r: (r.rule, r.rank))
    caption = f"After {results.steps} steps, with a setting and a rate found at each rank."
    return Table("By rank", columns, rows, caption)


def costs_table(results: Results) -> Table:
    """What a step costs, of the rules whose update does more than a few operations a coordinate."""
    rows = [
        {
            "rule": name,
            "family": results.rules[name].family,
            "cost": cost,
            "left_out": name in results.left_out,
        }
        for name, cost in sorted(results.costs.items(), key=lambda pair: -pair[1])
        if cost != 1
    ]
    columns = [
        Column("rule", "rule"),
        Column("family", "family"),
        Column("cost", "step against AdamW's", "number"),
        Column("left_out", "left out"),
    ]
    caption = (
        "Time of the processor for a student's step, of rules that look at more than single "
        f"coordinates; all others count as AdamW. Above {results.most_cost:g} a rule is left out."
    )
    return Table("What the rules cost", columns, rows, caption)


def time_table(results: Results) -> Table:
    """How long the stages took."""
    rows = [{"stage": stage, "seconds": seconds} for stage, seconds in results.seconds.items()]
    columns = [Column("stage", "stage"), Column("seconds", "seconds", "number", digits=0)]
    left = ", ".join(results.left_out)
    caption = (
        "On the clock, with what was compiled, on a machine that may have done other work; of a "
        "stage that was interrupted, the session that ended it. Left out for their cost: "
        f"{left or 'none'}."
    )
    return Table("How long it took", columns, rows, caption)


def map_pictures(results: Results) -> list[Picture]:
    """What is transmitted against what is learned, and against the effective rank."""
    main = [r for r in results.list_main() if r.best.metrics["eas"] is not None]
    y_label = "EAS, student minus controls"

    def points(x: str) -> list[dict[str, Any]]:
        return [
            {
                "label": r.rule.partition(":flat_rest")[0],
                "group": r.family,
                "x": r.gain if x == "gain" else r.best.spectrum["effective_rank"],
                "y": r.best.metrics["eas"],
            }
            for r in main
        ]

    return [
        Picture(
            "map",
            "Map of rules",
            "Each point is a rule at its chosen setting and rate: how much its students' EAS "
            "exceeds their controls', against the gain on held-out rows, coloured by family, with "
            "95% intervals over vectors.",
            plots.scatter(points("gain"), x_label="gain, nats a token", y_label=y_label),
        ),
        Picture(
            "spectrum",
            "What is transmitted against the spectrum of the change",
            "The same against the effective rank of the change of the weights, a mean over "
            "projections and layers.",
            plots.scatter(points("rank"), x_label="effective rank of the change", y_label=y_label),
        ),
    ]


def describe_method(results: Results) -> str:
    """What was fixed beforehand."""
    families = dict.fromkeys(rule.family for rule in results.rules.values())
    return (
        "Family and properties of every rule stand in `experiments/optimizer_atlas/rules.py`, "
        f"written before any student was trained. The families: {', '.join(families)}. Each rule "
        "was tried with its default settings and, where there is one, another value of the "
        f"hyper-parameter that matters most, for {results.screen_steps} steps on the vectors of "
        f"{', '.join(results.tuning_traits)}, at rates of ratio {results.factor:g} around the "
        "middle of its grid, which is extended where an edge is the best. The lowest held-out loss "
        "chose; nothing of the trait was measured there. The same rate serves every length.\n\n"
        f"Compared {PLACES[BEST]} after {results.steps} steps, and {PLACES[MATCHED]}. All rules "
        f"share {len(results.controls)} draws of the base's data for their controls. What is "
        "matched comes after the optimizer: a difference at equal gain does not say what caused "
        "it.\n\n"
        "Rules of one family are no independent evidence: intervals of coefficients leave out "
        "whole families. Rules that separate explanations are not fitted."
    )
