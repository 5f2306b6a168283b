"""The students of a comparison: trained in waves, logged, checkpointed, measured."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.measures import Measure
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import check_base_loss
from subliminal_jax.runs.kept_students import StudentKeeper
from subliminal_jax.runs.student_files import KeptStudents
from subliminal_jax.training.arms import NO_ROOM, Arm, Room, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.guards import NO_GUARD, Guard
from subliminal_jax.training.loop import run_sweep
from subliminal_jax.training.objectives import CrossEntropy, Objective
from subliminal_jax.training.student_loss import make_source
from subliminal_jax.training.sweep import State, Sweep

Row = dict[str, Any]

HELDOUT_LOSSES: Mapping[str, Objective] = {"heldout_loss": CrossEntropy()}


@runtime_checkable
class Journal(Protocol):
    """Where a run keeps what it logs: `runs.run_folder.RunFolder` is one."""

    path: Path
    keep_students: KeptStudents

    def log(self, record: Row) -> None: ...
    def rewind(self, step: int, **match: Any) -> None: ...
    def read_metrics(self) -> list[Row]: ...


@runtime_checkable
class Progress(Protocol):
    """Who is told how many student steps are done: `runs.progress.Tracker` is one."""

    def advance(self, amount: int = 1, note: str | None = None) -> None: ...


class Trained(NamedTuple):
    """The students of one stage: their final rows, and what `Sweep.map_students` needs."""

    rows: list[StudentRow]
    sweep: Sweep
    state: State


@dataclass(frozen=True, eq=False)
class StudentTask:
    """What the students of a run learn.

    Attributes:
      rows: training rows by data set, of one length.
      heldout: held-out rows by data set.
      objective: what students minimise.
      heldout_losses: objectives that are evaluated on the held-out rows, by the name of their
        column, whatever students minimise.
      guard: against learning a steering vector.
    """

    rows: Mapping[str, Batch]
    heldout: Mapping[str, Batch]
    objective: Objective = CrossEntropy()
    heldout_losses: Mapping[str, Objective] = field(default_factory=lambda: HELDOUT_LOSSES)
    guard: Guard = NO_GUARD


class WaveRunner:
    """Runs waves of students, one after another, in one set of compiled programs where they fit.

    A wave's metrics go to the journal line by line and its checkpoints to `checkpoints/STAGE`
    beside it, so that an interrupted run goes on in the middle of a wave and skips those that are
    done. The journal says which trained students stay beside it. Final rows hold those columns of
    the measures that say so (None for a diverged student), the held-out losses and the base's.

    `room` says which waves one set of programs is to serve: without it, waves share programs that
    have the same optimizers and ranks as often.

    Raises InputError for held-out losses that do not fit the held-out rows. Where a student
    diverges, the untrained model's loss on the training rows is looked at once: where that is not
    finite, either, training raises InputError.
    """

    def __init__(
        self,
        run: Journal,
        model: Model,
        plan: TrainConfig,
        task: StudentTask,
        measures: Sequence[Measure] = (),
        room: Room = NO_ROOM,
    ):
        heldout = dict(task.heldout)
        for objective in task.heldout_losses.values():  # found out before hours of training
            make_source(model.params, heldout, sorted(heldout), model.cfg.vocab, objective)
        self.journal, self.model, self.plan, self.task = run, model, plan, task
        self.measures, self.room = tuple(measures), room
        self.keeper = StudentKeeper(run.path, model, run.keep_students)
        self.sweep: Sweep | None = None
        self.base_is_sound = False  # known once a student has diverged
        self.base_losses: dict[str, float] = {}  # on held-out rows, by data set

    def replace_plan(self, plan: TrainConfig) -> "WaveRunner":
        """The same programs, where there is room for them, for another number of steps."""
        other = copy.copy(self)
        other.plan = plan
        return other

    def run_arms(
        self, stage: str, arms: Sequence[Arm], progress: Progress | None = None
    ) -> list[StudentRow]:
        """Train any students; one row each, in their order."""
        return self.train(stage, arms, progress).rows

    def train(
        self,
        stage: str,
        arms: Sequence[Arm],
        progress: Progress | None = None,
        prepare: Callable[[Sweep, State], State] = lambda sweep, state: state,
    ) -> "Trained":
        """`run_arms`, with the students themselves for what else is asked of them. `prepare` may
        change the state before the first step."""
        arms = list(arms)
        sweep = self._sweep(arms)
        done = 0

        def tell(step: int) -> None:
            nonlocal done
            if progress is not None:
                progress.advance((step - done) * len(arms), note=stage)
            done = step

        def on_start(step: int) -> None:
            self.journal.rewind(step or -1, stage=stage)  # step 0 is logged anew
            tell(step)

        def on_log(step: int, metrics: dict[str, Any]) -> None:
            if np.any(metrics["diverged"]) and not self.base_is_sound:
                # Is it the student, or was the base's own loss not finite?
                rows, objective = dict(self.task.rows), self.task.objective
                check_base_loss(self.model.params, self.model.cfg, rows, objective)
                self.base_is_sound = True
            for i, arm in enumerate(arms):
                self.journal.log({"stage": stage, "step": step, **self._row(arm, metrics, i)})
            tell(step)

        self._measure_base(sweep)
        folder = self.journal.path / "checkpoints" / stage
        state = run_sweep(sweep, folder, on_start=on_start, on_log=on_log, prepare=prepare)
        rows = self._final(sweep, state, stage, arms)
        self.keeper.keep(stage, sweep, state, rows)
        return Trained(rows, sweep, state)

    @property
    def padding_share(self) -> float | None:
        """The share of padding in what training computed, of the last wave; None before any."""
        return None if self.sweep is None else self.sweep.padding_share

    def _sweep(self, arms: list[Arm]) -> Sweep:
        if self.sweep is not None:
            try:
                return self.sweep.replace_arms(arms, self.plan)
            except InputError:  # another mix of optimizers: grids of different lengths
                pass
        self.sweep = Sweep(
            self.model.params,
            self.model.cfg,
            arms,
            dict(self.task.rows),
            self.plan,
            objective=self.task.objective,
            measures=self.measures,
            guard=self.task.guard,
            room=self.room,
        )
        return self.sweep

    def _measure_base(self, sweep: Sweep) -> None:
        """The base's held-out losses: those of students before their first step, which take no
        program of their own."""
        objective = self.task.heldout_losses.get("heldout_loss")
        if objective is None or self.base_losses.keys() >= {arm.data for arm in sweep.arms}:
            return
        losses = sweep.evaluate(sweep.init(), dict(self.task.heldout), objective)
        for arm, loss in zip(sweep.arms, np.asarray(losses), strict=True):
            self.base_losses[arm.data] = float(loss)

    def _row(self, arm: Arm, metrics: dict[str, Any], i: int) -> Row:
        row: Row = {
            "optimizer": arm.optimizer.label,
            "learning_rate": arm.learning_rate,
            "seed": arm.seed,
            "data": arm.data,
            **({} if arm.rank is None else {"rank": arm.rank}),
            **({} if arm.rows is None else {"rows": arm.rows}),
        }
        row |= {key: np.asarray(value[i]).tolist() for key, value in metrics.items()}
        return row

    def _final(
        self, sweep: Sweep, state: State, stage: str, arms: Sequence[Arm]
    ) -> list[StudentRow]:
        losses = {
            name: np.asarray(sweep.evaluate(state, dict(self.task.heldout), objective))
            for name, objective in self.task.heldout_losses.items()
        }
        diverged_at = sweep.diverged_at(state)
        last = [
            row
            for row in self.journal.read_metrics()
            if row.get("stage") == stage and row.get("step") == self.plan.steps
        ]
        logged = [
            tuple(map(row.get, ("optimizer", "learning_rate", "seed", "data"))) for row in last
        ]
        if logged != [(a.optimizer.label, a.learning_rate, a.seed, a.data) for a in arms]:
            raise InputError(
                f"{self.journal.path}/metrics.jsonl does not hold one line for each student of the "
                f"stage {stage} at step {self.plan.steps}: overwrite the run, or name another "
                "folder"
            )
        keep = [c.name for measure in self.measures for c in measure.columns if c.final]
        rows = []
        for i, (row, at) in enumerate(zip(last, diverged_at, strict=True)):
            finite = all(np.isfinite(values[i]) for values in losses.values())
            lost = "train_loss" in row and row["train_loss"] is None
            if at == 0 and (lost or not finite):
                at = self.plan.steps  # by its last step, after which no batch loss was taken
            sound = at == 0
            kept = {key: row[key] if sound else None for key in keep if key in row}
            names = ("optimizer", "learning_rate", "seed", "data", "rank", "rows")
            which: dict[str, Any] = {key: row[key] for key in names if key in row}
            which |= {key: float(values[i]) if sound else None for key, values in losses.items()}
            which["base_loss"] = self.base_losses.get(row["data"])
            rows.append(
                StudentRow(
                    **which,
                    diverged=not sound,
                    diverged_at=int(at) or None,
                    measured=kept,
                )
            )
        return rows
