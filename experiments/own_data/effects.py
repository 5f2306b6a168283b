"""What students have taken from their rows: losses on everybody's held-out rows, and directions."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.alignment import Probe, activation_shift
from subliminal_jax.evaluation.comparison import best_rates
from subliminal_jax.evaluation.panel import Panel
from subliminal_jax.evaluation.student_rows import StudentRow, ended_sound
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import unembed
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.models.tokenwise import norm
from subliminal_jax.runs.data_sets import slice_rows
from subliminal_jax.runs.waves import Trained
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.fixed_rows import FixedRows

from .analysis import Direction, Effect

GROUPS = 8  # of the held-out rows of a data set, over which intervals are taken
MOST_ROWS = 128  # of each data set, on which all students are evaluated
TOKENS = 8  # that a direction stands for
Student = tuple[str, float, int, str]  # optimizer, learning rate, seed, data


class EffectRecorder:
    """Evaluates the students of every wave on held-out rows of all data sets, by which no rate was
    chosen, and keeps their activation shifts after the steering layer and after the last block."""

    def __init__(self, panel: Panel, reported: Mapping[str, Batch]):
        self.panel, self.names = panel, sorted(reported)
        count = len(next(iter(reported.values())).tokens)
        self.groups = min(GROUPS, count)
        size = min(count, MOST_ROWS) // self.groups
        self.rows = FixedRows.from_rows(
            [
                slice_rows(reported[name], i * size, (i + 1) * size)
                for name in self.names
                for i in range(self.groups)
            ],
            panel.model.cfg,
        )
        self.shifts: dict[Student, Float[np.ndarray, "layers dim"]] = {}
        self.losses: dict[Student, Float[np.ndarray, "datasets groups"]] = {}

    @property
    def _layers(self) -> tuple[int, int]:
        return self.panel.layer, self.panel.model.cfg.layers - 1

    def record(self, trained: Trained) -> None:
        """Evaluate the students of a wave."""
        values = trained.sweep.map_students(self._evaluate)(trained.state, self._inputs())
        shifts, losses = (np.asarray(x) for x in values)
        for i, arm in enumerate(trained.sweep.arms):
            student = arm.optimizer.label, arm.learning_rate, arm.seed, arm.data
            self.shifts[student] = shifts[i]
            self.losses[student] = losses[i].reshape(len(self.names), self.groups)

    def measure_base(self) -> dict[str, tuple[float, ...]]:
        """The untrained model's loss on each group of held-out rows, by data set."""
        inputs, params = self._inputs(), self.panel.model.params

        @jax.jit
        def run(inputs: Any, params: Params) -> Array:
            return replicate(self._evaluate(inputs, params, None)[1])

        return self._by_data_set(np.asarray(run(inputs, params)).reshape(len(self.names), -1))

    def list_effects(self, rows: Sequence[StudentRow]) -> tuple[Effect, ...]:
        """The losses of every sound student."""
        return tuple(
            Effect(*_name_student(row), losses=self._by_data_set(self.losses[_name_student(row)]))
            for row in rows
            if ended_sound(row)
        )

    def describe_directions(
        self, data_names: Sequence[str], control_names: Sequence[str], rows: Sequence[StudentRow]
    ) -> tuple[Direction, ...]:
        """The direction of each data set's students at the best rate of their optimizer."""
        best = best_rates(rows, control_names)
        sound = {_name_student(row): row for row in rows if ended_sound(row)}

        def pick(optimizer: str, names: Sequence[str]) -> list[Float[np.ndarray, "layers dim"]]:
            return [
                self.shifts[student]
                for student in sound
                if student[:2] == (optimizer, best[optimizer]) and student[3] in names
            ]

        return tuple(
            describe_direction(self.panel.model, name, optimizer, own, controls)
            for name in data_names
            for optimizer in best
            if (own := pick(optimizer, [name]))
            for controls in [pick(optimizer, control_names)]
        )

    def _inputs(self) -> tuple[Probe, Array, FixedRows]:
        return self.panel.probe, self.panel.base_mean[jnp.array(self._layers)], self.rows

    def _evaluate(
        self, inputs: tuple[Probe, Array, FixedRows], params: Params, steering: Steering | None
    ) -> tuple[Float[Array, "layers dim"], Float[Array, " parts"]]:
        probe, base_mean, rows = inputs
        cfg: ModelConfig = self.panel.model.cfg
        first, last = self._layers
        layers = (first, last) if first < last else (last,)
        shift = activation_shift(params, probe, base_mean[-len(layers) :], cfg, layers, steering)
        parts = jnp.arange(len(self.names) * self.groups)
        losses = jax.lax.map(lambda i: rows.loss(params, cfg, i, steering), parts)
        return jnp.stack([shift[0], shift[-1]]), losses

    def _by_data_set(self, losses: Float[np.ndarray, "datasets groups"]) -> dict[str, Any]:
        return {name: tuple(losses[i].tolist()) for i, name in enumerate(self.names)}


def describe_direction(
    model: Model,
    data: str,
    optimizer: str,
    own: Sequence[Float[np.ndarray, "layers dim"]],
    controls: Sequence[Float[np.ndarray, "layers dim"]],
) -> Direction:
    """Whether the seeds of one optimizer move one way, whether controls move that way too, and what
    it stands for. Cosines are those at the steering layer, tokens those after the last block."""
    pairs = [(a[0], b[0]) for i, a in enumerate(own) for b in own[i + 1 :]]
    mean, others = np.mean(own, axis=0), np.mean(controls, axis=0) if controls else None
    return Direction(
        data=data,
        optimizer=optimizer,
        agreement=_mean_cosine(pairs),
        control_cosine=_mean_cosine([(a[0], b[0]) for a in own for b in controls]),
        tokens=find_top_tokens(model, mean[1]),
        differing_tokens=None if others is None else find_top_tokens(model, mean[1] - others[1]),
    )


def find_top_tokens(
    model: Model, direction: Float[np.ndarray, " dim"], count: int = TOKENS
) -> tuple[str, ...]:
    """The tokens whose logits rise most along a direction of the last residual stream, read through
    the final norm and the unembedding ("logit lens", nostalgebraist 2020)."""
    unit = jnp.asarray(direction / max(float(np.sqrt(np.mean(direction**2))), 1e-30))
    hidden = norm(unit[None], model.params, "final_norm", model.cfg)
    logits = np.asarray(unembed(model.params, hidden, model.cfg))[0]
    words: dict[str, None] = {}
    for token in np.argsort(-logits).tolist():
        if word := model.tokenizer.decode([token]).strip():
            words[word] = None  # one spelling of it, with or without a space
        if len(words) == count:
            break
    return tuple(words)


def _mean_cosine(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    cosines = [
        float(a @ b / size)
        for a, b in pairs
        if (size := float(np.linalg.norm(a) * np.linalg.norm(b))) > 0
    ]
    return float(np.mean(cosines)) if cosines else None


def _name_student(row: Mapping[str, Any]) -> Student:
    return row["optimizer"], row["learning_rate"], row["seed"], row["data"]
