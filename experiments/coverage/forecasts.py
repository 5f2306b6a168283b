"""What is known before a student is trained: coverage by rule, and the gradient's alignment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax

from subliminal_jax.data.teachers import Teacher
from subliminal_jax.diagnostics.coverage import (
    Weights,
    first_update,
    gradient_alignment,
    measure_coverage,
    pull_back,
    steering_displacement,
    weight_displacement,
    weight_gradient,
)
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_kinds import KindChoice
from subliminal_jax.runs.data_sets import slice_rows
from subliminal_jax.runs.progress import track
from subliminal_jax.runs.student_kinds import KindTrainer
from subliminal_jax.training.adapters import init_trainable

from .config import Config


@dataclass(frozen=True)
class Forecast:
    """The first update of a student against the displacement of a teacher.

    Attributes:
      adapter, optimizer: the student's kind and rule.
      data: the data set that it would train on.
      reference: the teacher; of a teacher's data it is its own.
      coverage: the cosine of the first update, as a change of weights, with the displacement.
      component: its size along the displacement, at the rate that the tuning traits chose.
      size: its norm.
      step: the rule's step, from 1, at which it first moves.
      gradient: the cosine of the negative gradient of the weights with the displacement, which
        knows neither the rule nor the student's start.
    """

    adapter: str
    optimizer: str
    data: str
    reference: str
    coverage: float
    component: float
    size: float
    step: int
    gradient: float


def make_displacements(
    panel: Panel, teachers: Mapping[str, Teacher], names: Sequence[str]
) -> dict[str, Weights]:
    """The displacement of each named teacher: of its weights, or the twin of its vector."""
    params, cfg, vectors = panel.model.params, panel.model.cfg, panel.vectors()
    return {
        name: steering_displacement(params, panel.probe, cfg, vectors[name], panel.layer)
        if teachers[name].params is None
        else weight_displacement(teachers[name].change_weights(panel.model).params, params)
        for name in names
    }


def make_forecasts(
    config: Config,
    trainer: KindTrainer,
    teachers: Mapping[str, Teacher],
    choices: Sequence[KindChoice],
) -> tuple[Forecast, ...]:
    """Of every rule that has a rate, on every reported data set; a control's data are held against
    every teacher."""
    panel, data = trainer.panel, trainer.data
    model = panel.model
    named = [name for name in trainer.reported if name in teachers]
    displacements = make_displacements(panel, teachers, named)
    forecasts: list[Forecast] = []
    with track("coverage", len(trainer.reported), "data sets") as progress:
        for name in trainer.reported:
            rows = slice_rows(data.train[name], 0, config.gradient_rows)
            loss, gradient = weight_gradient(model.params, model.cfg, rows, config.batch_size)
            references = [name] if name in displacements else named
            for kind in config.adapters:
                adapter = config.make_adapter_of(kind, panel.layer)
                key = jax.random.key(trainer.seeds[name])
                start = init_trainable(key, model.params, model.cfg, adapter)
                pulled = pull_back(gradient, start, model.params, model.cfg, adapter)
                aligned = {
                    reference: float(
                        gradient_alignment(gradient, displacements[reference], adapter, start)
                    )
                    for reference in references
                }
                for choice in (c.choice for c in choices if c.adapter == kind):
                    if choice.rate is None:
                        continue
                    update, step = first_update(
                        choice.optimizer, choice.rate, start, pulled, loss, config.steps
                    )
                    for reference in references:
                        covered = measure_coverage(start, update, displacements[reference], adapter)
                        forecasts.append(
                            Forecast(
                                adapter=kind,
                                optimizer=choice.optimizer,
                                data=name,
                                reference=reference,
                                coverage=float(covered.cosine),
                                component=float(covered.component),
                                size=float(covered.size),
                                step=step,
                                gradient=aligned[reference],
                            )
                        )
            progress.advance(1, note=name)
    return tuple(forecasts)
