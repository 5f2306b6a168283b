"""What the paper on logit-linear selection states, and the verdicts on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subliminal_jax.evaluation.claim_settings import (
    TrainedStudents,
    describe_grids,
    describe_setting,
)
from subliminal_jax.evaluation.claims import Claim, Evidence, Presupposition
from subliminal_jax.evaluation.comparison import is_at_edge
from subliminal_jax.evaluation.margins import ANSWER_SHARE, CORRELATION, TRAIT_RATE
from subliminal_jax.evaluation.statistics import Interval
from subliminal_jax.evaluation.student_rows import ended_sound

from .analysis import RANDOM_OVER_BOTTOM, Metrics, Pooled, Results

PAPER = "Aden-Ali et al. 2026"
ARM_NAMES = {"lls": "selected", "random": "random", "bottom": "lowest"}
MARGINS = {
    "cosine": CORRELATION,
    "share": ANSWER_SHARE,
    "rate": ANSWER_SHARE,
    "word_rate": TRAIT_RATE,
}
EDGE = " (edge of its grid)"
COMPARED = {"cosine": "correlation", "share": "mentions", "word_rate": "rate"}


@dataclass(frozen=True)
class Statement:
    """What is claimed of one metric.

    Attributes:
      arm: the arm whose own numbers have to be on the claimed side of zero (below it for "bottom");
        "" for none.
      difference: key of the difference that has to be above zero.
    """

    name: str
    text: str
    source: str
    metric: str
    arm: str = ""
    difference: str = "random"


def make_statements(whose: str) -> list[Statement]:
    """What is claimed, where the scores are `whose` ("its own model's")."""
    return [
        Statement(
            name="correlation",
            text=f"A student of pairs selected by {whose} scores shifts pairs that were never "
            "selected as the system prompt does, one of random pairs less so (Corr, uncentred)",
            source="theorem 2.2",
            metric="cosine",
            arm="lls",
        ),
        Statement(
            name="bottom",
            text="A student of the pairs with the lowest scores shifts them the other way (Corr "
            "below zero, and below that of random pairs)",
            source="theorem 2.2",
            metric="cosine",
            arm="bottom",
            difference=RANDOM_OVER_BOTTOM,
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
    """Verdicts by the two-way t over targets and seeds of the difference that each statement needs;
    where it speaks of an arm by itself, that arm's own numbers are presupposed. With more than one
    optimizer, each has claims of its own, and AdamW is compared with SGD.

    A statement whose numbers are missing (diverged students, answers without an animal) is
    inconclusive, and the claim says why; it is left out only where the run does not measure it.
    """
    crossed = results.student != results.model
    suffix = f"-{results.model.split('/')[-1]}" if results.model != "shipped" else ""
    suffix += f"-to-{results.student.split('/')[-1]}" if crossed else ""
    statements = make_statements("another model's" if crossed else "its own model's")
    claims = []
    for optimizer, grid in results.grids.items():
        edge = EDGE if is_at_edge(results.best[optimizer], grid) else ""
        setting = describe_students(results, {optimizer: grid}, edge)
        tail = (f"-{optimizer}" if len(results.grids) > 1 else "") + suffix
        for statement in statements:
            if is_measured(results, statement.metric) and (statement.arm or "lls") in results.arms:
                number, evidence = weigh_statement(results, optimizer, statement)
                claims.append(
                    Claim(
                        id=f"logit-linear-selection/{statement.name}{tail}",
                        claim=statement.text,
                        section=f"{PAPER}, {statement.source}",
                        setting=setting,
                        number=number,
                        seeds=results.seeds,
                        evidence=evidence,
                        model=results.student,
                    )
                )
    if all(label in results.grids for label in ("adamw", "sgd")):
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


def describe_students(
    results: Results, grids: Mapping[str, Sequence[float]], edge: str = ""
) -> str:
    """The setting of claims on the students of these optimizers."""
    rates = ", ".join(f"{name} {results.best[name]}" for name in grids)
    return describe_setting(
        model=f"{results.model} selects, {results.student} is trained",
        layer="",
        vectors=f"no vectors: system prompts of {len(results.targets)} {results.kind}",
        carrier=f"DPO (beta {results.beta:g}) on pairs: {results.pairs}",
        students=TrainedStudents(
            results.adapter, results.steps, f"{rates}{edge}", describe_grids(grids)
        ),
    )


def weigh_statement(results: Results, optimizer: str, statement: Statement) -> tuple[str, Evidence]:
    """The numbers of one statement, and what its verdict follows from."""
    result = results.optimizers.get(optimizer)
    arms: Mapping[str, Metrics] = {} if result is None else result.arms
    intervals = _pooled_intervals(arms, statement.metric)
    values = ", ".join(f"{interval:.2f} {ARM_NAMES[arm]}" for arm, interval in intervals.items())
    differences = {} if result is None else result.differences
    difference = differences.get(statement.difference, {}).get(statement.metric)
    if difference is None or (statement.arm and statement.arm not in intervals):
        reason = explain_missing(results, optimizer, statement.metric)
        return "; ".join(text for text in (values, reason) if text), Evidence(None)
    presupposes: tuple[Presupposition, ...] = ()
    if statement.arm:
        interval = intervals[statement.arm]
        side, interval = ("below", -interval) if statement.arm == "bottom" else ("above", interval)
        presupposes = (
            Presupposition(f"{ARM_NAMES[statement.arm]} pairs' own is {side} zero", interval),
        )
    label = "random - lowest" if statement.difference == RANDOM_OVER_BOTTOM else "difference"
    evidence = Evidence(
        difference.pooled, margin=MARGINS[statement.metric], presupposes=presupposes
    )
    return f"{values}; {label} {difference.pooled:.2f}", evidence


def explain_missing(results: Results, optimizer: str, metric: str) -> str:
    """Why an optimizer's students have no number."""
    if results.best[optimizer] is None:
        return "no number: students diverged at every rate"
    rows = [row for row in results.students if row.optimizer == optimizer]
    unsound = [f"{row.data} (seed {row.seed})" for row in rows if not ended_sound(row)]
    if unsound:
        return f"no number: diverged or unstable, {', '.join(unsound)}"
    missing = sum(row.get(metric) is None or None in row[metric] for row in rows)
    reasons = {"share": "mention no animal", "rate": "were not read by the judge"}
    reason = reasons.get(metric, "lack it")
    return f"no number: answers of {missing} of {len(rows)} students {reason}"


