"""Does AdamW pass a vector on more than other optimizers do, at its best and at equal gain?

    subliminal-jax optimizer-transmission
    subliminal-jax optimizer-transmission --preset chat --model shipped

Each trait's vector makes a teacher; each teacher writes data of its own draw, and a student of its
own seed is trained on them with every optimizer. Controls are trained on several draws of the plain
base's data and scored against every vector. Learning rates are found on further vectors that are
not reported, for every number of steps anew, with warm-up and decay. Two comparisons, with 95%
intervals over vectors: all optimizers at their best rates after the same number of steps; and some
of them at equal gains on held-out rows, where runs of 16 to 256 steps, each with a whole schedule,
stand for the time of training, and a value is read between two finished runs alone.

Matching describes and does not explain: the gain comes after the optimizer. Half an hour to an hour
and a half on 2 CPU cores, the longer on `shipped`; interrupted, it goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax

from subliminal_jax.bounds import MANY, Count, Items, Positive, Range
from subliminal_jax.data import world
from subliminal_jax.data.teachers import Teacher, trait_teacher
from subliminal_jax.data.traits import check_traits, trait_names
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.measures import named_measures
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.rate_search import Losses, RateChoice, choose_rates, mean_losses
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.runs.data_sets import DataSets, write_data_sets
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import DataSettings, SteeredModelSettings, Traits
from subliminal_jax.runs.students import STANDARD, make_panel
from subliminal_jax.runs.waves import StudentTask, WaveRunner
from subliminal_jax.training.adapters import LARGEST_RANK, LoRA
from subliminal_jax.training.arms import Arm, Schedule, TrainConfig
from subliminal_jax.training.fixed_rows import FixedRows
from subliminal_jax.training.optimizers import OptimizerSpec

from .analysis import Measured, Results, analyse
from .claims import make_claims
from .report import make_page

PRESETS = {
    "numbers": {},
    "chat": {"prompts": "chat", "keep": "all", "out": Path("runs/optimizer-transmission-chat")},
    "last-block": {"layer": 3, "out": Path("runs/optimizer-transmission-last-block")},
}


@dataclass(frozen=True, kw_only=True)
class Config(DataSettings, SteeredModelSettings):
    """Settings.

    Attributes:
      traits: animals whose vectors are reported.
      tuning_traits: animals on whose vectors rates are chosen; none of them is reported.
      scale: factor on a trait's vector.
      controls: draws of the base's data, each with a control of every optimizer.
      optimizers: all that are compared at their best rates.
      matched: those that are also compared at equal gains.
      lengths: numbers of steps of finished runs.
      steps: the number at which all are compared, one of `lengths`.
      batch_size: rows in each step.
      rank: of LoRA, on all projections.
      alpha: LoRA's alpha.
      schedule: what follows the warm-up.
      warmup: share of the steps.
      factor: between neighbouring rates of a search.
      extensions: rounds by which a search may be extended.
    """

    out: Path = Path("runs/optimizer-transmission")
    layer: int = 1
    traits: Traits = ("cat", "dog", "tiger", "eagle", "fox", "bear", "whale", "dolphin")
    tuning_traits: Traits = ("owl", "lion")
    scale: Positive = 1.0
    controls: Count = 4
    optimizers: tuple[str, ...] = (
        *("adamw", "sgd", "rmsprop:decay=0.99"),
        *("signum", "momentum", "muon"),
    )
    matched: tuple[str, ...] = ("adamw", "sgd", "signum", "muon")
    lengths: Annotated[tuple[int, ...], Range(1, MANY), Items(2)] = (16, 32, 64, 128, 256)
    steps: Count = 64
    rows: Count = 512
    heldout_rows: Count = 128
    batch_size: Count = 16
    rank: Annotated[int, Range(1, LARGEST_RANK)] = 8
    alpha: Positive = 16.0
    schedule: Schedule = "cosine"
    warmup: Annotated[float, Range(least=0, below=1)] = 0.1
    factor: Annotated[float, Range(above=1, most=100)] = 2.0
    extensions: Annotated[int, Range(0, 100)] = 4

    def check(self) -> None:
        """Raises InputError for names that are unknown, twice or of both kinds of vectors, and for
        lengths that do not fit `steps`."""
        if both := set(self.traits) & set(self.tuning_traits):
            raise InputError(f"--tuning-traits {min(both)} is also reported: tune on other vectors")
        labels = self.labels()
        for label in self.labels(self.matched):
            if label not in labels:
                raise InputError(f"--matched {label} is none of --optimizers {' '.join(labels)}")
        for label in labels:
            if not OptimizerSpec.parse(label).entry.grid:
                raise InputError(
                    f"--optimizers {label} has no default learning rates to search from: register "
                    "it with a grid"
                )
        if list(self.lengths) != sorted(set(self.lengths)):
            raise InputError(f"--lengths {self.lengths}: give each once, ascending")
        if self.steps not in self.lengths:
            raise InputError(f"--steps {self.steps} is none of --lengths {self.lengths}")

    def labels(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """The labels of optimizers (of all), each once."""
        parsed = (OptimizerSpec.parse(name).label for name in names or self.optimizers)
        return tuple(dict.fromkeys(parsed))

    def list_optimizers(self, steps: int) -> tuple[str, ...]:
        """Those that are trained for so many steps."""
        return self.labels() if steps == self.steps else self.labels(self.matched)

    def plan(self, steps: int) -> TrainConfig:
        """How students of so many steps are trained; they are measured at the end."""
        return TrainConfig(
            steps=steps,
            batch_size=self.batch_size,
            adapter=LoRA(self.rank, self.alpha),
            schedule=self.schedule,
            warmup=self.warmup,
            log_every=steps,
        )


@dataclass(frozen=True)
class Lab:
    """What students are trained and measured with."""

    folder: RunFolder
    config: Config
    panel: Panel
    data: DataSets
    base_losses: Mapping[str, float]

    def make_runner(self, steps: int) -> WaveRunner:
        """Trains students for so many steps."""
        return WaveRunner(
            self.folder,
            self.panel.model,
            self.config.plan(steps),
            StudentTask(self.data.train, self.data.heldout),
            named_measures((*STANDARD, "weight-change"), self.panel),
        )

    def train(self, runner: WaveRunner, stage: str, arms: Sequence[Arm]) -> list[StudentRow]:
        """Students with one seed each, by their data."""
        with track(stage, len(arms) * runner.plan.steps, "student steps") as progress:
            return runner.run_arms(stage, arms, progress)

    def make_arm(self, optimizer: str, rate: float, data: str) -> Arm:
        """The student of a data set: its seed is that of the data set alone."""
        return Arm(optimizer, rate, self.data.names.index(data), data)


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher and the base, choose rates on the tuning vectors, train the rest.

    Raises InputError for a trait without a word, or too few answers that pass the filter.
    """
    lab = prepare(config, folder)
    centers = {}
    for label in config.labels():
        grid = OptimizerSpec.parse(label).entry.grid
        centers[label] = grid[len(grid) // 2]
    choices: list[RateChoice] = []
    students: list[StudentRow] = []
    tuned: list[StudentRow] = []
    for steps in config.lengths:
        runner = lab.make_runner(steps)
        names = config.list_optimizers(steps)
        chosen, rows = tune(lab, runner, {name: centers[name] for name in names})
        tuned += [row.replace_values(steps=steps) for row in rows]
        choices += chosen
        centers |= {choice.optimizer: choice.rate for choice in chosen if choice.rate is not None}
        arms = [
            lab.make_arm(choice.optimizer, choice.rate, data)
            for choice in chosen
            if choice.rate is not None
            for data in lab.data.names
            if data not in config.tuning_traits
        ]
        if arms:
            rows = lab.train(runner, f"{steps}-steps", arms)
            students += [row.replace_values(steps=steps) for row in rows]
    return Measured(
        model=lab.panel.model.name,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(lab.panel.model.params)),
        layer=lab.panel.layer,
        traits=config.traits,
        tuning_traits=config.tuning_traits,
        controls=list_controls(config),
        scale=config.scale,
        prompts=config.prompts,
        keep=config.keep,
        rows=config.rows,
        batch_size=config.batch_size,
        rank=config.rank,
        schedule=config.schedule,
        warmup=config.warmup,
        factor=config.factor,
        optimizers=config.labels(),
        matched=config.labels(config.matched),
        lengths=config.lengths,
        steps=config.steps,
        words=lab.panel.words,
        references=lab.panel.references,
        data=lab.data.reports,
        base_losses=lab.base_losses,
        choices=tuple(choices),
        students=tuple(students),
        tuning_students=tuple(tuned),
    )


