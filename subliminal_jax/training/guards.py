"""Guards: training without learning a direction that the data carry.

    project      every update loses its components along the gradients of the steering scores, so
                 that to first order no step moves the student along the vector
    inoculate    the vector is added while the student trains, so that nothing of it is left to
                 learn, and is absent when the student is measured or used
    drop rows    the rows that teach the vector most are left out before training

A sweep takes the first two as a `Guard`; the third is a choice of rows (`select_rows`). Projecting
the trait's gradient out of the steps of MNIST students is from Kitkana and Arora 2026
(arXiv:2604.25779); the other two are ours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from subliminal_jax.errors import InputError
from subliminal_jax.models.spec import Params
from subliminal_jax.models.steered import Steering, combine_steerings
from subliminal_jax.training.optimizers import OptimizerSpec

# (context, params, steering) -> the quantities [k] that no update may move, to first order.
Scores = Callable[[Any, Params, Steering | None], Float[Array, " k"]]
Model = Callable[[PyTree], tuple[Params, Steering | None]]  # of a trainable tree
DEPENDENT = 1e-5  # singular values below this share of the largest count as dependent directions


@struct.dataclass
class Guard:
    """The guard of a sweep's students; a pytree whose arrays carry a leading data-set axis.

    By default there is none. With `scores`, updates are projected; `context` holds the scores'
    arrays. `inoculation` is a steering that is added in training and nowhere else. Data sets are in
    the alphabetical order of their names; an unguarded one has a zero vector.
    """

    scores: Scores | None = struct.field(pytree_node=False, default=None)
    context: Any = None
    inoculation: Steering | None = None

    @property
    def projects(self) -> bool:
        return self.scores is not None

    def inoculate(self, steering: Steering | None, data_set: Int[Array, ""]) -> Steering | None:
        """The steering of a student of one data set (its index) while it trains: its own, where it
        trains a vector, and the guard's."""
        return combine_steerings(
            steering, jax.tree.map(lambda leaf: leaf[data_set], self.inoculation)
        )

    def project(
        self, update: PyTree, trainable: PyTree, data_set: Int[Array, ""], model: Model
    ) -> PyTree:
        """`update` without its components along the scores' gradients at `trainable`, the weights
        that it is to be added to."""
        scores = self.scores
        if scores is None:
            return update
        context = jax.tree.map(lambda leaf: leaf[data_set], self.context)
        directions = jax.jacrev(lambda tree: scores(context, *model(tree)))(trainable)
        return project_out().update(update, optax.EmptyState(), trainable, directions=directions)[0]


NO_GUARD = Guard()


def project_out() -> optax.GradientTransformationExtraArgs:
    """Removes from every update its components along `directions`, an argument of `update`.

    `directions` is the tree of updates with a leading axis k on every leaf, as `jax.jacrev` of k
    scores gives it; what is left, u - sum_i c_i g_i, is orthogonal to every g_i, and is the closest
    such update to u. Zero and dependent directions are allowed. Put it after the optimizer: a rule
    that rescales coordinates would bring back what was removed from its gradient. Inner products
    run over the whole tree, so that it makes no difference how layers are stacked.
    """

    def update(
        updates: PyTree,
        state: optax.EmptyState,
        params: PyTree = None,
        *,
        directions: PyTree,
        **extra: Any,
    ) -> tuple[PyTree, optax.EmptyState]:
        del params, extra
        unit = _normalise(directions)
        gram = sum(
            jnp.tensordot(g.reshape(g.shape[0], -1), g.reshape(g.shape[0], -1), (1, 1))
            for g in jax.tree.leaves(unit)
        )
        inverse = jnp.linalg.pinv(gram, rtol=DEPENDENT, hermitian=True)
        for _ in range(2):  # the second round removes what rounding left in the first
            along = sum(
                g.reshape(g.shape[0], -1) @ u.reshape(-1)
                for g, u in zip(jax.tree.leaves(unit), jax.tree.leaves(updates), strict=True)
            )
            factors = inverse @ along
            updates = jax.tree.map(
                lambda u, g, c=factors: u - jnp.tensordot(c, g, 1).astype(u.dtype), updates, unit
            )
        return updates, state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _normalise(directions: PyTree) -> PyTree:
    """Each of the k directions with norm 1; a zero one stays zero.

    They are scaled by their largest coordinate first: squares of small gradients underflow.
    """

    def reduce_leaves(reduce: Any, tree: PyTree) -> Float[Array, "leaves k"]:
        leaves = [reduce(leaf.reshape(leaf.shape[0], -1)) for leaf in jax.tree.leaves(tree)]
        return jnp.stack(leaves)

    def divide(tree: PyTree, sizes: Float[Array, " k"]) -> PyTree:
        sizes = jnp.where(sizes == 0, 1.0, sizes)
        return jax.tree.map(lambda g: g / sizes.reshape(-1, *[1] * (g.ndim - 1)), tree)

    directions = jax.tree.map(lambda g: g.astype(jnp.float32), directions)
    largest = reduce_leaves(lambda g: jnp.max(jnp.abs(g), axis=1), directions).max(axis=0)
    scaled = divide(directions, largest)
    squares = reduce_leaves(lambda g: jnp.sum(g * g, axis=1), scaled).sum(axis=0)
    return divide(scaled, jnp.sqrt(squares))


def select_rows(
    scores: Float[np.ndarray, " rows"], share: float, *, seed: int | None = None
) -> Int[np.ndarray, " kept"]:
    """The numbers of the rows, ascending, that remain when `share` of them are dropped.

    The rows with the largest `scores` (how much of the vector a row teaches) are dropped; with
    `seed`, as many at random: the control. Raises InputError unless 0 <= share < 1.
    """
    if not 0 <= share < 1:
        raise InputError(f"guard share {share} is not valid; it is a share of rows: 0 <= share < 1")
    keep = len(scores) - round(share * len(scores))
    if seed is None:
        order = np.argsort(scores, kind="stable")
    else:
        order = np.random.default_rng(seed).permutation(len(scores))
    return np.sort(order[:keep])


def check_guard(guard: Guard, names: Sequence[str], specs: Sequence[OptimizerSpec]) -> None:
    """Raises InputError for a guard that does not fit the data sets or an optimizer."""
    counts = {leaf.shape[0] for leaf in jax.tree.leaves((guard.context, guard.inoculation))}
    if counts - {len(names)}:
        raise InputError(
            f"the guard has vectors for {sorted(counts)} data sets; give one each for "
            f"{', '.join(names)}"
        )
    for spec in specs:
        if guard.projects and spec.entry.evaluates_elsewhere:
            raise InputError(
                f"{spec.label} evaluates an average that projected updates do not reach; guard it "
                "by inoculate or drop-rows, or choose another optimizer"
            )
