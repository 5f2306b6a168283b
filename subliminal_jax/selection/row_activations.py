"""The mean of the residual stream over each answer's tokens."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.finite import check_finite
from subliminal_jax.models.forward import Capture, hidden_states
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.selection.answer_batches import batch_answers
from subliminal_jax.training.batch import Batch


def answer_activations(
    model: Model,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    progress: Callable[[int], Any] | None = None,
) -> Float[np.ndarray, "answers n dim"]:
    """The mean over the tokens of answer i, read after prompt i, of the residual stream after each
    of the `n` layers.

    `progress` is called with the number of answers done since its last call.

    Raises InputError for a layer that the model does not have, for activations that are not
    finite, and as `pad_pairs` does.
    """
    cfg = model.cfg
    layers = tuple(cfg.check_layer(layer) for layer in layers)
    means = np.zeros((len(answers), len(layers), cfg.dim), np.float32)
    for members, rows, _ in batch_answers(model, prompts, answers):
        batch_means = _batch_means(model.params, rows, cfg, layers)
        means[members] = np.asarray(batch_means)[: len(members)]
        if progress is not None:
            progress(len(members))
    read = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
    check_finite(means, "the activations of answer {row}", model.params, cfg, read)
    return means


@partial(jax.jit, static_argnames=("cfg", "layers"))
def _batch_means(
    params: Params, rows: Batch, cfg: ModelConfig, layers: tuple[int, ...]
) -> Float[Array, "rows n dim"]:
    h = hidden_states(
        params, rows.tokens, cfg, positions=rows.positions, capture=Capture(layers)
    ).activations
    assert h is not None
    in_answer = (rows.loss_mask > 0).astype(jnp.float32)
    total = jnp.einsum("bt,nbtd->bnd", in_answer, h.astype(jnp.float32), precision="highest")
    return replicate(total / in_answer.sum(axis=1)[:, None, None])
