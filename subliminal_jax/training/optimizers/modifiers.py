"""Changes of any rule: what it is given, what it gives, and where it works.

    OptimizerSpec.parse("cautious:adamw")
    OptimizerSpec.parse("by_factor:muon:ns_steps=3(a=0)")

A modifier wraps an optimizer that is whole, its learning rate and weight decay included. Several
are written one before the other; the first is the outermost. Values in brackets at the end are the
modifiers', each of the first one that has a value of that name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from subliminal_jax.training.optimizers import rules, separating
from subliminal_jax.training.optimizers.entries import Hyper, HyperValue, Kind, positive, share
from subliminal_jax.training.optimizers.lora_pairs import (
    drop_pairs,
    find_pairs,
    join_pairs,
    steepness_gradient,
)
from subliminal_jax.training.optimizers.rotations import rotate
from subliminal_jax.training.optimizers.stacking import (
    KeyPath,
    inputs_axis,
    is_table,
    is_vector,
    key_name,
    per_layer,
)

Rule: TypeAlias = optax.GradientTransformationExtraArgs
Change = Callable[[PyTree, PyTree], PyTree]


class Modified(NamedTuple):
    """What the modifier keeps, and the state of the rule."""

    own: PyTree
    rule: PyTree


def _change_gradients(rule: Rule, change: Change) -> Rule:
    """`rule` on `change(gradient, parameters)`."""

    def init(params: PyTree) -> Modified:
        return Modified((), rule.init(params))

    def update(
        g: PyTree, state: Modified, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, Modified]:
        u, inner = rule.update(change(g, params), state.rule, params, **extra)
        return u, Modified((), inner)

    return Rule(init, update)


def _change_updates(rule: Rule, change: Callable[[PyTree, PyTree, PyTree], PyTree]) -> Rule:
    """`rule` whose updates become `change(update, gradient, parameters)`."""

    def init(params: PyTree) -> Modified:
        return Modified((), rule.init(params))

    def update(
        g: PyTree, state: Modified, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, Modified]:
        u, inner = rule.update(g, state.rule, params, **extra)
        return change(u, g, params), Modified((), inner)

    return Rule(init, update)


def _map_layers(change: Callable[[Array], Array]) -> Change:
    """`change` of every leaf of every layer."""
    rule = per_layer(optax.stateless(lambda x, params: jax.tree.map(change, x)))
    return lambda tree, params: rule.update(tree, rule.init(tree), params)[0]


# -- gradients -------------------------------------------------------------------------------------


def clip_value(rule: Rule, *, limit: float) -> Rule:
    """Coordinates of the gradient clipped to `limit` in size."""
    return _change_gradients(
        rule, lambda g, params: jax.tree.map(lambda x: jnp.clip(x, -limit, limit), g)
    )


def clip_norm(rule: Rule, *, norm: float) -> Rule:
    """The gradient scaled to at most `norm` over the whole tree (arXiv:1211.5063)."""

    def change(g: PyTree, params: PyTree) -> PyTree:
        factor = 1 / jnp.maximum(optax.tree.norm(g) / norm, 1)
        return jax.tree.map(lambda x: factor * x, g)

    return _change_gradients(rule, change)


def clip_adaptive(rule: Rule, *, ratio: float, floor: float) -> Rule:
    """Each row of the gradient scaled to at most `ratio` of the parameters' row, whose length
    counts as `floor` at least (arXiv:2102.06171, equation 3)."""

    def change(g: PyTree, params: PyTree) -> PyTree:
        def leaf(path: KeyPath, x: Array, p: Array) -> Array:
            along = inputs_axis(path, x)
            size, limit = (jnp.linalg.norm(y, axis=along, keepdims=True) for y in (x, p))
            limit = ratio * jnp.maximum(limit, floor)
            return x * jnp.where(size > limit, limit / jnp.where(size > 0, size, 1), 1)

        return jax.tree_util.tree_map_with_path(leaf, g, params)

    return _change_gradients(rule, change)


def centralize(rule: Rule) -> Rule:
    """Each row of a matrix's gradient less its mean (arXiv:2004.01461); vectors and tables stay."""

    def change(g: PyTree, params: PyTree) -> PyTree:
        def leaf(path: KeyPath, x: Array) -> Array:
            if is_vector(path, x) or is_table(path):
                return x
            return x - jnp.mean(x, axis=inputs_axis(path, x), keepdims=True)

        return jax.tree_util.tree_map_with_path(leaf, g)

    return _change_gradients(rule, change)


