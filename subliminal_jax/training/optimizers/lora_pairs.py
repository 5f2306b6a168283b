"""Rules for the two factors of a LoRA pair together: LoRA-Muon and LoRA-RITE.

Both give the product a b the same step however its size is shared between the factors. What is no
pair goes to another rule: whole matrices and all other leaves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from subliminal_jax.linear_algebra import inverse_root, turn
from subliminal_jax.training.optimizers.muon import muon
from subliminal_jax.training.optimizers.rules import LearningRate, rate_at, start_correction

Factor = Float[Array, "*layers _ rank"]
Square = Float[Array, "*layers rank rank"]


class Pair(NamedTuple):
    """Both factors of a projection, or what belongs to each: of the inputs and of the outputs."""

    a: Any
    b: Any

    def swap(self) -> "Pair":
        """The other factor's, for each."""
        return Pair(self.b, self.a)


Pairs = dict[str, Pair]
PairRule = Callable[[Pair, Any, Pair, Array], tuple[Pair, Any]]


def _is_pair(tree: PyTree) -> bool:
    return isinstance(tree, dict) and tree.keys() == {"a", "b"}


def find_pairs(tree: PyTree, path: str = "") -> Pairs:
    """The LoRA pairs of a tree by the path to them, both factors [..., side, rank]. Factors may be
    tuples of one leaf a layer, each of which has pairs of its own."""
    if _is_pair(tree):
        if isinstance(tree["a"], tuple):
            layers = enumerate(zip(tree["a"], tree["b"], strict=True))
            return {f"{path}/{i}": Pair(a, turn(b)) for i, (a, b) in layers}
        return {path: Pair(tree["a"], turn(tree["b"]))}
    if not isinstance(tree, dict):
        return {}
    pairs: Pairs = {}
    for name, part in tree.items():
        pairs |= find_pairs(part, f"{path}/{name}")
    return pairs


def drop_pairs(tree: PyTree) -> PyTree:
    """`tree` without its pairs."""
    if not isinstance(tree, dict):
        return tree
    return {name: drop_pairs(part) for name, part in tree.items() if not _is_pair(part)}


def join_pairs(pairs: Pairs, rest: PyTree, like: PyTree, path: str = "") -> PyTree:
    """The tree like `like` of what `find_pairs` and `drop_pairs` made of it."""
    if _is_pair(like):
        if isinstance(like["a"], tuple):
            layers = [pairs[f"{path}/{i}"] for i in range(len(like["a"]))]
            return {"a": tuple(p.a for p in layers), "b": tuple(turn(p.b) for p in layers)}
        return {"a": pairs[path].a, "b": turn(pairs[path].b)}
    if not isinstance(like, dict):
        return rest
    return {
        name: join_pairs(pairs, rest.get(name), part, f"{path}/{name}")
        for name, part in like.items()
    }


class PairState(NamedTuple):
    """Steps taken, the state of each pair, and that of the rule for the rest."""

    steps: Array
    pairs: dict[str, Any]
    rest: PyTree


def train_pairs(
    init_pair: Callable[[Pair], Any], update_pair: PairRule, rest: optax.GradientTransformation
) -> optax.GradientTransformation:
    """A rule of one pair, (gradients, state, factors, steps before) -> (updates, state), for every
    pair of a tree, and `rest` for all other leaves."""

    def init(params: PyTree) -> PairState:
        states = {path: init_pair(pair) for path, pair in find_pairs(params).items()}
        return PairState(jnp.zeros((), jnp.int32), states, rest.init(drop_pairs(params)))

    def update(g: PyTree, state: PairState, params: PyTree = None) -> tuple[PyTree, PairState]:
        gradients, factors = find_pairs(g), find_pairs(params)
        new = {
            path: update_pair(gradients[path], state.pairs[path], factors[path], state.steps)
            for path in gradients
        }
        others, rest_state = rest.update(drop_pairs(g), state.rest, drop_pairs(params))
        updates = join_pairs({path: u for path, (u, _) in new.items()}, others, g)
        states = {path: s for path, (_, s) in new.items()}
        return updates, PairState(state.steps + 1, states, rest_state)

    return optax.GradientTransformation(init, update)


