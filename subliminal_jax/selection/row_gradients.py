"""The gradient of each answer's log-probability with respect to a steering vector: a first-order
score of every direction."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.activation_gradients import CompletionLoss, example_gradients
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.finite import check_finite
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.selection.answer_batches import batch_answers
from subliminal_jax.training.batch import Batch


def answer_gradients(
    model: Model,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    layer: int,
    *,
    progress: Callable[[int], Any] | None = None,
) -> Float[np.ndarray, "answers dim"]:
    """d log P(answer i | prompt i, v added after `layer` at all positions) / dv at v = 0, in nats a
    unit of the residual stream.

    <v, gradient> is the log-probability ratio of the steered model to first order. Over the base's
    own answers the gradient has mean 0, and its covariance is the Fisher information of the vector.
    `progress` is called with the number of answers done since its last call.

    Raises InputError for a layer that the model does not have, for gradients that are not finite,
    and as `pad_pairs` does.
    """
    cfg = model.cfg
    layer = cfg.check_layer(layer)
    gradients = np.zeros((len(answers), cfg.dim), np.float32)
    for members, rows, most in batch_answers(model, prompts, answers):
        batch_gradients = _batch_gradients(model.params, rows, cfg, layer, most)
        gradients[members] = np.asarray(batch_gradients)[: len(members)]
        if progress is not None:
            progress(len(members))
    read = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
    check_finite(gradients, "the gradient of answer {row}", model.params, cfg, read)
    return gradients


@partial(jax.jit, static_argnames=("cfg", "layer", "most"))
def _batch_gradients(
    params: Params, rows: Batch, cfg: ModelConfig, layer: int, most: int
) -> Float[Array, "rows dim"]:
    rows = jax.tree.map(jnp.asarray, rows)
    return replicate(-example_gradients(CompletionLoss(cfg, "sum", most), params, rows, layer))
