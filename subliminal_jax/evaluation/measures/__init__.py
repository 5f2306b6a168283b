"""What is measured of every student at logged steps: one file a measure.

A file of this folder that defines a subclass of `Measure` is a measure that every experiment with
students takes by `--measures NAME`: its columns then stand in metrics.jsonl, in the final rows of
students and in the table `reporting.measures.measures_table`.
"""

from subliminal_jax.evaluation.measures.measure import (
    Measure,
    MeasureColumn,
    check_measures,
    find_measures,
    measure_model,
    named_measures,
)

__all__ = [
    "Measure",
    "MeasureColumn",
    "check_measures",
    "find_measures",
    "measure_model",
    "named_measures",
]
