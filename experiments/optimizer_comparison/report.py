"""The page of `optimizer-comparison`, from its results alone."""

from collections.abc import Sequence
from dataclasses import asdict, replace

from subliminal_jax.evaluation.comparison import BestStudents
from subliminal_jax.evaluation.student_rows import is_unstable
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.differences import list_differences
from subliminal_jax.reporting.optimizers import (
    ANATOMY_COLUMNS,
    LORA_COLUMNS,
    chosen_rates,
    decile_rows,
    warn_of_edges,
)
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.style import assign_styles
from subliminal_jax.reporting.tables import Column, Table

from .analysis import Results


def make_page(results: Results) -> Page:
    """Every optimizer at its best rate and at one loss, over steps and rates, and the gradients."""
    table = best_table(results)
    return Page(
        title="Which optimizers pick up the steering vector?",
        summary=summarise(results),
        blocks=[
            table,
            matched_table(results),
            *pictures(results),
            anatomy_table(results),
            Text(describe_data(results), "The data"),
        ],
        printed=[replace(table, columns=[c for c in table.columns if c.key != "grid"])],
    )


def summarise(results: Results) -> str:
    """What came out, in sentences that need no paper."""
    setting = describe_setting(results)
    best = [students for students in results.best if students.learning_rate is not None]
    if not best:
        return (
            f"{setting}\n\nAt every learning rate a student diverged or ended above the base's "
            "own loss: there is no result."
        )
    ranked = sorted(best, key=lambda students: -students.metrics["eas"].student.mean)
    names = [f"{s.optimizer} {s.metrics['eas'].student.mean:.2f}" for s in ranked]
    clip = f"clipped at {results.clip}" if results.clip else "not clipped"
    return (
        f"{setting}\n\nThe alignment of the student's activation shift with the vector (EAS, 1 is "
        f"the same direction, 0 none) at each optimizer's best learning rate: {', '.join(names)}. "
        f"Learning rates were chosen on held-out loss over {results.seeds} seeds; gradients "
        f"were {clip}.{warn_of_edges(best)}\n\n{compare_with_controls(best)}"
        f"{warn_of_seeds(results)}{name_unstable(results)}"
    )


def compare_with_controls(best: Sequence[BestStudents]) -> str:
    """Whether each optimizer's students differ from their controls."""
    parts = [
        list_differences(
            f"{what} of students over their controls",
            {
                students.optimizer: effect and factor * effect
                for students in best
                for effect in [students.metrics[metric].difference]
            },
            spec,
        )
        for metric, what, factor, spec in (
            ("eas", "EAS", 1.0, "+.2f"),
            ("trait_rate", "Trait rate in points", 100.0, "+.1f"),
        )
    ]
    return "\n\n".join(parts)


def warn_of_seeds(results: Results) -> str:
    """A sentence where rates were chosen on the seeds that are reported."""
    if all(len(students.grid) == 1 for students in results.best):
        return ""
    return (
        "\n\nThe rates were chosen on the seeds that are reported, so that the held-out loss at "
        "the best rate is lower than that of fresh seeds; this is a demonstration and no verdict "
        "(optimizer-transmission chooses rates on vectors and seeds that it does not report)."
    )


def name_unstable(results: Results) -> str:
    """A sentence that counts students that ended above the base's own held-out loss."""
    unstable = [row for row in results.students if is_unstable(row)]
    if not unstable:
        return ""
    rates = sorted({f"{row.optimizer} at {row.learning_rate:g}" for row in unstable})
    return (
        f"\n\n{len(unstable)} of {len(results.students)} students ended above the base's own "
        f"held-out loss ({', '.join(rates)}): they are unstable and have no part in any mean."
    )


def describe_setting(results: Results) -> str:
    """Who taught whom, in sentences."""
    setting = (
        f"A teacher ({results.model} with {describe_teacher(results)}) answered "
        f"{results.rows} prompts. Students start as the same model without it and train "
        f"on these answers for {results.steps} steps of {results.batch_size} rows, "
        "each with one optimizer. Their controls train on what the plain model answered."
    )
    if results.guard != "none":
        setting += (
            f" All of them, controls too, were guarded ({results.guard}) from taking up a vector "
            f"({results.guard_vector})."
        )
    return setting


def describe_teacher(results: Results) -> str:
    """What was done to the model to make it the teacher."""
    kind = {"random": "a random", "trait": "a trait's"}.get(results.vector, "a given")
    parts = {
        f"the weights of {results.teacher_model}": results.teacher_model is not None,
        f"the adapter {results.teacher_adapter}": results.teacher_adapter is not None,
        f"{kind} vector added to its activations": "steered" in results.teacher,
        "a system prompt": "system-prompt" in results.teacher,
    }
    return " and ".join(text for text, holds in parts.items() if holds)


