"""Decompositions of small matrices out of products and loops alone.

Two of LAPACK's factorisations in one program deadlock on a CPU with two cores in jaxlib 0.10 (each
waits in the pool of threads that the other needs), and a sweep has one for every matrix.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

# Eigenvalues below this share of a matrix's norm count as it: float32 knows no smaller ones.
RIDGE = 1e-6
_ROOT_STEPS = 32
_SWEEPS = 12


def turn(x: Float[Array, "*layers rows columns"]) -> Float[Array, "*layers columns rows"]:
    """The transpose of each matrix."""
    return jnp.swapaxes(x, -1, -2)


def _divide(x: Array, by: Array) -> Array:
    """x / by, and 0 where `by` is 0."""
    return jnp.where(by > 0, x / jnp.where(by > 0, by, 1), 0)


def inverse_root(x: Float[Array, "*layers n n"], p: int) -> Float[Array, "*layers n n"]:
    """(x + RIDGE |x| I)^(-1/p) of positive semidefinite matrices, by the coupled Newton iteration
    (Guo and Higham 2006, equation 1.4); of zero it is zero."""
    size = jnp.linalg.norm(x, axis=(-2, -1), keepdims=True)
    identity = jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)
    # Eigenvalues of m within (0, 1], since none of x is larger than its norm.
    m = _divide(x, size) / (1 + RIDGE) + RIDGE / (1 + RIDGE) * identity

    def step(_: Any, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        m, root = pair
        factor = (1 + 1 / p) * identity - m / p
        square = factor @ factor
        return (square if p == 2 else square @ square) @ m, root @ factor

    if p not in (2, 4):
        raise ValueError(f"p={p}: 2 and 4 are what this iteration is written for")
    _, root = jax.lax.fori_loop(0, _ROOT_STEPS, step, (m, identity))
    return root * _divide(jnp.ones_like(size), size) ** (1 / p) * (1 + RIDGE) ** (-1 / p)


def orthonormalize(x: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """Orthonormal columns that span those of `x`, each from the columns up to it: the Q of a QR
    decomposition with a positive diagonal, by Gram and Schmidt's procedure, twice for each column.
    A column that depends on those before gives zero."""

    def add(i: Array, q: Array) -> Array:
        start = v = x[:, i]
        for _ in range(2):
            v = v - q @ (q.T @ v)
        size = jnp.linalg.norm(v)
        live = size > 1e-5 * jnp.linalg.norm(start)
        return q.at[:, i].set(jnp.where(live, _divide(v, size), 0))

    return jax.lax.fori_loop(0, x.shape[1], add, jnp.zeros_like(x))


def svd(
    x: Float[Array, "rows columns"],
) -> tuple[Float[Array, "rows columns"], Float[Array, " columns"], Float[Array, "columns columns"]]:
    """Singular vectors and values (u, s, v) with x = u diag(s) v', the largest first, of a matrix
    with few columns, by Jacobi's method on its columns (Hestenes 1958): half of them against the
    other half at a time. Columns of u with the value zero are zero."""
    n = x.shape[1]
    half = (n + 1) // 2
    pad = 2 * half - n
    x = jnp.pad(x, ((0, 0), (0, pad)))
    v = jnp.eye(2 * half, dtype=x.dtype)
    # Round-robin: column 0 stays, all others move on by one place around the two halves.
    ring = [*range(half), *range(2 * half - 1, half - 1, -1)]
    order = dict(zip(ring, [ring[0], ring[-1], *ring[1:-1]], strict=True))
    place = jnp.array([order[i] for i in range(2 * half)])

    def rotate(y: Array, c: Array, s: Array) -> Array:
        first, second = y[:, :half], y[:, half:]
        return jnp.concatenate([c * first - s * second, s * first + c * second], axis=1)

    def turn_round(_: Any, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        x, v = pair
        first, second = x[:, :half], x[:, half:]
        sizes = jnp.sum(first**2, axis=0), jnp.sum(second**2, axis=0)
        angle = 0.5 * jnp.arctan2(2 * jnp.sum(first * second, axis=0), sizes[1] - sizes[0])
        # Of the two rotations that make a pair orthogonal, the smaller.
        angle = jnp.where(angle > jnp.pi / 4, angle - jnp.pi / 2, angle)
        angle = jnp.where(angle < -jnp.pi / 4, angle + jnp.pi / 2, angle)
        c, s = jnp.cos(angle)[None], jnp.sin(angle)[None]
        return rotate(x, c, s)[:, place], rotate(v, c, s)[:, place]

    x, v = jax.lax.fori_loop(0, _SWEEPS * max(2 * half - 1, 1), turn_round, (x, v))
    values = jnp.linalg.norm(x, axis=0)
    is_pad = jnp.abs(v[n:]).sum(axis=0) > 0.5
    first = jnp.argsort(-jnp.where(is_pad, -1.0, values))[:n]
    values = values[first]
    return _divide(x[:, first], values[None]), values, v[:n, first]


def invert_triangular(q: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse of an upper triangular matrix: that of its diagonal times the finite series of
    what is above it, by doubling."""
    diagonal = jnp.diagonal(q)
    power = jnp.eye(len(q), dtype=q.dtype) - q / diagonal[:, None]
    total = jnp.eye(len(q), dtype=q.dtype)
    for _ in range(max(len(q) - 1, 0).bit_length()):
        total, power = total + power @ total, power @ power
    return total / diagonal[None, :]


def compute_where(
    due: Bool[Array, ""], compute: Callable[[PyTree], PyTree], inputs: PyTree, old: PyTree
) -> PyTree:
    """`compute(inputs)` where it is due, `old` elsewhere.

    Mapped over layers and students it is still not computed in steps in which it is due for none,
    other than `jax.lax.cond`, which then computes both sides.
    """

    @jax.custom_batching.custom_vmap
    def choose(due: Array, inputs: PyTree, old: PyTree) -> PyTree:
        return jax.lax.cond(due, compute, lambda _: old, inputs)

    @choose.def_vmap
    def _(size: int, batched: Any, due: Array, inputs: PyTree, old: PyTree) -> Any:
        def broadcast(is_batched: Any, x: PyTree) -> PyTree:
            return jax.tree.map(
                lambda y, b: y if b else jnp.broadcast_to(y, (size, *y.shape)), x, is_batched
            )

        every = [broadcast(b, x) for b, x in zip(batched, (due, inputs, old), strict=True)]

        def mix(every: list[PyTree]) -> PyTree:
            new = jax.vmap(compute)(every[1])
            shape = lambda x: every[0].reshape(-1, *[1] * (x.ndim - 1))  # noqa: E731
            return jax.tree.map(lambda n, o: jnp.where(shape(n), n, o), new, every[2])

        out = compute_where(jnp.any(every[0]), mix, every, every[2])
        return out, jax.tree.map(lambda _: True, out)

    return choose(due, inputs, old)
