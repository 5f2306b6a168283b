"""The page of `divergence-tokens`, from its results alone."""

from typing import Any

from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_kinds import KIND_NAMES
from subliminal_jax.reporting import plots
from subliminal_jax.reporting.page import Page, Picture, Text
from subliminal_jax.reporting.student_kinds import (
    describe_kinds,
    describe_unstable,
    rates_table,
)
from subliminal_jax.reporting.tables import Column, Table

from .analysis import LEADER, METRICS, NAMES, OTHER, Results
from .token_sets import LARGEST

ARM_NAMES = {
    "all": "all tokens",
    "masked": "divergence tokens masked",
    "random-masked": "as many random ones masked",
    "alone": "divergence tokens alone",
    "random-alone": "as many random ones alone",
    "weighted": "divergence tokens weighted up",
}
RARE = 0.25  # a larger share of the tokens is not a few


def make_page(results: Results) -> Page:
    """Transmission by the tokens in the loss, AdamW's lead, what the tokens hold of the gradient,
    and how it was measured."""
    arms, contrasts = arms_table(results), contrasts_table(results)
    leads = [lead_table(results)] if results.leads else []
    gradients = gradient_table(results)
    return Page(
        title="Do divergence tokens carry the transmission?",
        summary=summarise(results),
        blocks=[
            *arm_pictures(results),
            arms,
            contrasts,
            *leads,
            gradient_picture(results),
            gradients,
            token_table(results),
            Text(describe_method(results), "How it was measured"),
            rates_table(results),
            Text(describe_data(results), "The data"),
        ],
        printed=(arms, contrasts, gradients),
    )


def summarise(results: Results) -> str:
    """What came out, in sentences."""
    held, share = results.held, results.held.tokens
    others = len(results.counterfactual_traits) - 1
    parts = [
        f"Students of {results.model} read what {len(results.traits)} teachers wrote, with chosen "
        f"tokens in the loss. {share.mean:.1%} of the teachers' tokens are divergence tokens: "
        f"{results.describe_share()}, of {others}."
        + (
            " They are not rare here: whether a few tokens carry the trait cannot be tested."
            if share.mean > RARE
            else ""
        )
    ]
    for adapter in results.adapters:
        for optimizer in results.optimizers:
            arms = [
                f"{ARM_NAMES[arm.arm]} {write(arm.metrics['eas'].difference)} and "
                f"{write(arm.metrics['shift_component'].difference)}"
                for arm in results.results
                if (arm.adapter, arm.optimizer) == (adapter, optimizer)
            ]
            parts.append(
                "EAS and share of the vector, students less their controls "
                f"({KIND_NAMES[adapter]}, {optimizer}): " + "; ".join(arms) + "."
            )
    parts += [
        f"AdamW's lead over SGD in EAS ({KIND_NAMES[lead.adapter]}): {write(lead.by_arm['all'])} "
        f"on all tokens, {write(lead.by_arm['alone'])} on divergence tokens alone."
        for lead in results.leads
        if lead.metric == "eas" and {"all", "alone"} <= set(results.arms)
    ]
    component = "an unknown share" if held.component is None else f"{held.component.mean:.0%}"
    parts.append(
        f"Of the base's gradient divergence tokens hold {component} of the component along the "
        f"vector and {held.squared.mean:.0%} of the square, and they are {share.mean:.0%} of the "
        "tokens."
    )
    if text := describe_unstable(results):
        parts.append(text)
    return "\n\n".join(parts)


def write(interval: Interval | None) -> str:
    """The interval with its sign, or that there is none."""
    return "unknown" if interval is None else f"{interval:+.2f}"


