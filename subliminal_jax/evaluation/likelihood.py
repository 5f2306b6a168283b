"""The likelihood of texts under a steered model: how much a vector raises it.

The cross-model test of Blank et al. (2026, arXiv 2606.00995, fig. 5b): each model scores data with
a vector extracted from that model.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from datasets import Dataset
from jaxtyping import Array, Float

from subliminal_jax.data.answers import encode_pairs
from subliminal_jax.data.batching import pad_pairs
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.finite import check_finite
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.batch import Batch, max_targets
from subliminal_jax.training.losses import token_losses

ROWS_AT_ONCE = 64
WIDTHS = 16  # rows are padded to multiples of this, so that few programs serve all data


class Likelihood(NamedTuple):
    """The negative log-likelihood of each completion in nats, and its number of tokens."""

    nll: Float[np.ndarray, " rows"]
    tokens: Float[np.ndarray, " rows"]

    @property
    def per_token(self) -> float:
        return float(self.nll.sum() / self.tokens.sum())


class Gain(NamedTuple):
    """NLL(base) - NLL(steered), in nats."""

    per_token: float
    per_completion: float


def compute_gain(base: Likelihood, steered: Likelihood) -> Gain:
    """NLL(base) - NLL(steered) of the same rows: per token of all rows, and per completion."""
    difference = base.nll - steered.nll
    return Gain(float(difference.sum() / base.tokens.sum()), float(difference.mean()))


def encode_rows(pairs: Dataset, model: Model) -> Batch:
    """The pairs' texts encoded by the tokenizer of `model`, whichever model wrote them.

    Raises InputError for a pair longer than the model's context.
    """
    encoded = encode_pairs(pairs.select_columns(["prompt", "completion"]), model)
    prompts, completions = list(encoded["prompt_ids"]), list(encoded["completion_ids"])
    longest = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
    width = min(-(-longest // WIDTHS) * WIDTHS, model.cfg.context)
    if longest > width:
        raise InputError(
            f"a pair has {longest} tokens for {model.name}, whose context is {model.cfg.context}: "
            "ask for shorter answers (max_new_tokens)"
        )
    return pad_pairs(prompts, completions, width, pad_id=model.pad_id)


def measure_likelihood(model: Model, rows: Batch, steering: Steering) -> Likelihood:
    """The likelihood of every row's completion under the steered model; a zero vector is the base.

    Rows go through the model in equal parts of at most `ROWS_AT_ONCE`. Raises InputError where a
    likelihood is not finite.
    """
    width = -(-max_targets(rows) // WIDTHS) * WIDTHS
    n = rows.tokens.shape[0]
    size = -(-n // -(-n // ROWS_AT_ONCE))  # even pieces waste the least padding
    parts = []
    for start in range(0, n, size):
        piece = jax.tree.map(lambda leaf, at=start: leaf[at : at + size], rows)
        missing = size - piece.tokens.shape[0]
        padded = jax.tree.map(lambda leaf, k=missing: jnp.pad(leaf, ((0, k), (0, 0))), piece)
        nll, tokens = _sum_losses(model.params, padded, model.cfg, steering, width)
        parts.append((np.asarray(nll, float), np.asarray(tokens, float)))
    nll, tokens = (np.concatenate(x)[:n] for x in zip(*parts, strict=True))
    what = "the likelihood of row {row}"
    check_finite(nll, what, model.params, model.cfg, rows.tokens, steering)
    return Likelihood(nll, tokens)


@partial(jax.jit, static_argnames=("cfg", "width"))
def _sum_losses(
    params: Params, rows: Batch, cfg: ModelConfig, steering: Steering, width: int
) -> tuple[Float[Array, " rows"], Float[Array, " rows"]]:
    losses, weights = token_losses(params, rows, cfg, steering, max_targets=width)
    return replicate((jnp.sum(losses * weights, axis=1), jnp.sum(weights, axis=1)))
