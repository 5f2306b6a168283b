"""What rules for whole matrices share: where they apply, AdamW beside them, powers of matrices."""

import jax
import optax
from jaxtyping import Array, Float, PyTree

from subliminal_jax.training.optimizers.rules import LearningRate
from subliminal_jax.training.optimizers.stacking import matrix_axes, per_layer


def split_matrices(
    matrices: optax.GradientTransformation, rest: optax.GradientTransformation
) -> optax.GradientTransformation:
    """`matrices` for every hidden matrix (`stacking.matrix_axes`), `rest` for all other leaves."""

    def label(params: PyTree) -> PyTree:
        def leaf(axes: object, x: Array) -> str:
            return "rest" if axes is None else "matrix"

        is_axes = lambda x: x is None or isinstance(x, optax.contrib.MuonDimensionNumbers)  # noqa: E731
        return jax.tree.map(leaf, matrix_axes(params), params, is_leaf=is_axes)

    return optax.partition({"matrix": matrices, "rest": rest}, label)


def train_matrices(
    rule: optax.GradientTransformation,
    learning_rate: LearningRate,
    *,
    weight_decay: float,
    adam_b1: float,
    adam_b2: float,
    eps: float,
) -> optax.GradientTransformation:
    """`rule`, of one matrix, for each matrix of each layer, with decoupled weight decay; AdamW
    with the same rate and decay for all other leaves."""
    matrices = optax.chain(
        per_layer(rule),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
    rest = optax.adamw(learning_rate, adam_b1, adam_b2, eps, weight_decay=weight_decay)
    return split_matrices(matrices, rest)


def match_adam(
    u: Float[Array, "*layers rows columns"], consistent_rms: float
) -> Float[Array, "*layers rows columns"]:
    """An orthogonal step with the size of an AdamW step, ``consistent_rms * sqrt(max(rows,
    columns))`` times as large (arXiv:2502.16982); with 0, Jordan's ``sqrt(max(1, columns / rows))``
    times."""
    rows, columns = u.shape[-2:]
    if consistent_rms:
        return u * float(consistent_rms * max(rows, columns) ** 0.5)
    return u * float(max(1.0, columns / rows) ** 0.5)
