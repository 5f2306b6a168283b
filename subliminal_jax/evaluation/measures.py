"""What is measured of every student of a sweep at logged steps, inside the compiled program."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.alignment import (
    Probe,
    activation_shift,
    eas,
    mean_activation,
    relative_component,
    relative_size,
)
from subliminal_jax.diagnostics.parameter_space import anatomy, score_gradient
from subliminal_jax.errors import InputError
from subliminal_jax.evaluation.elicitation import Questions, word_probs
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.batch import Batch, max_targets
from subliminal_jax.training.fixed_rows import FixedRows
from subliminal_jax.training.losses import mean_loss, token_losses
from subliminal_jax.training.sweep import StudentView

CHECKED_AT_ONCE = 16  # rows in one pass of `check_base_loss`


class MeasureContext(NamedTuple):
    """The arrays that the measurements of a sweep share.

    `teacher_shift` is the teacher's mean activation minus the base's on the probe, after every
    layer; at the steering layer of an added vector it is that vector. `questions` have one word,
    the trait. `rows` are training rows of each data set, on which `train_loss` is taken.
    """

    probe: Probe
    base_mean: Float[Array, "layers dim"]
    teacher_shift: Float[Array, "layers dim"]
    vector: Float[Array, " dim"]
    questions: Questions
    rows: FixedRows


class StudentMeasure:
    """`measure` of a `Sweep` whose context is a `MeasureContext`; one value a student:

    train_loss [], trait_rate [] and trait_log_prob [] (mean over questions of the trait's
    probability and of its logarithm), eas [layers], shift_size and shift_component [layers] (the
    student's shift in units of the teacher's), score [] (<shift, v/|v|> at the steering layer), and
    what `anatomy` says of the last step.
    """

    kept: tuple[str, ...] = (
        *("train_loss", "eas", "shift_size", "shift_component", "trait_rate", "trait_log_prob"),
        *("eas_by_layer", "score", "gradient_norm", "gradient_cosine"),
        *("update_cosine", "update_component", "update_top_component"),
    )

    def __init__(self, cfg: ModelConfig, layer: int):
        self.cfg, self.layer = cfg, layer

    def __call__(self, context: MeasureContext, view: StudentView) -> dict[str, Array]:
        params, steering = view.model(view.trainable)
        direction = score_gradient(
            view.model, view.before, context.probe, self.cfg, context.vector, self.layer
        )
        return {
            "train_loss": context.rows.loss(params, self.cfg, view.which, steering),
            **self.of_model(context, params, steering),
            **anatomy(view.gradient, view.update, direction),
        }

    def of_model(
        self, context: MeasureContext, params: Params, steering: Steering | None
    ) -> dict[str, Array]:
        """The part that needs no training step: elicitation and alignment."""
        layers = tuple(range(self.cfg.layers))
        shift = activation_shift(
            params, context.probe, context.base_mean, self.cfg, layers, steering
        )
        trait = word_probs(params, self.cfg, context.questions, 1, steering)[:, 0]
        v = context.vector
        return {
            "trait_rate": jnp.mean(trait),
            "trait_log_prob": jnp.mean(jnp.log(jnp.maximum(trait, 1e-30))),
            "eas": eas(shift, context.teacher_shift),
            "shift_size": relative_size(shift, context.teacher_shift),
            "shift_component": relative_component(shift, context.teacher_shift),
            "score": shift[self.layer] @ (v / jnp.linalg.norm(v)),
        }

    def row(self, values: dict[str, Any]) -> dict[str, Any]:
        """What the journal holds of one student's values: alignment at the steering layer, too."""
        row = dict(values)
        for key in ("eas", "shift_size", "shift_component"):
            row[f"{key}_by_layer"] = row[key]
            row[key] = row[key][self.layer]
        return row


def check_base_loss(params: Params, cfg: ModelConfig, rows: dict[str, Batch]) -> None:
    """Raises InputError for a row of the data on which the untrained model's loss is not finite."""
    targets = max(map(max_targets, rows.values()))

    @jax.jit
    def per_row(params: Params, batch: Batch) -> Float[Array, " rows"]:
        def one(row: Batch) -> Float[Array, ""]:
            piece = jax.tree.map(lambda leaf: leaf[None], row)
            return mean_loss(*token_losses(params, piece, cfg, max_targets=targets))

        return jax.lax.map(one, batch, batch_size=CHECKED_AT_ONCE)

    for name, batch in rows.items():
        wrong = np.flatnonzero(~np.isfinite(np.asarray(per_row(params, batch))))
        if wrong.size:
            raise InputError(
                f"the untrained model's loss is not finite on {wrong.size} of {len(batch.tokens)} "
                f"rows of the {name} data (the first is row {wrong[0] + 1}): are its weights whole?"
            )


def measure_context(
    params: Params,
    cfg: ModelConfig,
    *,
    probe: Probe,
    teacher_probe: Probe,
    teacher: Steering | None,
    layer: int,
    questions: Questions,
    rows: FixedRows,
) -> MeasureContext:
    """The context for a teacher that is the base with `teacher`, on `teacher_probe` (the probe's
    prompts as the teacher reads them, with its system prompt where it has one)."""
    layers = tuple(range(cfg.layers))
    means = jax.jit(mean_activation, static_argnums=(2, 3))
    base_mean = means(params, probe, cfg, layers)
    shift = means(params, teacher_probe, cfg, layers, teacher) - base_mean
    return MeasureContext(probe, base_mean, shift, shift[layer], questions, rows)
