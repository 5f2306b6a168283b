"""Rules that precondition both sides of a matrix: Shampoo, SOAP and Kron (PSGD)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from subliminal_jax.linear_algebra import (
    compute_where,
    inverse_root,
    invert_triangular,
    orthonormalize,
)
from subliminal_jax.training.optimizers.matrices import match_adam, train_matrices
from subliminal_jax.training.optimizers.rules import LearningRate, start_correction

Matrix = Float[Array, "rows columns"]
# Power iterations for SOAP's first basis, and the share of a matrix's norm that they add to its
# eigenvalues: directions without a gradient keep an order of their own.
_FIRST_ITERATIONS, _SHIFT = 10, 1e-3


class Sides(NamedTuple):
    """A square matrix for the rows and one for the columns; None for a side that is too long to
    have one."""

    rows: Float[Array, "rows rows"] | None
    columns: Float[Array, "columns columns"] | None


def make_sides(p: Matrix, max_dim: int, scale: float = 0.0) -> Sides:
    """`scale` times the identity for each side of at most `max_dim`."""
    return Sides(*(scale * jnp.eye(n) if n <= max_dim else None for n in p.shape))


def grams(g: Matrix, sides: Sides) -> Sides:
    """g g' and g' g, where a side has a matrix."""
    return Sides(
        None if sides.rows is None else g @ g.T,
        None if sides.columns is None else g.T @ g,
    )


def turn(g: Matrix, sides: Sides) -> Matrix:
    """rows' g columns; a side without a matrix stays as it is."""
    g = g if sides.rows is None else sides.rows.T @ g
    return g if sides.columns is None else g @ sides.columns


def turn_back(g: Matrix, sides: Sides) -> Matrix:
    """rows g columns', the inverse of `turn` for orthogonal sides."""
    return turn(g, jax.tree.map(jnp.transpose, sides))


def shampoo(
    learning_rate: LearningRate, *, consistent_rms: float, max_dim: int, **rest: Any
) -> optax.GradientTransformation:
    """L^(-1/4) G R^(-1/4) with L and R the sums of G G' and G' G (arXiv:1802.09568, Algorithm 1).

    The first step is the orthogonal factor of the gradient, later ones are smaller by 1/sqrt(steps)
    at most; `matrices.match_adam` says how they are scaled. A side longer than `max_dim` has no
    matrix, and the other then the exponent -1/2.
    """

    def init(p: Matrix) -> Sides:
        return make_sides(p, max_dim)

    def update(g: Matrix, sums: Sides, p: Matrix | None = None) -> tuple[Matrix, Sides]:
        sums = jax.tree.map(jnp.add, sums, grams(g, sums))
        sides = len(jax.tree.leaves(sums))
        roots = jax.tree.map(lambda x: inverse_root(x, 2 * sides), sums)
        return match_adam(turn(g, roots), consistent_rms), sums

    return train_matrices(optax.GradientTransformation(init, update), learning_rate, **rest)


class SoapState(NamedTuple):
    """Steps taken, the running means of G G' and G' G, their eigenvectors, the running mean of the
    gradient, and that of the turned gradient's square."""

    steps: Array
    means: Sides
    bases: Sides
    mean: Matrix
    moment: Matrix


def soap(
    learning_rate: LearningRate,
    *,
    b1: float,
    b2: float,
    frequency: int,
    max_dim: int,
    eps: float,
    **rest: Any,
) -> optax.GradientTransformation:
    """Adam in the eigenbasis of Shampoo's matrices (arXiv:2409.11321, Algorithm 3).

    As in the authors' code the first gradient gives the basis and no step; every `frequency` steps
    one power iteration with a QR decomposition, its vectors sorted by their eigenvalues, brings the
    basis up to date. The first basis is that of ten such iterations from the identity, where the
    authors solve for the eigenvectors; a side longer than `max_dim` has none.
    """

    def init(p: Matrix) -> SoapState:
        zeros, sides = jnp.zeros_like(p), make_sides(p, max_dim)
        bases = make_sides(p, max_dim, 1.0)
        return SoapState(jnp.zeros((), jnp.int32), sides, bases, zeros, zeros)

    def update(g: Matrix, state: SoapState, p: Matrix | None = None) -> tuple[Matrix, SoapState]:
        is_first = state.steps == 0
        turned = turn(g, state.bases)
        mean = jnp.where(is_first, 0, b1 * state.mean + (1 - b1) * g)
        moment = jnp.where(is_first, 0, b2 * state.moment + (1 - b2) * turned**2)
        t = jnp.maximum(state.steps, 1)
        correction = jnp.sqrt(start_correction(b2, t)) / start_correction(b1, t)
        step = correction * turn(mean, state.bases) / (jnp.sqrt(moment) + eps)
        means = jax.tree.map(
            lambda old, new: b2 * old + (1 - b2) * new, state.means, grams(g, state.means)
        )
        u = turn_back(step, state.bases)
        due = state.steps % frequency == 0
        old = (state.bases, moment)
        bases, moment = compute_where(due, _refresh, (is_first, means, *old), old)
        return u, SoapState(state.steps + 1, means, bases, mean, moment)

    rule = optax.GradientTransformation(init, update)
    return train_matrices(rule, learning_rate, eps=eps, **rest)


