"""Students of several teachers: one grid of optimizers, rates, data sets and seeds, measured alike.

panel = make_panel(model, teachers, data, words=words, questions=questions, ...)
students = Students(run, model, panel, data, config, layer)
rows = students.grid()                      # every student's final row
best = best_rates(rows)                     # the rate of each optimizer, by held-out loss
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.data.teachers import PromptKind, Teacher, teacher_prompts
from subliminal_jax.diagnostics.alignment import At, make_probe, mean_activation
from subliminal_jax.evaluation.elicitation import encode_questions
from subliminal_jax.evaluation.measures import check_base_loss
from subliminal_jax.evaluation.panel import PanelContext, PanelMeasure
from subliminal_jax.evaluation.student_rows import StudentRow
from subliminal_jax.models.hub import Model
from subliminal_jax.models.tokenizer import encode_chat
from subliminal_jax.runs.data_sets import DataSets, part
from subliminal_jax.runs.guards import Protected, protected
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.run_folder import RunFolder
from subliminal_jax.runs.settings import StudentSettings
from subliminal_jax.runs.waves import HELDOUT_LOSSES, Row, Trained, WaveRunner
from subliminal_jax.training.arms import Arm
from subliminal_jax.training.fixed_rows import FixedRows
from subliminal_jax.training.objectives import CrossEntropy, Objective

PROBE_PROMPTS = 16
NO_TEACHER = "none"  # the reference, a zero, where all data are the plain base's
MEASURED_ROWS = 32  # training rows of each data set on which the training loss is measured


class Panel(NamedTuple):
    """What students are measured by; `references` and `words` name the axes of the results."""

    context: PanelContext
    measure: PanelMeasure
    references: tuple[str, ...]
    words: tuple[str, ...]

    def vectors_at(self, layer: int) -> dict[str, Float[Array, " dim"]]:
        """The teachers' shifts after `layer`, by name; of a steered teacher, its vector."""
        shifts = dict(zip(self.references, self.context.references, strict=True))
        return {name: shift[layer] for name, shift in shifts.items() if name != NO_TEACHER}


def make_panel(
    model: Model,
    teachers: Mapping[str, Teacher],
    data: DataSets,
    *,
    words: Sequence[str],
    questions: Sequence[str],
    prompts: PromptKind | Sequence[str],
    seed: int,
    at: At = "last",
    by_question: bool = False,
) -> Panel:
    """References are the shifts of those teachers that are not the plain base, on prompts of the
    kind `prompts` that no student trains on, or on the prompts given; rates are those of `words`
    over `questions`, with `by_question` also of each question alone."""
    asked: Sequence[str] = prompts
    if isinstance(prompts, str):
        asked = teacher_prompts(cast(PromptKind, prompts), PROBE_PROMPTS, seed=seed + 1_000_003)
    layers = tuple(range(model.cfg.layers))
    means = jax.jit(mean_activation, static_argnums=(2, 3, 5))

    def mean_of(teacher: Teacher) -> Any:
        system = teacher.system_prompt
        encoded = [encode_chat(model.tokenizer, p, system_prompt=system) for p in asked]
        probe = make_probe(encoded, model.cfg)
        return probe, means(model.params, probe, model.cfg, layers, teacher.steering, at)

    probe, base_mean = mean_of(Teacher())
    own = {name: mean_of(t)[1] - base_mean for name, t in teachers.items() if not t.is_base}
    references = jnp.stack([*own.values()] or [jnp.zeros_like(base_mean)])
    fixed = [part(data.train[name], 0, MEASURED_ROWS) for name in data.names]
    encoded = encode_questions(model.tokenizer, list(questions), list(words))
    return Panel(
        PanelContext(probe, base_mean, references, encoded, FixedRows.of(fixed, model.cfg)),
        PanelMeasure(model.cfg, len(words), at, by_question),
        tuple(own) or (NO_TEACHER,),
        tuple(words),
    )


class Students:
    """Trains students on the data sets of `data`; interrupted, it goes on where it was.

    `objective` and `heldout_losses` are as in `WaveRunner`. `protection` is what they train on and
    are guarded from; without it, that is made as the settings ask for, from the panel's references.
    """

    def __init__(
        self,
        run: RunFolder,
        model: Model,
        panel: Panel,
        data: DataSets,
        settings: StudentSettings,
        layer: int,
        objective: Objective = CrossEntropy(),
        heldout_losses: Mapping[str, Objective] = HELDOUT_LOSSES,
        protection: Protected | None = None,
    ):
        check_base_loss(model.params, model.cfg, data.train)
        self.settings, self.data = settings, data
        if protection is None:
            vectors = panel.vectors_at(layer)
            protection = protected(model, data.train, settings, layer, vectors, objective)
        self.runner = WaveRunner(
            run, model, settings.plan(layer), settings.seeds,
            rows=protection.rows, heldout=data.heldout, guard=protection.guard,
            measure=panel.measure, context=panel.context,
            objective=objective, heldout_losses=heldout_losses,
        )  # fmt: skip

    def grid(
        self,
        names: Sequence[str] | None = None,
        stage: str = "students",
        sizes: Sequence[int | None] = (None,),
    ) -> list[StudentRow]:
        """Every optimizer at every rate of its grid, on each data set, with every seed, and with
        each of `sizes` rows (None: all of them).

        One row a student: optimizer, learning_rate, seed, data, rows (where given), diverged,
        diverged_at, heldout_loss, and what the panel measures (None where the student diverged).
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
                    for seed in range(self.settings.seeds)
                ]
                rows += self.runner.run_arms(f"{stage}-{i}", arms, progress)
        return rows

    def train(self, stage: str, arms: Sequence[Arm]) -> Trained:
        """Chosen students, and their weights."""
        with track(stage, len(arms) * self.settings.steps, "student steps") as progress:
            return self.runner.train(stage, arms, progress)


def of_model(model: Model, panel: Panel, teacher: Teacher, questions: Sequence[str]) -> Row:
    """The panel's rates and alignment of a teacher itself (of the base, for `Teacher()`)."""
    asked = encode_questions(
        model.tokenizer, list(questions), list(panel.words), teacher.system_prompt
    )
    context = panel.context._replace(questions=asked)
    values = jax.jit(panel.measure.of_model)(context, model.params, teacher.steering)
    return jax.tree.map(lambda x: np.asarray(x).tolist(), values)