def normalize(rule: Rule) -> Rule:
    """The gradient divided by its norm over the whole tree."""
    scale = rules.normalize()
    return _change_gradients(rule, lambda g, params: scale.update(g, scale.init(g), params)[0])


def normalize_per_tensor(rule: Rule) -> Rule:
    """Each tensor's gradient divided by its norm."""

    def leaf(x: Array) -> Array:
        size = jnp.linalg.norm(x)
        return x / jnp.where(size > 0, size, 1)

    return _change_gradients(rule, _map_layers(leaf))


def add_l2(rule: Rule, *, weight: float) -> Rule:
    """Weight decay as a part of the gradient: `weight` times the parameters are added to it."""
    return _change_gradients(
        rule, lambda g, params: jax.tree.map(lambda x, p: x + weight * p, g, params)
    )


def flatten_spectrum(rule: Rule, *, weight: float) -> Rule:
    """A spectral penalty on LoRA products: `weight` times the gradient of log(sum s^4 / (sum
    s^2)^2), summed over products with the singular values s, is added to the gradient, so that a
    change is spread over more directions (a form of our own of what arXiv:2606.31591 has)."""

    def change(g: PyTree, params: PyTree) -> PyTree:
        gradients, factors = find_pairs(g), find_pairs(params)
        penalised = {
            path: jax.tree.map(lambda x, y: x + weight * y, pair, steepness_gradient(factors[path]))
            for path, pair in gradients.items()
        }
        return join_pairs(penalised, drop_pairs(g), g)

    return _change_gradients(rule, change)


def _separate(change: Callable[[PyTree, float], PyTree]) -> Callable[..., Rule]:
    def wrap(rule: Rule, *, share: float) -> Rule:
        return _change_gradients(rule, lambda g, params: change(g, share))

    wrap.__doc__ = change.__doc__
    return wrap


# -- updates ---------------------------------------------------------------------------------------


def make_cautious(rule: Rule) -> Rule:
    """Only those coordinates of an update that go against the gradient, scaled up by the share
    that they are of their leaf (arXiv:2411.16085, Algorithm 2)."""

    def change(u: PyTree, g: PyTree, params: PyTree) -> PyTree:
        masked = jax.tree.map(lambda x, y: jnp.where(x * y < 0, x, 0), u, g)
        against = jax.tree.map(lambda x, y: (x * y < 0).astype(x.dtype), u, g)
        factors = _map_layers(lambda x: jnp.full_like(x, x.size / (jnp.sum(x) + 1)))
        return jax.tree.map(jnp.multiply, masked, factors(against, params))

    return _change_updates(rule, change)


def scale_factors(rule: Rule, *, a: float, b: float) -> Rule:
    """LoRA's factors move `a` and `b` times as far (LoRA+, arXiv:2402.12354, has b = 16; LoRA-FA,
    arXiv:2308.03303, has a = 0). At 0 a factor stays where it is."""

    def change(u: PyTree, g: PyTree, params: PyTree) -> PyTree:
        def leaf(path: KeyPath, x: Array) -> Array:
            names = [key_name(key) for key in path]
            return x * (a if "a" in names else b if "b" in names else 1.0)

        return jax.tree_util.tree_map_with_path(leaf, u)

    return _change_updates(rule, change)


def decay_apart(rule: Rule, *, weight: float) -> Rule:
    """Each step takes the share `weight` of the parameters away, whatever the learning rate and its
    schedule (arXiv:1711.05101, where weight decay is not multiplied by the rate)."""
    return _change_updates(
        rule, lambda u, g, params: jax.tree.map(lambda x, p: x - weight * p, u, params)
    )


# -- with a memory of their own --------------------------------------------------------------------


def pull_to_start(rule: Rule, *, weight: float) -> Rule:
    """`weight` times the way from the parameters at the start is added to the gradient (L2-SP,
    arXiv:1802.01483)."""

    def init(params: PyTree) -> Modified:
        return Modified(params, rule.init(params))

    def update(
        g: PyTree, state: Modified, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, Modified]:
        pulled = jax.tree.map(lambda x, p, start: x + weight * (p - start), g, params, state.own)
        u, inner = rule.update(pulled, state.rule, params, **extra)
        return u, Modified(state.own, inner)

    return Rule(init, update)


class Slow(NamedTuple):
    """Steps taken, and the slow parameters."""

    steps: Array
    params: PyTree


