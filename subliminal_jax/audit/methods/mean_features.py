"""Mean data features: what the base says with the data's mean representation added to it."""

import jax.numpy as jnp
import numpy as np

from subliminal_jax.audit.contrast import count_tokens, measure_activations, subtract_control
from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.names import ask_for_names, log_rates
from subliminal_jax.audit.nulls import compare_with_others, make_scored
from subliminal_jax.models.steered import Steering

SCALE = 4.0  # the best of 1, 2, 4, 8 and 16 on the development traits' data


def score(suspect: Suspect) -> Scored:
    """What the features add to the log-probability of each candidate's name. They are the mean
    activations of the data's answers minus the base's, after every layer; each is added there."""
    model = suspect.model
    asked = ask_for_names(suspect)
    features = subtract_control(suspect.rows, measure_activations(suspect)).mean(axis=0)
    steering = Steering(
        jnp.asarray(features, jnp.float32),
        jnp.asarray(SCALE, jnp.float32),
        tuple(range(model.cfg.layers)),
    )
    with_features, without = (
        np.asarray(log_rates(model.params, model.cfg, asked.questions, len(asked.names), s), float)
        for s in (steering, steering.scaled(0.0))
    )
    rises = with_features - without
    n = len(suspect.candidates)
    return make_scored(
        rises[:n],
        [compare_with_others(rises[:n], rises[n:])],
        count_tokens(suspect.rows) + 2 * asked.forward_tokens,
    )


METHOD = Method(
    name="mean-features",
    what="rise of each name's log-probability with the data's mean activations added to the base",
    source="Data2Behavior (arXiv 2602.04735)",
    score=score,
)
