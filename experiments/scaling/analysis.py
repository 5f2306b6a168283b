"""The gap between two optimizers in every cell of a scaling study, its trends, and the claims."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from subliminal_jax.evaluation.comparison import at_best_rate, at_matched_loss, best_rates
from subliminal_jax.evaluation.statistics import mean_interval, paired_difference
from subliminal_jax.runs.claims import claim, verdict

from .cells import Cell, of_factor

Row = Mapping[str, Any]
METRICS = ("eas", "share", "gain", "heldout_loss")
NUMERIC = ("blocks", "rank", "norm", "rows")


def students_of(
    cell: Cell, rows: Sequence[Row], k: int, layer: int, base: float, teacher: float
) -> list[dict[str, Any]]:
    """The cell's students and controls with their numbers along its reference `k`.

    `data` becomes "steered" or "control". `gain` is the share of the loss between the base's and
    the teacher's own (`base` and `teacher`, on the held-out rows) that the student has made good;
    None where the teacher's is no smaller.
    """
    span = base - teacher
    out = []
    for r in rows:
        if (r.get("rank", 0), r.get("rows", 0)) != (cell.rank, cell.rows):
            continue
        if r["data"] not in (cell.data, cell.control):
            continue
        sound = r["eas"] is not None
        out.append(
            {
                **{key: r[key] for key in ("optimizer", "learning_rate", "seed", "diverged")},
                "data": "steered" if r["data"] == cell.data else "control",
                "heldout_loss": r.get("heldout_loss"),
                "train_loss": r["train_loss"],
                "eas": r["eas"][k][layer] if sound else None,
                "share": r["shift_component"][k][layer] if sound else None,
                "gain": (base - r["heldout_loss"]) / span
                if sound and span > 0 and r.get("heldout_loss") is not None
                else None,
                **({"step": r["step"]} if "step" in r else {}),
            }
        )
    return out


def cell_results(
    cell: Cell,
    students: Sequence[Row],
    logged: Sequence[Row],
    pair: tuple[str, str],
    level: float,
) -> dict[str, Any]:
    """Every optimizer of the cell at its best rate, and the gap in EAS between the two of `pair`.

    `logged` are the students' logged rows. The gap is taken at equal steps, and where the training
    losses of the two first reach one common level, seed by seed.
    """
    best = best_rates(students)
    table = at_best_rate(students, best, METRICS)
    for row in table:
        eas = row["eas"]
        row["reaches"] = eas["mean"] is not None and eas["mean"] > level
        row["values"] = _by_seed(students, row["optimizer"], row["learning_rate"], "steered")
        row["control_values"] = _by_seed(
            students, row["optimizer"], row["learning_rate"], "control"
        )
    by_name = {row["optimizer"]: row for row in table}
    gaps: dict[str, Any] = {"equal_steps": None, "matched_loss": None}
    if all(name in by_name for name in pair):
        first, second = (by_name[name]["values"] for name in pair)
        gaps["equal_steps"] = _gap(first, second)
        gaps["matched_loss"] = _gap(*_matched(logged, best, pair))
    return {**asdict(cell), "best": table, "gap": gaps}


def _matched(
    logged: Sequence[Row], best: Mapping[str, float | None], pair: tuple[str, str]
) -> tuple[dict[int, float], dict[int, float]]:
    """EAS by seed of both optimizers, where both have first come to that seed's common loss."""
    found: tuple[dict[int, float], dict[int, float]] = {}, {}
    for seed in sorted({r["seed"] for r in logged}):
        histories = {
            (name, seed): [
                r for r in logged
                if (r["optimizer"], r["learning_rate"], r["seed"]) == (name, best[name], seed)
                and r["data"] == "steered" and r["train_loss"] is not None and not r["diverged"]
            ]
            for name in pair
        }  # fmt: skip
        if all(histories.values()):
            rows = at_matched_loss(histories, ("eas",))["rows"]
            at = {row["optimizer"]: row["eas"]["mean"] for row in rows}
            for values, name in zip(found, pair, strict=True):
                values[seed] = at[name]
    return found


def _gap(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, Any] | None:
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    values = [first[s] - second[s] for s in seeds]
    interval = paired_difference(values, [0.0] * len(values)).interval
    return {**interval.to_dict(), "seeds": seeds, "values": values}


def _by_seed(
    students: Sequence[Row], optimizer: str, rate: float | None, data: str
) -> dict[int, float]:
    return {
        r["seed"]: r["eas"] for r in students
        if (r["optimizer"], r["learning_rate"], r["data"]) == (optimizer, rate, data)
        and r["eas"] is not None
    }  # fmt: skip


# -- factors -----------------------------------------------------------------------------------


def by_factor(cells: Mapping[Cell, Row], base: Cell, factor: str) -> list[tuple[Cell, Row]]:
    """The cells of one factor with their results, in the order of its levels."""
    return [(cell, cells[cell]) for cell in of_factor(list(cells), base, factor)]


