"""Does AdamW pass a vector on more than other optimizers do, at its best and at equal gain?

    subliminal-jax optimizer-transmission
    subliminal-jax optimizer-transmission --preset chat --model shipped

Each trait's vector makes a teacher; each teacher writes data of its own draw, and a student of its
own seed is trained on them with every optimizer. Controls are trained on several draws of the plain
base's data and scored against every vector. Learning rates are found on further vectors that are
not reported, for every number of steps anew, with warm-up and decay. Two comparisons, with 95%
intervals over vectors: all optimizers at their best rates after the same number of steps; and some
of them at equal gains on held-out rows, where runs of 4 to 256 steps, each with a whole schedule,
stand for the time of training, and a value is read between two finished runs alone.

Matching describes and does not explain: the gain comes after the optimizer. Half an hour to an hour
and a half on 2 CPU cores, the longer on `shipped`; interrupted, it goes on where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from subliminal_jax.bounds import MANY, Count, Items, Range
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.rate_search import RateChoice
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.runs.experiment import Experiment
from subliminal_jax.runs.presets import PAPER_STUDENTS, paper_preset
from subliminal_jax.runs.rates import default_rate
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.students import STANDARD
from subliminal_jax.runs.vector_lab import Point, VectorSettings, prepare_lab
from subliminal_jax.runs.waves import WaveRunner
from subliminal_jax.training.optimizers import OptimizerSpec

from .analysis import Measured, Results, analyse
from .claims import make_claims
from .report import make_page

PRESETS = {
    "toy": {},
    "chat": {"prompts": "chat", "keep": "all", "out": Path("runs/optimizer-transmission-chat")},
    "last-block": {
        "layer": 3,  # where few steered lists are lists
        "prompts": "chat",
        "keep": "all",
        "out": Path("runs/optimizer-transmission-last-block"),
    },
    # The paper's students, a vector each; rates are searched for, and all of its run in halves.
    "paper-qwen2.5-7b": paper_preset(
        "qwen2.5-7b",
        students={},
        scale=True,
        traits=("cat", "dog", "eagle"),
        tuning_traits=("owl",),
        controls=1,
        lengths=(221, 443, 887, 1_775, 3_550),
        **{
            name: PAPER_STUDENTS[name]
            for name in ("steps", "batch_size", "rank", "alpha", "schedule", "warmup")
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config(VectorSettings):
    """Settings.

    Attributes:
      optimizers: all that are compared at their best rates.
      matched: those that are also compared at equal gains.
      lengths: numbers of steps of finished runs.
      steps: the number at which all are compared, one of `lengths`.
    """

    out: Path = Path("runs/optimizer-transmission")
    optimizers: tuple[str, ...] = (
        *("adamw", "sgd", "rmsprop:decay=0.99"),
        *("signum", "momentum", "muon"),
    )
    matched: tuple[str, ...] = ("adamw", "sgd", "signum", "muon")
    lengths: Annotated[tuple[int, ...], Range(1, MANY), Items(2)] = (4, 8, 16, 32, 64, 128, 256)
    steps: Count = 64

    def check(self) -> None:
        """Raises InputError for optimizers without rates, and for lengths that do not fit
        `steps`."""
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


def run(config: Config, folder: RunFolder) -> Measured:
    """Sample every teacher and the base, choose rates on the tuning vectors, train the rest.

    Raises InputError for a trait without a word, or too few answers that pass the filter.
    """
    lab = prepare_lab(config, folder)
    centers = {label: default_rate(label) for label in config.labels()}
    choices: list[RateChoice] = []
    students: list[StudentRow] = []
    tuned: list[StudentRow] = []
    runner = lab.make_runner(
        config.plan(config.lengths[0]),
        (*STANDARD, "weight-change"),
        optimizers=config.labels(),
        steps=max(config.lengths),
    )
    for steps in config.lengths:
        runner = runner.replace_plan(config.plan(steps))
        names = config.list_optimizers(steps)

        def tune(
            number: int, points: Sequence[Point], runner: WaveRunner = runner
        ) -> list[StudentRow]:
            arms = [lab.make_arm(*point) for point in points]
            return lab.train(runner, f"{runner.plan.steps}-steps-rates-{number}", arms).rows

        chosen, rows = lab.find_rates({name: centers[name] for name in names}, steps, tune)
        tuned += [row.replace_values(steps=steps) for row in rows]
        choices += chosen
        centers |= {choice.optimizer: choice.rate for choice in chosen if choice.rate is not None}
        arms = [
            lab.make_arm(choice.optimizer, choice.rate, data)
            for choice in chosen
            if choice.rate is not None
            for data in lab.reported
        ]
        if arms:
            rows = lab.train(runner, f"{steps}-steps", arms).rows
            students += [row.replace_values(steps=steps) for row in rows]
    return Measured(
        **lab.describe(),
        optimizers=config.labels(),
        matched=config.labels(config.matched),
        lengths=config.lengths,
        steps=config.steps,
        choices=tuple(choices),
        students=tuple(students),
        tuning_students=tuple(tuned),
    )


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
