"""The page of `optimizer-mechanics`, from its results alone."""

from collections.abc import Mapping

from subliminal_jax.evaluation.verdicts import JudgedPrediction
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.optimizers import (
    ANATOMY_COLUMNS,
    LORA_COLUMNS,
    chosen_rates,
    decile_rows,
)
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.style import assign_styles
from subliminal_jax.reporting.tables import Column, Table

from .analysis import Results
from .pictures import MAIN, draw_arms, draw_equal_steps

METRICS = {"eas": "direction", "shift_component": "size", "trait_rate": "trait"}
HOLDS = {True: "yes", False: "no", None: "open"}


def make_page(results: Results) -> Page:
    """Every arm, the gradients, matched losses, and the explanations held against them."""
    arms, verdicts = arms_table(results), verdict_table(results)
    return Page(
        title="Why does AdamW pass the vector on, and SGD less?",
        summary=summarise(results),
        blocks=[
            *pictures(results),
            arms,
            matched_table(results),
            anatomy_table(results),
            Text(describe_data(results), "The data"),
            verdicts,
        ],
        printed=[arms, verdicts],
    )


def summarise(results: Results) -> str:
    """What came out, in sentences that need no paper."""
    kind = "a random" if results.vector == "random" else "a trait's"
    text = (
        f"A teacher ({results.model}, {results.parameters:,} parameters, with {kind} vector after "
        f"block {results.layer}) answered {results.rows} prompts. Students start as the same "
        f"model without the vector and train on the answers for {results.steps} steps of "
        f"{results.batch_size} rows, {len(results.best)} arms with {results.grid_points} learning "
        f"rates each. The rate with the lowest held-out loss (over {results.grid_seeds} of "
        f"{results.seeds} seeds) counts; at it there are {results.seeds} students and as "
        "many controls, trained on what the plain model answered."
    )
    names = {
        "eas": "in alignment (EAS)",
        "shift_component": "in the share of the vector",
        "trait_rate": f"in how often they say {results.trait} beyond their controls",
    }
    leads = [
        f"{name} not clear of zero"
        if (gap := results.gaps[metric]) is None
        else f"{name} {gap:.3f}"
        for metric, name in names.items()
    ]
    edge = [arm.optimizer for arm in results.best if arm.grid_edge]
    warning = (
        f"\n\nThe best rate lies at the edge of its grid for {', '.join(edge)}: a better one may "
        "lie outside."
        if edge
        else ""
    )
    return (
        f"{text}\n\nAdamW's lead over SGD, each at its best rate: {'; '.join(leads)}. The table of "
        "explanations holds each one's predictions against half of this lead."
        f"{warning}\n\nThe setting was chosen because small LoRA students pick the vector up in "
        "few steps, which was judged by AdamW's alignment; nothing was chosen by an explanation's "
        "outcome. It is one vector on one small model."
    )


def arms_table(results: Results) -> Table:
    """Every arm at its best rate."""
    columns = [
        Column("optimizer", "arm"),
        Column("learning_rate", "best rate", "learning_rate"),
        Column("grid", "rates tried", "learning_rates"),
        Column("metrics.heldout_loss.student", "held-out loss", "number", digits=3),
        Column("metrics.eas.student", "EAS", "number"),
        Column("metrics.eas.control", "control", "number"),
        Column("metrics.shift_component.student", "share of the vector", "number"),
        Column("metrics.trait_rate.difference", f"says {results.trait}, minus control", "rate", 1),
        Column("minus_sgd.eas", "EAS minus SGD's", "number"),
    ]
    caption = (
        "Means over seeds with 95% t intervals; the last column is paired by seed. Held-out loss: "
        "nats a token on plain rows of the training kind, which alone chose the rate. The base "
        f"says {results.trait} in {results.reference.base:.1%} of answers, the teacher in "
        f"{results.reference.teacher:.1%}."
    )
    return Table("At the best learning rate", columns, results.best, caption)