def _refresh(inputs: tuple[Array, Sides, Sides, Matrix]) -> tuple[Sides, Matrix]:
    """Bases and second moment after a power iteration, or after as many as the first basis has."""
    is_first, means, bases, moment = inputs

    def iterate(_: Any, pair: tuple[Sides, Matrix]) -> tuple[Sides, Matrix]:
        return _iterate(means, *pair)

    rounds = jnp.where(is_first, _FIRST_ITERATIONS, 1)
    return jax.lax.fori_loop(0, rounds, iterate, (bases, moment))


def _iterate(means: Sides, bases: Sides, moment: Matrix) -> tuple[Sides, Matrix]:
    """One power iteration; the second moment is sorted as the vectors are."""
    new: list[Array | None] = []
    for axis, (mean, basis) in enumerate(zip(means, bases, strict=True)):
        if mean is None or basis is None:
            new.append(None)
            continue
        order = jnp.argsort(-jnp.einsum("ji,jk,ki->i", basis, mean, basis))
        moment = jnp.take(moment, order, axis=axis)
        basis = basis[:, order]
        moved = mean @ basis + _SHIFT * jnp.linalg.norm(mean) * basis
        new.append(jnp.where(jnp.any(mean != 0), orthonormalize(moved), basis))
    return Sides(*new), moment


class KronState(NamedTuple):
    """Steps taken, the running mean of the gradient, and the triangular factors."""

    steps: Array
    mean: Matrix
    factors: Sides


def kron(
    learning_rate: LearningRate,
    *,
    b1: float,
    factor_rate: float,
    max_rms: float,
    max_dim: int,
    seed: int,
    **rest: Any,
) -> optax.GradientTransformation:
    """A Kronecker-factored whitening preconditioner found by PSGD (Li 2015, arXiv:1512.04202;
    2024, arXiv:2402.04553): Q'Q of each side, Q upper triangular, on the gradient's running mean.

    Each step moves both factors by `factor_rate` relative to their size, against a random probe
    (`draw_probe`): the authors' schedule for the first 500 steps. The factors start at the
    scale that whitens the first gradient, and a step's root mean square is at most `max_rms`.
    A side longer than `max_dim` has no factor.
    """

    def init(p: Matrix) -> KronState:
        zeros = jnp.zeros_like(p)
        return KronState(jnp.zeros((), jnp.int32), zeros, make_sides(p, max_dim, 1.0))

    def update(g: Matrix, state: KronState, p: Matrix | None = None) -> tuple[Matrix, KronState]:
        count = state.steps + 1
        mean = b1 * state.mean + (1 - b1) * g
        m = mean / start_correction(b1, count)
        size = jnp.mean(m**4) ** 0.25  # of a coordinate
        live = size > 0
        sides = max(len(jax.tree.leaves(state.factors)), 1)
        scale = jnp.where(live, size, 1) ** (-0.5 / sides)
        factors = jax.tree.map(lambda q: jnp.where(state.steps == 0, scale * q, q), state.factors)
        moved = _move_factors(m, factors, draw_probe(seed, state.steps, m.shape), factor_rate)
        factors = jax.tree.map(lambda new, old: jnp.where(live, new, old), moved, factors)
        whitened = turn(m, jax.tree.map(lambda q: q.T @ q, factors))
        rms = jnp.sqrt(jnp.mean(whitened**2))
        u = whitened * jnp.minimum(1, max_rms / jnp.where(rms > 0, rms, 1))
        # Nothing is known of the size of a gradient before the first that is not zero.
        return u, KronState(jnp.where(live, count, state.steps), mean, factors)

    rule = optax.GradientTransformation(init, update)
    return train_matrices(rule, learning_rate, **rest)


def draw_probe(seed: int, count: Array, shape: tuple[int, ...]) -> Float[Array, "rows columns"]:
    """A normal matrix, the same for all leaves of one shape."""
    return jax.random.normal(jax.random.fold_in(jax.random.key(seed), count), shape)


def _move_factors(m: Matrix, factors: Sides, probe: Matrix, rate: float) -> Sides:
    """A relative step of each factor Q towards Q'Q that whitens `m`."""
    whitened = turn(m, jax.tree.map(jnp.transpose, factors))
    conjugate = turn(probe, jax.tree.map(invert_triangular, factors))

    def move(q: Array, gram: Array, other: Array) -> Array:
        size = _bound_norm(gram + other)
        return q - rate / jnp.where(size > 0, size, 1) * jnp.triu(gram - other) @ q

    return jax.tree.map(move, factors, grams(whitened, factors), grams(conjugate, factors))


def _bound_norm(x: Float[Array, "n n"]) -> Float[Array, ""]:
    """A lower bound of a symmetric matrix's spectral norm, within a few percent: one step of power
    iteration from the longest column."""
    largest = jnp.max(jnp.abs(x))
    x = x / jnp.where(largest > 0, largest, 1)
    column = x[:, jnp.argmax(jnp.sum(x**2, axis=0))]
    y = x @ column
    norm = jnp.linalg.norm(y)
    return largest * jnp.linalg.norm(x @ (y / jnp.where(norm > 0, norm, 1)))
