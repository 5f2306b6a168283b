"""The students of all cells of one network: trained together, then told apart by cell."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

from subliminal_jax.evaluation.rate_search import (
    Losses,
    RateChoice,
    choose_from_grids,
    choose_rates,
    mean_losses,
)
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.runs.kind_settings import StudentKindSettings
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.student_kinds import STARTS, default_rate
from subliminal_jax.runs.waves import WaveRunner
from subliminal_jax.training.arms import Arm

from .analysis import STEERED, History
from .cells import Cell

Key = tuple[int, str]  # a cell, by its place, and an optimizer


class VectorLosses(NamedTuple):
    """The loss of the base and of the teacher itself on the held-out rows of a vector."""

    base: float
    teacher: float


@dataclass(frozen=True)
class CellTrainer:
    """Trains the students of cells that share a network.

    Attributes:
      vectors: those that are reported.
      tuning: those that rates are chosen on.
      controls: the draws of the base's data.
      stage: begins the names of the stages.
    """

    make_runner: Callable[[Sequence[Arm]], WaveRunner]
    cells: tuple[Cell, ...]
    settings: StudentKindSettings
    vectors: tuple[str, ...]
    tuning: tuple[str, ...]
    controls: tuple[str, ...]
    stage: str

    @property
    def reported_stage(self) -> str:
        """The stage of the reported students."""
        return f"{self.stage}-reported"

    def train(self) -> tuple[dict[Key, RateChoice], dict[Key, list[StudentRow]]]:
        """The rate of every cell and optimizer, found on the tuning vectors; and at it, a student
        of every reported vector and a control of every draw. Without a sound rate there are none.

        One set of programs serves all waves.
        """
        keys = [(i, name) for i in range(len(self.cells)) for name in self.settings.labels()]
        runner = self.make_runner([arm for key in keys for arm in self._report(key, 1.0)])
        choices = self._choose(runner, keys)
        arms = {
            key: [] if choice.rate is None else self._report(key, choice.rate)
            for key, choice in choices.items()
        }
        every = [arm for each in arms.values() for arm in each]
        rows = iter(self._run(runner, self.reported_stage, every) if every else ())
        return choices, {key: list(islice(rows, len(each))) for key, each in arms.items()}

    def _choose(self, runner: WaveRunner, keys: Sequence[Key]) -> dict[Key, RateChoice]:
        """All cells are searched at once, round by round: one rate of each a wave."""
        names = {f"{i} {optimizer}": (i, optimizer) for i, optimizer in keys}

        def train(number: int, rates: Mapping[str, Sequence[float]]) -> Losses:
            judged: list[StudentRow] = []
            for wave in range(max(map(len, rates.values()))):
                arms = {
                    (name, vector): self._make_arm(
                        names[name], each[wave], vector, self._cell(names[name]).name_data(vector)
                    )
                    for name, each in rates.items()
                    if wave < len(each)
                    for vector in self.tuning
                }
                rows = self._run(runner, f"{self.stage}-rates-{number}-{wave}", [*arms.values()])
                judged += [
                    row.replace_values(optimizer=name)
                    for (name, _), row in zip(arms, rows, strict=True)
                ]
            losses = {row.data: row.base_loss for row in judged if row.base_loss is not None}
            return mean_losses(judged, losses)

        settings, grids = self.settings, self.settings.given_rates()
        given = {name: grids[key[1]] for name, key in names.items() if grids[key[1]]}
        centers = {
            name: STARTS["lora"] * default_rate(key[1])
            for name, key in names.items()
            if not grids[key[1]]
        }
        chosen = choose_from_grids(given, settings.steps, train) if given else ()
        if centers:
            chosen += choose_rates(
                centers,
                settings.steps,
                lambda number, rates: train(number + 1, rates),
                factor=settings.factor,
                extensions=settings.extensions,
            )
        by_key = {names[c.optimizer]: replace(c, optimizer=names[c.optimizer][1]) for c in chosen}
        return {key: by_key[key] for key in keys}

    def _report(self, key: Key, rate: float) -> list[Arm]:
        cell = self._cell(key)
        data = {vector: cell.name_data(vector) for vector in self.vectors}
        data |= {draw: cell.name_control(draw) for draw in self.controls}
        return [self._make_arm(key, rate, name, each) for name, each in data.items()]

    def _cell(self, key: Key) -> Cell:
        return self.cells[key[0]]

    def _make_arm(self, key: Key, rate: float, name: str, data: str) -> Arm:
        """The student of a vector or of a draw: its seed is that of the vector or draw alone."""
        cell = self._cell(key)
        seed = (*self.vectors, *self.controls, *self.tuning).index(name)
        return Arm(key[1], rate, seed, data, cell.rank or None, cell.rows or None)

    def _run(self, runner: WaveRunner, stage: str, arms: Sequence[Arm]) -> list[StudentRow]:
        with track(stage, len(arms) * runner.plan.steps, "student steps") as progress:
            return runner.run_arms(stage, arms, progress)


def narrow_students(
    cell: Cell,
    rows: Sequence[StudentRow],
    references: Mapping[str, int],
    layer: int,
    losses: Mapping[str, VectorLosses],
    controls: Sequence[str],
) -> tuple[StudentRow, ...]:
    """The cell's students and controls as `CellStudents.students` has them.

    Args:
      rows: those of the cell.
      references: the place of each reported vector among those of the panel.
      losses: by vector.
    """
    narrowed = []
    for vector, reference in references.items():
        sources = {cell.name_data(vector): STEERED}
        sources |= {cell.name_control(draw): draw for draw in controls}
        narrowed += [
            _narrow(row, sources[row.data], vector, reference, layer, losses[vector])
            for row in rows
            if row.data in sources
        ]
    return tuple(narrowed)


def _narrow(
    row: StudentRow, data: str, vector: str, reference: int, layer: int, losses: VectorLosses
) -> StudentRow:
    """A student as a row of one vector."""
    known = row["eas"] is not None
    span, gain = losses.base - losses.teacher, None
    if known and data == STEERED and span > 0 and row.heldout_loss is not None:
        gain = (losses.base - row.heldout_loss) / span
    return StudentRow(
        optimizer=row.optimizer,
        learning_rate=row.learning_rate,
        seed=row.seed,
        data=data,
        diverged=row.diverged,
        diverged_at=row.diverged_at,
        heldout_loss=row.heldout_loss,
        base_loss=row.base_loss,
        measured={
            "vector": vector,
            "train_loss": row["train_loss"],
            "eas": row["eas"][reference][layer] if known else None,
            "share": row["shift_component"][reference][layer] if known else None,
            "gain": gain,
        },
    )


def read_histories(
    cell: Cell, logged: Sequence[Mapping[str, Any]], references: Mapping[str, int], layer: int
) -> tuple[History, ...]:
    """The reported steered students of the cell, step by step, from the rows of the run's
    journal."""
    vectors = {cell.name_data(vector): vector for vector in references}
    steps: dict[tuple[str, str], list[tuple[int, float, float]]] = {}
    for row in logged:
        lost = row["diverged"] or row["train_loss"] is None or row["eas"] is None
        is_cell = (row.get("rank", 0), row.get("rows", 0)) == (cell.rank, cell.rows)
        if is_cell and row["data"] in vectors and not lost:
            vector = vectors[row["data"]]
            values = (row["step"], row["train_loss"], row["eas"][references[vector]][layer])
            steps.setdefault((row["optimizer"], vector), []).append(values)
    return tuple(
        History(*student, *map(tuple, zip(*values, strict=True)))
        for student, values in steps.items()
    )
