"""Students under every guard of `blocking`, with the same rows, steps, seeds and rates."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_kinds import KindChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.steered import Steering
from subliminal_jax.runs.data_sets import DataSets, slice_rows
from subliminal_jax.runs.guards import Protected, Vectors, drop_rows, make_guard
from subliminal_jax.runs.kind_settings import StudentKindSettings
from subliminal_jax.runs.plan_settings import AdapterKind
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.student_kinds import KindTrainer, TrainedKinds
from subliminal_jax.runs.students import take_fixed_rows
from subliminal_jax.runs.waves import Trained
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import heldout_loss

from .cases import UNGUARDED, Case, choose_draws, control_name, pool_size, trait_name

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
      traits: the data sets of the reported teachers.
      tuning: the data sets of the teachers that rates are chosen on.
      controls: the draws of the plain base's data.
      rows: what every student trains on, of a larger pool where rows are dropped.
      panel: the model, the steering layer, and what students are measured against.
      vectors: the "known" and the "blind" vector of each reported trait.
      seed: of the rows that are dropped at random.
    """

    folder: RunFolder
    settings: StudentKindSettings
    traits: tuple[str, ...]
    tuning: tuple[str, ...]
    controls: tuple[str, ...]
    rows: int
    data: DataSets
    panel: Panel
    vectors: Mapping[str, Vectors]
    seed: int

    def make_unguarded(self) -> KindTrainer:
        """Trains students of every kind without a guard: those that rates are chosen on, those of
        the traits, and the controls."""
        rows = {name: slice_rows(b, 0, self.rows) for name, b in self.data.train.items()}
        return KindTrainer(
            self.folder,
            self.panel,
            self.data._replace(train=rows),
            self.settings,
            self.tuning,
            stage="unguarded-",
        )

    def train(self, unguarded: KindTrainer, cases: Mapping[str, Sequence[Case]]) -> TrainedKinds:
        """Unguarded students, which choose the rates, then those under each kind's `cases`.

        Every student has its `case` and its `clean_loss` (`measure_clean`).
        """
        trained, rows = self.train_trainer(unguarded, UNGUARDED, None)
        for kind in self.settings.adapters:
            for case in cases[kind]:
                trainer = self.make_guarded(kind, case)
                rows += self.train_trainer(trainer, case, trained.choices)[1]
        return trained._replace(students=tuple(rows))

    def train_trainer(
        self, trainer: KindTrainer, case: Case, choices: Sequence[KindChoice] | None
    ) -> tuple[TrainedKinds, list[StudentRow]]:
        """The students of one trainer, with what else is measured of them."""
        clean_losses: list[float] = []
        trained = trainer.train(
            inspect=lambda students: clean_losses.extend(self.measure_clean(students)),
            choices=choices,
        )
        return trained, [
            row.replace_values(case=case.name, clean_loss=None if row.diverged else loss)
            for row, loss in zip(trained.students, clean_losses, strict=True)
        ]

    def measure_clean(self, trained: Trained) -> list[float]:
        """The students' losses on what the plain base wrote: the held-out rows of the first draw,
        in nats a token."""
        clean = self.data.heldout[self.controls[0]]
        heldout = dict.fromkeys(trained.sweep.names, clean)
        return np.asarray(trained.sweep.evaluate(trained.state, heldout), float).tolist()

    def make_guarded(self, kind: AdapterKind, case: Case) -> KindTrainer:
        """Trains students of a kind under a guard: one a trait, and where the case says so a
        control of each trait. Each has the rows and the seed of an unguarded one."""
        sources = {trait: trait for trait in self.traits}
        if case.controls:
            draws = choose_draws(self.traits, self.controls)
            sources |= {control_name(trait): draw for trait, draw in draws.items()}
        pool = {name: self.data.train[source] for name, source in sources.items()}
        heldout = {name: self.data.heldout[source] for name, source in sources.items()}
        protection = self.protect(case, pool)
        data = DataSets(protection.rows, heldout, {}, {}, {})
        name = re.sub("[^a-z0-9]+", "-", case.name)
        return KindTrainer(
            self.folder,
            replace(
                self.panel,
                data_names=tuple(data.names),
                fixed_rows=take_fixed_rows(data, self.panel.model.cfg),
            ),
            data,
            replace(self.settings, adapters=(kind,)),
            (),
            seeds={name: self.data.names.index(source) for name, source in sources.items()},
            stage=f"{name}-",
            protection=protection,
        )

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
