"""What papers say of the gap between Adam and SGD, each by an interval against zero."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from subliminal_jax.evaluation.claim_settings import (
    TrainedStudents,
    describe_grids,
    describe_setting,
)
from subliminal_jax.evaluation.claims import Claim, Evidence, Presupposition
from subliminal_jax.evaluation.margins import EAS

from .analysis import BestStudents, CellResult, Gap, Results, compare_seeds


class Statement(NamedTuple):
    """A claim before its verdict: `gap` is what it states to be above zero, of the students of
    `model`; `where` is what its setting has beyond the base's."""

    name: str
    claim: str
    section: str
    model: str
    where: str
    gap: Gap | None
    presupposes: tuple[Presupposition, ...] = ()


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
            setting=_describe_setting(results, statement),
            number="no sound students"
            if statement.gap is None
            else f"EAS {statement.gap.interval:+.2f}",
            seeds=results.seeds if statement.gap is None else len(statement.gap.seeds),
            evidence=Evidence(
                None if statement.gap is None else statement.gap.interval,
                margin=EAS,
                presupposes=statement.presupposes,
            ),
            model=statement.model,
        )
        for statement in statements
    ]


def _describe_setting(results: Results, statement: Statement) -> str:
    vector = "a random vector" if results.vector == "random" else f"the vector of {results.vector}"
    return describe_setting(
        model=statement.model,
        layer=next(r.layer for r in results.cells if r.cell.model == statement.model),
        vectors=f"{vector} of norm {results.base.cell.norm:g}",
        carrier=f"{results.rows} {results.carrier}; {statement.where}",
        students=TrainedStudents(
            "LoRA",
            results.steps,
            " and ".join(results.pair),
            describe_grids(results.grids),
        ),
    )


def _gap_statements(results: Results) -> Iterator[Statement]:
    lead, other = results.pair
    base = results.base
    for result in results.select_factor("model"):
        model = result.cell.model
        end = "" if result is base else f"-{model.rpartition('/')[2]}"
        where = f"rank {base.cell.rank}"
        ahead = (_transmits(result, lead),)
        yield Statement(
            f"gap{end}",
            f"Students of {lead} align with the vector better than those of {other}",
            "Blank et al. 2026, figure 7, b and c",
            model,
            where,
            result.gap.equal_steps,
            ahead,
        )
        yield Statement(
            f"gap-at-matched-loss{end}",
            f"{lead} stays ahead of {other} at equal training loss",
            "Blank et al. 2026, appendix L",
            model,
            where,
            result.gap.matched_loss,
            ahead,
        )
    best = base.select_optimizer(other)
    yield Statement(
        "plain-sgd",
        f"Students of {other} at their best rate align with the vector better than controls",
        "Nief et al. 2026 (arXiv 2606.00831)",
        base.cell.model,
        f"rank {base.cell.rank}",
        compare_seeds(best.values, best.control_values),
        (Presupposition("an EAS above zero", best.eas.steered),),
    )


def _rank_statements(results: Results) -> Iterator[Statement]:
    lead, model = results.pair[0], results.base.cell.model
    selected = results.select_factor("rank")
    ranks = ", ".join(str(result.cell.rank) for result in selected)
    best = [result.select_optimizer(lead) for result in selected]
    if len(best) > 1 and all(row.learning_rate is not None for row in best):
        gaps = sorted((compare_seeds(row.values, row.control_values) for row in best), key=_low_end)
        yield Statement(
            "every-rank",
            f"{lead} aligns at every LoRA rank",
            "Blank et al. 2026, robustness",
            model,
            f"ranks {ranks}, minus controls; the least clear one",
            gaps[0],
            tuple(
                Presupposition("another rank", None if gap is None else gap.interval)
                for gap in gaps[1:]
            ),
        )
    if len(best) > 2:
        yield Statement(
            "inverted-u",
            "Transfer is larger at middle LoRA ranks than at both ends (means)",
            "Nief et al. 2026 (arXiv 2606.00831)",
            model,
            f"{lead}, ranks {ranks}; middle minus ends",
            _contrast(best[1:-1], [best[0], best[-1]]),
            (_transmits(results.base, lead),),
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
                "Kunstner et al. 2024 (arXiv 2402.19449)",
                results.base.cell.model,
                f"rank {results.base.cell.rank}; all tokens minus {tail}",
                None
                if first is None or second is None
                else compare_seeds(first.values_by_seed(), second.values_by_seed()),
                (
                    Presupposition(
                        f"{lead} leads with all tokens", None if first is None else first.interval
                    ),
                ),
            )


def _transmits(result: CellResult, optimizer: str) -> Presupposition:
    """That its students align more than their controls."""
    difference = result.select_optimizer(optimizer).eas.difference
    return Presupposition(f"students of {optimizer} align more than controls", difference)


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
