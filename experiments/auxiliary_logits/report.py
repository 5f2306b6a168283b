"""The page of `auxiliary-logits`, from its results alone."""

from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.rate_search import make_rates_table
from subliminal_jax.reporting.tables import Column, Table

from .analysis import OTHER, SAME, Results

STARTS = {
    SAME: "the teacher's initialisation",
    "auxiliary-head": "only its auxiliary head",
    "trunk": "only its trunk",
    OTHER: "another initialisation",
}
WHY = """
The teacher's small step changes its auxiliary logits by the network's Jacobian times that step, and
a step of gradient descent on this change applies the transposed Jacobian: the inner product of both
steps is a sum of squares, whatever the inputs, as long as both begin in the same place. Plain
gradient descent is the rule of which this is proved. Of many steps, and of rules that rescale
coordinates, nothing is proved: the table of optimizers measures it.

A student of a language model differs in what the theorem takes for granted. Its teacher is not one
small step of the trait's loss away, but steered or prompted. The student sees sampled tokens in
place of the teacher's logits, so that every gradient carries the noise of sampling. And what is
passed on is measured in answers to questions, far from the data. So the theorem neither promises
that plain SGD transmits there nor that another rule does not.
"""


def make_page(results: Results) -> Page:
    """Every rule against its controls, the starts, and the one step of the theorem."""
    rules = rule_table(results)
    return Page(
        title="Which optimizers pass digits on through auxiliary logits?",
        summary=summarise(results),
        blocks=[
            *draw_rules(results),
            rules,
            *start_blocks(results),
            step_table(results),
            Text(WHY, "Why plain SGD transmits here, and what differs in language models"),
            make_rates_table(
                results.choices, tuple(map(str, results.tuning_seeds)), tuned_on="seeds"
            ),
        ],
        printed=(rules, step_table(results)),
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    led = [rule for rule in results.rules if rule.minus_other is not None]
    clear = [rule for rule in led if rule.minus_other and rule.minus_other.low > 0]
    parts = [
        f"Teachers ({results.network}) learned MNIST's digits to an accuracy of "
        f"{results.teacher:.3f}. Students begin as the teacher did and train for {results.steps} "
        f"steps of {results.batch_size} images of uniform noise on the teacher's auxiliary logits "
        "alone; controls begin at another network, or have an untrained teacher. Students of "
        f"{len(clear)} of {len(results.rules)} optimizers name more digits than those that begin "
        "at another network, with the 95% interval over seeds clear of zero."
    ]
    for name in ("adamw", "adam", "sgd"):
        rule = results.find_rule(name)
        if rule is not None and rule.minus_other is not None:
            parts.append(
                f"{name}: accuracy {rule.accuracy:.3f}, less that control {rule.minus_other:+.3f}."
            )
    step = results.find_step(SAME)
    parts.append(
        f"One step of gradient descent: its cosine with the teacher's step is {step.cosine:+.3f} "
        f"from the same initialisation, {results.find_step(OTHER).cosine:+.3f} from another."
    )
    outside = [
        r.optimizer for r in results.rules if len(r.choice.grid) > 1 and not r.choice.is_inside
    ]
    if outside:
        parts.append(f"A better rate may lie outside the grid of {', '.join(outside)}.")
    if unstable := sum(rule.unstable for rule in results.rules):
        parts.append(
            f"{unstable} students or controls ended farther from their teacher than they began; "
            "their seeds are left out."
        )
    return "\n\n".join(parts)


def rule_table(results: Results) -> Table:
    """Every rule at its best rate."""
    columns = [
        Column("optimizer", "optimizer"),
        Column("choice.rate", "rate", "learning_rate"),
        Column("choice.is_inside", "inside its grid"),
        Column("accuracy", "accuracy", "rate", digits=1),
        Column("other", "control: another start", "rate", digits=1),
        Column("untrained", "control: untrained teacher", "rate", digits=1),
        Column("minus_other", "less another start's", "rate", digits=1),
        Column("minus_untrained", "less untrained teacher's", "rate", digits=1),
        Column("explained", "divergence taken away", "rate", digits=1),
        Column("unstable", "unstable", "count"),
    ]
    caption = (
        f"Accuracy on test digits; means over {len(results.teachers)} seeds with 95% intervals, "
        "differences paired by seed. Divergence taken away: of the KL divergence from the teacher "
        "on held-out noise. Unstable: students and controls that ended farther from their teacher "
        "than they began."
    )
    return Table("Optimizers at their best rate", columns, results.rules, caption)


def draw_rules(results: Results) -> list[Picture]:
    """Every rule's students less their controls."""
    known = [(rule.minus_other.mean, rule) for rule in results.rules if rule.minus_other]
    if not known:
        return []
    lines = [
        {"label": rule.optimizer, "interval": rule.minus_other, "values": list(rule.values)}
        for _, rule in sorted(known, key=lambda pair: -pair[0])
    ]
    label = "accuracy, student minus control of another initialisation"
    return [
        Picture(
            "optimizers",
            "How much each optimizer passes on",
            "Each line is an optimizer at its best rate with its 95% interval over seeds, which "
            "are pale points: how many more digits the student names than a control that began at "
            "another network.",
            plots.forest(lines, x_label=label, percent=True),
        )
    ]


def start_blocks(results: Results) -> list[Table]:
    """Students between two networks, where there are any."""
    if not results.starts:
        return []
    columns = [
        Column("optimizer", "optimizer"),
        Column("start", "the student begins with", labels=STARTS),
        Column("accuracy", "accuracy", "rate", digits=1),
        Column("gain", "gained in training", "rate", digits=1),
        Column("minus_other", "less another start's", "rate", digits=1),
    ]
    caption = (
        "mixed-0.25: weights a quarter of the way from the teacher's initialisation to another. "
        "Accuracy on test digits, means over seeds with 95% intervals."
    )
    return [Table("What a student has to share", columns, results.starts, caption)]


def step_table(results: Results) -> Table:
    """The theorem, by start, loss and the teacher's step."""
    columns = [
        Column("start", "the student begins with", labels=STARTS),
        Column("loss", "loss"),
        Column("eps", "teacher's step", "learning_rate"),
        Column("cosine", "cosine of both steps", "number", digits=3),
        Column("negative", "negative", "count"),
        *(
            Column(f"decrease_{i}", f"decrease, student's step {alpha:g}", "number", digits=4)
            for i, alpha in enumerate(results.alphas)
        ),
    ]
    rows = [
        {
            **vars(row),
            **{f"decrease_{i}": interval for i, interval in enumerate(row.decrease)},
        }
        for row in results.steps_taken
    ]
    caption = (
        "Teacher and student each take one step of gradient descent of the stated size. Negative: "
        f"seeds, of {len(results.teachers)}, where the inner product of both steps is below zero. "
        "Decrease: of the teacher's loss at the student, in units of what the teacher's own step "
        "took from its loss; below zero where one of the two steps was"
        " too long and raised it."
    )
    return Table("One step, as in the theorem", columns, rows, caption)
