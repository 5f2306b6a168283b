"""What steering does to text that has nothing to do with it: the KL from the unsteered model."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
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
    return float(_mean_divergence(model.params, rows, model.cfg, steering))


@partial(jax.jit, static_argnames="cfg")
def _mean_divergence(
    params: Params, rows: Batch, cfg: ModelConfig, steering: Steering
) -> Float[Array, ""]:
    base, steered = ModelInput(params, rows), ModelInput(params, rows, steering)
    losses, weights = token_divergences(steered, base, cfg)
    return replicate(jnp.sum(losses * weights) / jnp.sum(weights))
