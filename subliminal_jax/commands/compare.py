"""Compare finished runs: which settings differ, and what came out.

    subliminal-jax compare runs/a runs/b
    subliminal-jax compare runs/a experiments/scaling/results/scaling.json --json

A run is its folder or the file of its summary. Of students, the table shows those at the rate with
the lowest held-out loss of each run, with 95% t intervals over seeds, and the difference of each
run from the first with Welch's interval, which takes the students of different runs as
independent.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from subliminal_jax.errors import InputError
from subliminal_jax.escaping import print_line

if TYPE_CHECKING:
    from subliminal_jax.reporting.tables import Table
    from subliminal_jax.runs.comparing import Comparison

RESUMES = False
MOST_ESTIMATES = 40  # on the screen; --json has all


@dataclass(frozen=True)
class Config:
    """What to compare.

    Attributes:
      runs: folders of finished runs, or files with their summaries; at least two.
      json: print JSON in place of tables.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    json: bool = False


def check(config: Config) -> None:
    """Raises InputError for fewer than two runs, and for a path that is not there."""
    if len(config.runs) < 2:
        raise InputError("name at least two runs: folders, or files of summaries")
    for run in config.runs:
        if not run.exists():
            raise InputError(f"{run}: no such folder or file")


def main(config: Config) -> None:
    """Print the comparison.

    Raises InputError for a path that is neither a finished run nor a summary.
    """
    from subliminal_jax.reporting.tables import print_table, wide_console
    from subliminal_jax.runs.comparing import compare_runs, read_run
    from subliminal_jax.serialization import to_json

    names = [str(run) for run in config.runs]
    comparison = compare_runs(names, [read_run(run) for run in config.runs])
    if config.json:
        print(json.dumps(to_json(comparison), indent=1, allow_nan=False))
        return
    tables = make_tables(comparison)
    for table in tables:
        if table.rows:
            print_table(table, wide_console())
    if not tables[0].rows:
        print_line("all settings are the same")
    if not any(table.rows for table in tables[1:]):
        print_line("their results have no claims, students or intervals to compare")


def make_tables(comparison: "Comparison") -> "Sequence[Table]":
    """The differing settings; claims; students; and the intervals that at least two runs state."""
    from subliminal_jax.reporting.tables import Column, Table

    numbers = range(len(comparison.runs))
    titles = [f"{i + 1}: {Path(name).name}" for i, name in enumerate(comparison.runs)]

    def columns(key: str, kind: Any = "number", skip: int = 0, start: str = "") -> list[Column]:
        return [Column(f"{key}{i}", start + titles[i], kind, 3) for i in numbers if i >= skip]

    def number(key: str, values: Sequence[Any]) -> dict[str, Any]:
        return {f"{key}{i}": value for i, value in enumerate(values)}

    settings = [
        {"name": s.name, **number("value", [_show(x) for x in s.values])}
        for s in comparison.settings
    ]
    claims = [
        {
            "id": c.id,
            **number(
                "claim",
                [
                    None if n is None else f"{n} ({v})"
                    for n, v in zip(c.numbers, c.verdicts, strict=True)
                ],
            ),
        }
        for c in comparison.claims
    ]
    students = [
        {
            "data": o.data,
            "optimizer": o.optimizer,
            "column": o.column,
            **number("mean", o.means),
            **number("difference", o.differences),
        }
        for o in comparison.outcomes
    ]
    shared = [e for e in comparison.estimates if sum(x is not None for x in e.values) > 1]
    estimates = [{"name": e.name, **number("value", e.values)} for e in shared]
    left_out = len(shared) - MOST_ESTIMATES
    return (
        Table(
            "Settings that differ", [Column("name", "setting"), *columns("value", "text")], settings
        ),
        Table("Claims", [Column("id", "claim"), *columns("claim", "text")], claims),
        Table(
            "Students at each run's best rate",
            [
                Column("data", "data"),
                Column("optimizer", "optimizer"),
                Column("column", "of each student"),
                *columns("mean"),
                *columns("difference", skip=1, start="difference to 1, of "),
            ],
            students,
        ),
        Table(
            "Intervals of the results",
            [Column("name", "result"), *columns("value")],
            estimates[:MOST_ESTIMATES],
            f"{left_out} more with --json" if left_out > 0 else "",
        ),
    )


def _show(value: Any) -> str | None:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return None if value is None else str(value)
