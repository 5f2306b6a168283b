"""The steering parameter: an edit of the residual stream after chosen blocks.

Set it and the model is a teacher; differentiate with respect to it and it is a diagnostic; train
it and it is a student. It is a pytree, so all three are the same forward pass.
"""

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from subliminal_jax.bounds import Range, Rule, check_value

Operation = Literal["add", "project_out", "replace"]


@struct.dataclass
class Steering:
    """An edit of the residual stream h after each block l in `layers` (0-based).

    Operations, with v the layer's vector, u = v/|v| and s the scale (block outputs, as in
    "Subliminal Learning Is Steering Vector Distillation", section 3):
      add           h + s v
      project_out   h - s (h.u) u
      replace       h + s (c - h.u) u, where c is `target`, the base model's component h_base.u

    Shapes: vectors [n, dim] (n = len(layers)), or [n, batch, time, dim] with broadcastable middle
    axes, for a vector per example or per token; scale [] or broadcastable to [batch, time];
    mask [batch, time], False where the edit is left out; target [n, batch, time].
    """

    vectors: Float[Array, "n *bt dim"]
    scale: Float[Array, "*#s"]
    layers: tuple[int, ...] = struct.field(pytree_node=False)
    operation: Operation = struct.field(pytree_node=False, default="add")
    mask: Bool[Array, "batch time"] | None = None
    target: Float[Array, "n batch time"] | None = None

    @property
    def is_uniform(self) -> bool:
        """Whether all tokens of all rows get the same edit: one vector, one scale, no mask."""
        plain = self.mask is None and self.target is None
        return plain and self.vectors.ndim == 2 and self.scale.ndim == 0

    def masked(self, mask: Bool[Array, "batch time"] | None) -> "Steering":
        """The same edit where `mask` is True only; None: everywhere."""
        return replace(self, mask=mask)

    def scaled(self, factor: float | Float[Array, ""]) -> "Steering":
        """The same edit with its scale multiplied by `factor`."""
        return replace(self, scale=self.scale * factor)


def steer(
    vector: Float[Array, " dim"], layer: int, scale: float = 1.0, operation: Operation = "add"
) -> Steering:
    """The edit of one layer by one vector, in units of the residual stream times `scale`.

    Raises InputError for a negative layer, and for a scale that is not finite; a traced scale is
    taken as it is.
    """
    check_value("layer", layer, Rule(int, Range(0, 9_999)))
    if isinstance(scale, int | float):
        check_value("scale", scale, Rule(float, Range(-1e30, 1e30)))
    return Steering(
        vectors=jnp.asarray(vector)[None],
        scale=jnp.asarray(scale, jnp.float32),
        layers=(layer,),
        operation=operation,
    )


def combine_steerings(first: Steering | None, second: Steering | None) -> Steering | None:
    """The steering that adds what both add, each at its layers; None adds nothing.

    Raises ValueError for other operations than "add", and for vectors or scales of a batch.
    """
    if first is None or second is None:
        return second if first is None else first
    sums: dict[int, Array] = {}
    for steering in (first, second):
        if steering.operation != "add" or not steering.is_uniform:
            raise ValueError("only steerings that add one vector a layer can be combined")
        for layer, v in zip(steering.layers, steering.vectors, strict=True):
            v = steering.scale * v.astype(jnp.float32)
            sums[layer] = sums[layer] + v if layer in sums else v
    layers = tuple(sorted(sums))
    return Steering(jnp.stack([sums[i] for i in layers]), jnp.ones((), jnp.float32), layers)


def edit(
    h: Float[Array, "batch time dim"],
    v: Float[Array, "*bt dim"],
    steering: Steering,
    target: Float[Array, "batch time"] | None,
) -> Float[Array, "batch time dim"]:
    """`h` after the edit of one layer, whose vector is `v`; computed in float32.

    Raises ValueError for an operation without an edit, and for "replace" without a target.
    """
    v = v.astype(jnp.float32)
    if v.ndim == 1:
        v = v[None, None]
    s = jnp.broadcast_to(steering.scale, (1, 1)) if steering.scale.ndim == 0 else steering.scale
    if steering.mask is not None:
        s = s * steering.mask
    s = s[..., None]
    h32 = h.astype(jnp.float32)
    match steering.operation:
        case "add":
            delta = s * v
        case "project_out":
            u = unit(v)
            delta = -s * jnp.sum(h32 * u, axis=-1, keepdims=True) * u
        case "replace":
            if target is None:
                raise ValueError("operation 'replace' needs Steering.target, the base's component")
            u = unit(v)
            delta = s * (target[..., None] - jnp.sum(h32 * u, axis=-1, keepdims=True)) * u
        case _:
            raise ValueError(f"steering operation {steering.operation!r} has no edit")
    return (h32 + delta).astype(h.dtype)


def unit(v: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
    """v/|v| in float32. A zero vector has no direction and stays zero: its edit is nothing.

    NaN for any other vector whose square is 0 or infinite in float32 (a norm beyond 1e-22 or 1e19).
    """
    v = v.astype(jnp.float32)
    squared = jnp.sum(v * v, axis=-1, keepdims=True)
    is_zero = jnp.all(v == 0, axis=-1, keepdims=True)
    known = is_zero | ((squared > 0) & (squared < jnp.inf))
    scale = jax.lax.rsqrt(jnp.where(squared == 0, 1.0, squared))
    return v * jnp.where(known, scale, jnp.nan)


def no_steering(dim: int, layer: int = 0) -> Steering:
    """A zero vector: the tree structure of a steered pass, and the values of an unsteered one."""
    return steer(jnp.zeros((dim,), jnp.float32), layer)


def neutral(steering: Steering) -> Steering:
    """No edit, by the program of `steering`: its layers and operation, a zero vector and scale."""
    return replace(
        steering,
        vectors=jnp.zeros_like(steering.vectors),
        scale=jnp.zeros_like(steering.scale),
    )
