"""What the paper on logit-linear selection states, and the verdicts on it."""

from collections.abc import Sequence
from dataclasses import dataclass

from subliminal_jax.evaluation.claim_settings import TrainedStudents, describe_setting
from subliminal_jax.evaluation.claims import Claim, Evidence, Presupposition
from subliminal_jax.evaluation.margins import ANSWER_SHARE, CORRELATION, TRAIT_RATE
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_kinds import Comparison

from .analysis import OptimizerResult, Results

PAPER = "Aden-Ali et al. 2026"
ARM_NAMES = {"lls": "selected", "random": "random", "bottom": "lowest"}
MARGINS = {
    "cosine": CORRELATION,
    "share": ANSWER_SHARE,
    "rate": ANSWER_SHARE,
    "word_rate": TRAIT_RATE,
}
EDGE = " (edge of the rates tried)"
COMPARED = {"cosine": "correlation", "share": "mentions", "word_rate": "rate"}


@dataclass(frozen=True)
class Statement:
    """What is claimed of one metric.

    Attributes:
      arm: whose students are held against those of random pairs ("bottom" has to be below them).
      alone: whether their own numbers have to be on that side of zero, too.
    """

    name: str
    text: str
    source: str
    metric: str
    arm: str = "lls"
    alone: bool = False


def make_statements(whose: str) -> list[Statement]:
    """What is claimed, where the scores are `whose` ("its own model's")."""
    return [
        Statement(
            name="correlation",
            text=f"A student of pairs selected by {whose} scores shifts pairs that were never "
            "selected as the system prompt does, one of random pairs less so (Corr, uncentred)",
            source="theorem 2.2",
            metric="cosine",
            alone=True,
        ),
        Statement(
            name="bottom",
            text="A student of the pairs with the lowest scores shifts them the other way (Corr "
            "below zero, and below that of random pairs)",
            source="theorem 2.2",
            metric="cosine",
            arm="bottom",
            alone=True,
        ),
        Statement(
            name="mentions",
            text="The target's share of the animals that its answers mention rises over that of "
            "random pairs",
            source="section 4.1",
            metric="share",
        ),
        Statement(
            name="rate",
            text="Its answers show the target more often than those of random pairs",
            source="section 4",
            metric="rate",
        ),
        Statement(
            name="favorite",
            text="It names the target as its favourite animal more often than one of random pairs",
            source="not tested there",
            metric="word_rate",
        ),
    ]


def make_claims(results: Results) -> list[Claim]:
    """Verdicts by the difference to students of random pairs over targets; where a statement speaks
    of an arm by itself, that arm's own numbers are presupposed. With more than one optimizer, each
    has claims of its own, and AdamW is compared with SGD.

    A statement whose numbers are missing (unstable students, answers without an animal) is
    inconclusive, and the claim says why; it is left out only where the run does not measure it.
    """
    crossed = results.student != results.model
    suffix = f"-{results.model.split('/')[-1]}" if results.model != "shipped" else ""
    suffix += f"-to-{results.student.split('/')[-1]}" if crossed else ""
    statements = make_statements("another model's" if crossed else "its own model's")
    claims = []
    for optimizer, result in results.optimizers.items():
        tail = (f"-{optimizer}" if len(results.optimizers) > 1 else "") + suffix
        for statement in statements:
            if is_measured(results, statement.metric) and statement.arm in results.arms:
                number, evidence = weigh_statement(result, statement)
                claims.append(
                    Claim(
                        id=f"logit-linear-selection/{statement.name}{tail}",
                        claim=statement.text,
                        section=f"{PAPER}, {statement.source}",
                        setting=describe_students(results, [result.choice]),
                        number=number,
                        seeds=len(results.targets),
                        evidence=evidence,
                        unstable=len(result.unstable),
                        model=results.student,
                    )
                )
    if all(label in results.optimizers for label in ("adamw", "sgd")):
        claims += [
            optimizer_claim(results, metric, name, suffix)
            for metric, name in COMPARED.items()
            if is_measured(results, metric)
        ]
    return claims


def is_measured(results: Results, metric: str) -> bool:
    """Whether the run measures it at all: only the shipped world's animals are counted, no word
    names a persona, and a persona's rate needs a judge."""
    if metric == "share":
        return results.kind == "world-animals"
    if metric == "word_rate":
        return results.kind in ("world-animals", "animals")
    if metric == "rate" and results.kind == "personas":
        return None not in (results.untrained.base.rate or (None,))
    return True


