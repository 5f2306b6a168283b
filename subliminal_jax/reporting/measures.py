"""The measures that a run was asked for with `--measures`, as one table of any experiment."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from subliminal_jax.evaluation.measures import MeasureColumn, find_measures
from subliminal_jax.reporting.tables import Column, Table

ARM = ("stage", "optimizer", "learning_rate", "data")  # what the students of one row share


def number_columns(names: Sequence[str]) -> list[MeasureColumn]:
    """The scalar columns of these measures, which fit a table."""
    measures = find_measures()
    return [column for name in names for column in measures[name].columns if not column.axes]


def summarise_measures(
    metrics: Iterable[Mapping[str, Any]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Means over seeds of the scalar columns of these measures, at the students' last step.

    Args:
      metrics: the lines of metrics.jsonl.
      names: of measures.

    Returns:
      One row for each stage, optimizer, learning rate and data set. Means are over the students
      that did not diverge, of whom there are `students`; None where all diverged.
    """
    last: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for line in metrics:
        if "optimizer" in line:
            last[*(line[key] for key in ARM), line["seed"]] = line
    arms: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for key, line in last.items():
        arms.setdefault(key[:-1], []).append(line)
    rows = []
    for arm, lines in arms.items():
        sound = [line for line in lines if not line["diverged"]]
        row = dict(zip(ARM, arm, strict=True)) | {"students": len(sound)}
        for column in number_columns(names):
            values = [line[column.name] for line in sound if line.get(column.name) is not None]
            row[column.name] = float(np.mean(values)) if values else None
        rows.append(row)
    return rows


def measures_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    """The rows of `summarise_measures` as a table of a page."""
    columns = [
        Column("stage", "stage"),
        Column("optimizer", "optimizer"),
        Column("learning_rate", "rate", "learning_rate"),
        Column("data", "data"),
        Column("students", "students", "count"),
        *(
            Column(c.name, c.title, "rate" if c.kind == "rate" else "number", c.digits)
            for c in number_columns(names)
        ),
    ]
    caption = (
        "Means over seeds at the last step, of the students that did not diverge. Columns with "
        "several values a student are in metrics.jsonl."
    )
    return Table(f"Measures: {', '.join(names)}", columns, rows, caption)
