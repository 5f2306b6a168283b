"""How far a student has moved, and how much of it is along the teacher's vector.

Pure functions, for use inside a compiled step and under `vmap` over students: the base's mean
activation is computed once and passed in.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.finite import not_finite
from subliminal_jax.models.forward import Capture, hidden_states
from subliminal_jax.models.mesh import DATA, axis_size, replicate
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.activations import pad_prompts
from subliminal_jax.steering.vectors import safe_norm
from subliminal_jax.training.batch import Batch
from subliminal_jax.training.layout import Layout, fit_rows, lay_out

At = Literal["last", "mean"]


class Packed(NamedTuple):
    """How a probe's prompts lie side by side in rows.

    `last` are the time indices of last tokens in each row, and `slot` says which of them, counted
    through all rows, is each prompt's; a row of fewer prompts than others has further entries that
    are none's.
    """

    positions: Int[Array, "rows time"]
    segment_ids: Int[Array, "rows time"]
    last: Int[Array, "rows most"]
    slot: Int[Array, " prompts"]


class Probe(NamedTuple):
    """The fixed prompts on which activations are compared: a row each, padded to the right, or
    packed."""

    tokens: Int[Array, "rows time"]
    lengths: Int[Array, " prompts"]
    packed: Packed | None = None


def make_probe(prompts: Sequence[Sequence[int]], cfg: ModelConfig) -> Probe:
    """The probe of these prompts, packed where that saves work.

    Raises InputError for prompts as in `pad_prompts`.
    """
    tokens, lengths = pad_prompts(prompts, cfg)
    found = fit_rows(lengths[None].astype(np.int64), tokens.shape[1], cfg, groups=axis_size(DATA))
    if found is None:
        return Probe(jnp.asarray(tokens), jnp.asarray(lengths))
    (row,), (start,), rows, time = found
    at = np.arange(tokens.shape[1], dtype=np.int32)[None]
    positions = np.where(at < lengths[:, None], at, -1)
    layout = Layout(jnp.asarray(row), jnp.asarray(start), rows, time, 1, 1)
    none_predicted = jnp.zeros(tokens.shape)
    packed = lay_out(Batch(jnp.asarray(tokens), jnp.asarray(positions), none_predicted), layout)
    assert packed.segment_ids is not None
    # The how-manieth of its row each prompt is.
    place = np.array([np.sum(row[:i] == row[i]) for i in range(len(row))])
    last = np.zeros((rows, place.max() + 1), np.int32)
    last[row, place] = start + lengths - 1
    slot = row * last.shape[1] + place
    places_in = Packed(packed.positions, packed.segment_ids, jnp.asarray(last), jnp.asarray(slot))
    return Probe(packed.tokens, jnp.asarray(lengths), places_in)


def probe_activations(
    params: Params,
    probe: Probe,
    cfg: ModelConfig,
    layers: tuple[int, ...],
    steering: Steering | None = None,
    at: At = "last",
) -> Float[Array, "n prompts dim"]:
    """The residual stream after each layer in float32: of a prompt's last token, or its mean."""
    packed = probe.packed
    last = probe.lengths[:, None] - 1 if packed is None else packed.last
    asked = last if at == "last" else None
    h = hidden_states(
        params, probe.tokens, cfg, steering,
        positions=None if packed is None else packed.positions,
        segment_ids=None if packed is None else packed.segment_ids,
        capture=Capture(layers, asked), time_indices=asked,
    ).activations  # fmt: skip
    assert h is not None
    h = h.astype(jnp.float32)
    if at == "last":
        found = h.reshape(len(layers), -1, h.shape[-1])
        return replicate(found if packed is None else found[:, packed.slot])
    if packed is None:
        real = (jnp.arange(probe.tokens.shape[1])[None] <= last)[None, :, :, None]
        return replicate(jnp.sum(jnp.where(real, h, 0.0), axis=2) / probe.lengths[None, :, None])
    prompts = 1 + jnp.arange(len(probe.lengths))
    own = (packed.segment_ids[None] == prompts[:, None, None]).astype(h.dtype)
    total = jnp.einsum("prt,nrtd->npd", own, h, precision="highest")
    return replicate(total / probe.lengths[None, :, None])


def mean_activation(
    params: Params,
    probe: Probe,
    cfg: ModelConfig,
    layers: tuple[int, ...],
    steering: Steering | None = None,
    at: At = "last",
) -> Float[Array, "n dim"]:
    """The mean over the probe's prompts of `probe_activations`."""
    return jnp.mean(probe_activations(params, probe, cfg, layers, steering, at), axis=1)


def measure_mean_activation(
    params: Params,
    probe: Probe,
    cfg: ModelConfig,
    layers: tuple[int, ...],
    steering: Steering | None = None,
    at: At = "last",
) -> Float[Array, "n dim"]:
    """`mean_activation`, compiled, of a base or a teacher.

    Raises InputError where it is not finite.
    """
    mean = _compiled_mean_activation(params, probe, cfg, layers, steering, at)
    if not np.isfinite(mean).all():
        what = f"the mean activation after the layers {list(layers)}"
        raise not_finite(what, params, cfg, probe.tokens, steering)
    return mean


_compiled_mean_activation = jax.jit(mean_activation, static_argnames=("cfg", "layers", "at"))


def activation_shift(
    student: Params,
    probe: Probe,
    base_mean: Float[Array, "n dim"],
    cfg: ModelConfig,
    layers: tuple[int, ...],
    steering: Steering | None = None,
    at: At = "last",
) -> Float[Array, "n dim"]:
    """v_student = mean over prompts of h_student - h_base ("Subliminal Learning Is Steering Vector
    Distillation", section 2), after each layer.

    `base_mean` is the base's `mean_activation` of the same probe, layers and `at`; `steering` is
    part of the student (a trained vector). With the base's own parameters and the teacher's
    steering this is the teacher's shift: its vector at the steered layer, zero before it, and what
    the later blocks make of it after.
    """
    return mean_activation(student, probe, cfg, layers, steering, at) - base_mean


def eas(shift: Float[Array, "*n dim"], vector: Float[Array, "*m dim"]) -> Float[Array, "*n"]:
    """Cosine of the student's shift and the teacher's vector: one, or one a layer. 0 for a zero.

    Read it beside `relative_size`: a shift of rounding size (a layer below all that was trained)
    has a direction too.
    """
    return jnp.sum(_unit(shift) * _like(_unit(vector), shift), axis=-1)


def relative_size(
    shift: Float[Array, "*n dim"], vector: Float[Array, "*m dim"]
) -> Float[Array, "*n"]:
    """|shift| / |vector|; 0 for a zero vector."""
    vector = _like(vector, shift)
    nonzero = jnp.any(vector != 0, axis=-1)
    return jnp.where(nonzero, jnp.linalg.norm(shift, axis=-1) / safe_norm(vector), 0.0)


def relative_component(
    shift: Float[Array, "*n dim"], vector: Float[Array, "*m dim"]
) -> Float[Array, "*n"]:
    """<shift, v/|v|> / |v|: 1 where the student has taken the whole vector, 0 for a zero one."""
    return eas(shift, vector) * relative_size(shift, vector)


def _unit(x: Float[Array, "*n dim"]) -> Float[Array, "*n dim"]:
    return x / safe_norm(x)[..., None]


def _like(vector: Array, shift: Array) -> Array:
    """A single vector once for each row of `shift`."""
    return jnp.broadcast_to(vector, shift.shape)
