"""Optimizers at their best rates: what pages that compare them show alike."""

from collections.abc import Iterable, Sequence
from typing import Any

from subliminal_jax.evaluation.comparison import Anatomy, BestStudents
from subliminal_jax.reporting.tables import Column

# Of an `Anatomy`.
ANATOMY_COLUMNS = (
    Column("gradient.cosine", "cos(gradient, score)", "number", digits=3),
    Column("update.cosine", "cos(update, score)", "number", digits=3),
    Column("gradient.top_mass.hundredth", "gradient² in top 1%", "rate", digits=0),
    Column("gradient.top_component.hundredth", "component in top 1%", "rate", digits=0),
)
LORA_COLUMNS = (
    Column("update.a_mass", "update² on LoRA A", "rate", digits=0),
    Column("update.a_component", "component on LoRA A", "rate", digits=0),
)


def chosen_rates(best: Iterable[BestStudents]) -> list[dict[str, Any]]:
    """The rates that `plots.learning_rate_curves` marks."""
    return [
        {"optimizer": students.optimizer, "learning_rate": students.learning_rate}
        for students in best
        if students.learning_rate is not None
    ]


def decile_rows(anatomies: Iterable[Anatomy]) -> list[dict[str, Any]]:
    """The gradients' shares as `plots.decile_bars` draws them, the smallest coordinates first."""
    return [
        {
            "optimizer": anatomy.optimizer,
            "gradient_mass": anatomy.gradient.decile_mass[::-1],
            "steering_component": anatomy.gradient.decile_component[::-1],
        }
        for anatomy in anatomies
    ]


def warn_of_edges(best: Sequence[BestStudents]) -> str:
    """A sentence on the optimizers whose best rate is at the edge of its grid; "" for none."""
    names = ", ".join(students.optimizer for students in best if students.grid_edge)
    if not names:
        return ""
    return f" The best rate of {names} is at the edge of its grid: a better one may lie outside."
