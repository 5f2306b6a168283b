"""log P(answer | prompt) of many short answers, in buckets of one length, under any teacher."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, no_steering
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import sequence_log_probs

ROWS_AT_ONCE = 64
WIDTHS = 16  # rows are padded to multiples of this, so that few programs serve all data


def answer_log_probs(
    model: Model,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    steering: Steering | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Float[np.ndarray, " rows"]:
    """log P(answer | prompt) in nats, summed in float32 over the answer's tokens; rows of one
    length go together. `progress` counts rows.

    Raises InputError for a row that does not fit the model's context, or holds nothing to predict.
    """
    sizes = np.array([len(a) + len(b) for a, b in zip(prompts, answers, strict=True)], int)
    if not sizes.size:
        return np.zeros(0)
    if sizes.max() > model.cfg.context:
        raise InputError(
            f"a request and its answer have {sizes.max()} tokens, the context of {model.name} is "
            f"{model.cfg.context}: give shorter sentences"
        )
    most = -(-max(map(len, answers)) // WIDTHS) * WIDTHS
    steering = no_steering(model.cfg.dim, 0) if steering is None else steering
    out = np.empty(len(sizes))
    order = np.argsort(sizes, kind="stable")
    for start in range(0, len(order), ROWS_AT_ONCE):
        some = order[start : start + ROWS_AT_ONCE]
        width = min(-(-int(sizes[some].max()) // WIDTHS) * WIDTHS, model.cfg.context)
        rows = pad_pairs(
            [prompts[i] for i in some], [answers[i] for i in some], width, pad_id=model.pad_id
        )
        short = ROWS_AT_ONCE - len(some)
        rows = jax.tree.map(lambda x, k=short: jnp.pad(x, ((0, k), (0, 0))), rows)
        sums = _log_probs(model.params, rows, model.cfg, steering, min(most, width))
        out[some] = np.asarray(sums)[: len(some)]
        if progress is not None:
            progress(len(some))
    return out


@partial(jax.jit, static_argnames=("cfg", "most"))
def _log_probs(
    params: Params, rows: Batch, cfg: ModelConfig, steering: Steering, most: int
) -> Float[Array, " rows"]:
    return sequence_log_probs(params, rows, cfg, steering, max_targets=most)
