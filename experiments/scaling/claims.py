"""What papers say of the gap between Adam and SGD, each by an interval against zero."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from subliminal_jax.evaluation.claim_settings import TrainedStudents, describe_setting
from subliminal_jax.evaluation.claims import Claim, Evidence, Presupposition
from subliminal_jax.evaluation.margins import EAS
from subliminal_jax.evaluation.metric_ranges import COSINE
from subliminal_jax.evaluation.statistics import Interval

from .analysis import BestStudents, CellResult, Gap, Results, compare_vectors


class Statement(NamedTuple):
    """A claim before its verdict: `effect` is what it states to be above zero, of the students of
    `model`; `where` is what its setting has beyond the base's; `cells` are those whose students it
    is about."""

    name: str
    claim: str
    section: str
    model: str
    where: str
    effect: Interval | None
    cells: tuple[CellResult, ...]
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
            number=_describe_effect(results, statement.effect),
            seeds=len(results.vectors) if statement.effect is None else statement.effect.n,
            evidence=Evidence(
                statement.effect,
                margin=EAS,
                presupposes=statement.presupposes,
            ),
            unstable=sum(
                row.unstable
                for cell in statement.cells
                for row in cell.best
                if row.optimizer in results.pair
            ),
            model=statement.model,
        )
        for statement in statements
    ]


def _describe_effect(results: Results, effect: Interval | None) -> str:
    if effect is None:
        return "no vector has sound students of both"
    count = len(results.vectors)
    return f"EAS {effect:+.2f}" + ("" if effect.n == count else f", {effect.n} of {count} vectors")


def _describe_setting(results: Results, statement: Statement) -> str:
    count = len(results.tuning_vectors)
    return describe_setting(
        model=statement.model,
        layer=next(r.layer for r in results.cells if r.cell.model == statement.model),
        vectors=f"{results.describe_vectors()} of norm {results.base.cell.norm:g}",
        carrier=f"{results.rows} {results.carrier}; {statement.where}",
        students=TrainedStudents(
            "LoRA",
            results.steps,
            " and ".join(results.pair),
            f"each at a rate chosen on {count} other vectors" if count else "rates as given",
        ),
    )


def _gap_statements(results: Results) -> Iterator[Statement]:
    lead, other = results.pair
    base = results.base
    for result in results.select_factor("model"):
        model = result.cell.model
        end = "" if result is base else f"-{model.rpartition('/')[2]}"
        where = f"rank {base.cell.rank}"
        ahead = (_transmits(result, lead), _inside(results, result))
        yield Statement(
            f"gap{end}",
            f"Students of {lead} align with the vector better than those of {other}",
            "Blank et al. 2026, figure 7, b and c",
            model,
            where,
            _interval(result.gap.equal_steps),
            (result,),
            ahead,
        )
        yield Statement(
            f"gap-at-matched-loss{end}",
            f"{lead} stays ahead of {other} at equal training loss",
            "Blank et al. 2026, appendix L",
            model,
            where,
            _interval(result.gap.matched_loss),
            (result,),
            ahead,
        )
    best = base.select_optimizer(other)
    yield Statement(
        "plain-sgd",
        f"Students of {other} at their best rate align with the vector better than controls",
        "Nief et al. 2026 (arXiv 2606.00831)",
        base.cell.model,
        f"rank {base.cell.rank}",
        best.eas.difference,
        (base,),
        (Presupposition("an EAS above zero", best.eas.student, to_refute=None),),
    )


def _rank_statements(results: Results) -> Iterator[Statement]:
    lead, model = results.pair[0], results.base.cell.model
    selected = results.select_factor("rank")
    ranks = ", ".join(str(result.cell.rank) for result in selected)
    best = [result.select_optimizer(lead) for result in selected]
    if len(best) > 1 and all(row.choice.rate is not None for row in best):
        effects = sorted((row.eas.difference for row in best), key=_low_end)
        yield Statement(
            "every-rank",
            f"{lead} aligns at every LoRA rank",
            "Blank et al. 2026, robustness",
            model,
            f"ranks {ranks}, minus controls; the least clear one",
            effects[0],
            tuple(selected),
            tuple(Presupposition("another rank", effect, to_refute=None) for effect in effects[1:]),
        )
    if len(best) > 2:
        yield Statement(
            "inverted-u",
            "Transfer is larger at middle LoRA ranks than at both ends (means)",
            "Nief et al. 2026 (arXiv 2606.00831)",
            model,
            f"{lead}, ranks {ranks}; middle minus ends",
            _interval(_contrast(best[1:-1], [best[0], best[-1]])),
            tuple(selected),
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
                else _interval(compare_vectors(first.values, second.values, COSINE.difference())),
                (results.base, result),
                (
                    Presupposition(f"{lead} leads with all tokens", _interval(first)),
                    _inside(results, results.base, result),
                ),
            )


def _transmits(result: CellResult, optimizer: str) -> Presupposition:
    """That its students align more than their controls."""
    difference = result.select_optimizer(optimizer).eas.difference
    return Presupposition(f"students of {optimizer} align more than controls", difference)


def _inside(results: Results, *cells: CellResult) -> Presupposition:
    """That no better rate is likely outside of those that were tried."""
    rows = [cell.select_optimizer(name) for cell in cells for name in results.pair]
    return Presupposition(
        "the best rates lie inside of those tried", holds=not any(row.at_edge for row in rows)
    )


def _interval(gap: Gap | None) -> Interval | None:
    return None if gap is None else gap.interval


def _low_end(effect: Interval | None) -> float:
    return -math.inf if effect is None else effect.low


def _contrast(middle: Sequence[BestStudents], ends: Sequence[BestStudents]) -> Gap | None:
    """The mean EAS of `middle` minus that of `ends`, over the vectors that all have."""
    vectors = set.intersection(*(set(row.values) for row in (*middle, *ends)))

    def average(rows: Sequence[BestStudents]) -> Mapping[str, float]:
        return {v: float(np.mean([row.values[v] for row in rows])) for v in sorted(vectors)}

    return compare_vectors(average(middle), average(ends))
