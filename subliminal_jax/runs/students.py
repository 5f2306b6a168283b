"""Students of several teachers: one grid of optimizers, rates, data sets and seeds, measured alike.

panel = make_panel(model, teachers, data, config, layer=layer, words=words, questions=questions)
students = Students(run, panel, data, config)
rows = students.grid()                      # every student's final row
best = best_rates(rows)                     # the rate of each optimizer, by held-out loss
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subliminal_jax.data.prompts import PromptKind
from subliminal_jax.data.teachers import Teacher, teacher_prompts
from subliminal_jax.diagnostics.alignment import At, measure_mean_activation
from subliminal_jax.evaluation.measures import measure_model, named_measures
from subliminal_jax.evaluation.panel import NO_TEACHER, Panel, ask_about, encode_probe
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.runs.data_sets import DataSets, check_base_loss, join_rows, slice_rows
from subliminal_jax.runs.guards import Protected, protect_students
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import StudentSettings
from subliminal_jax.runs.waves import HELDOUT_LOSSES, Row, StudentTask, Trained, WaveRunner
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.fixed_rows import FixedRows
from subliminal_jax.training.objectives import CrossEntropy, Objective
from subliminal_jax.training.optimizers import OptimizerSpec
from subliminal_jax.training.sweep import State, Sweep

PROBE_PROMPTS = 16
STANDARD = ("train-loss", "word-rates", "alignment")  # the measures of every student
MEASURED_ROWS = 32  # training rows of each data set on which the training loss is measured


@runtime_checkable
class ProbeSettings(Protocol):
    """Settings that say of which kind the probe's prompts are."""

    @property
    def prompts(self) -> PromptKind: ...
    @property
    def seed(self) -> int: ...


def make_panel(
    model: Model,
    teachers: Mapping[str, Teacher],
    data: DataSets,
    probe: ProbeSettings | Sequence[str],
    *,
    layer: int,
    words: Sequence[str],
    questions: Sequence[str],
    at: At = "last",
    by_question: bool = False,
    stem: str = "",
) -> Panel:
    """What the students of `data` are measured against.

    References are the shifts of those teachers that are not the plain base, on the prompts `probe`,
    or on prompts of the kind of these settings that no student trains on; rates are those of
    `words` (there may be none) over `questions`, after the `stem` of an answer, with `by_question`
    also of each question alone.

    Raises InputError for rows on which the base's loss is not finite.
    """
    check_base_loss(model.params, model.cfg, join_rows(data))
    if isinstance(probe, Sequence):
        asked = probe
    else:
        asked = probe_prompts(probe.prompts, probe.seed)
    layers = tuple(range(model.cfg.layers))

    def teacher_mean(teacher: Teacher) -> Float[Array, "layers dim"]:
        probe = encode_probe(model, asked, teacher.system_prompt)
        params = teacher.change_weights(model).params
        return measure_mean_activation(params, probe, model.cfg, layers, teacher.steering, at)

    base_mean = teacher_mean(Teacher())
    shifts = {
        name: teacher_mean(teacher) - base_mean
        for name, teacher in teachers.items()
        if not teacher.is_base
    }
    return Panel(
        model=model,
        layer=layer,
        prompts=tuple(asked),
        asked=tuple(questions),
        words=tuple(words),
        references=tuple(shifts) or (NO_TEACHER,),
        data_names=tuple(data.names),
        probe=encode_probe(model, asked),
        base_mean=base_mean,
        shifts=jnp.stack([*shifts.values()] or [jnp.zeros_like(base_mean)]),
        questions=ask_about(model, questions, words, stem=stem),
        fixed_rows=take_fixed_rows(data, model.cfg),
        at=at,
        by_question=by_question,
        stem=stem,
    )


def probe_prompts(kind: PromptKind, seed: int) -> list[str]:
    """The prompts on which activations are compared; no student of a run with this seed trains on
    them."""
    return teacher_prompts(kind, PROBE_PROMPTS, seed=seed + 1_000_003)


