"""Where a model's numbers stop being finite: which weight, steering vector, layer and token.

The compiled programs only let a NaN show in what they return. Callers check that on the host, and
where it is not finite they call this module, which compiles a pass of its own to find the cause.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.forward import Capture, hidden_states, unembed
from subliminal_jax.models.mesh import replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, unit
from subliminal_jax.models.tokenwise import embed

Tokens = Sequence[int] | Int[Array | np.ndarray, "*rows time"]
LOGITS_AT_ONCE = 64  # tokens
ADVICE = "get the model, or the adapter on it, anew"


def check_finite(
    values: Shaped[np.ndarray, "rows ..."],
    what: str,
    params: Params,
    cfg: ModelConfig,
    rows: Sequence[Sequence[int]] | Int[Array | np.ndarray, "rows *answers time"],
    steering: Steering | None = None,
) -> None:
    """Raises InputError where `values`, one or several for each of the token rows, are not finite.

    `what` names the values of a row, whose number replaces "{row}" in it. `steering` is that of the
    pass, as in `find_cause`.
    """
    if np.isfinite(values).all():
        return
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    row = int(np.argmax(bad))
    raise not_finite(what.format(row=row), params, cfg, rows[row], steering)


def not_finite(
    what: str,
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    steering: Steering | None = None,
    reference_params: Params | None = None,
) -> InputError:
    """The error for `what`, which is not finite, computed from `tokens` as `find_cause` says."""
    cause = find_cause(params, cfg, tokens, steering, reference_params)
    return InputError(f"{what} is not finite: {cause}")


def find_cause(
    params: Params,
    cfg: ModelConfig,
    tokens: Tokens,
    steering: Steering | None = None,
    reference_params: Params | None = None,
) -> str:
    """Why a pass over these tokens (one row, or the first row of several that has any) has numbers
    that are not finite, and what to do: a weight, a steering vector, or the layer and token with
    the first such number.

    `steering` is one vector a layer, with a mask [1, time] or none; its target is computed from
    `reference_params`.
    """
    for tree, whose in ((params, ""), (reference_params, " of the base model")):
        if tree is not None and (weight := _find_weight(tree)):
            return f"{weight}{whose} is not ({_dtype(tree)}); {ADVICE}"
    if steering is not None and not all(
        np.isfinite(np.asarray(x)).all() for x in (steering.vectors, steering.scale)
    ):
        return "a steering vector or its scale is not; make it anew"
    advice = f"are the weights whole? {ADVICE}"
    if _dtype(params) != "float32":
        advice = 'load the model with dtype="float32" (--dtype float32)'
    for row in jnp.atleast_2d(jnp.asarray(tokens, jnp.int32))[:, None]:
        edit = steering
        if steering is not None and reference_params is not None:
            edit = replace(steering, target=_base_components(reference_params, row, cfg, steering))
        place = _find_place(params, row, cfg, edit)
        if place is None:
            continue
        if steering is not None and _find_place(params, row, cfg, None) is None:
            sizes = jnp.linalg.norm(steering.vectors, axis=-1) * jnp.abs(steering.scale)
            return (
                f"under a steering of norm {float(sizes.max()):.3g} {place}, and without it "
                "nowhere; give it a smaller scale"
            )
        return f"{place}; {advice}"
    return f"it is beyond {_dtype(params)}, but not in a pass over its tokens alone; {advice}"


def _find_place(
    params: Params, row: Int[Array, "1 time"], cfg: ModelConfig, steering: Steering | None
) -> str | None:
    """Where the first number appears that is not finite; None where all are."""
    largest = np.asarray(_largest(params, row, cfg, steering))
    bad = ~np.isfinite(largest)
    if not bad.any():
        return None
    stage = int(np.argmax(bad.any(axis=1)))
    names = [
        "the embedding",
        *(f"layer {layer} (from 0, of {cfg.layers})" for layer in range(cfg.layers)),
        "the final norm",
        "the logits",
    ]
    if stage == 0:
        return f"that begins in {names[0]} of token {int(np.argmax(bad[0]))} of {row.size}"
    # Every token of a layer's output may be NaN, since even a weight of 0 in the attention passes a
    # NaN on; what went in says more.
    dtype, token = _dtype(params), int(np.argmax(largest[stage - 1]))
    return (
        f"that begins in {names[stage]} ({dtype} ends at {float(jnp.finfo(dtype).max):.3g}; the "
        f"largest number before it is {largest[stage - 1, token]:.3g}, at token {token} of "
        f"{row.size})"
    )


@partial(jax.jit, static_argnames="cfg")
def _largest(
    params: Params, row: Int[Array, "1 time"], cfg: ModelConfig, steering: Steering | None
) -> Float[Array, "stages time"]:
    """The largest absolute number of each token in the embedding, after every layer, after the
    final norm, and in the logits; NaN where there is one."""
    layers = tuple(range(cfg.layers))
    h = embed(params["embed"], row)
    if cfg.scaled_embedding:
        h = h * jnp.asarray(cfg.dim**0.5, h.dtype)
    out = hidden_states(params, row, cfg, steering, capture=Capture(layers))
    assert out.activations is not None
    stages = jnp.concatenate([h[None], out.activations, out.hidden[None]])[:, 0]
    logits = jax.lax.map(
        lambda x: jnp.max(jnp.abs(unembed(params, x, cfg))),
        out.hidden[0],
        batch_size=LOGITS_AT_ONCE,
    )
    inner = jnp.max(jnp.abs(stages.astype(jnp.float32)), axis=-1)
    return replicate(jnp.concatenate([inner, logits[None]]))


@partial(jax.jit, static_argnames="cfg")
def _base_components(
    params: Params, row: Int[Array, "1 time"], cfg: ModelConfig, steering: Steering
) -> Float[Array, "n 1 time"]:
    """The base's component along each steering vector: the target of "replace"."""
    h = hidden_states(params, row, cfg, capture=Capture(steering.layers)).activations
    assert h is not None
    return jnp.einsum("nbtd,nd->nbt", h.astype(jnp.float32), unit(steering.vectors))


def _find_weight(params: Params) -> str | None:
    """The first weight that is not finite, and its layer; None where all are."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for path, sound in zip(paths, jax.device_get(_sound_weights(params)), strict=True):
        if not sound.all():
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            if sound.ndim == 0:
                return f"the weight {name}"
            layer = int(np.argmin(sound))
            return f"the weight {name.removeprefix('layers.')} of layer {layer} (from 0)"
    return None


@jax.jit
def _sound_weights(params: Params) -> list[Bool[Array, "*layers"]]:
    """Whether all numbers of each weight are finite; of stacked ones, layer by layer."""

    def sound(path: tuple, leaf: Array) -> Bool[Array, "*layers"]:
        stacked = getattr(path[0], "key", None) == "layers" and leaf.ndim > 0
        return jnp.all(jnp.isfinite(leaf), axis=tuple(range(int(stacked), leaf.ndim)))

    leaves = jax.tree_util.tree_leaves_with_path(params)
    return replicate([sound(path, leaf) for path, leaf in leaves])


def _dtype(params: Params) -> str:
    return str(params["embed"].dtype)