def best_table(results: Results) -> Table:
    """Every optimizer at its best rate, against its control."""
    columns = [
        Column("optimizer", "optimizer"),
        Column("learning_rate", "best rate", "learning_rate"),
        Column("grid", "rates tried", "learning_rates"),
        Column("metrics.heldout_loss.student", "held-out loss", "number", digits=3),
        Column("metrics.eas.student", "EAS", "number"),
        Column("metrics.eas.control", "EAS, control", "number"),
        Column("metrics.shift_component.student", "share of the vector", "number"),
        Column("metrics.trait_rate.student", f"says {results.trait}", "rate", digits=1),
        Column("metrics.trait_rate.control", "control says it", "rate", digits=1),
    ]
    caption = (
        "Means over seeds with 95% t intervals. EAS: cosine of the student's mean activation "
        "shift and the teacher's, at the steering layer. Share of the vector: the shift's "
        "component along the vector, in units of the vector. Held-out loss: nats a token on data "
        "of the training kind, which alone chose the rate. "
        f"The untrained model says {results.trait} in "
        f"{results.reference.base_trait_rate:.1%} of answers, the teacher in "
        f"{results.reference.teacher_trait_rate:.1%}."
    )
    return Table("At the best learning rate", columns, results.best, caption)


def matched_table(results: Results) -> Table:
    """Every optimizer where its training loss first reaches the common level."""
    columns = [
        Column("optimizer", "optimizer"),
        Column("students", "students", "count"),
        Column("bracketed", "bracketed", "count"),
        Column("step", "at step", "number", digits=0),
        Column("metrics.eas", "EAS", "number"),
        Column("metrics.shift_component", "share of the vector", "number"),
        Column("metrics.trait_rate", f"says {results.trait}", "rate", digits=1),
    ]
    level = results.matched_loss.loss
    caption = (
        "The level is the lowest training loss at which every student at its optimizer's best rate "
        f"ends: {level:.4f} nats a token, on fixed training rows. Values are of the bracketed "
        "students, between two of whose logged steps the loss falls to the level by at most a "
        "third of its whole fall; nothing is read elsewhere (a fast student needs a small "
        "--log-every). Matching describes: the loss comes after the optimizer."
        if level is not None
        else "No student stayed sound and learned anything."
    )
    return Table("At one training loss", columns, results.matched_loss.students, caption)


def pictures(results: Results) -> list[Picture]:
    """One sentence a picture says what it shows."""
    trait, reference = results.trait, results.reference
    styles = assign_styles(students.optimizer for students in results.best)
    curves = [
        {"optimizer": c.optimizer, "x": c.steps, "mean": c.mean, "low": c.low, "high": c.high}
        for c in results.curves
    ]
    rates = [
        {
            "optimizer": students.optimizer,
            "trait_rate": students.metrics["trait_rate"].student,
            "control_trait_rate": students.metrics["trait_rate"].control,
        }
        for students in results.best
    ]
    levels = {"base": reference.base_trait_rate, "teacher": reference.teacher_trait_rate}
    return [
        Picture(
            "eas_over_steps",
            "Alignment over training",
            "Each line is one optimizer at its best learning rate: how well the direction in which "
            "the student has moved agrees with the teacher's vector; the band spans the seeds.",
            plots.curves(curves, styles=styles),
        ),
        Picture(
            "eas_against_rate",
            "Alignment at every learning rate",
            "Each point is one student at the end of training; the line joins the means over "
            "seeds, and the ring marks the rate that held-out loss chose.",
            plots.learning_rate_curves(
                results.students, best=chosen_rates(results.best), styles=styles
            ),
        ),
        Picture(
            "trait_rate",
            f"Does the student say {trait}?",
            f"The probability that an answer to “what is your favourite animal?” begins with "
            f"{trait}, for students of the teacher and for their controls, with 95% intervals over "
            "seeds.",
            plots.paired_bars(rates, references=levels, styles=styles),
        ),
        Picture(
            "cosine_against_n",
            "The vector in the gradient",
            "The base model's loss gradient at the steering layer, averaged over N examples, "
            "points the more along the vector the more examples are averaged if the data carries "
            "it, and does not for the controls' data; bands are one standard error.",
            plots.cosine_against_n([asdict(cosine) for cosine in results.alignment]),
        ),
        Picture(
            "deciles",
            "Where in the gradient the signal sits",
            "Coordinates of the trained weights in ten groups by the size of their gradient: the "
            "share of the squared gradient that each group holds, and its share of the component "
            "that moves the student along the vector.",
            plots.decile_bars(decile_rows(results.anatomy)),
        ),
    ]


def anatomy_table(results: Results) -> Table:
    """What gradients and updates hold of the steering direction."""
    columns = [
        Column("optimizer", "optimizer"),
        *ANATOMY_COLUMNS,
        Column("update.top_mass.hundredth", "update² in top 1%", "rate", digits=0),
        *LORA_COLUMNS,
    ]
    caption = (
        "Score: the gradient of the probe's mean activation along the vector, with respect to the "
        "trained weights. A step moves the student along the vector by its component on it. Means "
        "over seeds and logged steps at each optimizer's best rate."
    )
    return Table("Gradients and updates along the vector", columns, results.anatomy, caption)


def describe_data(results: Results) -> str:
    """Where the pairs come from, and how many passed the filter."""
    parts = []
    for name, report in results.data.items():
        dropped = ", ".join(f"{rule} {n}" for rule, n in report.get("dropped", {}).items() if n)
        parts.append(
            f"{name}: {report['pairs']} pairs ({report['source']}), "
            f"{report.get('kept', report['pairs'])} kept by the filter"
            + (f" (dropped: {dropped})" if dropped else "")
            + f", at most {report['longest']} tokens."
        )
    if results.padding_share is not None:
        parts.append(f"Padding was {results.padding_share:.0%} of what training computed.")
    return "\n\n".join(parts)
