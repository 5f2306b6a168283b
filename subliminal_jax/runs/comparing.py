"""Finished runs side by side: what differs in their settings, and what came out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.metric_ranges import find_range
from subliminal_jax.evaluation.statistics import Interval, mean_interval
from subliminal_jax.evaluation.two_samples import difference_interval
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.summaries import read_summary
from subliminal_jax.serialization import from_json

_STUDENT_KEYS = {"optimizer", "learning_rate", "seed", "data", "diverged", "heldout_loss"}
# Of an interval: those of today, and the ones that results of any version have.
_INTERVAL_KEYS = {f.name for f in fields(Interval)}
_LEAST_KEYS = {f.name for f in fields(Interval) if f.default is MISSING}
_NO_OUTCOMES = {"learning_rate", "seed", "diverged", "diverged_at", "rank", "rows"}


@dataclass(frozen=True)
class RunContent:
    """What config.json and results.json of a run, or its summary, hold."""

    settings: Mapping[str, Any]
    results: Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """A setting that differs; None where a run does not have it."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class ComparedClaim:
    """A claim's number and verdict in each run; None where the run does not test it."""

    id: str
    numbers: tuple[str | None, ...]
    verdicts: tuple[str | None, ...]


@dataclass(frozen=True)
class Outcome:
    """A column of the students of one optimizer on one data set, at each run's best rate.

    Attributes:
      rates: each run's rate with the lowest held-out loss.
      means: over seeds; None where a run has no such students.
      differences: of each run from the first, students of different runs taken as independent;
        None for the first, and where one of the two has no such students.
    """

    data: str
    optimizer: str
    column: str
    rates: tuple[float | None, ...]
    means: tuple[Interval | None, ...]
    differences: tuple[Interval | None, ...]


@dataclass(frozen=True)
class Estimate:
    """An interval that the results of at least one run state, by its place in them."""

    name: str
    values: tuple[Interval | None, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, in the order in which they were named."""

    runs: tuple[str, ...]
    settings: tuple[Setting, ...]
    claims: tuple[ComparedClaim, ...]
    outcomes: tuple[Outcome, ...]
    estimates: tuple[Estimate, ...]


def read_run(path: str | Path) -> RunContent:
    """A finished run's folder, or the file of a summary.

    Raises InputError for anything else.
    """
    path = Path(path)
    if path.is_dir():
        folder = RunFolder(path, None)
        try:
            return RunContent(folder.read_config()[0], folder.read_results())
        except InputError as error:
            raise InputError(f"{path} holds no finished run: {error}") from None
    summary = read_summary(path)
    claims = [{"id": c.id, "number": c.number, "verdict": c.verdict} for c in summary.claims]
    settings = {"experiment": summary.experiment, **summary.settings}
    return RunContent(settings, {**summary.results, "claims": claims})


def compare_runs(names: Sequence[str], contents: Sequence[RunContent]) -> Comparison:
    """The comparison of at least one run. Settings that all share are left out."""
    tables = [_read_students(content.results) for content in contents]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    columns = list(dict.fromkeys(c for t in tables for rows in t.values() for c in rows.columns))
    outcomes = [
        outcome
        for key in keys
        for column in columns
        if (outcome := _compare_students(key, column, [t.get(key) for t in tables])) is not None
    ]
    return Comparison(
        tuple(names),
        tuple(_compare_settings([content.settings for content in contents])),
        tuple(_compare_claims([content.results for content in contents])),
        tuple(outcomes),
        tuple(_compare_estimates([content.results for content in contents])),
    )


def _compare_settings(settings: Sequence[Mapping[str, Any]]) -> Iterator[Setting]:
    for name in dict.fromkeys(key for values in settings for key in values):
        values = tuple(run.get(name) for run in settings)
        if any(value != values[0] for value in values):
            yield Setting(name, values)


def _compare_claims(results: Sequence[Mapping[str, Any]]) -> Iterator[ComparedClaim]:
    tables = [{c["id"]: c for c in run.get("claims", [])} for run in results]
    for name in dict.fromkeys(key for table in tables for key in table):
        entries = [table.get(name, {}) for table in tables]
        yield ComparedClaim(
            name,
            tuple(entry.get("number") for entry in entries),
            tuple(entry.get("verdict") for entry in entries),
        )


@dataclass(frozen=True)
class _BestStudents:
    rate: float
    columns: Mapping[str, list[float]]


def _read_students(results: Mapping[str, Any]) -> dict[tuple[str, str], _BestStudents]:
    """The numbers of students at the best rate of their optimizer, by data set and optimizer."""
    best: dict[tuple[str, str], _BestStudents] = {}
    for rows in results.values():
        if not (isinstance(rows, list) and rows and all(map(_is_student, rows))):
            continue
        rates = best_rates(rows)
        for data, optimizer in dict.fromkeys((row["data"], row["optimizer"]) for row in rows):
            rate = rates.get(optimizer)
            chosen = [
                row
                for row in rows
                if (row["data"], row["optimizer"], row["learning_rate"]) == (data, optimizer, rate)
            ]
            columns = {
                name: [float(row[name]) for row in chosen]
                for name in (chosen[0] if chosen else {})
                if name not in _NO_OUTCOMES and all(_is_number(row.get(name)) for row in chosen)
            }
            if rate is not None and columns:
                best.setdefault((data, optimizer), _BestStudents(rate, columns))
    return best


def _compare_students(
    key: tuple[str, str], column: str, runs: Sequence[_BestStudents | None]
) -> Outcome | None:
    """None where no run has the column."""
    values = [None if run is None else run.columns.get(column) for run in runs]
    if not any(values):
        return None
    first, within = values[0], find_range(column)
    differences = [
        None
        if not i or first is None or x is None
        else within.difference().clip(difference_interval(x, first))
        for i, x in enumerate(values)
    ]
    return Outcome(
        *key,
        column,
        tuple(None if run is None else run.rate for run in runs),
        tuple(None if x is None else within.clip(mean_interval(x)) for x in values),
        tuple(differences),
    )


def _compare_estimates(results: Sequence[Mapping[str, Any]]) -> Iterator[Estimate]:
    tables = [dict(_find_intervals(run, "")) for run in results]
    for name in dict.fromkeys(key for table in tables for key in table):
        yield Estimate(name, tuple(table.get(name) for table in tables))


def _find_intervals(value: Any, place: str) -> Iterator[tuple[str, Interval]]:
    """The intervals in objects of the results, with their keys joined by dots; lists are passed
    over, as their order says nothing of what they are about."""
    if not isinstance(value, dict):
        return
    if _LEAST_KEYS <= value.keys() <= _INTERVAL_KEYS:
        yield place, from_json(Interval, value, place)
        return
    for key, part in value.items():
        yield from _find_intervals(part, f"{place}.{key}" if place else key)


def _is_student(row: Any) -> bool:
    return isinstance(row, dict) and row.keys() >= _STUDENT_KEYS


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