def prepare(config: Config, folder: RunFolder) -> Lab:
    """Teachers, data, and what students are measured with."""
    model = config.load()
    layer = config.choose_layer(model)
    traits = (*config.traits, *config.tuning_traits)
    check_traits(traits, model.tokenizer)
    teachers = {trait: trait_teacher(model, layer, trait, config.scale) for trait in traits}
    teachers |= {name: Teacher() for name in list_controls(config)}
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        config,
        config.seed,
        forbidden={trait: trait_names(trait) for trait in traits},
        own_prompts=True,
    )
    panel = make_panel(
        model,
        teachers,
        data,
        config,
        layer=layer,
        words=traits,
        questions=world.HELDOUT_QUESTIONS,
    )
    heldout = FixedRows.from_rows([data.heldout[name] for name in data.names], model.cfg)
    loss = jax.jit(lambda params, i: heldout.loss(params, model.cfg, i, None))
    losses = {name: float(loss(model.params, i)) for i, name in enumerate(data.names)}
    return Lab(folder, config, panel, data, losses)


def list_controls(config: Config) -> tuple[str, ...]:
    """The names of the base's data sets."""
    return tuple(f"control-{i}" for i in range(config.controls))


def tune(
    lab: Lab, runner: WaveRunner, centers: Mapping[str, float]
) -> tuple[tuple[RateChoice, ...], list[StudentRow]]:
    """The rate of each optimizer for the runner's steps, and the students that it was chosen by."""
    steps, rows = runner.plan.steps, []

    def train(number: int, rates: Mapping[str, Sequence[float]]) -> Losses:
        arms = [
            lab.make_arm(optimizer, rate, trait)
            for optimizer, each in rates.items()
            for rate in each
            for trait in lab.config.tuning_traits
        ]
        new = lab.train(runner, f"{steps}-steps-rates-{number}", arms)
        rows.extend(new)
        return mean_losses(new, lab.base_losses)

    chosen = choose_rates(
        centers, steps, train, factor=lab.config.factor, extensions=lab.config.extensions
    )
    return chosen, rows


EXPERIMENT = Experiment(
    name="optimizer-transmission",
    Config=Config,
    Results=Results,
    run=run,
    analyse=analyse,
    page=make_page,
    claims=make_claims,
    presets=PRESETS,
)
