"""The steering direction's twin in parameter space, and what gradients and updates hold of it.

The steering score S(params) is the mean over probe prompts of <h_layer, v/|v|>. To first order a
step dθ moves the student along the vector by <∇S, dθ>, in units of the residual stream, so every
optimizer can be judged by where in its steps that component sits.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from subliminal_jax.diagnostics.alignment import At, Probe, probe_activations
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering
from subliminal_jax.steering.vectors import component
from subliminal_jax.training.batch import Batch

Tree = Any  # a trainable tree: all weights, LoRA factors, or a vector
Student = Callable[[Tree], tuple[Params, Steering | None]]
TOP = (0.001, 0.01, 0.1)  # fractions of the coordinates
# Relative to a cut, sizes this close to it count as equal: those of Adam's first step are all the
# rate up to rounding, and which of them are the largest depends on the order of some sum.
TIE = 1e-4


def steering_score(
    params: Params,
    probe: Probe,
    cfg: ModelConfig,
    vector: Float[Array, " dim"],
    layer: int,
    steering: Steering | None = None,
    at: At = "last",
) -> Float[Array, ""]:
    """S = mean over the probe's prompts of <h_layer, v/|v|>, in units of the residual stream."""
    h = probe_activations(params, probe, cfg, (layer,), steering, at)[0]
    return jnp.mean(component(h, vector))


def score_gradient(
    student: Student,
    trainable: Tree,
    probe: Probe,
    cfg: ModelConfig,
    vector: Float[Array, " dim"],
    layer: int,
    at: At = "last",
) -> Tree:
    """∇S with respect to the trainable tree; `student` makes (params, steering) of it."""

    def score(trainable: Tree) -> Float[Array, ""]:
        params, steering = student(trainable)
        return steering_score(params, probe, cfg, vector, layer, steering, at)

    return jax.grad(score)(trainable)


def per_example_components(
    loss: Callable[[Tree, Batch], Float[Array, " batch"]],
    trainable: Tree,
    batch: Batch,
    direction: Tree,
) -> Float[Array, " batch"]:
    """<∇ loss of example i, direction> for every example by one `jax.jvp`, without gradients.

    `loss` gives one value an example. With ∇S as the direction this says which examples teach the
    vector: those with a negative component, since a step goes against the gradient. Others know it
    as the influence of examples on a concept to first order (Concept Influence, arXiv:2602.14869,
    without the Hessian).
    """
    return jax.jvp(lambda t: loss(t, batch), (trainable,), (direction,))[1]


def anatomy(gradient: Tree, update: Tree, score: Tree) -> dict[str, Array]:
    """Where a step's size and its component along the steering score's gradient ∇S sit.

    For x = the *negative* gradient ("gradient_...") and x = the update ("update_..."), so that
    positive means towards the vector under both:
      norm, component [] = |x| and <∇S, x>, cosine [] of the two;
      top_mass, top_component [3]: the shares of |x|² and of <∇S, x> in the largest 0.1%, 1% and
        10% of the coordinates of |x|;
      decile_mass, decile_component [10]: those shares by decile of the coordinates of |gradient|,
        the largest first, for the update too;
      and for LoRA trees a_mass, a_component, b_mass, b_component []: the shares of the factors.
    Also score_norm [] = |∇S|. Shares of a component are signed and sum to one; where the component
    is next to nothing beside its parts they are large (in controls), and where it is zero they are
    zero: to average over students, multiply them by the component first.

    Coordinates that are equal in size share their ranks, and so do those within a relative TIE of
    a cut: each counts with the same fraction, so that in a sign update every 1% of coordinates
    holds 1%, and rounding, which differs with the number of devices, decides nothing. All other
    ranks are exact at any size.
    """
    s = _flat(score)
    xs = {"gradient": -_flat(gradient), "update": _flat(update)}
    score_norm = jnp.linalg.norm(s)
    out = {"score_norm": score_norm}
    parts = {}
    for name, x in xs.items():
        norm, total = jnp.linalg.norm(x), jnp.sum(s * x)
        # In units of the largest coordinate: squares of small gradients underflow in float32.
        scaled = x / _or_one(jnp.max(jnp.abs(x)))
        parts[name] = jnp.stack([scaled**2, s * scaled])
        out[f"{name}_norm"], out[f"{name}_component"] = norm, total
        out[f"{name}_cosine"] = total / _or_one(norm * score_norm)
        for factor, own in _lora_factors(gradient).items():
            shares = (parts[name] @ own) / _or_one(parts[name].sum(axis=1))
            out[f"{name}_{factor}_mass"], out[f"{name}_{factor}_component"] = shares
    top, tenths = [(0.0, fraction) for fraction in TOP], [i / 10 for i in range(11)]
    # A sort pays where more than some five ranks are asked for.
    by_gradient = _Ranks.of(xs["gradient"], sort=True).shares(
        jnp.concatenate([parts["gradient"], parts["update"]]), [*top, *pairwise(tenths)]
    )
    by_update = _Ranks.of(xs["update"], sort=False).shares(parts["update"], top)
    tops = {"gradient": by_gradient[:2, : len(top)], "update": by_update}
    deciles = {"gradient": by_gradient[:2, len(top) :], "update": by_gradient[2:, len(top) :]}
    for name in xs:
        out[f"{name}_top_mass"], out[f"{name}_top_component"] = tops[name]
        out[f"{name}_decile_mass"], out[f"{name}_decile_component"] = deciles[name]
    return out


