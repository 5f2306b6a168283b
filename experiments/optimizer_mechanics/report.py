"""The page of `optimizer-mechanics`, from its results alone."""

from collections.abc import Mapping

from subliminal_jax.evaluation.verdicts import JudgedPrediction
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.style import assign_styles
from subliminal_jax.reporting.tables import Column, Table, format_learning_rate

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
    rows = [
        {
            "arm": arm.optimizer,
            "learning_rate": arm.learning_rate,
            "grid": ", ".join(map(format_learning_rate, arm.grid)),
            "heldout_loss": arm.metrics["heldout_loss"].student,
            "eas": arm.metrics["eas"].student,
            "control_eas": arm.metrics["eas"].control,
            "share": arm.metrics["shift_component"].student,
            "trait_gain": arm.metrics["trait_rate"].difference,
            "eas_minus_sgd": arm.minus_sgd["eas"],
        }
        for arm in results.best
    ]
    columns = [
        Column("arm", "arm"),
        Column("learning_rate", "best rate", "learning_rate"),
        Column("grid", "rates tried"),
        Column("heldout_loss", "held-out loss", "number", digits=3),
        Column("eas", "EAS", "number"),
        Column("control_eas", "control", "number"),
        Column("share", "share of the vector", "number"),
        Column("trait_gain", f"says {results.trait}, minus control", "rate", 1),
        Column("eas_minus_sgd", "EAS minus SGD's", "number"),
    ]
    caption = (
        "Means over seeds with 95% t intervals; the last column is paired by seed. Held-out loss: "
        "nats a token on plain rows of the training kind, which alone chose the rate. The base "
        f"says {results.trait} in {results.reference.base:.1%} of answers, the teacher in "
        f"{results.reference.teacher:.1%}."
    )
    return Table("At the best learning rate", columns, rows, caption)


def matched_table(results: Results) -> Table:
    """Every arm and its AdamW where they reach one training loss."""
    rows = [
        {
            "arm": arm.optimizer,
            "upper": arm.upper,
            "loss": arm.loss,
            "eas": arm.metrics["eas"].arm,
            "upper_eas": arm.metrics["eas"].upper,
            **{f"{metric}_difference": pair.difference for metric, pair in arm.metrics.items()},
        }
        for arm in results.matched_loss
    ]
    columns = [
        Column("arm", "arm"),
        Column("upper", "against"),
        Column("loss", "at loss", "number", digits=3),
        Column("eas", "EAS", "number"),
        Column("upper_eas", "EAS, other", "number"),
        Column("eas_difference", "other minus arm", "number"),
        Column("shift_component_difference", "share, other minus arm", "number"),
        Column("trait_rate_difference", "trait rate, other minus arm", "rate", 1),
    ]
    caption = (
        "For each seed the level is the lowest training loss that both reach; between logged steps "
        "values are interpolated linearly in the loss. Trait rates here are without controls."
    )
    return Table("At one training loss", columns, rows, caption)


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
    rows = [
        {
            "arm": anatomy.optimizer,
            "norm": results.gradient_norms[anatomy.optimizer],
            "gradient_cosine": anatomy.gradient.cosine,
            "update_cosine": anatomy.update.cosine,
            "gradient_top_percent": anatomy.gradient.top_mass.hundredth,
            "gradient_top_percent_component": anatomy.gradient.top_component.hundredth,
            "update_top_tenth": anatomy.update.top_mass.tenth,
            "update_top_tenth_component": anatomy.update.top_component.tenth,
            "update_a_mass": anatomy.update.a_mass,
            "update_a_component": anatomy.update.a_component,
        }
        for anatomy in results.anatomy
    ]
    columns = [
        Column("arm", "arm"),
        Column("norm", "|gradient|", "number"),
        Column("gradient_cosine", "cos(gradient, score)", "number", digits=3),
        Column("update_cosine", "cos(update, score)", "number", digits=3),
        Column("gradient_top_percent", "gradient² in top 1%", "rate", digits=0),
        Column("gradient_top_percent_component", "component in top 1%", "rate", digits=0),
        Column("update_top_tenth", "update² in top 10%", "rate", digits=0),
        Column("update_top_tenth_component", "component in top 10%", "rate", digits=0),
        Column("update_a_mass", "update² on LoRA A", "rate", digits=0),
        Column("update_a_component", "component on LoRA A", "rate", digits=0),
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
    chosen = [
        {"optimizer": arm.optimizer, "learning_rate": arm.learning_rate}
        for arm in main
        if arm.learning_rate is not None
    ]
    deciles = [
        {
            "optimizer": anatomy.optimizer,
            "gradient_mass": anatomy.gradient.decile_mass[::-1],
            "steering_component": anatomy.gradient.decile_component[::-1],
        }
        for anatomy in results.anatomy
        if anatomy.optimizer in MAIN
    ]
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
                best=chosen,
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
            plots.decile_bars(deciles),
        ),
    ]


def describe_data(results: Results) -> str:
    """Where the pairs come from."""
    return "\n\n".join(
        f"{name}: {report['pairs']} pairs ({report['source']}), at most {report['longest']} tokens."
        for name, report in results.data.items()
    )
