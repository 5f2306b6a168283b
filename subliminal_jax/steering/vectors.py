"""Making steering vectors, and operations on them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.steering.activations import Position, mean_activations


def random_vector(
    key: PRNGKeyArray, dim: int, norm: float | Float[Array, ""]
) -> Float[Array, " dim"]:
    """A vector of the given norm in a uniformly random direction."""
    v = jax.random.normal(key, (dim,), jnp.float32)
    return v * (norm / jnp.linalg.norm(v))


def mean_difference(
    params: Params,
    cfg: ModelConfig,
    prompts_a: Sequence[Sequence[int]],
    prompts_b: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    position: Position = "last",
    batch_size: int = 64,
) -> Float[Array, "n dim"]:
    """mean over pairs of h(a) - h(b), the residual stream after each layer, at `position`.

    For a trait: prompts with the system prompt against the same prompts without it ("Subliminal
    Learning Is Steering Vector Distillation", section 2). One pass reads all layers; the means are
    taken in float64. `position` and errors are as in `mean_activations`; also raises InputError for
    sets of different size.
    """
    if len(prompts_a) != len(prompts_b):
        raise InputError(
            f"the two prompt sets have {len(prompts_a)} and {len(prompts_b)} prompts; "
            "a mean difference needs pairs"
        )
    a, b = (
        mean_activations(params, cfg, prompts, layers, position=position, batch_size=batch_size)
        for prompts in (prompts_a, prompts_b)
    )
    return jnp.asarray(a - b, jnp.float32)


def component(h: Float[Array, "*batch dim"], v: Float[Array, " dim"]) -> Float[Array, "*batch"]:
    """<h, v/|v|>, in float32 and in the units of `h`; 0 for a zero vector."""
    v = v.astype(jnp.float32)
    return h.astype(jnp.float32) @ (v / safe_norm(v))


def safe_norm(x: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
    """|x|, but 1 where it is 0: a zero vector divided by it stays zero."""
    norm = jnp.linalg.norm(x, axis=-1)
    return jnp.where(norm == 0, 1.0, norm)
