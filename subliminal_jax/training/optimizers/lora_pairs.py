"""Rules for the two factors of a LoRA pair together: LoRA-Muon and LoRA-RITE.

Both give the product a b the same step however its size is shared between the factors. What is no
pair goes to another rule: whole matrices and all other leaves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from subliminal_jax.training.optimizers.matrices import power
from subliminal_jax.training.optimizers.muon import muon
from subliminal_jax.training.optimizers.rules import LearningRate, rate_at, start_correction

# Eigenvalues below this share of the largest count as it.
_FLOOR = 1e-6
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


def _turn(x: Array) -> Array:
    return jnp.swapaxes(x, -1, -2)


def find_pairs(tree: PyTree, path: str = "") -> Pairs:
    """The LoRA pairs of a tree by the path to them, both factors [..., side, rank]. Factors may be
    tuples of one leaf a layer, each of which has pairs of its own."""
    if _is_pair(tree):
        if isinstance(tree["a"], tuple):
            layers = enumerate(zip(tree["a"], tree["b"], strict=True))
            return {f"{path}/{i}": Pair(a, _turn(b)) for i, (a, b) in layers}
        return {path: Pair(tree["a"], _turn(tree["b"]))}
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
            return {"a": tuple(p.a for p in layers), "b": tuple(_turn(p.b) for p in layers)}
        return {"a": pairs[path].a, "b": _turn(pairs[path].b)}
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
            root = power(_turn(other) @ other, -0.5, _FLOOR)
            whitened = mean @ root
            polar = whitened @ power(_turn(whitened) @ whitened, -0.5, _FLOOR)
            return (shrink - 1) * x - 0.5 * rate / shrink * polar @ root

        return Pair(*map(step, means, pair, pair.swap())), means

    others = muon(
        learning_rate, momentum=momentum, weight_decay=weight_decay, optax_form=False, **rest
    )
    return train_pairs(init, update, others)


class RiteFactor(NamedTuple):
    """Of one factor: the momentum and the second moment in the basis of the other factor, that
    basis, and the second moment that turning the basis has lost."""

    mean: Factor
    moment: Square
    basis: Factor
    escaped: Float[Array, "*layers"]


def lora_rite(
    learning_rate: LearningRate,
    *,
    b1: float,
    b2: float,
    eps: float,
    escape: bool,
    weight_decay: float,
) -> optax.GradientTransformation:
    """Adam that does not see how a product is shared between its factors (arXiv:2410.20625,
    Algorithm 1): each factor's gradient is taken in an orthonormal basis of the other factor, with
    a matrix of the rank's size as second moment; both moments follow the basis as it turns.

    The authors' code, without its clipping. `escape` adds what the second moment lost by turning,
    as in the paper; in the code it is off. Where a factor is zero the other has no gradient.
    """

    def init(pair: Pair) -> Pair:
        def start(x: Factor, other: Factor) -> RiteFactor:
            *layers, _, rank = x.shape
            square = jnp.zeros((*layers, rank, rank))
            return RiteFactor(jnp.zeros_like(x), square, jnp.zeros_like(other), jnp.zeros(layers))

        return Pair(*map(start, pair, pair.swap()))

    def update(g: Pair, states: Pair, pair: Pair, count: Array) -> tuple[Pair, Pair]:
        # Weights of the past that need no correction for their start.
        keep1, keep2 = (
            b * start_correction(b, count) / start_correction(b, count + 1) for b in (b1, b2)
        )

        def step(g: Factor, s: RiteFactor, x: Factor, other: Factor) -> tuple[Factor, RiteFactor]:
            basis, size = jnp.linalg.qr(other)
            inverse = jnp.linalg.pinv(size, rtol=1e-6)
            turned = g @ inverse
            turn = _turn(basis) @ s.basis
            old = turn @ s.moment @ _turn(turn)
            escaped = s.escaped
            if escape:
                escaped = keep2 * (escaped + _lost(s.moment, old))
            moment = keep2 * old + (1 - keep2) * _turn(turned) @ turned / turned.shape[-2]
            values, vectors = jnp.linalg.eigh((moment + _turn(moment)) / 2)
            total = jnp.maximum(values + escaped[..., None], 0)
            scales = 1 / (jnp.sqrt(total) + eps)
            scaled = turned @ (vectors * scales[..., None, :]) @ _turn(vectors)
            mean = keep1 * s.mean @ _turn(turn) + (1 - keep1) * scaled
            u = mean @ _turn(inverse) + weight_decay * x
            return -rate_at(learning_rate, count) * u, RiteFactor(mean, moment, basis, escaped)

        results = tuple(map(step, g, states, pair, pair.swap()))
        return Pair(*(u for u, _ in results)), Pair(*(s for _, s in results))

    rest = optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay)
    return train_pairs(init, update, rest)


def _lost(before: Square, after: Square) -> Float[Array, "*layers"]:
    """The smaller of the largest fall of an eigenvalue and the fall of their sum."""
    fall = jnp.linalg.eigvalsh(before) - jnp.linalg.eigvalsh((after + _turn(after)) / 2)
    return jnp.maximum(jnp.minimum(jnp.max(fall, -1), jnp.sum(fall, -1)), 0)
