"""Trains the arms of the optimizer dispute, each at a rate that the tuning vectors chose.

All arms of a setting are trained together: first on the tuning vectors at ever more rates, until
the best one of each has rates on both of its sides, then on the reported vectors and the controls
at it.
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
from subliminal_jax.evaluation.comparison import Histories
from subliminal_jax.evaluation.rate_search import RateChoice, is_sound
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.runs.students import STANDARD
from subliminal_jax.runs.vector_lab import Point, VectorLab
from subliminal_jax.runs.waves import WaveRunner
from subliminal_jax.training.arms import Arm, Group
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import State, Sweep

from .arms import LORA, MAPS, MechanicsSettings

Moments = dict[tuple[float, str], Any]  # by rate and data set, like the trainable tree


def weigh_rows(rows: Mapping[str, Batch], tail: str | None, vocab: int) -> dict[str, Batch]:
    """The data sets with tokens weighted by how often they are predicted in all together."""
    if tail is None:
        return dict(rows)
    counts = np.sum([token_counts(batch, vocab) for batch in rows.values()], axis=0)
    weights = token_weights(counts, tail)
    return {name: reweighted(batch, weights) for name, batch in rows.items()}


class ArmTrainer:
    """Trains the arms setting by setting; interrupted, it goes on where it was.

    `choices` has the rate of each arm; `students` and `tuning_students` have every final row, whose
    optimizer is the name of the arm and "rule" what it is.
    """

    def __init__(self, lab: VectorLab, config: MechanicsSettings):
        self.lab, self.config = lab, config
        self.plans = {plan.name: plan for plan in config.choose_arms()}
        self.choices: list[RateChoice] = []
        self.students: list[StudentRow] = []
        self.tuning_students: list[StudentRow] = []
        self._moments: Moments = {}
        self._map_rate = 0.0  # of the AdamW whose moments are the maps

    def train_all(self) -> None:
        """Every setting, the plain one first: the maps are made from its AdamW."""
        settings = dict.fromkeys(plan.setting for plan in self.plans.values())
        for setting in sorted(settings, key=lambda name: (name != LORA, name == MAPS)):
            self._train_setting(setting)

    def _train_setting(self, setting: str) -> None:
        lab, plan = self.lab, self.config.specialise(setting)
        tail = self.config.weigh_tokens(setting)
        rows = weigh_rows(lab.data.train, tail, lab.panel.model.cfg.vocab)
        rules = [each.rule for each in self.plans.values() if each.setting == setting]
        last = replace(plan, log_every=plan.steps)
        searching = lab.make_runner(last, (), rows, optimizers=rules)
        chosen, tried = lab.find_rates(
            {each.name: each.rate for each in self.plans.values() if each.setting == setting},
            plan.steps,
            lambda number, points: self._train(searching, f"{setting}-rates-{number}", points),
        )
        self.choices += chosen
        self.tuning_students += tried
        if setting == LORA:
            self._choose_maps(chosen)
        points = [
            (choice.optimizer, choice.rate, data)
            for choice in chosen
            if choice.rate is not None
            for data in lab.reported
        ]
        if points:
            measures = (*STANDARD, "update-anatomy")
            runner = lab.make_runner(plan, measures, rows, optimizers=rules)
            self.students += self._train(runner, f"{setting}-best", points)

    def _train(self, runner: WaveRunner, stage: str, points: Sequence[Point]) -> list[StudentRow]:
        specs = {name: OptimizerSpec.parse(self.plans[name].rule) for name, _, _ in points}
        arms = [self.lab.make_arm(specs[name], rate, data) for name, rate, data in points]
        if stage.startswith(f"{MAPS}-"):
            trained = self.lab.train(runner, stage, arms, prepare=self._insert_moments)
        else:
            trained = self.lab.train(runner, stage, arms)
        if stage.startswith(f"{LORA}-"):
            states = trained.state.optimizer_states
            self._moments |= adam_moments(
                trained.sweep.groups, trained.sweep.arms, states, runner.plan.steps
            )
        return [
            row.replace_values(optimizer=name, rule=row.optimizer)
            for (name, _, _), row in zip(points, trained.rows, strict=True)
        ]

    def _choose_maps(self, chosen: Sequence[RateChoice]) -> None:
        """Keep AdamW's moments at its best rate alone."""
        rates = [choice.rate for choice in chosen if choice.optimizer == "adamw"]
        self._map_rate = next((rate for rate in rates if rate is not None), 0.0)
        kept = {key: x for key, x in self._moments.items() if key[0] == self._map_rate}
        self._moments = kept

    def _insert_moments(self, sweep: Sweep, state: State) -> State:
        moments = {data: x for (rate, data), x in self._moments.items() if rate == self._map_rate}
        if not moments:
            raise InputError(
                "adamw diverged or ended above the base's loss at every rate, so there are no "
                "maps: give --rates adamw=RATE a lower one"
            )
        states = set_moments(sweep.groups, sweep.arms, state.optimizer_states, moments)
        return state._replace(optimizer_states=states)

    def histories(self) -> Histories:
        """The logged gradients and updates of the sound students of vectors, by arm and seed."""
        names = {(plan.setting, label(plan.rule)): plan.name for plan in self.plans.values()}
        sound = {
            (row.optimizer, row.data)
            for row in self.students
            if row.data in self.config.traits and is_sound(row, self.lab.base_losses)
        }
        histories: dict[tuple[str, int], list[Any]] = {}
        for row in self.lab.folder.read_metrics():
            setting, best, _ = row["stage"].rpartition("-best")
            name = names.get((setting, row["optimizer"])) if best else None
            if name is not None and (name, row["data"]) in sound:
                histories.setdefault((name, row["seed"]), []).append(row)
        return histories


def label(rule: str) -> str:
    """The rule as rows of students name it."""
    return OptimizerSpec.parse(rule).label


def adam_moments(
    groups: Sequence[Group], arms: Sequence[Arm], states: Sequence[Any], steps: int
) -> Moments:
    """The second moments of every plain AdamW after `steps`, corrected for their start."""
    spec = OptimizerSpec.parse("adamw")
    correction = 1 - float(spec.entry.defaults["b2"]) ** steps
    moments = {}
    for group, state in zip(groups, states, strict=True):
        if group.spec != spec:
            continue
        second = optax.tree.get(state, "nu")
        for i, member in enumerate(group.members):
            key = arms[member].learning_rate, arms[member].data
            moments[key] = jax.tree.map(lambda x, i=i: x[i] / correction, second)
    return moments


def set_moments(
    groups: Sequence[Group],
    arms: Sequence[Arm],
    states: Sequence[Any],
    moments: Mapping[str, Any],
) -> tuple[Any, ...]:
    """The optimizer states with, in every map, the moments of the same data set (and so seed)."""
    new = []
    for group, state in zip(groups, states, strict=True):
        members = [moments[arms[i].data] for i in group.members]
        if not members:
            new.append(state)
            continue
        members += members[:1] * (group.slots - len(members))  # idle
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
        new.append(optax.tree.set(state, moment=stacked))
    return tuple(new)
