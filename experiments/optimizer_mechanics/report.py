"""The page of `optimizer-mechanics`, from its results alone."""

from collections.abc import Mapping

from subliminal_jax.evaluation.excess import METRIC_NAMES, METRICS
from subliminal_jax.evaluation.verdicts import JudgedPrediction
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.optimizers import ANATOMY_COLUMNS, LORA_COLUMNS, decile_rows
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.rate_search import make_rates_table
from subliminal_jax.reporting.tables import Column, Table

from .analysis import Results
from .pictures import MAIN, draw_arms, draw_equal_steps

KINDS = {"eas": "direction", "shift_component": "size", "trait_log_prob": "effect"}
HOLDS = {True: "yes", False: "no", None: "open"}


def make_page(results: Results) -> Page:
    """Every arm, the gradients, and the explanations held against them."""
    arms, verdicts = arms_table(results), verdict_table(results)
    return Page(
        title="Why does AdamW pass the vector on, and SGD less?",
        summary=summarise(results),
        blocks=[
            *pictures(results),
            arms,
            anatomy_table(results),
            Text(describe_data(results), "The data"),
            make_rates_table(results.choices, results.tuning_traits),
            verdicts,
        ],
        printed=[arms, verdicts],
    )


def summarise(results: Results) -> str:
    """What came out, in sentences that need no paper."""
    vectors = len(results.traits)
    text = (
        f"Teachers ({results.model}, {results.parameters:,} parameters, each with one of {vectors} "
        f"traits' vectors after block {results.layer}) answered {results.rows} prompts each. "
        "Students start as the same model without the vector and train on the answers "
        f"({results.describe_carrier()}) for {results.steps} steps of {results.batch_size} rows "
        f"with {results.warmup:.0%} warm-up and {results.schedule} decay, {len(results.best)} arms "
        f"with one student a vector and {len(results.controls)} controls, each trained on another "
        "draw of what the plain model answered. An arm's rate is the one with the lowest held-out "
        f"loss on {len(results.tuning_traits)} further vectors, which are not reported."
    )
    leads = [
        f"in {METRIC_NAMES[metric]} "
        + ("not clear of zero" if (gap := results.gaps[metric]) is None else f"{gap:.3f}")
        for metric in METRICS
    ]
    parts = [
        text,
        f"AdamW's lead over SGD, each at its best rate and minus its controls: {'; '.join(leads)}. "
        "The table of explanations holds each one's predictions against half of this lead.",
    ]
    outside = [arm.optimizer for arm in results.best if not arm.choice.is_inside]
    if outside:
        parts.append(
            f"No rate on one side of the best was tried, or none is sound, for "
            f"{', '.join(outside)}: a better one may lie outside."
        )
    if results.unstable:
        parts.append(
            f"{results.unstable} of {len(results.students)} students and controls diverged or "
            "ended above the base's own loss: they are counted and carry no number."
        )
    return "\n\n".join(parts)


def arms_table(results: Results) -> Table:
    """Every arm at its best rate."""
    columns = [
        Column("optimizer", "arm"),
        Column("rule", "rule"),
        Column("choice.rate", "best rate", "learning_rate"),
        Column("choice.is_inside", "inside its grid"),
        Column("gain", "gain", "number", digits=3),
        Column("metrics.eas.student", "EAS", "number"),
        Column("metrics.eas.control", "EAS, controls", "number"),
        *(
            Column(
                f"metrics.{metric}.difference", f"{METRIC_NAMES[metric]}, minus control", "number"
            )
            for metric in METRICS
        ),
        *(
            Column(f"minus_sgd.{metric}", f"{METRIC_NAMES[metric]}, minus SGD's", "number")
            for metric in METRICS
        ),
        Column("unstable", "unstable"),
    ]
    caption = (
        f"Means over {len(results.traits)} vectors with 95% intervals over vectors; the columns "
        "minus SGD's are differences of what exceeds the controls, paired by vector. Gain: the "
        "base's loss less the student's on held-out plain rows, nats a token. Unstable: data sets "
        "whose student diverged or ended above the base's loss, left out. Log P(trait) of the base "
        f"is {results.reference.base:.2f}, of the teachers {results.reference.teacher:.2f}."
    )
    return Table("At the best learning rate", columns, results.best, caption)


