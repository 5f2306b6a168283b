"""Hard against soft labels, from students and gradients: best rates, rows needed, claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.activation_gradients import doubling
from subliminal_jax.evaluation.comparison import at_edge, best_rates
from subliminal_jax.evaluation.crossing import find_crossing
from subliminal_jax.evaluation.statistics import mean_interval, paired_difference
from subliminal_jax.runs.claims import claim, verdict
from subliminal_jax.runs.students import Panel
from subliminal_jax.serialization import to_json

Row = Mapping[str, Any]
OWN_LOSS = {"cross_entropy": "heldout_loss", "kl": "heldout_kl"}  # what chooses the rate
PAIRS = (
    ("hard", "soft"), ("hard", "v"), ("soft", "v"),
    ("hard", "fisher"), ("soft", "fisher"), ("fisher", "v"),
)  # fmt: skip
SOURCE = "Chen et al. 2026, abstract"


# -- gradients ---------------------------------------------------------------------------------


def gradient_rows(
    teacher: str,
    gradients: Mapping[str, Float[Array, "rows dim"]],
    vector: Float[Array, " dim"],
    draws: int,
) -> list[dict[str, Any]]:
    """Cosines of `PAIRS` between means over n rows (v is the vector itself), for n in powers of 2.

    In each draw (an equal part of the rows) the cosine is averaged over its disjoint groups of n;
    `values` are those of the draws, `cosine` their mean with its interval.
    """
    g = {name: np.asarray(rows, np.float64) for name, rows in gradients.items()}
    size = len(next(iter(g.values()))) // draws
    v = np.asarray(vector, np.float64)
    table = []
    for n in doubling(size):
        means = {name: _group_means(rows, draws, size, n) for name, rows in g.items()}
        means["v"] = np.broadcast_to(v, means["hard"].shape)
        for a, b in PAIRS:
            values = _cosines(means[a], means[b]).mean(axis=1).tolist()
            table.append(
                {
                    "teacher": teacher,
                    "pair": f"{a}-{b}",
                    "n": n,
                    "values": values,
                    "cosine": mean_interval(values).to_dict(),
                }
            )
    return table


def _group_means(
    rows: Float[np.ndarray, "rows dim"], draws: int, size: int, n: int
) -> Float[np.ndarray, "draws groups dim"]:
    groups = size // n
    parts = rows[: draws * size].reshape(draws, size, -1)[:, : groups * n]
    return parts.reshape(draws, groups, n, -1).mean(axis=2)


def _cosines(
    a: Float[np.ndarray, "*n dim"], b: Float[np.ndarray, "*n dim"]
) -> Float[np.ndarray, "*n"]:
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.sum(a * b, axis=-1) / np.where(norms == 0, 1.0, norms)


# -- students ----------------------------------------------------------------------------------


def held_against_controls(
    students: Sequence[Row], traits: Mapping[str, str | None], panel: Panel, layer: int
) -> list[dict[str, Any]]:
    """One row for each objective, optimizer, teacher and number of rows, at its best rate.

    Everything at the steering layer. `difference` is the trait's probability (and `log_difference`
    its logarithm), the student's minus that of the control of the same objective, rows, rate and
    seed; None for a vector without a trait. `values` are the EAS by seed.
    """
    table = []
    for objective, optimizer, teacher, n in _cells(students):
        mine = [
            r for r in students
            if (r["objective"], r["optimizer"], r["rows"]) == (objective, optimizer, n)
        ]  # fmt: skip
        judged = [
            {**r, "heldout_loss": r[OWN_LOSS[objective]]} for r in mine if r["data"] == teacher
        ]
        rate = best_rates(judged)[optimizer]
        grid = sorted({r["learning_rate"] for r in judged})
        at = {r["seed"]: r for r in mine if _is_at(r, teacher, rate)}
        control = {r["seed"]: r for r in mine if _is_at(r, "control", rate)}
        k, seeds = panel.references.index(teacher), sorted(at.keys() & control.keys())
        row: dict[str, Any] = {
            "objective": objective, "optimizer": optimizer, "teacher": teacher, "rows": n,
            "learning_rate": rate, "grid": grid,
            "grid_edge": at_edge(rate, grid),
            "seeds": seeds, "values": [at[s]["eas"][k][layer] for s in seeds],
            "difference": None, "log_difference": None,
        }  # fmt: skip
        for key, source, group in (
            ("eas", "eas", at), ("control_eas", "eas", control), ("share", "shift_component", at),
        ):  # fmt: skip
            row[key] = mean_interval([group[s][source][k][layer] for s in seeds]).to_dict()
        for key in OWN_LOSS.values():
            row[key] = mean_interval([at[s][key] for s in seeds]).to_dict()
        if (trait := traits[teacher]) is not None:
            word = panel.words.index(trait)
            for key, source in (("difference", "word_rate"), ("log_difference", "word_log_prob")):
                own, other = ([group[s][source][word] for s in seeds] for group in (at, control))
                row[key] = paired_difference(own, other).interval.to_dict()
        table.append(row)
    return table


def needed_rows(best: Sequence[Row], level: float) -> list[dict[str, Any]]:
    """For each objective, optimizer and teacher how many rows its students need for an EAS of
    `level`; left out where a seed diverged."""
    table = []
    for objective, optimizer, teacher in dict.fromkeys(
        (r["objective"], r["optimizer"], r["teacher"]) for r in best
    ):
        rows = _of(best, objective, optimizer, teacher)
        if len({tuple(r["seeds"]) for r in rows}) > 1 or not rows[0]["seeds"]:
            continue
        curves = np.array([r["values"] for r in rows]).T
        table.append(
            {
                "objective": objective,
                "optimizer": optimizer,
                "teacher": teacher,
                **to_json(find_crossing([r["rows"] for r in rows], curves, level)),
            }
        )
    return table


def _cells(students: Sequence[Row]) -> list[tuple[str, str, str, int]]:
    keys = ("objective", "optimizer", "data", "rows")
    cells = dict.fromkeys(tuple(r[k] for k in keys) for r in students if r["data"] != "control")
    return sorted(cells, key=lambda cell: cell[:3] + (cell[3],))  # type: ignore[return-value]


def _is_at(row: Row, data: str, rate: float | None) -> bool:
    return row["data"] == data and row["learning_rate"] == rate and not row["diverged"]


def _of(best: Sequence[Row], objective: str, optimizer: str, teacher: str) -> list[Row]:
    """The rows of one curve, by the number of rows."""
    wanted = (objective, optimizer, teacher)
    mine = [r for r in best if (r["objective"], r["optimizer"], r["teacher"]) == wanted]
    return sorted(mine, key=lambda r: r["rows"])


# -- claims ------------------------------------------------------------------------------------


def claims(
    best: Sequence[Row], gradients: Sequence[Row], adapter: str, model: str, seeds: int
) -> list[dict[str, Any]]:
    """Chen et al.'s statements, of the first optimizer; verdicts by intervals against zero."""
    optimizer = best[0]["optimizer"]
    teachers = list(dict.fromkeys(r["teacher"] for r in best))
    prompted = [t for t in teachers if t.startswith("system-prompt")]
    vectors = [t for t in teachers if t not in prompted]
    setting = f"{model}, {adapter} student, {optimizer}"
    out = []
    for names, key, what in (
        (vectors, "vector", "a steered teacher's vector"),
        (prompted, "system-prompt", "a system-prompted teacher's shift"),
    ):
        if names:
            out += _of_students(best, names, optimizer, key, what, setting, seeds)
            out += _of_gradients(gradients, names, key, what, model)
    return out