def optimizer_claim(results: Results, metric: str, name: str, suffix: str) -> Claim:
    """AdamW over SGD: does the optimizer matter here, as it does for steering vectors? Left open
    where a best rate is at the edge of its grid: a better one may lie outside."""
    two = ("adamw", "sgd")
    edges = [
        label for label, grid in results.grids.items() if is_at_edge(results.best[label], grid)
    ]
    selected = {
        label: interval
        for label, result in results.optimizers.items()
        for interval in _pooled_intervals({"lls": result.arms["lls"]}, metric).values()
    }
    parts, evidence = [], Evidence(None)
    difference: Pooled | None = results.adamw_over_sgd.get(metric)
    if difference is None:
        parts += [
            f"{label}: {explain_missing(results, label, metric)}"
            for label in two
            if label not in selected
        ]
    else:
        parts.append(f"adamw - sgd {difference.pooled:.2f}")
        if open_labels := [label for label in two if label in edges]:
            parts[0] += f", left open: best rate of {' and '.join(open_labels)} at its grid's edge"
        else:
            ahead = results.optimizers["adamw"].differences.get("random", {}).get(metric)
            evidence = Evidence(
                difference.pooled,
                margin=MARGINS[metric],
                presupposes=(
                    Presupposition(
                        "AdamW's students take up more of it than those of random pairs",
                        None if ahead is None else ahead.pooled,
                    ),
                ),
            )
    each = ", ".join(
        f"{label}{EDGE if label in edges else ''} {interval:.2f}"
        for label, interval in selected.items()
    )
    return Claim(
        id=f"logit-linear-selection/adamw-over-sgd-{name}{suffix}",
        claim="The optimizer matters here, too: AdamW's students take up more of the target than "
        "SGD's, each at its best rate",
        section="Blank et al. 2026, figure 7, of steering vectors",
        setting=describe_students(results, results.grids),
        number="; ".join([*parts, *([each] if each else [])]),
        seeds=results.seeds,
        evidence=evidence,
        model=results.student,
    )


def _pooled_intervals(arms: Mapping[str, Metrics], metric: str) -> dict[str, Interval]:
    """The pooled interval of each arm that has the metric."""
    pooled = {arm: metrics[metric] for arm, metrics in arms.items()}
    return {arm: value.pooled for arm, value in pooled.items() if value is not None}
