"""The students of all cells of one network: trained together, then told apart by cell."""

from collections.abc import Mapping, Sequence
from typing import Any

from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.settings import StudentSettings
from subliminal_jax.runs.students import Students
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.optimizers import OptimizerSpec

from .analysis import History
from .cells import Cell


def train_cells(
    students: Students, cells: Sequence[Cell], stage: str, settings: StudentSettings
) -> list[StudentRow]:
    """Every cell's students at every rate, then its controls at each optimizer's best one.

    All waves have the same optimizers and ranks, so that they share one compiled program.
    """
    grids = settings.learning_rates()
    seeds = range(settings.seeds)

    def make_arms(cell: Cell, spec: OptimizerSpec, rate: float, data: str) -> list[Arm]:
        return [Arm(spec, rate, seed, data, cell.rank or None, cell.rows or None) for seed in seeds]

    rows: list[StudentRow] = []
    waves = sum(map(len, grids.values())) + len(grids)
    total = waves * len(cells) * settings.seeds * settings.steps
    with track(stage, total, "student steps") as progress:
        for i in range(max(map(len, grids.values()))):
            arms = [
                arm
                for cell in cells
                for spec, grid in grids.items()
                if i < len(grid)
                for arm in make_arms(cell, spec, grid[i], cell.data)
            ]
            rows += students.runner.run_arms(f"{stage}-rate-{i}", arms, progress)
        arms = []
        for cell in cells:
            best = best_rates([row for row in rows if belongs_to(cell, row)])
            # Where every rate diverged the control's is of no use, but keeps the program's shape.
            for spec, grid in grids.items():
                arms += make_arms(cell, spec, best[spec.label] or grid[0], cell.control)
        return rows + students.runner.run_arms(f"{stage}-controls", arms, progress)


def belongs_to(cell: Cell, row: Mapping[str, Any]) -> bool:
    """Whether a final or logged row is a student or control of the cell."""
    same_setting = (row.get("rank", 0), row.get("rows", 0)) == (cell.rank, cell.rows)
    return same_setting and row["data"] in (cell.data, cell.control)


def narrow_students(
    cell: Cell,
    rows: Sequence[StudentRow],
    reference: int,
    layer: int,
    base_loss: float,
    teacher_loss: float,
) -> tuple[StudentRow, ...]:
    """The cell's students and controls as `CellStudents.students` has them, along one reference."""
    span = base_loss - teacher_loss
    narrowed = []
    for row in rows:
        if not belongs_to(cell, row):
            continue
        sound = row["eas"] is not None
        gain = None
        if sound and span > 0 and row.heldout_loss is not None:
            gain = (base_loss - row.heldout_loss) / span
        measured = {
            "train_loss": row["train_loss"],
            "eas": row["eas"][reference][layer] if sound else None,
            "share": row["shift_component"][reference][layer] if sound else None,
            "gain": gain,
        }
        narrowed.append(
            StudentRow(
                optimizer=row.optimizer,
                learning_rate=row.learning_rate,
                seed=row.seed,
                data="steered" if row.data == cell.data else "control",
                diverged=row.diverged,
                diverged_at=row.diverged_at,
                heldout_loss=row.heldout_loss,
                base_loss=row.base_loss,
                measured=measured,
            )
        )
    return tuple(narrowed)


def read_histories(
    cell: Cell, logged: Sequence[Mapping[str, Any]], reference: int, layer: int
) -> tuple[History, ...]:
    """The steered students of the cell, step by step, from the rows of the run's journal."""
    steps: dict[tuple[str, float, int], list[tuple[int, float, float]]] = {}
    for row in logged:
        lost = row["diverged"] or row["train_loss"] is None or row["eas"] is None
        if belongs_to(cell, row) and row["data"] == cell.data and not lost:
            student = (row["optimizer"], row["learning_rate"], row["seed"])
            values = (row["step"], row["train_loss"], row["eas"][reference][layer])
            steps.setdefault(student, []).append(values)
    return tuple(
        History(*student, *map(tuple, zip(*values, strict=True)))
        for student, values in steps.items()
    )