def matched_table(results: Results) -> Table:
    """Every arm and its AdamW where they reach one training loss."""
    columns = [
        Column("optimizer", "arm"),
        Column("upper", "against"),
        Column("loss", "at loss", "number", digits=3),
        Column("metrics.eas.arm", "EAS", "number"),
        Column("metrics.eas.upper", "EAS, other", "number"),
        Column("metrics.eas.difference", "other minus arm", "number"),
        Column("metrics.shift_component.difference", "share, other minus arm", "number"),
        Column("metrics.trait_rate.difference", "trait rate, other minus arm", "rate", 1),
    ]
    caption = (
        "For each seed the level is the lowest training loss that both reach; between logged steps "
        "values are interpolated linearly in the loss. Trait rates here are without controls."
    )
    return Table("At one training loss", columns, results.matched_loss, caption)


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
                    **{metric: judged.verdicts[metric] if first else "" for metric in METRICS},
                }
            )
    columns = [
        Column("explanation", "explanation"),
        Column("predicts", "predicts"),
        Column("measured", "measured, and whether it holds"),
        *(Column(metric, f"verdict: {name}") for metric, name in METRICS.items()),
    ]
    caption = (
        "Differences with 95% intervals, paired by seed; of several arms the telling one. A "
        "prediction is decided against half of AdamW's lead over SGD in the same metric: to close "
        "it, or to stay below it, both have to be shown. Rules: evaluation/verdicts.py. Direction: "
        "EAS; size: share of the vector; trait: rate beyond the control's. “no gap”: AdamW is not "
        "clearly ahead in this metric, so there is nothing to explain."
    )
    return Table("Explanations held against the measurements", columns, rows, caption)


def describe_decision(prediction: JudgedPrediction, gaps: Mapping[str, float | None]) -> str:
    """The intervals that decided, by metric; one only where they do not depend on the metric."""
    parts = []
    for metric, name in METRICS.items():
        decided, gap = prediction.by_metric[metric], gaps[metric]
        interval, spec = decided.difference, "+.3f" if metric == "trait_rate" else "+.2f"
        if interval is None or interval.n == 0:
            parts.append(f"{name}: not measured")
            continue
        number = f"{decided.arm} {interval:{spec}}"
        if prediction.kind == "measured":
            return f"{decided.arm}: {interval:{spec}}: {HOLDS[decided.holds]}"
        if gap is None:
            parts.append(f"{name}: {number}: no gap")
        else:
            half = format(gap / 2, spec.removeprefix("+"))
            parts.append(f"{name}: {number} (half the gap {half}): {HOLDS[decided.holds]}")
    return "; ".join(parts) or "not measured"


def anatomy_table(results: Results) -> Table:
    """What gradients and updates hold of the steering direction."""
    rows = [{**vars(a), "norm": results.gradient_norms[a.optimizer]} for a in results.anatomy]
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
        "trained weights. Means over seeds and logged steps at each arm's best rate; shares of a "
        "component are signed. |gradient| is before clipping: the arms that clip do so at "
        "clip_norm, and where no gradient is longer they are their plain twins."
    )
    return Table("Gradients and updates along the vector", columns, rows, caption)


def pictures(results: Results) -> list[Picture]:
    """One sentence a picture says what it shows."""
    main = [arm for arm in results.best if arm.optimizer in MAIN]
    names = {arm.optimizer for arm in main}
    return [
        Picture(
            "arms",
            "Every arm",
            "Each line is one arm at its best rate with its 95% interval: how well the student's "
            "shift agrees with the vector, how much of the vector it makes up, and how much more "
            f"often than its control it says {results.trait}; AdamW and SGD are drawn through.",
            draw_arms(results.best),
        ),
        Picture(
            "eas_against_rate",
            "Alignment at every learning rate",
            "Each point is one student at the end of training; the ring marks the rate that "
            "held-out loss chose.",
            plots.learning_rate_curves(
                [row for row in results.students if row.optimizer in names],
                best=chosen_rates(main),
                styles=assign_styles(MAIN),
            ),
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
            plots.decile_bars(decile_rows(a for a in results.anatomy if a.optimizer in names)),
        ),
    ]


def describe_data(results: Results) -> str:
    """Where the pairs come from."""
    return "\n\n".join(
        f"{name}: {report['pairs']} pairs ({report['source']}), at most {report['longest']} tokens."
        for name, report in results.data.items()
    )
