"""What papers say of the gap between Adam and SGD, each by an interval against zero."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from subliminal_jax.evaluation.claims import Claim, verdict

from .analysis import BestStudents, Gap, Results, compare_seeds


class Statement(NamedTuple):
    """A claim before its verdict: `gap` is what it states to be above zero."""

    name: str
    claim: str
    section: str
    setting: str
    gap: Gap | None


def make_claims(results: Results) -> list[Claim]:
    """Every statement that the cells of the run can test; none where the base's cell lacks one of
    the two optimizers."""
    names = {row.optimizer for row in results.base.best}
    if not names.issuperset(results.pair):
        return []
    statements = [*_gap_statements(results), *_rank_statements(results), *_tail_statements(results)]
    return [
        Claim(
            id=f"scaling/{statement.name}",
            claim=statement.claim,
            section=statement.section,
            setting=statement.setting,
            number="students diverged"
            if statement.gap is None
            else f"EAS {statement.gap.interval:+.2f}",
            seeds=results.seeds,
            verdict=verdict(None if statement.gap is None else statement.gap.interval),
        )
        for statement in statements
    ]


def describe_base(results: Results) -> str:
    """What all cells of one model have in common."""
    base = results.base.cell
    return f"rank {base.rank}, vector of norm {base.norm:g}"


def _gap_statements(results: Results) -> Iterator[Statement]:
    lead, other = results.pair
    base = results.base
    for result in results.select_factor("model"):
        model = result.cell.model
        end = "" if result is base else f"-{model.rpartition('/')[2]}"
        setting = f"{model}, {describe_base(results)}"
        yield Statement(
            f"gap{end}",
            f"Students of {lead} align with the vector better than those of {other}",
            "Blank et al. 2026, Fig. 7b-c",
            setting,
            result.gap.equal_steps,
        )
        yield Statement(
            f"gap-at-matched-loss{end}",
            f"{lead} stays ahead of {other} at equal training loss",
            "Blank et al. 2026, App. L",
            setting,
            result.gap.matched_loss,
        )
    best = base.select_optimizer(other)
    yield Statement(
        "plain-sgd",
        f"Students of {other} at their best rate align with the vector better than controls",
        "Nief et al. 2606.00831",
        f"{base.cell.model}, {describe_base(results)}",
        compare_seeds(best.values, best.control_values),
    )


def _rank_statements(results: Results) -> Iterator[Statement]:
    lead, model = results.pair[0], results.base.cell.model
    selected = results.select_factor("rank")
    ranks = ", ".join(str(result.cell.rank) for result in selected)
    best = [result.select_optimizer(lead) for result in selected]
    if len(best) > 1 and all(row.learning_rate is not None for row in best):
        yield Statement(
            "every-rank",
            f"{lead} aligns at every LoRA rank",
            "Blank et al. 2026, robustness",
            f"{model}, ranks {ranks}; the least clear one",
            min((compare_seeds(row.values, row.control_values) for row in best), key=_low_end),
        )
    if len(best) > 2:
        yield Statement(
            "inverted-u",
            "Transfer is larger at middle LoRA ranks than at both ends (means)",
            "Nief et al. 2606.00831",
            f"{model}, {lead}, ranks {ranks}; middle minus ends",
            _contrast(best[1:-1], [best[0], best[-1]]),
        )


def _tail_statements(results: Results) -> Iterator[Statement]:
    lead, other = results.pair
    for result in results.select_factor("tail"):
        tail = result.cell.tail
        if tail.startswith("frequent"):
            first, second = results.base.gap.equal_steps, result.gap.equal_steps
            yield Statement(
                f"tail-{tail}",
                f"{lead}'s lead over {other} shrinks where rare tokens are left out",
                "Kunstner et al. 2402.19449",
                f"{results.base.cell.model}, {describe_base(results)}; all tokens minus {tail}",
                None
                if first is None or second is None
                else compare_seeds(first.values_by_seed(), second.values_by_seed()),
            )


def _low_end(gap: Gap | None) -> float:
    return -math.inf if gap is None else gap.interval.low


def _contrast(middle: Sequence[BestStudents], ends: Sequence[BestStudents]) -> Gap | None:
    """The mean EAS of `middle` minus that of `ends`, by seed; None where one has no sound rate."""
    rows = [*middle, *ends]
    if any(row.learning_rate is None for row in rows):
        return None
    seeds = set.intersection(*(set(row.values) for row in rows))
    first, second = (
        {seed: float(np.mean([row.values[seed] for row in part])) for seed in seeds}
        for part in (middle, ends)
    )
    return compare_seeds(first, second)