def _of_students(
    best: Sequence[Row], names: list[str], optimizer: str, key: str, what: str, setting: str,
    seeds: int,
) -> list[dict[str, Any]]:  # fmt: skip
    soft, hard = (
        {t: _of(best, objective, optimizer, t) for t in names}
        for objective in ("kl", "cross_entropy")
    )
    few, many = soft[names[0]][0]["rows"], hard[names[0]][-1]["rows"]
    aligned = _over_teachers([(soft[t][0], hard[t][-1]) for t in names])
    number, outcome = "students diverged", "not reproduced"
    if aligned is not None:
        number = f"EAS {_text(aligned, '+.2f')}: KL from {few} rows minus cross-entropy from {many}"
        outcome = verdict(aligned["low"], aligned["high"])
    out = [
        claim(
            f"objective/few-samples-{key}",
            f"KL to the teacher's distribution recovers {what} from few samples, hard labels do "
            "not from many more",
            SOURCE, setting, number, seeds, outcome,
        )
    ]  # fmt: skip
    for objective, rows, label in (("cross_entropy", hard, "hard labels"), ("kl", soft, "KL")):
        found = [rows[t][-1] for t in names if rows[t][-1]["log_difference"] is not None]
        if not found:
            continue
        # One trait's interval is over seeds; of several the least clear one decides.
        teacher = what.rpartition("'s ")[0]
        least = min(found, key=lambda r: _number(r["log_difference"]["low"]))
        d = least["log_difference"]
        out.append(
            claim(
                f"objective/names-trait-{objective.replace('_', '-')}-{key}",
                f"A student of {label} on the numbers of {teacher} names the trait more often "
                "than its control",
                "Blank et al. 2026, Sec. 3; Cloud et al. 2025",
                f"{setting}, {least['rows']} rows, {least['teacher']}",
                f"log P(trait) {_text(d, '+.2f')} over the control",
                seeds,
                verdict(d["low"], d["high"]),
            )
        )
    return out