def arms_table(results: Results) -> Table:
    """Every arm against its controls."""
    rows = [{"name": ARM_NAMES[arm.arm], "arm": arm} for arm in results.results]
    columns = [
        Column("arm.adapter", "student", labels=KIND_NAMES),
        Column("arm.optimizer", "optimizer"),
        Column("name", "tokens in the loss"),
        Column("arm.choice.rate", "best rate", "learning_rate"),
        Column("arm.metrics.eas.student", "EAS", "number"),
        Column("arm.metrics.eas.control", "EAS, controls", "number"),
        *(
            Column(
                f"arm.metrics.{metric}.difference",
                f"{NAMES[metric]}, student - controls",
                "number",
                digits=3 if metric == "word_log_prob" else 2,
            )
            for metric in METRICS
        ),
        Column("arm.gain", "gain, all tokens", "number", digits=4),
        Column("arm.unstable", "unstable"),
    ]
    caption = (
        f"Means over {len(results.traits)} vectors with 95% intervals over vectors; controls of an "
        "arm are trained with its weights. Gain: the base's loss less the student's on held-out "
        "rows of its data, nats a token, with all tokens. Unstable: data sets whose student ended "
        "above the base's loss on held-out rows with the arm's weights, or diverged; left out. In "
        f'"{ARM_NAMES["weighted"]}" a divergence token weighs {results.emphasis:g} times another.'
    )
    return Table("By the tokens in the loss", columns, rows, caption)


def contrasts_table(results: Results) -> Table:
    """Arms against their counterparts."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for c in results.contrasts:
        row = rows.setdefault(
            (c.adapter, c.optimizer, c.arm, c.other),
            {
                "adapter": c.adapter,
                "optimizer": c.optimizer,
                "arm": ARM_NAMES[c.arm],
                "other": ARM_NAMES[c.other],
                "metrics": {},
            },
        )
        row["metrics"][c.metric] = c.difference
    columns = [
        Column("adapter", "student", labels=KIND_NAMES),
        Column("optimizer", "optimizer"),
        Column("arm", "tokens in the loss"),
        Column("other", "less"),
        *(Column(f"metrics.{metric}", NAMES[metric], "number", digits=3) for metric in METRICS),
    ]
    caption = (
        "What one arm transmits less what the other does, each student minus its controls, paired "
        "by vector; 95% intervals over vectors."
    )
    return Table("One arm against another", columns, list(rows.values()), caption)


def lead_table(results: Results) -> Table:
    """AdamW's lead over SGD on the tokens of each arm."""
    rows = [
        {
            "adapter": lead.adapter,
            "metric": NAMES[lead.metric],
            "arm": ARM_NAMES[arm],
            "lead": lead.by_arm[arm],
            "lost": lead.lost.get(arm),
        }
        for lead in results.leads
        for arm in results.arms
    ]
    columns = [
        Column("adapter", "student", labels=KIND_NAMES),
        Column("metric", "in"),
        Column("arm", "tokens in the loss"),
        Column("lead", f"{LEADER} - {OTHER}", "number", digits=3),
        Column("lost", "that on all tokens, less this", "number", digits=3),
    ]
    caption = (
        "Each student minus its controls, paired by vector, at each rule's best rate for the arm. "
        "If AdamW gains because divergence tokens are rare, its lead on all tokens is larger than "
        "on these alone."
    )
    return Table("AdamW's lead", columns, rows, caption)


def gradient_table(results: Results) -> Table:
    """What divergence tokens hold, over traits and by trait."""
    held = results.held
    rows = [
        {"trait": f"mean of {len(held.by_trait)}", "shares": held},
        *({"trait": trait, "shares": shares} for trait, shares in held.by_trait.items()),
    ]
    columns = [
        Column("trait", "data of"),
        Column("shares.tokens", "of tokens", "rate", digits=1),
        Column("shares.squared", "of the squared gradient", "rate", digits=1),
        Column("shares.component", "of the component along the vector", "rate", digits=1),
        Column("shares.outliers", f"of the largest {LARGEST:.0%}", "rate", digits=0),
        Column("shares.component_total", "component, a token", "number", digits=5),
    ]
    caption = (
        "The share that divergence tokens hold. Of each predicted token the gradient of its own "
        f"loss at the base, with respect to a vector after block {results.layer}; the component is "
        "that of the negative gradient, by which a step moves along the teacher's vector, and "
        "shares of it are signed (none where the whole is not positive). Intervals over traits."
    )
    return Table("What divergence tokens hold of the base's gradient", columns, rows, caption)


