"""Experiments over vectors: each vector has a teacher, data and a student's seed of its own.

Controls are trained on several draws of the plain base's data and serve all vectors. Learning rates
are found on tuning vectors, of which nothing is reported (`evaluation.rate_search`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from subliminal_jax.data import world
from subliminal_jax.data.teachers import Teacher, trait_teacher
from subliminal_jax.data.traits import check_traits, trait_names
from subliminal_jax.evaluation.measures import named_measures
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.rate_search import Losses, RateChoice, choose_rates, mean_losses
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import DataSets, write_data_sets
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.students import make_panel
from subliminal_jax.runs.vector_settings import VectorSettings
from subliminal_jax.runs.waves import StudentTask, Trained, WaveRunner
from subliminal_jax.training.arms import Arm, Room, TrainConfig
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.fixed_rows import FixedRows
from subliminal_jax.training.optimizers import OptimizerSpec

Point = tuple[str, float, str]  # a student: its optimizer (or arm), learning rate and data set


@dataclass(frozen=True)
class VectorLab:
    """What students are trained and measured with.

    Attributes:
      teachers: by data set; the controls' are the plain base.
      base_losses: the base's held-out loss by data set, in nats a predicted token.
    """

    folder: RunFolder
    settings: VectorSettings
    panel: Panel
    teachers: Mapping[str, Teacher]
    data: DataSets
    base_losses: Mapping[str, float]

    @property
    def reported(self) -> tuple[str, ...]:
        """The data sets of the reported vectors and of the controls."""
        tuning = self.settings.tuning_traits
        return tuple(name for name in self.data.names if name not in tuning)

    def make_runner(
        self,
        plan: TrainConfig,
        measures: Sequence[str],
        rows: Mapping[str, Batch] | None = None,
        *,
        optimizers: Sequence[str | OptimizerSpec] = (),
        steps: int = 0,
    ) -> WaveRunner:
        """Trains students by `plan`, on `rows` if they are others than the data sets'.

        One set of programs serves waves of these `optimizers` with up to a student of each on every
        data set, and up to `steps` steps.
        """
        room = Room(
            tuple(
                self.make_arm(name, 1.0, data) for name in optimizers for data in self.data.names
            ),
            steps,
        )
        return WaveRunner(
            self.folder,
            self.panel.model,
            plan,
            StudentTask(self.data.train if rows is None else rows, self.data.heldout),
            named_measures(measures, self.panel),
            room,
        )

    def train(self, runner: WaveRunner, stage: str, arms: Sequence[Arm], **prepare: Any) -> Trained:
        """Students with one seed each, by their data; `prepare` as in `WaveRunner.train`."""
        with track(stage, len(arms) * runner.plan.steps, "student steps") as progress:
            return runner.train(stage, arms, progress, **prepare)

    def make_arm(self, optimizer: str | OptimizerSpec, rate: float, data: str) -> Arm:
        """The student of a data set: its seed is that of the data set alone."""
        return Arm(optimizer, rate, self.data.names.index(data), data)

    def find_rates(
        self,
        centers: Mapping[str, float],
        steps: int,
        train: Callable[[int, Sequence[Point]], Sequence[StudentRow]],
    ) -> tuple[tuple[RateChoice, ...], list[StudentRow]]:
        """The best rate of each optimizer on the tuning vectors, and the students that it was
        chosen by.

        Args:
          centers: where each search begins.
          train: (round, students) -> their final rows, with the names in `centers` as optimizers.
        """
        rows: list[StudentRow] = []

        def train_round(number: int, rates: Mapping[str, Sequence[float]]) -> Losses:
            points = [
                (optimizer, rate, trait)
                for optimizer, each in rates.items()
                for rate in each
                for trait in self.settings.tuning_traits
            ]
            new = train(number, points)
            rows.extend(new)
            return mean_losses(new, self.base_losses)

        factor, extensions = self.settings.factor, self.settings.extensions
        chosen = choose_rates(centers, steps, train_round, factor=factor, extensions=extensions)
        return chosen, rows

    def describe(self) -> dict[str, Any]:
        """The fields of a `VectorRun`."""
        settings = self.settings
        copied = (
            *("traits", "tuning_traits", "scale", "prompts", "keep", "rows", "batch_size"),
            *("rank", "schedule", "warmup", "factor"),
        )
        return {name: getattr(settings, name) for name in copied} | {
            "model": self.panel.model.name,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self.panel.model.params)),
            "layer": self.panel.layer,
            "controls": settings.list_controls(),
            "words": self.panel.words,
            "references": self.panel.references,
            "data": self.data.reports,
            "base_losses": self.base_losses,
        }


def prepare_lab(
    settings: VectorSettings,
    folder: RunFolder,
    make_teacher: Callable[[Model, int, str, float], Teacher] = trait_teacher,
) -> VectorLab:
    """Teachers, data, and what students are measured with.

    `make_teacher` gets model, layer, trait and scale; without it teachers are steered.

    Raises InputError for a trait without a word, or too few answers that pass the filter.
    """
    model = settings.load()
    layer = settings.choose_layer(model)
    traits = settings.all_traits
    check_traits(traits, model.tokenizer)
    teachers = {trait: make_teacher(model, layer, trait, settings.scale) for trait in traits}
    teachers |= {name: Teacher() for name in settings.list_controls()}
    data = write_data_sets(
        folder.path,
        model,
        teachers,
        settings,
        settings.seed,
        forbidden={trait: trait_names(trait) for trait in traits},
        own_prompts=True,
    )
    panel = make_panel(
        model,
        teachers,
        data,
        settings,
        layer=layer,
        words=traits,
        questions=world.HELDOUT_QUESTIONS,
        stem=settings.stem,
    )
    heldout = FixedRows.from_rows([data.heldout[name] for name in data.names], model.cfg)
    loss = jax.jit(lambda params, i: heldout.loss(params, model.cfg, i, None))
    losses = {name: float(loss(model.params, i)) for i, name in enumerate(data.names)}
    return VectorLab(folder, settings, panel, teachers, data, losses)