def _of_gradients(
    gradients: Sequence[Row], names: list[str], key: str, what: str, model: str
) -> list[dict[str, Any]]:
    largest = max(r["n"] for r in gradients)

    def of(pair: str) -> Float[np.ndarray, " draws"]:
        """Each draw's cosine over the largest n, the mean over teachers."""
        rows = [
            r["values"] for r in gradients
            if (r["pair"], r["n"]) == (pair, largest) and r["teacher"] in names
        ]  # fmt: skip
        return np.mean(rows, axis=0)

    collinear = mean_interval(of("hard-soft") - np.maximum(of("hard-v"), of("soft-v"))).to_dict()
    fisher = mean_interval(of("soft-fisher") - of("soft-v")).to_dict()
    setting = f"{model}, mean over {largest} rows, {len(of('soft-v'))} draws"
    draws = len(of("soft-v"))
    return [
        claim(
            f"objective/collinear-gradients-{key}",
            "The first gradients of hard and soft labels agree more with each other than either "
            f"does with {what}",
            SOURCE, setting,
            f"cosines {of('hard-soft').mean():.2f} against {of('hard-v').mean():.2f} (hard) and "
            f"{of('soft-v').mean():.2f} (soft); difference {_text(collinear, '+.2f')}",
            draws, verdict(collinear["low"], collinear["high"]),
        ),
        claim(
            f"objective/fisher-direction-{key}",
            f"The first gradient points to F times {what} rather than to it",
            SOURCE, setting,
            f"cosine of the soft gradient {of('soft-fisher').mean():.2f} with F v, "
            f"{of('soft-v').mean():.2f} with v; difference {_text(fisher, '+.2f')}",
            draws, verdict(fisher["low"], fisher["high"]),
        ),
    ]  # fmt: skip


def _over_teachers(pairs: list[tuple[Row, Row]]) -> dict[str, Any] | None:
    """The difference in EAS by seed, averaged over teachers; None where a seed is missing."""
    if len({tuple(r["seeds"]) for pair in pairs for r in pair}) > 1 or not pairs[0][0]["seeds"]:
        return None
    first, second = (np.mean([pair[i]["values"] for pair in pairs], axis=0) for i in (0, 1))
    return paired_difference(first, second).interval.to_dict()


def _number(value: float | None) -> float:
    return float("-inf") if value is None or np.isnan(value) else value


def _text(interval: Row, form: str) -> str:
    mean, low, high = (interval[k] for k in ("mean", "low", "high"))
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"
