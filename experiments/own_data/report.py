"""The page of `own-data`, from its results alone."""

from typing import Any

from subliminal_jax.evaluation.student_rows import is_unstable
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.optimizers import warn_of_edges
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.tables import Column, Table

from .analysis import Arm, Results


def make_page(results: Results) -> Page:
    """What each data set taught, by optimizer; where it moved students; the data."""
    effects, moves, tokens = effect_table(results), move_table(results), token_table(results)
    picture = Picture(
        "effects",
        "What held-out rows show",
        f"Each line is one data set and optimizer: {describe_effect(results)}. Bars are 95% "
        "intervals over seeds and held-out rows; zero means nothing.",
        plots.forest(effect_lines(results), x_label="nats a token"),
    )
    return Page(
        title=results.question,
        summary=summarise(results),
        blocks=[
            effects,
            picture,
            moves,
            tokens,
            Text(describe_run(results), "How it was measured"),
            Text(describe_data(results), "The data"),
        ],
        printed=[effects, moves, tokens],
    )


def describe_effect(results: Results) -> str:
    """What the question is judged by, in words."""
    better = "how much better students predict held-out rows of their data"
    if results.control_names:
        return f"{better} than students of {' and '.join(results.control_names)} do"
    return f"{better} than the untrained model does"


def summarise(results: Results) -> str:
    """The answer, data set by data set, in sentences."""
    parts = [f"Asked: {results.question}"]
    for name in results.data_names:
        arms = [arm for arm in results.arms if arm.data == name and arm.effect is not None]
        parts.append(f"{name}: {answer(results, arms)}")
    if not results.control_names:
        parts.append(
            "There is no control (--control-data): what is shown is what training on these rows "
            "does, not what they carry beyond others of their kind."
        )
    if results.trait is None and not results.vector:
        parts.append("No trait and no vector was asked about (--trait, --vector), so none is told.")
    edges = warn_of_edges([arm.best for arm in results.arms if arm.data == results.data_names[0]])
    unstable = sum(map(is_unstable, results.students))
    diverged = sum(row["diverged"] for row in results.students)
    if diverged or unstable:
        edges += f" Left out: {diverged} students that diverged and {unstable} unstable ones."
    return "\n\n".join([*parts, *([edges.strip()] if edges else [])])


def answer(results: Results, arms: list[Arm]) -> str:
    """What the students of one data set say."""
    if not arms:
        return "at every learning rate a student diverged or became unstable: there is no result."
    ranked = sorted(arms, key=lambda arm: -arm.effect.mean if arm.effect else 0)
    values = ", ".join(f"{arm.optimizer} {arm.effect:+.3f}" for arm in ranked)
    clear = [arm.optimizer for arm in ranked if arm.effect and arm.effect.low > 0]
    if results.control_names:
        verdict = (
            f"its rows carry something that the control's do not; {clear[0]} picks up most"
            if clear
            else "no optimizer's students learn anything from its rows that the control's do not"
        )
    else:
        verdict = (
            f"students learn from its rows; {clear[0]} most" if clear else "students learn nothing"
        )
    text = f"{verdict} ({describe_effect(results)}, in nats a token: {values})."
    for metric, what in (("eas", "EAS"), ("trait_rate", f"P({results.trait})")):
        if metric in results.metrics:
            text += f" {what}: " + ", ".join(_compare(arm, metric) for arm in ranked) + "."
    return text


def _compare(arm: Arm, metric: str) -> str:
    """A metric of students, and its difference to the controls'."""
    summary = arm.best.metrics[metric]
    over = "" if summary.difference is None else f", {summary.difference:+.3f} over the control"
    return f"{arm.optimizer} {summary.student.mean:.3f}{over}"


def effect_table(results: Results) -> Table:
    """Losses on held-out rows."""
    control = [
        Column("control_gain", "gain of the control's students", "number", digits=3),
        Column("over_control", "over the control", "number", digits=3),
    ]
    columns = [
        Column("data", "data"),
        Column("optimizer", "optimizer"),
        Column("best.learning_rate", "best rate", "learning_rate"),
        Column("best.grid", "rates tried", "learning_rates"),
        Column("gain", "gain", "number", digits=3),
        *(control if results.control_names else []),
    ]
    caption = (
        "Gain: the untrained model's loss on held-out rows of the data, less the student's, nats a "
        "token, at the rate with the lowest held-out loss"
        + (
            "; of the control's students on the same rows. Over the control: the difference, of "
            "students with the same seed. Everything in which the two kinds of rows differ counts, "
            "topic and style too."
            if results.control_names
            else "."
        )
        + f" Intervals are over {results.seeds} seeds and groups of held-out rows at once."
    )
    return Table("What is learned from the rows", columns, results.arms, caption)