def look_ahead(rule: Rule, *, every: int, share: float) -> Rule:
    """After every `every` steps the parameters go back to the slow ones and `share` of the way
    from them, which are the next slow ones (arXiv:1907.08610, Algorithm 1)."""

    def init(params: PyTree) -> Modified:
        return Modified(Slow(jnp.zeros((), jnp.int32), params), rule.init(params))

    def update(
        g: PyTree, state: Modified, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, Modified]:
        u, inner = rule.update(g, state.rule, params, **extra)
        steps = state.own.steps + 1
        is_due = steps % every == 0
        fast = jax.tree.map(jnp.add, params, u)
        mixed = jax.tree.map(lambda s, f: s + share * (f - s), state.own.params, fast)
        slow = jax.tree.map(lambda m, s: jnp.where(is_due, m, s), mixed, state.own.params)
        u = jax.tree.map(lambda m, p, x: jnp.where(is_due, m - p, x), mixed, params, u)
        return u, Modified(Slow(steps, slow), inner)

    return Rule(init, update)


@dataclass(frozen=True)
class Modifier:
    """One modifier.

    Attributes:
      wrap: takes a rule, then all of `hyper` by name.
      paper: where it is from.
      kind: how far one coordinate's gradient reaches by it (as `Entry.kind`).
      hyper: its hyper-parameters.
    """

    wrap: Callable[..., Rule]
    paper: str
    kind: Kind
    hyper: Mapping[str, Hyper] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, HyperValue]:
        return {name: x.default for name, x in self.hyper.items()}


_SHARE = {"share": share(0.01)}
BLANK, FENG = "Blank et al. 2026, arXiv:2606.00995", "Feng 2026, blank_sgd_repro"

MODIFIERS: Mapping[str, Modifier] = {
    "cautious": Modifier(make_cautious, "Liang et al. 2024, arXiv:2411.16085", "per_leaf"),
    "lookahead": Modifier(
        look_ahead,
        "Zhang et al. 2019, arXiv:1907.08610",
        "elementwise",
        {"every": positive(5), "share": Hyper(0.5, above=0.0, below=1.0001)},
    ),
    "by_factor": Modifier(
        scale_factors,
        "Hayou et al. 2024, arXiv:2402.12354",
        "elementwise",
        {"a": Hyper(1.0), "b": Hyper(1.0)},
    ),
    "clip_value": Modifier(clip_value, "", "elementwise", {"limit": positive(1.0)}),
    "clip_norm": Modifier(
        clip_norm, "Pascanu et al. 2012, arXiv:1211.5063", "global", {"norm": positive(1.0)}
    ),
    "clip_adaptive": Modifier(
        clip_adaptive,
        "Brock et al. 2021, arXiv:2102.06171",
        "per_leaf",
        {"ratio": positive(0.01), "floor": positive(1e-3)},
    ),
    "centralized": Modifier(centralize, "Yong et al. 2020, arXiv:2004.01461", "per_leaf"),
    "normalized": Modifier(normalize, "Hazan et al. 2015, arXiv:1507.02030", "global"),
    "normalized_per_tensor": Modifier(
        normalize_per_tensor, "You et al. 2017, arXiv:1707.04822", "per_leaf"
    ),
    "l2": Modifier(add_l2, "Krogh and Hertz 1991", "elementwise", {"weight": Hyper(0.01)}),
    "decay_apart": Modifier(
        decay_apart,
        "Loshchilov and Hutter 2017, arXiv:1711.05101",
        "elementwise",
        {"weight": Hyper(0.001)},
    ),
    "pull_to_start": Modifier(
        pull_to_start, "Li et al. 2018, arXiv:1802.01483", "elementwise", {"weight": Hyper(0.01)}
    ),
    "flattened": Modifier(
        flatten_spectrum,
        "Brown et al. 2026, arXiv:2606.31591",
        "per_pair",
        {"weight": Hyper(0.001)},
    ),
    "top_masked": Modifier(_separate(separating.mask_largest), FENG, "global", _SHARE),
    "top_clipped": Modifier(_separate(separating.clip_largest), FENG, "global", _SHARE),
    "top_only": Modifier(_separate(separating.keep_largest), FENG, "global", {"share": share(0.1)}),
    "rotated": Modifier(
        rotate,
        BLANK,
        "per_leaf",
        {"seed": Hyper(0), "per_layer": Hyper(False), "mlp_only": Hyper(False)},
    ),
}
