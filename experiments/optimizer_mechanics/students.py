"""Trains the arms of the optimizer dispute in few compiled programs.

All arms of a setting are one sweep. Its first wave tries every rate with the first seeds, and
held-out loss chooses; its second trains the other seeds and the controls at the chosen rate. With
five rates, one seed to choose by and three in all, both waves have five students an arm: one
program serves both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from subliminal_jax.data.token_weights import reweighted, token_counts, token_weights
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import Histories, best_rates, group_histories
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_rows import StudentRow, narrow_row
from subliminal_jax.runs.data_sets import DataSets
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.students import Students, take_fixed_rows
from subliminal_jax.runs.waves import Trained
from subliminal_jax.training.arms import Arm, Group
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import State, Sweep

from .arms import MAPS, NO_RARE, RARE_WEIGHTED, ArmPlan, MechanicsSettings

Moments = dict[tuple[int, str], Any]  # by seed and data set, like the trainable tree


def weight_rows(
    rows: Mapping[str, Batch], config: MechanicsSettings, vocab: int
) -> dict[str, Batch]:
    """The data sets "steered" and "control" as they are, and with rare tokens out or weighted up,
    by how often tokens are predicted in both together."""
    counts = np.sum([token_counts(batch, vocab) for batch in rows.values()], axis=0)
    kinds = {"": None, NO_RARE: config.no_rare, RARE_WEIGHTED: config.rare_weighted}
    return {
        weighted_name(name, kind): batch
        if tail is None
        else reweighted(batch, token_weights(counts, tail))
        for name, batch in rows.items()
        for kind, tail in kinds.items()
    }


def weighted_name(name: str, tokens: str) -> str:
    """What the rows of a data set are called under some weighting of tokens."""
    return f"{name}, {tokens}" if tokens else name


def plain_name(data: str) -> str:
    """The data set, "steered" or "control", whose weighted rows these are."""
    return data.partition(",")[0]


class ArmTrainer:
    """Trains the arms setting by setting; interrupted, it goes on where it was.

    `rows` collects every student's final row: its optimizer is the name of the arm, "rule" what it
    is, data "steered" or "control", alignment that with the teacher. `best` has the chosen rates.
    """

    def __init__(self, folder: RunFolder, panel: Panel, data: DataSets, config: MechanicsSettings):
        self.folder, self.layer, self.config = folder, panel.layer, config
        # Held-out loss and the measured training loss are of the plain rows, whatever the weights.
        train = weight_rows(data.train, config, panel.model.cfg.vocab)
        plain = {name: data.train[plain_name(name)] for name in train}
        heldout = {name: data.heldout[plain_name(name)] for name in train}
        self.data = DataSets(train, heldout, {}, {}, {})
        self.panel = replace(
            panel,
            data_names=tuple(self.data.names),
            fixed_rows=take_fixed_rows(self.data._replace(train=plain), panel.model.cfg),
        )
        self.grids = config.choose_arms()
        self.rows: list[StudentRow] = []
        self.best: dict[str, float | None] = {}
        self._moments: Moments = {}
        self._names: dict[tuple[str, str, str], str] = {}  # by stage, rule and data set

    def train_all(self) -> None:
        """Every setting, the plain one first: the maps are made from its AdamW."""
        settings = dict.fromkeys(plan.setting for plan in self.grids)
        for setting in sorted(settings, key=lambda name: (name != "lora", name == MAPS)):
            self._train_setting(setting)

    def _train_setting(self, setting: str) -> None:
        config = self.config
        plans = {plan: grid for plan, grid in self.grids.items() if plan.setting == setting}
        rows = next(iter(self.data.train.values())).tokens.shape[0]
        students = Students(
            self.folder,
            self.panel,
            self.data,
            config.specialise(setting, rows),
            measures=("update-anatomy",),
        )
        tried = [
            (plan, make_arm(plan, rate, seed, "steered"))
            for plan, grid in plans.items()
            for rate in grid
            for seed in range(config.grid_seeds)
        ]
        waves = [self._train_wave(students, f"{setting}-rates", tried)]
        names = {plan.name for plan in plans}
        best = best_rates([row for row in self.rows if row.optimizer in names])
        self.best |= best
        rest = [
            (plan, make_arm(plan, best[plan.name] or grid[0], seed, data))
            for plan, grid in plans.items()
            for data, first in (("steered", config.grid_seeds), ("control", 0))
            for seed in range(first, config.seeds)
        ]
        waves.append(self._train_wave(students, f"{setting}-best", rest))
        rate = self.best.get("adamw")
        if setting == "lora" and rate is not None:
            for wave in waves:
                states = wave.state.optimizer_states
                self._moments |= adam_moments(
                    wave.sweep.groups, wave.sweep.arms, states, rate, config.steps
                )

    def _train_wave(
        self, students: Students, stage: str, planned: Sequence[tuple[ArmPlan, Arm]]
    ) -> Trained:
        for plan, arm in planned:
            self._names[stage, arm.optimizer.label, arm.data] = plan.name
        arms = [arm for _, arm in planned]
        if stage.startswith(f"{MAPS}-"):
            trained = students.train(stage, arms, self._insert_moments)
        else:
            trained = students.train(stage, arms)
        for (plan, _), row in zip(planned, trained.rows, strict=True):
            named = {"optimizer": plan.name, "rule": row.optimizer, "data": plain_name(row.data)}
            self.rows.append(StudentRow.from_json(narrow_row(row, self.layer) | named))
        return trained

    def _insert_moments(self, sweep: Sweep, state: State) -> State:
        if not self._moments:
            raise InputError("adamw diverged at every rate, so there are no maps: lower its rates")
        states = set_moments(sweep.groups, sweep.arms, state.optimizer_states, self._moments)
        return state._replace(optimizer_states=states)

    def histories(self) -> Histories:
        """The logged rows of the steered students at their best rates, by arm and seed."""
        logged = [
            narrow_row(row, self.layer)
            | {
                "optimizer": self._names[row["stage"], row["optimizer"], row["data"]],
                "data": plain_name(row["data"]),
            }
            for row in self.folder.read_metrics()
        ]
        best = {plan.name: self.best[plan.name] for plan in self.grids}
        return group_histories(logged, best)


def make_arm(plan: ArmPlan, rate: float, seed: int, data: str) -> Arm:
    """One student of an arm, on the rows of `data` that the arm is trained on."""
    return Arm(OptimizerSpec.parse(plan.rule), rate, seed, weighted_name(data, plan.tokens))


def adam_moments(
    groups: Sequence[Group], arms: Sequence[Arm], states: Sequence[Any], rate: float, steps: int
) -> Moments:
    """The second moments of the plain AdamW at `rate` after `steps`, corrected for their start."""
    spec = OptimizerSpec.parse("adamw")
    correction = 1 - float(spec.entry.defaults["b2"]) ** steps
    moments = {}
    for group, state in zip(groups, states, strict=True):
        if group.spec != spec:
            continue
        second = optax.tree.get(state, "nu")
        for i, member in enumerate(group.members):
            arm = arms[member]
            if arm.learning_rate == rate and arm.data in ("steered", "control"):
                key = arm.seed, arm.data
                moments[key] = jax.tree.map(lambda x, i=i: x[i] / correction, second)
    return moments


def set_moments(
    groups: Sequence[Group], arms: Sequence[Arm], states: Sequence[Any], moments: Moments
) -> tuple[Any, ...]:
    """The optimizer states with, in every map, the moments of the same seed and data set."""
    new = []
    for group, state in zip(groups, states, strict=True):
        members = [moments[arms[i].seed, arms[i].data] for i in group.members]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
        new.append(optax.tree.set(state, moment=stacked))
    return tuple(new)