def token_table(results: Results) -> Table:
    """How many divergence tokens there are."""
    rows = [{"data": name, "count": count} for name, count in results.tokens.items()]
    columns = [
        Column("data", "data of"),
        Column("count.tokens", "tokens", "count"),
        Column("count.divergent", "divergence tokens", "rate", digits=1),
        Column("count.most_likely", "written the most likely one", "rate", digits=1),
    ]
    caption = (
        f"Of the training answers. A divergence token is one where {results.describe_share()}. "
        "Controls were written by the plain model, in whose place a trait's teacher stands."
    )
    return Table("Divergence tokens by data set", columns, rows, caption)


def arm_pictures(results: Results) -> list[Picture]:
    """Student minus controls by arm, one picture a metric."""
    several = len(results.adapters) > 1
    pictures = []
    for metric in METRICS:
        label = f"{NAMES[metric]}, student minus controls"
        lines = [
            {
                "label": ARM_NAMES[arm.arm] + (f", {KIND_NAMES[arm.adapter]}" if several else ""),
                "group": arm.optimizer,
                "interval": compared.difference,
                "values": [each.interval.mean for each in compared.by_data.values()],
            }
            for arm in results.results
            for compared in [arm.metrics[metric]]
            if compared.difference is not None
        ]
        pictures.append(
            Picture(
                metric,
                NAMES[metric],
                f"{label}, by the tokens in the loss: means with 95% intervals over vectors, and "
                "each vector as a pale point.",
                plots.forest(lines, x_label=label),
            )
        )
    return pictures


def gradient_picture(results: Results) -> Picture:
    """Shares of gradients against the share of tokens."""
    held = results.held
    lines = [
        {"label": label, "interval": interval}
        for label, interval in (
            ("of tokens", held.tokens),
            ("of the squared gradient", held.squared),
            ("of the component along the vector", held.component),
            (f"of the largest {LARGEST:.0%} of gradients", held.outliers),
        )
        if interval is not None
    ]
    return Picture(
        "gradients",
        "What divergence tokens hold",
        "The share that divergence tokens hold of the base's gradients on the teachers' data, with "
        "95% intervals over traits.",
        plots.forest(lines, x_label="share that divergence tokens hold", percent=True),
    )


def describe_method(results: Results) -> str:
    """What is a divergence token, and how arms are compared."""
    making = "the vector of its trait" if results.teacher == "steered" else "its system prompt"
    return (
        f"A teacher has {making}. What it wrote is read again by the teachers of "
        f"{', '.join(results.counterfactual_traits)}: a position is a divergence token where "
        f"{results.describe_share()} from it in the most likely next token, given the same words "
        "so far. What was sampled there does not matter (the paper's teachers write the most "
        "likely token). Random tokens are drawn for each row, as many as it has divergence tokens "
        "in its answer, once for all arms.\n\n"
        "Controls learn what the plain model wrote, with the same kind of mask: there a trait's "
        "teacher (another one for each draw) stands in the plain model's place. Where one teacher "
        "that differs is enough, this is no choice: not all agree, whichever is the first. A mask "
        "of random positions would compare a student of uncertain tokens with one of any.\n\n"
        "Each arm and optimizer has a learning rate of its own, found by the held-out loss with "
        "the arm's own weights, and controls of its own.\n\n" + describe_kinds(results)
    )


def describe_data(results: Results) -> str:
    """How many of each teacher's answers were kept."""
    return "\n\n".join(
        f"{name}: {report.get('kept', report['pairs'])} of {report['pairs']} answers kept, at most "
        f"{report['longest']} tokens."
        for name, report in results.data.items()
    )