def describe_students(results: Results, choices: Sequence[RateChoice]) -> str:
    """The setting of claims on the students of these optimizers."""
    rates = ", ".join(
        f"{c.optimizer} {c.rate if c.rate is None else f'{c.rate:g}'}"
        f"{EDGE if is_at_edge(c) else ''}"
        for c in choices
    )
    chosen = "rate as given"
    if results.tuning_targets:
        chosen = f"rate chosen on {len(results.tuning_targets)} other targets"
    whose = "an equal part of the pairs each" if results.own_pairs else "all select from the same"
    return describe_setting(
        model=f"{results.model} selects, {results.student} is trained",
        layer="",
        vectors=f"no vectors: system prompts of {len(results.targets)} {results.kind}",
        carrier=f"DPO (beta {results.beta:g}) on pairs: {results.pairs}, {whose}",
        students=TrainedStudents(results.adapter, results.steps, rates, chosen),
    )


def is_at_edge(choice: RateChoice) -> bool:
    """Whether a better rate may lie outside of those that were tried."""
    return choice.rate is not None and len(choice.grid) > 1 and not choice.is_inside


def weigh_statement(result: OptimizerResult, statement: Statement) -> tuple[str, Evidence]:
    """The numbers of one statement, and what its verdict follows from."""
    comparison = result.arms[statement.arm][statement.metric]
    if comparison is None or comparison.student is None or comparison.difference is None:
        return explain_missing(result, comparison, statement.metric), Evidence(None)
    own, difference = comparison.student, comparison.difference
    side, label = "above", "difference"
    number = f"{own:.2f} {ARM_NAMES[statement.arm]}, {comparison.control:.2f} random"
    if statement.arm == "bottom":
        own, difference, side, label = -own, -difference, "below", "random - lowest"
    presupposes: tuple[Presupposition, ...] = ()
    if statement.alone:
        text = f"{ARM_NAMES[statement.arm]} pairs' own is {side} zero"
        presupposes = (Presupposition(text, own, to_refute=None),)
    evidence = Evidence(difference, margin=MARGINS[statement.metric], presupposes=presupposes)
    return f"{number}; {label} {difference:.2f}", evidence


def explain_missing(result: OptimizerResult, comparison: Comparison | None, metric: str) -> str:
    """Why an optimizer's students have no number."""
    if result.choice.rate is None:
        return "no number: no rate was sound"
    if comparison is not None:
        return f"no number: no sound students to compare, {', '.join(result.unstable)} are unstable"
    reasons = {"share": "mention no animal", "rate": "were not read by the judge"}
    return f"no number: answers of a student {reasons.get(metric, 'lack it')}"


def optimizer_claim(results: Results, metric: str, name: str, suffix: str) -> Claim:
    """AdamW over SGD: does the optimizer matter here, as it does for steering vectors? Left open
    where a best rate is at the edge of those that were tried: a better one may lie outside."""
    two = {label: results.optimizers[label] for label in ("adamw", "sgd")}
    edges = [label for label, result in two.items() if is_at_edge(result.choice)]
    selected = {label: result.arms["lls"][metric] for label, result in two.items()}
    parts, evidence = [], Evidence(None)
    difference = results.adamw_over_sgd.get(metric)
    if difference is None:
        parts += [
            f"{label}: {explain_missing(two[label], comparison, metric)}"
            for label, comparison in selected.items()
            if comparison is None or comparison.student is None
        ] or ["no target has a sound student of both"]
    else:
        parts.append(f"adamw - sgd {difference:.2f}")
        if edges:
            parts[0] += (
                f", left open: best rate of {' and '.join(edges)} at the edge of those tried"
            )
        else:
            ahead = selected["adamw"]
            evidence = Evidence(
                difference,
                margin=MARGINS[metric],
                presupposes=(
                    Presupposition(
                        "AdamW's students take up more of it than those of random pairs",
                        None if ahead is None else ahead.difference,
                    ),
                ),
            )
    parts += [
        f"{label}{EDGE if label in edges else ''} {comparison.student:.2f}"
        for label, comparison in selected.items()
        if comparison is not None and comparison.student is not None
    ]
    return Claim(
        id=f"logit-linear-selection/adamw-over-sgd-{name}{suffix}",
        claim="The optimizer matters here, too: AdamW's students take up more of the target than "
        "SGD's, each at its best rate",
        section="Blank et al. 2026, figure 7, of steering vectors",
        setting=describe_students(results, [result.choice for result in two.values()]),
        number="; ".join(parts),
        seeds=len(results.targets),
        evidence=evidence,
        unstable=sum(len(result.unstable) for result in two.values()),
        model=results.student,
    )