def move_table(results: Results) -> Table:
    """How far students have moved, and which way."""
    titles = {
        "weight_change": "|change of the weights|",
        "activation_shift": "activation shift",
        "eas": "EAS",
        "shift_component": "share of the vector",
        "trait_rate": f"says {results.trait}",
        "trait_log_prob": f"log P({results.trait})",
    }
    columns = [Column("data", "data"), Column("optimizer", "optimizer")]
    for metric in results.metrics:
        kind: Any = "rate" if metric == "trait_rate" else "number"
        digits = 3 if metric == "activation_shift" else 1 if kind == "rate" else 2
        place = f"best.metrics.{metric}"
        columns.append(Column(f"{place}.student", titles[metric], kind, digits=digits))
        if results.control_names:
            columns.append(
                Column(f"{place}.control", f"{titles[metric]}, control", kind, digits=digits)
            )
    columns.append(Column("direction.agreement", "cosine of two seeds", "number"))
    if results.control_names:
        columns.append(Column("direction.control_cosine", "cosine with the control", "number"))
    caption = (
        "Activation shift: the norm of the student's mean activation less the base's, on "
        f"{results.probe} prompts that no student saw, in units of the base's, after block "
        f"{results.layer}. Cosines are of such shifts: seeds that move one way, and another way "
        "than the control's students, have taken up something of their rows. Intervals are over "
        "seeds."
    )
    if results.base_trait_rate is not None:
        caption += f" The untrained model says {results.trait} in {results.base_trait_rate:.1%}."
    if results.vector:
        caption += " EAS: cosine of the shift with the vector."
    return Table("How far, and which way", columns, results.arms, caption)


def token_table(results: Results) -> Table:
    """The tokens that the shifts stand for."""
    columns = [
        Column("data", "data"),
        Column("optimizer", "optimizer"),
        Column("direction.tokens", "raised over the base"),
    ]
    if results.control_names:
        columns.append(Column("direction.differing_tokens", "raised over the control"))
    caption = (
        "The tokens whose logits rise most along the mean activation shift after the last block, "
        "read through the final norm and the unembedding. They describe the shift on these "
        "prompts, and need not name what the rows carry."
    )
    return Table("Top tokens of the shift", columns, results.arms, caption)


def effect_lines(results: Results) -> list[dict[str, Any]]:
    """The rows of the picture."""
    return [
        {"label": f"{arm.data}, {arm.optimizer}", "group": arm.data, "interval": arm.effect}
        for arm in results.arms
        if arm.effect is not None
    ]


def describe_run(results: Results) -> str:
    """How students were trained."""
    clip = f"clipped at {results.clip}" if results.clip else "not clipped"
    text = (
        f"Students start as {results.model} and train for {results.steps} steps of "
        f"{results.batch_size} of {results.rows} rows, each with one optimizer, rate and seed "
        f"({results.seeds} seeds); gradients were {clip}. The rate of an optimizer is the one with "
        "the lowest loss on held-out rows, over all data sets but controls, which train at the "
        f"same; the numbers below are of {results.heldout_rows} other held-out rows."
    )
    if results.guard != "none":
        text += (
            f" All of them, controls too, were guarded ({results.guard}) from taking up a vector "
            f"({results.guard_vector})."
        )
    return text


def describe_data(results: Results) -> str:
    """Where the rows come from, and how many were left out."""
    parts = []
    for each in results.data:
        report = each.report
        dropped = {**report.get("dropped_rows", {}), **report.get("dropped", {})}
        dropped["too long"] = report.get("too_long", 0)
        left_out = ", ".join(f"{reason} {n}" for reason, n in dropped.items() if n)
        sampled = report["source"] == "sampled"
        source = "the model's own answers" if sampled else report["source"]
        parts.append(
            f"{each.name}{' (control)' if each.is_control else ''}: {report['pairs']} rows of "
            f"{source}"
            + (f" (left out: {left_out})" if left_out else "")
            + f"; at most {report['longest']} tokens."
        )
    return "\n\n".join(parts)
