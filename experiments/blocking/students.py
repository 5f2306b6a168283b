"""Students under every guard of `blocking`, with the same rows, steps and seeds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import jax
import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import Steering
from subliminal_jax.runs.data_sets import DataSets, slice_rows
from subliminal_jax.runs.guards import Protected, Vectors, drop_rows, make_guard
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import StudentSettings
from subliminal_jax.runs.students import Students, take_fixed_rows
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import heldout_loss
from subliminal_jax.training.optimizers import OptimizerSpec

from .analysis import choose_rates
from .cases import UNGUARDED, Case, control_name, is_control, pool_size, trait_name

Points = Sequence[tuple[OptimizerSpec, float]]  # optimizers, each with a learning rate
MEASURED = (
    "trait_rate",
    "trait_log_prob",
    "eas",
    "component",
    "clean_loss",
    "heldout_gain",
    "clean_gain",
)
_heldout_loss = jax.jit(heldout_loss, static_argnums=2, static_argnames="rows_at_once")


def measure_base_loss(
    model: Model, rows: Batch, rows_at_once: int, steering: Steering | None = None
) -> float:
    """The base's loss on held-out rows, in nats a token."""
    loss = _heldout_loss(model.params, rows, model.cfg, steering, rows_at_once=rows_at_once)
    return float(loss)


@dataclass(frozen=True)
class GuardedTraining:
    """What all students of a run share.

    Attributes:
      traits: the teachers' data sets; that of the plain base is "control".
      rows: what every student trains on, of a larger pool where rows are dropped.
      panel: the model, the steering layer, and what students are measured against.
      vectors: the "known" and the "blind" vector of each trait.
      base_losses: of the base on each data set's held-out rows.
      seed: of the rows that are dropped at random.
    """

    folder: RunFolder
    traits: tuple[str, ...]
    rows: int
    data: DataSets
    panel: Panel
    vectors: Mapping[str, Vectors]
    base_losses: Mapping[str, float]
    seed: int

    def train_adapter(self, settings: StudentSettings, cases: Sequence[Case]) -> list[StudentRow]:
        """Unguarded students at every rate, then guarded ones at each optimizer's best rate.

        Raises InputError where unguarded students diverged at every rate.
        """
        grids = settings.learning_rates()
        points = [(spec, rate) for spec, grid in grids.items() for rate in grid]
        teachers = {trait: trait for trait in self.traits}
        controls = {control_name(trait): "control" for trait in self.traits}
        rows = self.train_case(UNGUARDED, settings, points, teachers)
        best = choose_rates(rows, settings.adapter)
        sound = [(spec, rate) for spec in grids if (rate := best[spec.label]) is not None]
        if not sound:
            raise InputError("every unguarded student diverged: give lower rates")
        rows += self.train_case(UNGUARDED, settings, sound, {"control": "control"})
        for case in cases:
            sources = {**teachers, **controls} if case.controls else teachers
            rows += self.train_case(case, settings, sound, sources)
        return rows

    def train_case(
        self, case: Case, settings: StudentSettings, points: Points, sources: Mapping[str, str]
    ) -> list[StudentRow]:
        """Students under one guard, a row each for every trait that they serve.

        Args:
          sources: the students' data sets, each with the name of the data set whose rows it has.
            Students of "control" serve every trait.
        """
        pool = {name: self.data.train[source] for name, source in sources.items()}
        heldout = {name: self.data.heldout[source] for name, source in sources.items()}
        data = DataSets(pool, heldout, {}, {}, {})
        students = Students(
            self.folder, self.panel_for(data), data, settings, protection=self.protect(case, pool)
        )
        arms = [
            Arm(spec, rate, seed, name)
            for (spec, rate), name, seed in product(points, sources, range(settings.seeds))
        ]
        serves = case.name if self.traits[0] in sources else "controls"
        stage = re.sub("[^a-z0-9]+", "-", f"{settings.adapter}-{serves}").strip("-")
        trained = students.train(stage, arms)
        clean = dict.fromkeys(sources, self.data.heldout["control"])
        clean_losses = np.asarray(trained.sweep.evaluate(trained.state, clean), float)
        return [
            self.measure_row(row, trait, case, settings.adapter, clean_loss)
            for row, clean_loss in zip(trained.rows, clean_losses.tolist(), strict=True)
            for trait in self.traits
            if row.data in ("control", trait, control_name(trait))
        ]

    def protect(self, case: Case, pool: Mapping[str, Batch]) -> Protected:
        """The rows and the guard of a case; every case trains on as many rows."""
        model, layer = self.panel.model, self.panel.layer
        size = pool_size(self.rows, case.share)
        rows = {name: slice_rows(batch, 0, size) for name, batch in pool.items()}
        vectors: Vectors = {}
        if case.vector != "none":
            vectors = {name: self.vectors[case.vector][trait_name(name)] for name in pool}
        if case.kind == "drop-rows":
            seed = self.seed if case.at_random else None
            rows = drop_rows(model, rows, vectors, layer, case.share, seed=seed)
        rows = {name: slice_rows(batch, 0, self.rows) for name, batch in rows.items()}
        return Protected(rows, make_guard(case.kind, model, rows, vectors, layer))

    def panel_for(self, data: DataSets) -> Panel:
        """The run's panel, with the fixed rows of these data sets."""
        rows = take_fixed_rows(data, self.panel.model.cfg)
        return replace(self.panel, data_names=tuple(data.names), fixed_rows=rows)

    def measure_row(
        self, row: StudentRow, trait: str, case: Case, adapter: str, clean_loss: float
    ) -> StudentRow:
        """A student as a row of one trait: what is measured along its vector and of its word."""
        data = control_name(trait) if row.data == "control" else row.data
        measured: dict[str, float | None] = dict.fromkeys(MEASURED)
        if row.heldout_loss is not None and not row.diverged:
            reference, word = self.panel.references.index(trait), self.panel.words.index(trait)
            base_loss = self.base_losses["control" if is_control(data) else trait]
            measured = {
                "trait_rate": row["word_rate"][word],
                "trait_log_prob": row["word_log_prob"][word],
                "eas": row["eas"][reference][self.panel.layer],
                "component": row["shift_component"][reference][self.panel.layer],
                "clean_loss": clean_loss,
                "heldout_gain": base_loss - row.heldout_loss,
                "clean_gain": self.base_losses["control"] - clean_loss,
            }
        return StudentRow(
            optimizer=row.optimizer,
            learning_rate=row.learning_rate,
            seed=row.seed,
            data=data,
            diverged=row.diverged,
            diverged_at=row.diverged_at,
            heldout_loss=row.heldout_loss,
            base_loss=row.base_loss,
            measured={"case": case.name, "adapter": adapter, **measured},
        )
