"""The arms of the optimizer dispute, and the runner that trains them in few compiled programs.

An arm is a rule with a centre of its learning rates, trained in a setting (LoRA, maps of another
run, all weights, clipped gradients, a batch size) on rows with some weighting of tokens. All arms
of a setting are one sweep. Its first wave tries every rate with the first seeds, and held-out loss
chooses; its second trains the other seeds and the controls at the chosen rate. With five rates, one
seed to choose by and three in all, both waves have five students an arm: one program serves both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from subliminal_jax.data.token_weights import reweighted, token_counts, token_weights
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_rows import StudentRow, narrow_row
from subliminal_jax.runs.data_sets import DataSets
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import StudentSettings
from subliminal_jax.runs.students import Students, first_rows
from subliminal_jax.runs.waves import Row, Trained, WaveRunner
from subliminal_jax.training.arms import Arm, Group
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import State, Sweep

Moments = dict[tuple[int, str], Any]  # by seed and data set, like the trainable tree
MAPS = "maps"  # the setting whose rules read the second moment of the arm "adamw"
NO_RARE, RARE_WEIGHTED = "no-rare", "rare-weighted"


@dataclass(frozen=True)
class Plan:
    """One arm: its name, rule and centre of rates; `family` is the part of the report it is in,
    `tokens` the weighting of its training rows, `upper` the AdamW arm that it is held against."""

    name: str
    family: str
    rule: str
    rate: float
    setting: str = "lora"
    tokens: str = ""
    upper: str = "adamw"


def plans(batch_sizes: Sequence[int]) -> tuple[Plan, ...]:
    """All arms. `batch_sizes` are those tested beside the plain one; 0 is the whole data set.

    The centres of the rates were found by held-out loss on the models that ship (LoRA rank 8).
    """
    paper, outliers, maps, steps = "paper", "outliers", "maps", "steps"
    return (
        Plan("adamw", paper, "adamw", 4e-3),
        Plan("rmsprop", paper, "rmsprop", 4e-3),
        Plan("sign-sgd", paper, "sign_sgd", 4e-3),
        Plan("signum", paper, "signum", 2.5e-3),
        Plan("momentum", paper, "momentum", 0.04),
        Plan("sgd", paper, "sgd", 0.2),
        Plan("adamw-rotated", paper, "adamw_rotated:mlp_only=true", 4e-3),
        Plan("adamw-rotated-by-layer", paper, "adamw_rotated:mlp_only=true,per_layer=true", 4e-3),
        Plan("adamw-rotated-all", paper, "adamw_rotated:per_layer=true", 4e-3),
        Plan("sgd-rotated", paper, "sgd_rotated:per_layer=true", 0.2),
        Plan("adamw-clipped", paper, "adamw", 5e-3, "clipped"),
        Plan("sgd-clipped", paper, "sgd", 0.8, "clipped", upper="adamw-clipped"),
        Plan("adamw-full", paper, "adamw", 1e-3, "full"),
        Plan("sgd-full", paper, "sgd", 0.1, "full", upper="adamw-full"),
        Plan("adamw-bottom-frozen", maps, "adamw_masked", 8e-3, MAPS),
        Plan("adamw-bottom-zeroed", maps, "adamw_masked:zeroed=true", 8e-3, MAPS),
        Plan("frozen-map", maps, "frozen_map", 8e-3, MAPS),
        Plan("frozen-map-eps-outside", maps, "frozen_map:eps_in_root=false", 8e-3, MAPS),
        Plan("frozen-map-momentum", maps, "frozen_map:b1=0.9", 8e-3, MAPS),
        Plan("frozen-map-flat-rest", maps, "frozen_map:flat_rest=true", 2.5e-3, MAPS),
        Plan(
            "frozen-map-zero-bottom", maps,
            "frozen_map:flat_rest=true,zero_bottom=true", 2.5e-3, MAPS,
        ),
        Plan(
            "frozen-map-two-levels", maps,
            "frozen_map:flat_rest=true,flat_bottom=true,b1=0.9", 4e-3, MAPS,
        ),
        Plan("living-map-two-levels", maps, "living_map:flat_rest=true,flat_bottom=true", 3e-3),
        Plan("sgd-masked-0.1%", outliers, "sgd_top_masked:share=0.001", 0.3),
        Plan("sgd-masked-1%", outliers, "sgd_top_masked:share=0.01", 0.4),
        Plan("sgd-masked-10%", outliers, "sgd_top_masked:share=0.1", 1.6),
        Plan("sgd-quantile-clipped-0.1%", outliers, "sgd_top_clipped:share=0.001", 0.2),
        Plan("sgd-quantile-clipped-1%", outliers, "sgd_top_clipped:share=0.01", 0.27),
        Plan("sgd-quantile-clipped-10%", outliers, "sgd_top_clipped:share=0.1", 0.8),
        Plan("sgd-top-10%-only", outliers, "sgd_top_only:share=0.1", 0.2),
        Plan("normalized-sgd", steps, "normalized_sgd", 0.5),
        Plan("normalized-sgd-per-tensor", steps, "normalized_sgd_per_tensor", 0.1),
        Plan("normalized-sgd-per-row", steps, "normalized_sgd_per_row", 0.025),
        Plan("sgd-a-times-3", steps, "sgd_by_factor:a=3", 0.12),
        Plan("sgd-a-times-16", steps, "sgd_by_factor:a=16", 0.05),
        Plan("sgd-a-times-64", steps, "sgd_by_factor:a=64", 0.02),
        Plan("sgd-b-times-16", steps, "sgd_by_factor:b=16", 0.02),
        Plan("adamw-a-frozen", steps, "adamw_by_factor:a=0", 0.01),
        *(p for size in batch_sizes for p in _batch_plans(size)),
        Plan("adamw-no-rare", "tokens", "adamw", 4e-3, tokens=NO_RARE),
        Plan("sgd-no-rare", "tokens", "sgd", 0.13, tokens=NO_RARE, upper="adamw-no-rare"),
        Plan("adamw-rare-weighted", "tokens", "adamw", 4e-3, tokens=RARE_WEIGHTED),
        Plan(
            "sgd-rare-weighted", "tokens", "sgd", 0.13, tokens=RARE_WEIGHTED,
            upper="adamw-rare-weighted",
        ),
    )  # fmt: skip


def _batch_plans(size: int) -> tuple[Plan, Plan]:
    name = f"batch-{size or 'full'}"
    # The fewer rows, the noisier the step and the shorter it has to be.
    upper, lower = (4e-3, 0.035) if size == 1 else (5e-3, 0.35)
    return (
        Plan(f"adamw-{name}", "batch", "adamw", upper, name),
        Plan(f"sgd-{name}", "batch", "sgd", lower, name, upper=f"adamw-{name}"),
    )


@dataclass(frozen=True, kw_only=True)
class MechanicsSettings(StudentSettings):
    """How the arms are trained.

    Attributes:
      optimizers: names of arms; empty means all.
      rates: grids of arms in place of their own, as "sgd=0.1,0.3".
      grid_points: rates an arm.
      grid_factor: between neighbouring rates of an arm's grid.
      grid_seeds: seeds that each rate is tried with; the chosen one gets all seeds.
      batch_sizes: sizes beside the plain one, at equal steps; 0 is the whole data set.
      clip_norm: bound on the global gradient norm in the arms that clip; others follow `clip`.
      no_rare: what the arms without rare tokens learn: "frequent-K", the K most frequent tokens.
      rare_weighted: the weights where rare tokens count more: "rare-P" is frequency to the -P.
    """

    optimizers: tuple[str, ...] = ()
    grid_points: int = 5
    grid_factor: float = 1.7
    grid_seeds: int = 1
    batch_sizes: tuple[int, ...] = (1, 64)
    clip_norm: float = 1.0
    no_rare: str = "frequent-64"
    rare_weighted: str = "rare-0.5"

    def chosen(self) -> dict[Plan, tuple[float, ...]]:
        """The arms to train with their grids; raises InputError for a name that is none."""
        if self.grid_points < 1 or not 1 <= self.grid_seeds <= self.seeds or self.grid_factor <= 1:
            raise InputError(
                "give grid_points >= 1, grid_factor > 1 and grid_seeds between 1 and seeds"
            )
        known = {plan.name: plan for plan in plans(self.batch_sizes)}
        names = self.optimizers or tuple(known)
        given = dict(_grid(text) for text in self.rates)
        for name in (*names, *given):
            if name not in known:
                raise InputError(f"unknown arm {name!r}; there are {', '.join(known)}")
        if any(known[name].setting == MAPS for name in names) and "adamw" not in names:
            raise InputError("the maps are made from the arm adamw: train it too")
        half = (self.grid_points - 1) / 2
        powers = [self.grid_factor ** (i - half) for i in range(self.grid_points)]
        return {
            known[name]: given.get(
                name, tuple(float(f"{known[name].rate * p:.3g}") for p in powers)
            )
            for name in names
        }

    def in_setting(self, setting: str, rows: int) -> "MechanicsSettings":
        """These settings as the arms of `setting` are trained."""
        if setting == "full":
            return replace(self, adapter="full")
        if setting == "clipped":
            return replace(self, clip=self.clip_norm)
        if setting.startswith("batch-"):
            size = setting.removeprefix("batch-")
            return replace(self, batch_size=rows if size == "full" else int(size), accumulation=1)
        return self


def _grid(text: str) -> tuple[str, tuple[float, ...]]:
    name, _, values = text.rpartition("=")
    try:
        grid = tuple(sorted(float(value) for value in values.split(",")))
    except ValueError:
        grid = ()
    if not name or not grid or min(grid) <= 0:
        raise InputError(f"rates {text!r} cannot be read; write them as adamw=1e-3,3e-3")
    return name, grid


def weighted_rows(
    rows: Mapping[str, Batch], config: MechanicsSettings, vocab: int
) -> dict[str, Batch]:
    """The data sets "steered" and "control" as they are, and with rare tokens out or weighted up,
    by how often tokens are predicted in both together."""
    counts = np.sum([token_counts(batch, vocab) for batch in rows.values()], axis=0)
    kinds = {"": None, NO_RARE: config.no_rare, RARE_WEIGHTED: config.rare_weighted}
    return {
        _data_name(name, kind): batch
        if tail is None
        else reweighted(batch, token_weights(counts, tail))
        for name, batch in rows.items()
        for kind, tail in kinds.items()
    }


def _data_name(name: str, tokens: str) -> str:
    return f"{name}, {tokens}" if tokens else name


class Mechanics:
    """Trains the arms setting by setting; `rows` collects every student's final row.

    A row's "optimizer" is the name of the arm, "rule" what it is, "data" steered or control.
    """

    def __init__(self, run: RunFolder, panel: Panel, data: DataSets, config: MechanicsSettings):
        self.run, self.layer, self.config = run, panel.layer, config
        # Held-out loss and the measured training loss are of the plain rows, whatever the weights.
        train = weighted_rows(data.train, config, panel.model.cfg.vocab)
        plain = {name: data.train[name.split(",")[0]] for name in train}
        heldout = {name: data.heldout[name.split(",")[0]] for name in train}
        self.data = DataSets(train, heldout, {}, {}, {})
        self.panel = replace(
            panel,
            data_names=tuple(self.data.names),
            fixed_rows=first_rows(self.data._replace(train=plain), panel.model.cfg),
        )
        self.grids = config.chosen()
        self.rows: list[StudentRow] = []
        self.best: dict[str, float | None] = {}
        self._moments: Moments = {}
        self._names: dict[tuple, str] = {}

    def train_all(self) -> None:
        """Every setting, the plain one first: the maps are made from its AdamW."""
        settings = list(dict.fromkeys(plan.setting for plan in self.grids))
        for setting in sorted(settings, key=lambda name: (name != "lora", name == MAPS)):
            mine = {plan: grid for plan, grid in self.grids.items() if plan.setting == setting}
            self._train_setting(setting, mine)

    def _train_setting(self, setting: str, mine: dict[Plan, tuple[float, ...]]) -> None:
        config, seeds = self.config, self.config.seeds
        rows = next(iter(self.data.train.values())).tokens.shape[0]
        runner = Students(
            self.run,
            self.panel,
            self.data,
            config.in_setting(setting, rows),
            measures=("update-anatomy",),
        ).runner
        tried = [
            (plan, Arm(_spec(plan), rate, seed, _data_name("steered", plan.tokens)))
            for plan, grid in mine.items()
            for rate in grid
            for seed in range(config.grid_seeds)
        ]
        students = len(tried) + len(mine) * (2 * seeds - config.grid_seeds)
        with track(setting, students * config.steps, "student steps") as progress:
            waves = [self._wave(runner, f"{setting}-rates", tried, progress)]
            best = best_rates([r for r in self.rows if r["optimizer"] in {p.name for p in mine}])
            self.best |= best
            rest = [
                (plan, Arm(_spec(plan), best[plan.name] or grid[0], seed, _data_name(data, kind)))
                for plan, grid in mine.items()
                for data, first in (("steered", config.grid_seeds), ("control", 0))
                for seed in range(first, seeds)
                for kind in [plan.tokens]
            ]
            waves.append(self._wave(runner, f"{setting}-best", rest, progress))
        rate = self.best.get("adamw")
        if setting == "lora" and rate is not None:
            for t in waves:
                states = t.state.optimizer_states
                self._moments |= adam_moments(
                    t.sweep.groups, t.sweep.arms, states, rate, config.steps
                )

    def _wave(
        self, runner: WaveRunner, stage: str, students: list[tuple[Plan, Arm]], progress: Any
    ) -> Trained:
        arms = [arm for _, arm in students]
        for plan, arm in students:
            self._names[stage, arm.optimizer.label, arm.data] = plan.name
        maps = stage.startswith(f"{MAPS}-")
        trained = runner.train(stage, arms, progress, self._with_moments if maps else _as_it_is)
        for (plan, _), row in zip(students, trained.rows, strict=True):
            data = row["data"].split(",")[0]
            numbers = narrow_row(row, self.layer)
            named = {"rule": row.optimizer, "optimizer": plan.name, "data": data}
            self.rows.append(StudentRow.from_json(numbers | named))
        return trained

    def _with_moments(self, sweep: Sweep, state: State) -> State:
        if not self._moments:
            raise InputError("adamw diverged at every rate, so there are no maps: lower its rates")
        states = given_moments(sweep.groups, sweep.arms, state.optimizer_states, self._moments)
        return state._replace(optimizer_states=states)

    def histories(self) -> dict[tuple[str, int], list[Row]]:
        """The logged rows of the steered students at their best rates, by arm and seed."""
        found: dict[tuple[str, int], list[Row]] = {}
        for row in self.run.read_metrics():
            name = self._names[row["stage"], row["optimizer"], row["data"]]
            at_best = row["learning_rate"] == self.best[name]
            steered = row["data"].split(",")[0] == "steered"
            if at_best and steered and not row["diverged"] and row["train_loss"] is not None:
                found.setdefault((name, row["seed"]), []).append(
                    {**narrow_row(row, self.layer), "optimizer": name}
                )
        order = [plan.name for plan in self.grids]
        return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


def adam_moments(
    groups: Sequence[Group], arms: Sequence[Arm], states: Sequence[Any], rate: float, steps: int
) -> Moments:
    """The second moments of the plain AdamW at `rate` after `steps`, corrected for their start."""
    spec = OptimizerSpec.parse("adamw")
    correction = 1 - float(spec.entry.defaults["b2"]) ** steps
    found = {}
    for group, state in zip(groups, states, strict=True):
        if group.spec != spec:
            continue
        moment = optax.tree.get(state, "nu")
        for i, member in enumerate(group.members):
            arm = arms[member]
            if arm.learning_rate == rate and arm.data in ("steered", "control"):
                found[arm.seed, arm.data] = jax.tree.map(lambda x, i=i: x[i] / correction, moment)
    return found


def given_moments(
    groups: Sequence[Group], arms: Sequence[Arm], states: Sequence[Any], moments: Moments
) -> tuple[Any, ...]:
    """The optimizer states with, in every map, the moments of the same seed and data set."""
    new = []
    for group, state in zip(groups, states, strict=True):
        own = [moments[arms[i].seed, arms[i].data] for i in group.members]
        new.append(optax.tree.set(state, moment=jax.tree.map(lambda *x: jnp.stack(x), *own)))
    return tuple(new)


def _spec(plan: Plan) -> OptimizerSpec:
    return OptimizerSpec.parse(plan.rule)


def _as_it_is(sweep: Sweep, state: State) -> State:
    return state
