"""What the gradients and alignments of a model have to satisfy, whatever its weights.

Tolerances are those of float32: pass parameters in float32. Inputs may be drawn with
`testing.strategies`; those of one shape share their compiled programs.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.activation_gradients import (
    CompletionLoss,
    example_components,
    example_gradients,
    prompt_ends,
    token_gradients,
)
from subliminal_jax.diagnostics.alignment import (
    Probe,
    activation_shift,
    eas,
    mean_activation,
    relative_component,
    relative_size,
)
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import steer
from subliminal_jax.steering.vectors import component
from subliminal_jax.training.batch import Batch

SCALES = (0.5, 3.0)


def check_activation_gradients(
    params: Params, cfg: ModelConfig, batch: Batch, vector: Float[Array, " dim"], layer: int
) -> None:
    """The gradients of the completions' loss after `layer`, computed in every way that there is.

    Those of tokens sum to those of examples, and these to the gradient of one steering vector;
    components by forward mode are the gradients' own, over all tokens and at the prompts' ends;
    what predicts nothing, and acts on nothing that is predicted, has none.

    Raises AssertionError where one of them does not hold.
    """
    found = jax.tree.map(np.asarray, _activation_gradients(params, batch, vector, cfg, layer))
    tokens, size = found["token"], float(np.abs(found["token"]).max())
    if not size > 0:
        raise AssertionError("the gradient of every token is zero")
    ends = np.asarray(prompt_ends(batch))
    unit = np.asarray(vector) / np.linalg.norm(vector)
    pairs = {
        "tokens' gradients and those of examples": (tokens.sum(axis=1), found["example"]),
        "tokens' gradients and that of the vector": (tokens.sum(axis=(0, 1)), found["vector"]),
        "gradients at prompts' ends": (found["end"], (tokens * ends[..., None]).sum(axis=1)),
        "components by forward mode": (found["along"], found["example"] @ unit),
        "components at prompts' ends": (found["along_end"], found["end"] @ unit),
    }
    for what, (actual, expected) in pairs.items():
        _assert_near(actual, expected, what, 2e-4, size)
    predicted = np.asarray(batch.loss_mask)[:, 1:] > 0
    acts = np.flip(np.cumsum(np.flip(predicted, axis=1), axis=1), axis=1) > 0
    if batch.segment_ids is None and np.any(tokens[~acts] != 0):
        raise AssertionError("a token after the last prediction has a gradient")


@partial(jax.jit, static_argnames=("cfg", "layer"))
def _activation_gradients(
    params: Params, batch: Batch, vector: Float[Array, " dim"], cfg: ModelConfig, layer: int
) -> dict[str, Array]:
    loss, ends = CompletionLoss(cfg), prompt_ends(batch)

    def total(v: Float[Array, " dim"]) -> Float[Array, ""]:
        return jnp.sum(loss(params, batch, steer(v, layer)))

    return {
        "token": token_gradients(loss, params, batch, layer),
        "example": example_gradients(loss, params, batch, layer),
        "end": example_gradients(loss, params, batch, layer, ends),
        "vector": jax.grad(total)(jnp.zeros(cfg.dim)),
        "along": example_components(loss, params, batch, vector, layer),
        "along_end": example_components(loss, params, batch, vector, layer, ends),
    }


def check_steering(
    params: Params, cfg: ModelConfig, probe: Probe, vector: Float[Array, " dim"], layer: int
) -> None:
    """The base with the vector added after `layer` is a student that has taken all of it: its shift
    there is the vector (EAS 1, and the scale as its size), and nothing before.

    Raises AssertionError where it is not.
    """
    for scale in SCALES:
        shifts = _steered_shifts(params, probe, jnp.float32(scale) * vector, cfg, layer)
        for at, shift in shifts.items():
            place = f"steered at scale {scale:g}, {at} position"
            _assert_near(eas(shift, vector)[layer], 1, f"{place}: EAS", 1e-3, 1.0)
            _assert_near(relative_size(shift, vector)[layer], scale, f"{place}: size", 1e-3, scale)
            before = np.asarray(shift)[:layer]
            if np.any(before != 0):
                raise AssertionError(f"{place}: a layer before it moves by {np.abs(before).max()}")


@partial(jax.jit, static_argnames=("cfg", "layer"))
def _steered_shifts(
    params: Params, probe: Probe, vector: Float[Array, " dim"], cfg: ModelConfig, layer: int
) -> dict[str, Float[Array, "n dim"]]:
    layers, steering = tuple(range(layer + 1)), steer(vector, layer)
    shifts: dict[str, Array] = {}
    for at in ("last", "mean"):
        base = mean_activation(params, probe, cfg, layers, at=at)
        shifts[at] = activation_shift(params, probe, base, cfg, layers, steering, at=at)
    return shifts


def check_alignment_measures(
    shift: Float[Array, " dim"], vector: Float[Array, " dim"], a: float = 3.0, b: float = 0.2
) -> None:
    """`eas` sees directions alone, `relative_size` lengths alone, and `relative_component` is their
    product: at the shift times `a` and the vector times `b`, both positive.

    Raises AssertionError where one of them does not hold.
    """
    angle, size = eas(shift, vector), relative_size(shift, vector)
    if not abs(float(angle)) <= 1 + 1e-6:
        raise AssertionError(f"the cosine is {float(angle)}")
    _assert_near(eas(a * shift, b * vector), angle, "EAS of scaled vectors", 1e-5, 1.0)
    _assert_near(eas(-shift, vector), -angle, "EAS of the opposite shift", 1e-6, 1.0)
    scaled = relative_size(-a * shift, b * vector)
    _assert_near(scaled, a / b * size, "size of a scaled shift", 1e-4, float(a / b * size))
    share = component(shift, vector) / jnp.linalg.norm(vector)
    _assert_near(relative_component(shift, vector), share, "component", 1e-4, float(size))


def _assert_near(actual: object, expected: object, what: str, rtol: float, size: float) -> None:
    """Equality up to `rtol` of `size`."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    difference = float(np.abs(actual - expected).max())
    if not difference <= rtol * size:
        raise AssertionError(f"{what}: {difference:.2g} apart, of {size:.2g}")