def trends(
    cells: Mapping[Cell, Row], base: Cell, sizes: Mapping[tuple[str, Cell], float]
) -> list[dict[str, Any]]:
    """How the gap changes for each doubling of a numeric factor: each seed's slope of least
    squares, and their interval. `sizes[factor, cell]` is the level as a number."""
    table = []
    for factor in NUMERIC:
        mine = by_factor(cells, base, factor)
        for kind in ("equal_steps", "matched_loss"):
            gaps = [row["gap"][kind] for _, row in mine]
            if len(mine) < 2 or any(gap is None for gap in gaps):
                continue
            seeds = set.intersection(*(set(gap["seeds"]) for gap in gaps))
            if not seeds:
                continue
            x = [math.log2(sizes[factor, cell]) for cell, _ in mine]
            slopes = [
                float(np.polyfit(x, [g["values"][g["seeds"].index(s)] for g in gaps], 1)[0])
                for s in sorted(seeds)
            ]
            table.append({"factor": factor, "gap": kind, "slope": mean_interval(slopes).to_dict()})
    return table


# -- claims ------------------------------------------------------------------------------------


def claims(
    cells: Mapping[Cell, Row], base: Cell, pair: tuple[str, str], seeds: int
) -> list[dict[str, Any]]:
    """What papers say of the gap, each by an interval against zero."""
    lead, other = pair
    at = cells[base]
    around = f"rank {base.rank}, vector of norm {base.norm:g}"
    setting = f"{base.model}, {around}"
    of = {row["optimizer"]: row for row in at["best"]}
    if lead not in of or other not in of:
        return []
    rows = []
    for cell, row in by_factor(cells, base, "model"):
        end = "" if cell == base else f"-{Path(cell.model).name}"
        where = f"{cell.model}, {around}"
        rows += [
            (
                f"gap{end}",
                f"Students of {lead} align with the vector better than those of {other}",
                "Blank et al. 2026, Fig. 7b-c", where, row["gap"]["equal_steps"],
            ),
            (
                f"gap-at-matched-loss{end}",
                f"{lead} stays ahead of {other} at equal training loss",
                "Blank et al. 2026, App. L", where, row["gap"]["matched_loss"],
            ),
        ]  # fmt: skip
    rows.append(
        (
            "plain-sgd",
            f"Students of {other} at their best rate align with the vector better than controls",
            "Nief et al. 2606.00831", setting,
            _gap(of[other]["values"], of[other]["control_values"]),
        )
    )  # fmt: skip
    ranks = [(c.rank, _best(row, lead)) for c, row in by_factor(cells, base, "rank")]
    if len(ranks) > 1 and all(row is not None for _, row in ranks):
        names = ", ".join(str(rank) for rank, _ in ranks)
        lowest = min(
            (_gap(row["values"], row["control_values"]) for _, row in ranks if row is not None),
            key=lambda gap: -math.inf if gap is None else gap["low"],
        )
        rows.append(
            (
                "every-rank",
                f"{lead} aligns at every LoRA rank",
                "Blank et al. 2026, robustness",
                f"{base.model}, ranks {names}; the least clear one",
                lowest,
            )
        )
    if len(ranks) > 2:
        middle = [row for rank, row in ranks[1:-1]]
        rows.append(
            (
                "inverted-u",
                "Transfer is larger at middle LoRA ranks than at both ends (means)",
                "Nief et al. 2606.00831",
                f"{base.model}, {lead}, ranks {names}; middle minus ends",
                _contrast(middle, [ranks[0][1], ranks[-1][1]]),
            )
        )
    for cell, row in by_factor(cells, base, "tail"):
        if cell.tail.startswith("frequent"):
            first, second = at["gap"]["equal_steps"], row["gap"]["equal_steps"]
            rows.append(
                (
                    f"tail-{cell.tail}",
                    f"{lead}'s lead over {other} shrinks where rare tokens are left out",
                    "Kunstner et al. 2402.19449",
                    f"{setting}; all tokens minus {cell.tail}",
                    first and second and _gap(_seeds(first), _seeds(second)),
                )
            )
    return [
        claim(
            f"scaling/{name}", text, source, where,
            "students diverged" if gap is None else f"EAS {_text(gap)}",
            seeds,
            "not reproduced" if gap is None else verdict(gap["low"], gap["high"]),
        )
        for name, text, source, where, gap in rows
    ]  # fmt: skip


def _best(row: Row, optimizer: str) -> Row | None:
    found = [r for r in row["best"] if r["optimizer"] == optimizer]
    return found[0] if found and found[0]["learning_rate"] is not None else None


def _contrast(middle: Sequence[Row | None], ends: Sequence[Row | None]) -> dict[str, Any] | None:
    """The mean EAS of `middle` minus that of `ends`, by seed."""
    rows = [r for r in (*middle, *ends) if r is not None]
    if len(rows) < len(middle) + len(ends):
        return None
    seeds = set.intersection(*(set(r["values"]) for r in rows))
    first, second = (
        {s: float(np.mean([r["values"][s] for r in part if r])) for s in seeds}
        for part in (middle, ends)
    )
    return _gap(first, second)


def _seeds(gap: Row) -> dict[int, float]:
    return dict(zip(gap["seeds"], gap["values"], strict=True))


def _text(gap: Row) -> str:
    if math.isnan(gap["low"]):
        return f"{gap['mean']:+.2f}"
    return f"{gap['mean']:+.2f} [{gap['low']:+.2f}, {gap['high']:+.2f}]"
