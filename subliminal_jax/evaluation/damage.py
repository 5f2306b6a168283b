"""How far steering moves a model on a text: the KL between the steered model and the base."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.data.answers import answer_rows, sample_answers
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.hub import Model
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.sampling import SamplingConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.losses import ModelInput, token_divergences


def sample_neutral_text(
    model: Model, questions: Sequence[str], max_new_tokens: int, seed: int
) -> Batch:
    """What the model answers to the questions at temperature 1, as padded rows; raises InputError
    as `sample_answers` does."""
    sampling = SamplingConfig(max_new_tokens, stop_tokens=model.stop_ids)
    answers = sample_answers(model, questions, seed, sampling, keep_unfinished=True)
    return answer_rows(answers, model)


def measure_damage(model: Model, rows: Batch, steering: Steering) -> float:
    """KL(model || steered model) of the next token, in nats, the mean over predicted tokens.

    Another vector or scale of the same layers compiles nothing. Not finite where the steered
    model's logits are not.
    """
    losses, weights = _row_divergences(model.params, rows, model.cfg, steering, of_steered=False)
    return float(np.sum(losses) / np.sum(weights))


def measure_divergences(
    model: Model, rows: Batch, steering: Steering
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """KL(steered model || model) of each row, in nats summed over its predicted tokens, and how
    many these are: in rows that the steered model wrote, what a student can learn of it."""
    losses, weights = _row_divergences(model.params, rows, model.cfg, steering, of_steered=True)
    return np.asarray(losses, float), np.asarray(weights, float)


@partial(jax.jit, static_argnames=("cfg", "of_steered"))
def _row_divergences(
    params: Params, rows: Batch, cfg: ModelConfig, steering: Steering, of_steered: bool
) -> tuple[Float[Array, " rows"], Float[Array, " rows"]]:
    base, steered = ModelInput(params, rows), ModelInput(params, rows, steering)
    student, teacher = (base, steered) if of_steered else (steered, base)
    losses, weights = token_divergences(student, teacher, cfg)
    return replicate((jnp.sum(losses * weights, axis=1), jnp.sum(weights, axis=1)))