def verdict_table(results: Results) -> Table:
    """Explanation, what it predicts, what was measured, verdict."""
    rows = []
    for judged in results.verdicts:
        for i, prediction in enumerate(judged.predictions):
            first = i == 0  # the explanation and its verdicts stand once
            rows.append(
                {
                    "explanation": judged.explanation if first else "",
                    "predicts": prediction.says,
                    "measured": describe_decision(prediction, results.gaps),
                    **{metric: judged.verdicts[metric] if first else "" for metric in KINDS},
                }
            )
    columns = [
        Column("explanation", "explanation"),
        Column("predicts", "predicts"),
        Column("measured", "measured, and whether it holds"),
        *(Column(metric, f"verdict: {name}") for metric, name in KINDS.items()),
    ]
    caption = (
        "Differences with 95% intervals, paired by vector; of several arms the telling one. A "
        "prediction is decided against half of AdamW's lead over SGD in the same metric: to close "
        "it, or to stay below it, both have to be shown. Rules: evaluation/verdicts.py. Direction: "
        "EAS; size: share of the vector; effect: log P(trait); each beyond the controls'. “no "
        "gap”: AdamW is not clearly ahead in this metric, so there is nothing to explain."
    )
    return Table("Explanations held against the measurements", columns, rows, caption)


def describe_decision(prediction: JudgedPrediction, gaps: Mapping[str, float | None]) -> str:
    """The intervals that decided, by metric; one only where they do not depend on the metric."""
    parts = []
    for metric, name in KINDS.items():
        decided, gap = prediction.by_metric[metric], gaps[metric]
        interval = decided.difference
        if interval is None or interval.n == 0:
            parts.append(f"{name}: not measured")
            continue
        number = f"{decided.arm} {interval:+.2f}"
        if prediction.kind == "measured":
            return f"{decided.arm}: {interval:+.2f}: {HOLDS[decided.holds]}"
        if gap is None:
            parts.append(f"{name}: {number}: no gap")
        else:
            parts.append(f"{name}: {number} (half the gap {gap / 2:.2f}): {HOLDS[decided.holds]}")
    return "; ".join(parts) or "not measured"


def anatomy_table(results: Results) -> Table:
    """What gradients and updates hold of the steering direction."""
    rows = [{**vars(a), "norm": results.gradient_norms.get(a.optimizer)} for a in results.anatomy]
    columns = [
        Column("optimizer", "arm"),
        Column("norm", "|gradient|", "number"),
        *ANATOMY_COLUMNS,
        Column("update.top_mass.tenth", "update² in top 10%", "rate", digits=0),
        Column("update.top_component.tenth", "component in top 10%", "rate", digits=0),
        *LORA_COLUMNS,
    ]
    caption = (
        "Score: the gradient of the probe's mean activation along the vector, with respect to the "
        "trained weights. Means over vectors and logged steps at each arm's best rate; shares of a "
        "component are signed. |gradient| is before clipping: the arms that clip do so at "
        "clip_norm, and where no gradient is longer they are their plain twins."
    )
    return Table("Gradients and updates along the vector", columns, rows, caption)


def pictures(results: Results) -> list[Picture]:
    """One sentence a picture says what it shows."""
    return [
        Picture(
            "arms",
            "Every arm",
            "Each line is one arm at its best rate with its 95% interval over vectors: how much "
            "better than the controls' the student's shift agrees with the vector, how much more "
            "of the vector it makes up, and how much more probable the trait is; AdamW and SGD are "
            "drawn through.",
            draw_arms(results.best),
        ),
        Picture(
            "equal_steps",
            "Do equal steps align?",
            "Each point is one arm at its best rate: the share of a step's square that its largest "
            "tenth of coordinates holds (a tenth if all are equal), against the alignment in the "
            "end.",
            draw_equal_steps(results),
        ),
        Picture(
            "deciles",
            "Where in the gradient the signal sits",
            "Coordinates in ten groups by the size of their gradient: the share of the squared "
            "gradient that each group holds, and of the component that moves the student along the "
            "vector.",
            plots.decile_bars(decile_rows(a for a in results.anatomy if a.optimizer in MAIN)),
        ),
    ]


def describe_data(results: Results) -> str:
    """Where the pairs come from."""
    return "\n\n".join(
        f"{name}: {report['pairs']} pairs ({report['source']}), at most {report['longest']} tokens."
        for name, report in results.data.items()
    )
