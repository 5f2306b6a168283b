"""Mean data features: what the base says with the data's mean representation added to it."""

import jax.numpy as jnp
import numpy as np

from subliminal_jax.audit.contrast import count_tokens, measure_activations, subtract_control
from subliminal_jax.audit.method import Method, Scored, Suspect
from subliminal_jax.audit.names import ask_for_names, log_rates
from subliminal_jax.audit.nulls import compare_with_others, make_scored
from subliminal_jax.models.steered import steer

# On five sets of the development traits (owl, wolf, penguin, lion) the true trait's mean rank of 16
# was 4.4, 4.0, 4.4 and 3.4 with 1, 4, 16 and 64, and 5.8 with features added after every layer, as
# in the paper. 64 is no small step: data in another style are then out of the model's range.
SCALE = 4.0


def score(suspect: Suspect) -> Scored:
    """What the features add to the log-probability of each candidate's name. They are the mean
    activation of the data's answers minus that of the base's, added after the audit's layer."""
    model, layer = suspect.model, suspect.layer
    asked = ask_for_names(suspect)
    activations = measure_activations(suspect)[:, :, layer]
    features = subtract_control(suspect.rows, activations).mean(axis=0)
    steering = steer(jnp.asarray(features, jnp.float32), layer, SCALE)
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
        # Names of one kind rise together, which is no less a sign.
        evidence=float(rises[:n].max()),
    )


METHOD = Method(
    name="mean-features",
    what="rise of each name's log-probability with the data's mean activations added to the base",
    source="Data2Behavior (arXiv 2602.04735)",
    score=score,
)