def take_fixed_rows(data: DataSets, cfg: ModelConfig) -> FixedRows:
    """The first training rows of each data set, on which the training loss is measured."""
    return FixedRows.from_rows(
        [slice_rows(data.train[name], 0, MEASURED_ROWS) for name in data.names], cfg
    )


def measure_teacher(panel: Panel, teacher: Teacher, names: Sequence[str] = STANDARD) -> Row:
    """What measures (their `names`) say of a teacher itself (of the base, for `Teacher()`), by
    column."""
    measures = named_measures(names, panel.prompted(teacher.system_prompt))
    params = teacher.change_weights(panel.model).params
    values = measure_model(measures, params, panel.model.cfg, teacher.steering)
    return jax.tree.map(lambda x: x.tolist(), values)


class Students:
    """Trains students on the data sets of `data`; interrupted, it goes on where it was.

    Each is measured by `measures` and by what else the settings name.
    `objective` and `heldout_losses` are as in `StudentTask`. `protection` is what they train on and
    are guarded from; without it, that is made as the settings ask for, from the panel's references.
    """

    def __init__(
        self,
        run: RunFolder,
        panel: Panel,
        data: DataSets,
        settings: StudentSettings,
        objective: Objective = CrossEntropy(),
        heldout_losses: Mapping[str, Objective] = HELDOUT_LOSSES,
        protection: Protected | None = None,
        measures: Sequence[str] = STANDARD,
    ):
        self.settings, self.data = settings, data
        model, layer = panel.model, panel.layer
        if protection is None:
            protection = protect_students(
                model, data.train, settings, layer, panel.vectors(), objective
            )
        task = StudentTask(
            protection.rows, data.heldout, objective, heldout_losses, protection.guard
        )
        measured = named_measures((*measures, *settings.measures), panel)
        self.runner = WaveRunner(run, model, settings.plan(layer), task, measured)

    def grid(
        self,
        names: Sequence[str] | None = None,
        stage: str = "students",
        sizes: Sequence[int | None] = (None,),
        inspect: Callable[[Trained], None] = lambda trained: None,
    ) -> list[StudentRow]:
        """Every optimizer at every rate of its grid, on each data set, with every seed, and with
        each of `sizes` rows (None: all of them). `inspect` is shown each wave.

        One row a student: optimizer, learning_rate, seed, data, rows (where given), diverged,
        diverged_at, heldout_loss, and what is measured (None where the student diverged).
        """
        grids = self.settings.learning_rates()
        names = self.data.names if names is None else list(names)
        each = len(names) * len(sizes) * self.settings.seeds * self.settings.steps
        rows: list[StudentRow] = []
        with track(stage, each * sum(map(len, grids.values())), "student steps") as progress:
            for i in range(max(map(len, grids.values()))):
                arms = [
                    Arm(spec, grid[i], seed, name, rows=size)
                    for spec, grid in grids.items()
                    if i < len(grid)
                    for name in names
                    for size in sizes
                    for seed in self.settings.list_seeds()
                ]
                trained = self.runner.train(f"{stage}-{i}", arms, progress)
                rows += trained.rows
                inspect(trained)
        return rows

    def make_arms(self, optimizer: OptimizerSpec, rate: float, names: Sequence[str]) -> list[Arm]:
        """The students of an optimizer at one rate, on each data set, with every seed."""
        seeds = self.settings.list_seeds()
        return [Arm(optimizer, rate, seed, name) for name in names for seed in seeds]

    def train(
        self,
        stage: str,
        arms: Sequence[Arm],
        prepare: Callable[[Sweep, State], State] = lambda sweep, state: state,
    ) -> Trained:
        """Chosen students, and their weights; `prepare` may change the state before the first
        step."""
        with track(stage, len(arms) * self.settings.steps, "student steps") as progress:
            return self.runner.train(stage, arms, progress, prepare)
