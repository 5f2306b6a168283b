"""Students of several kinds, each at a learning rate of its own that other traits chose.

The same data teach one vector at the steering layer (a family that holds the steered teacher
itself), LoRA factors, and all weights. For each kind and optimizer the rate is found on the tuning
traits, of which nothing else is reported; then one student is trained on every other data set.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from subliminal_jax.evaluation.measures import named_measures
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.rate_search import Losses, RateChoice, mean_losses
from subliminal_jax.evaluation.student_kinds import KindChoice, MeasuredKinds
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.evaluation.transmission import CONTROL
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.runs.data_sets import DataSets
from subliminal_jax.runs.guards import Protected, protect_students
from subliminal_jax.runs.kind_settings import StudentKindSettings
from subliminal_jax.runs.plan_settings import (
    AdapterKind,
)
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.rates import default_rate
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.students import STANDARD
from subliminal_jax.runs.waves import HELDOUT_LOSSES, StudentTask, Trained, WaveRunner
from subliminal_jax.training.arms import Arm, Room
from subliminal_jax.training.batch import Batch, max_targets
from subliminal_jax.training.objectives import CrossEntropy, Objective, StudentModel
from subliminal_jax.training.student_loss import make_source

# Where a search begins, in units of the optimizer's middle default rate, which suits LoRA: a
# vector's coordinates are a hundred times as far from zero, and all weights add up in every output.
STARTS: Mapping[str, float] = {"vector": 100.0, "lora": 1.0, "full": 0.3}
STARTS_OF_A_BLOCK = {**STARTS, "lora": 8.0}  # of LoRA on one projection of one block
ROWS_AT_ONCE = 16  # held-out rows in one pass of `measure_base_losses`
Judge = Literal["heldout_loss", "heldout_kl"]
Sizes = Sequence[int | None]


class TrainedKinds(NamedTuple):
    """What `KindTrainer.train` made."""

    choices: tuple[KindChoice, ...]
    students: tuple[StudentRow, ...]
    tuning_students: tuple[StudentRow, ...]


class KindTrainer:
    """Trains students of every kind; interrupted, it goes on where it was.

    Args:
      tuning: the data sets that rates are chosen on; the others are reported.
      seeds: of the students, by data set; without them each data set has a seed of its own.
      objective: what students minimise.
      heldout_losses: objectives that are evaluated on the held-out rows.
      judge: which of these chooses rates and tells sound students: they end no worse than the base.
      stage: begins the names of the stages.
      starts: where a search begins, by kind, in units of the optimizer's middle default rate.
      protection: what students train on and are guarded from; without it, as the settings ask for.
      groups: data sets that have rates of their own, by a name that their students and choices have
        as `objective`: such as the same rows with other tokens in the loss. They share programs.

    `base_losses` are the base's by that loss, by data set.
    """

    def __init__(
        self,
        folder: RunFolder,
        panel: Panel,
        data: DataSets,
        settings: StudentKindSettings,
        tuning: Sequence[str],
        *,
        seeds: Mapping[str, int] | None = None,
        objective: Objective = CrossEntropy(),
        heldout_losses: Mapping[str, Objective] = HELDOUT_LOSSES,
        judge: Judge = "heldout_loss",
        stage: str = "",
        starts: Mapping[str, float] = STARTS,
        protection: Protected | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
    ):
        self.starts, self.groups = starts, groups or {"": data.names}
        self.folder, self.panel, self.data, self.settings = folder, panel, data, settings
        self.tuning, self.stage = tuple(tuning), stage
        self.reported = tuple(name for name in data.names if name not in self.tuning)
        self.seeds = seeds or {name: i for i, name in enumerate(data.names)}
        self.judge = judge
        self.base_losses = measure_base_losses(panel.model, data, heldout_losses[judge])
        if protection is None:
            protection = protect_students(
                panel.model, data.train, settings, panel.layer, panel.vectors(), objective
            )
        self.task = StudentTask(
            protection.rows, data.heldout, objective, heldout_losses, protection.guard
        )

    def train(
        self,
        sizes: Sizes = (None,),
        inspect: Callable[[Trained], None] | None = None,
        choices: Sequence[KindChoice] | None = None,
    ) -> TrainedKinds:
        """One student on every reported data set, of every kind and optimizer and with each of
        `sizes` rows (None: all of them), at the rate that the tuning data sets chose for it.

        Where no rate is sound, or every tuning student blew up, none is trained.

        Args:
          inspect: called with the reported students of each kind and size, and their weights.
          choices: the rates, where other students have chosen them; then none is searched for.
        """
        made: list[KindChoice] = []
        students: list[StudentRow] = []
        tuned: list[StudentRow] = []
        measures = named_measures((*STANDARD, *self.settings.measures), self.panel)
        largest = max(self.groups.values(), key=len)
        for kind in self.settings.adapters:
            plan = self.settings.plan_kind(kind, self.panel.layer)
            room = Room(
                tuple(
                    self._make_arm(label, 1.0, name, sizes[-1])
                    for label in self.settings.labels()
                    for name in largest
                )
            )
            runner = WaveRunner(self.folder, self.panel.model, plan, self.task, measures, room)
            for group, members in self.groups.items():
                centers: dict[str, float] = {}  # a search begins where the one for fewer rows ended
                for size in sizes:
                    stage = f"{self.stage}{kind}" + (f"-{group}" if group else "")
                    stage += "" if size is None else f"-{size}-rows"
                    if choices is None:
                        chosen, rows = self._choose(runner, kind, stage, size, centers, group)
                    else:
                        which = kind, size, group or None
                        chosen = tuple(
                            c.choice for c in choices if (c.adapter, c.rows, c.objective) == which
                        )
                        rows = []
                    centers |= {c.optimizer: c.rate for c in chosen if c.rate is not None}
                    tuned += rows
                    made += [KindChoice(kind, size, choice, group or None) for choice in chosen]
                    arms = [
                        self._make_arm(choice.optimizer, choice.rate, name, size)
                        for choice in chosen
                        if choice.rate is not None
                        for name in self.reported
                        if name in members
                    ]
                    if arms:
                        trained = self._run(runner, kind, stage, arms, group)
                        students += trained.rows
                        if inspect is not None:
                            inspect(trained)
        return TrainedKinds(tuple(made), tuple(students), tuple(tuned))

    def describe(self, traits: Sequence[str], trained: TrainedKinds) -> MeasuredKinds:
        """What was measured, with the settings that it depends on."""
        settings = self.settings
        return MeasuredKinds(
            model=self.panel.model.name,
            layer=self.panel.layer,
            adapters=settings.adapters,
            optimizers=settings.labels(),
            traits=tuple(traits),
            tuning_traits=settings.searched_traits,
            controls=tuple(name for name in self.data.names if name.startswith(f"{CONTROL}-")),
            steps=settings.steps,
            batch_size=settings.batch_size,
            schedule=settings.schedule,
            warmup=settings.warmup,
            rank=settings.rank,
            words=self.panel.words,
            references=self.panel.references,
            base_losses=self.base_losses,
            choices=trained.choices,
            students=trained.students,
            tuning_students=trained.tuning_students,
        )

    def _choose(
        self,
        runner: WaveRunner,
        kind: AdapterKind,
        stage: str,
        size: int | None,
        starts: Mapping[str, float],
        group: str,
    ) -> tuple[tuple[RateChoice, ...], list[StudentRow]]:
        """The rate of each optimizer, and the students that it was chosen by."""
        settings, rows = self.settings, []

        def train(number: int, rates: Mapping[str, Sequence[float]]) -> Losses:
            new: list[StudentRow] = []
            # One rate of each optimizer a wave: the program has room for a student a data set.
            for i in range(max(map(len, rates.values()))):
                arms = [
                    self._make_arm(label, each[i], name, size)
                    for label, each in rates.items()
                    if i < len(each)
                    for name in self.tuning
                    if name in self.groups[group]
                ]
                new += self._run(runner, kind, f"{stage}-rates-{number}-{i}", arms, group).rows
            rows.extend(new)
            judged = [row.replace_values(heldout_loss=vars(row)[self.judge]) for row in new]
            return mean_losses(judged, self.base_losses)

        centers = {
            label: starts.get(label, self.starts[kind] * default_rate(label))
            for label, grid in settings.given_rates().items()
            if not grid
        }
        chosen = settings.find_rates(centers, settings.steps, train)
        return chosen, rows

    def _make_arm(self, optimizer: str, rate: float, name: str, size: int | None) -> Arm:
        return Arm(optimizer, rate, self.seeds[name], name, rows=size)

    def _run(
        self, runner: WaveRunner, kind: AdapterKind, stage: str, arms: Sequence[Arm], group: str
    ) -> Trained:
        with track(stage, len(arms) * runner.plan.steps, "student steps") as progress:
            trained = runner.train(stage, arms, progress)
        columns = {"adapter": kind} | ({"objective": group} if group else {})
        return trained._replace(rows=[row.replace_values(**columns) for row in trained.rows])


def measure_base_losses(
    model: Model, data: DataSets, objective: Objective = CrossEntropy()
) -> dict[str, float]:
    """The untrained model's loss on the held-out rows of each data set, in nats a predicted token.

    `objective` is that of the held-out rows, where it holds values of rows.
    """
    source = make_source(model.params, data.heldout, data.names, model.cfg.vocab, objective)
    targets, names = max_targets(source.data), data.names
    losses = [
        _measure_base_loss(model.cfg, targets, model.params, source.objective, source.data, i)
        for i in range(len(names))
    ]
    return {name: float(loss) for name, loss in zip(names, losses, strict=True)}


@partial(jax.jit, static_argnums=(0, 1))
def _measure_base_loss(
    cfg: ModelConfig,
    targets: int,
    params: Params,
    objective: Objective,
    rows: Batch,
    i: Int[Array, ""],
) -> Float[Array, ""]:
    return objective.heldout_loss(
        StudentModel(cfg, params, params),
        rows,
        i,
        rows_at_once=min(ROWS_AT_ONCE, rows.tokens.shape[1]),
        max_targets=targets,
    )