def steepness_gradient(pair: Pair) -> Pair:
    """The gradient of log(sum s^4 / (sum s^2)^2) with respect to both factors of a product; s are
    its singular values. The value is 0 where there is one and -log(rank) where all are equal, and
    does not depend on the product's size. Zero for a product that is.

    From the factors' Gram matrices G and H alone: sum s^2 is the trace of G H, sum s^4 that of its
    square.
    """
    sizes = [jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) for x in pair]
    # Scaled, for fourth powers of small products underflow.
    units = [x / jnp.where(size > 0, size, 1) for x, size in zip(pair, sizes, strict=True)]
    grams = [turn(x) @ x for x in units]
    gradients = []
    for x, size, own, other in zip(units, sizes, grams, grams[::-1], strict=True):
        square = jnp.trace(own @ other, axis1=-2, axis2=-1)[..., None, None]
        fourth = jnp.trace(own @ other @ own @ other, axis1=-2, axis2=-1)[..., None, None]
        there = (square > 0) & (fourth > 0)
        fourth, square = (jnp.where(there, y, 1) for y in (fourth, square))
        change = 4 * x @ (other @ own @ other / fourth - other / square)
        gradients.append(jnp.where(there, change / jnp.where(size > 0, size, 1), 0))
    return Pair(*gradients)


def lora_muon(
    learning_rate: LearningRate, *, momentum: float, weight_decay: float, **rest: Any
) -> optax.GradientTransformation:
    """Spectral steepest descent on the product of each pair (arXiv:2606.12921).

    Each factor's step is the one that helps most among those that move the product by half the
    rate in spectral norm: the orthogonal factor of its momentum, whitened on the rank's side by the
    other factor. Weight decay shrinks the product. While b is zero a stays; b's first step is as
    large as any, and turns a by about its own size in the second.
    """

    def init(pair: Pair) -> Pair:
        return Pair(*map(jnp.zeros_like, pair))

    def update(g: Pair, means: Pair, pair: Pair, count: Array) -> tuple[Pair, Pair]:
        means = Pair(*(momentum * m + (1 - momentum) * x for m, x in zip(means, g, strict=True)))
        rate = rate_at(learning_rate, count)
        shrink = jnp.sqrt(1 - weight_decay * jnp.asarray(rate))

        def step(mean: Factor, x: Factor, other: Factor) -> Factor:
            root = inverse_root(turn(other) @ other, 2)
            whitened = mean @ root
            polar = whitened @ inverse_root(turn(whitened) @ whitened, 2)
            return (shrink - 1) * x - 0.5 * rate / shrink * polar @ root

        return Pair(*map(step, means, pair, pair.swap())), means

    others = muon(
        learning_rate, momentum=momentum, weight_decay=weight_decay, optax_form=False, **rest
    )
    return train_pairs(init, update, others)


class RiteFactor(NamedTuple):
    """Of one factor: the momentum and the second moment in the basis of the other factor, and that
    basis."""

    mean: Factor
    moment: Square
    basis: Factor


def lora_rite(
    learning_rate: LearningRate, *, b1: float, b2: float, eps: float, weight_decay: float
) -> optax.GradientTransformation:
    """Adam that does not see how a product is shared between its factors (arXiv:2410.20625,
    Algorithm 1): each factor's gradient is taken in an orthonormal basis of the other factor, with
    a matrix of the rank's size as second moment; both moments follow the basis as it turns.

    The authors' code, without its clipping and, as there by default, without the paper's account of
    what turning loses. Where a factor is zero the other has no gradient. `eps` is of the AdamW for
    what is no pair.
    """

    def init(pair: Pair) -> Pair:
        def start(x: Factor, other: Factor) -> RiteFactor:
            *layers, _, rank = x.shape
            square = jnp.zeros((*layers, rank, rank))
            return RiteFactor(jnp.zeros_like(x), square, jnp.zeros_like(other))

        return Pair(*map(start, pair, pair.swap()))

    def update(g: Pair, states: Pair, pair: Pair, count: Array) -> tuple[Pair, Pair]:
        # Weights of the past that need no correction for their start.
        keep1, keep2 = (
            b * start_correction(b, count) / start_correction(b, count + 1) for b in (b1, b2)
        )

        def step(g: Factor, s: RiteFactor, x: Factor, other: Factor) -> tuple[Factor, RiteFactor]:
            inverse = inverse_root(turn(other) @ other, 2)
            basis = other @ inverse
            turned = g @ inverse
            change = turn(basis) @ s.basis
            square = turn(turned) @ turned / turned.shape[-2]
            moment = keep2 * change @ s.moment @ turn(change) + (1 - keep2) * square
            moment = (moment + turn(moment)) / 2
            scaled = turned @ inverse_root(moment, 2)
            mean = keep1 * s.mean @ turn(change) + (1 - keep1) * scaled
            u = mean @ inverse + weight_decay * x
            return -rate_at(learning_rate, count) * u, RiteFactor(mean, moment, basis)

        results = tuple(map(step, g, states, pair, pair.swap()))
        return Pair(*(u for u, _ in results)), Pair(*(s for _, s in results))

    rest = optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay)
    return train_pairs(init, update, rest)
