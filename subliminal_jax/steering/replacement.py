"""A student's component along a vector, replaced by the base's: the operation "replace".

"Subliminal Learning Is Steering Vector Distillation" (Blank et al. 2026), section 3, asks in this
way whether a student's vector is necessary for what it does.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Capture, hidden_states
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, unit


def base_replacement(
    base: Params,
    tokens: Int[Array, "batch time"],
    cfg: ModelConfig,
    vectors: Float[Array, "n dim"],
    layers: tuple[int, ...],
) -> Steering:
    """h + (h_base.u - h.u) u after each of the `n` layers, at every token of `tokens`.

    The targets h_base.u are those of an unsteered pass of `base`, in the units of the residual
    stream. A zero vector has no direction: its layer is left as it is.
    """
    h = hidden_states(base, tokens, cfg, capture=Capture(layers)).activations
    assert h is not None
    target = jnp.einsum("nbtd,nd->nbt", h.astype(jnp.float32), unit(vectors))
    return Steering(vectors, jnp.ones(()), layers, "replace", target=target)