class _Ranks(NamedTuple):
    """Coordinates ranked by size. Sizes are compared by their bits: the bits of non-negative floats
    order as the floats do, and XLA sorts integers four times faster on CPUs."""

    bits: UInt32[Array, " coordinates"]
    ascending: UInt32[Array, " coordinates"] | None  # None: not sorted

    @classmethod
    def of(cls, x: Float[Array, " coordinates"], sort: bool) -> "_Ranks":
        bits = jax.lax.bitcast_convert_type(jnp.abs(x), jnp.uint32)
        return cls(bits, jnp.sort(bits) if sort else None)

    def largest(self, ranks: Int[Array, " n"]) -> UInt32[Array, " n"]:
        """The bits of the coordinates of these ranks, the largest having rank 1."""
        if self.ascending is not None:
            return self.ascending[self.bits.size - ranks]

        def set_bit(i: Array, found: Array) -> Array:
            """From the highest bit down: it is set if enough coordinates are as large then."""
            higher = found | (jnp.uint32(1) << (30 - i).astype(jnp.uint32))
            enough = jnp.sum(self.bits[None] >= higher[:, None], axis=1) >= ranks
            return jnp.where(enough, higher, found)

        return jax.lax.fori_loop(0, 31, set_bit, jnp.zeros(ranks.shape, jnp.uint32))

    def counts(
        self, low: UInt32[Array, " n"], high: UInt32[Array, " n"]
    ) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
        """How many coordinates are larger than `high`, and how many from `low` to `high`."""
        if self.ascending is None:
            larger = jnp.sum(self.bits[None] > high[:, None], axis=1)
            return larger, jnp.sum(self.bits[None] >= low[:, None], axis=1) - larger
        right = jnp.searchsorted(self.ascending, high, side="right")
        left = jnp.searchsorted(self.ascending, low, side="left")
        return self.bits.size - right, right - left

    def shares(
        self, parts: Float[Array, "k coordinates"], cuts: list[tuple[float, float]]
    ) -> Float[Array, "k cuts"]:
        """For each (from, to), fractions counted from the largest coordinate: the share of each
        row's sum that these coordinates hold."""
        size = self.bits.size
        edges = sorted({edge for cut in cuts for edge in cut})
        whole = jnp.array([math.floor(edge * size) for edge in edges])
        rest = jnp.array([edge * size - math.floor(edge * size) for edge in edges], jnp.float32)
        threshold = self.largest(jnp.array([max(math.ceil(edge * size), 1) for edge in edges]))
        low, high = _around(threshold)
        above, equal = self.counts(low, high)
        # The fraction of the coordinates around the threshold that still fits in.
        fraction = jnp.clip(((whole - above) + rest) / equal, 0.0, 1.0)

        def inside(i: Int[Array, ""]) -> Float[Array, " coordinates"]:
            near = jnp.where(self.bits >= low[i], fraction[i], 0.0)
            return jnp.where(self.bits > high[i], 1.0, near)

        def between(cut: Int[Array, " 2"]) -> Float[Array, " k"]:
            return parts @ (inside(cut[1]) - inside(cut[0]))

        sums = jax.lax.map(between, jnp.array([[edges.index(e) for e in cut] for cut in cuts]))
        return sums.T / _or_one(parts.sum(axis=1))[:, None]


def _around(threshold: UInt32[Array, " n"]) -> tuple[UInt32[Array, " n"], UInt32[Array, " n"]]:
    """The bits of the smallest and the largest size that count as equal to these."""
    size = jax.lax.bitcast_convert_type(threshold, jnp.float32)
    low, high = (
        jax.lax.bitcast_convert_type(size * jnp.float32(factor), jnp.uint32)
        for factor in (1 - TIE, 1 + TIE)
    )
    # Products of subnormal numbers may be flushed to zero.
    return jnp.minimum(low, threshold), jnp.maximum(high, threshold)


def _lora_factors(tree: Tree) -> dict[str, Float[Array, " coordinates"]]:
    """For "a" and "b", 1 at the coordinates of leaves of that name; nothing for other trees."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [getattr(path[-1], "key", None) for path, _ in leaves]
    if set(names) != {"a", "b"}:
        return {}
    return {
        factor: jnp.concatenate(
            [
                jnp.full(leaf.size, float(name == factor), jnp.float32)
                for name, (_, leaf) in zip(names, leaves, strict=True)
            ]
        )
        for factor in ("a", "b")
    }


def _flat(tree: Tree) -> Float[Array, " coordinates"]:
    leaves = [leaf.reshape(-1).astype(jnp.float32) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves)


def _or_one(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """A denominator: 1 in place of 0."""
    return jnp.where(x == 0, 1.0, x)
