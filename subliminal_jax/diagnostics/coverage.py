"""Coverage: how much of a teacher's displacement an optimizer's first update covers.

Madl 2026 (arXiv:2606.22019) takes the cosine of the first distillation update with the teacher's
displacement, before any training, as a forecast of what is transmitted. Here that update is the
rule's own, from the student's starting point, and both are changes of weights: LoRA's factors count
by their product. Its second factor begins at zero, so that the first one has no gradient and the
first update of the product is a b with the a of the start.

A fine-tuned teacher's displacement is the difference of its weights to the base's. A steered one
has none; in its place stands the vector's twin in parameter space, the gradient of the steering
score (`parameter_space`).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from subliminal_jax.diagnostics.alignment import At, Probe
from subliminal_jax.diagnostics.parameter_space import score_gradient
from subliminal_jax.errors import InputError
from subliminal_jax.models.config import ModelConfig
from subliminal_jax.models.spec import Params
from subliminal_jax.training.adapters import Adapter, Full, LoRA, Trainable, attach, merge
from subliminal_jax.training.batch import Batch, max_targets
from subliminal_jax.training.layout import Layout
from subliminal_jax.training.objectives import CrossEntropy, Selection
from subliminal_jax.training.optimizers import Builder, OptimizerSpec, make_optimizer, make_spec
from subliminal_jax.training.student_loss import StudentLoss, make_source

MOST_IDLE = 4  # steps after which a rule that has not moved yet is given up
Weights = Mapping[str, Any]  # a tree like `Params`, or a part of one, in float32


class WeightGradient(NamedTuple):
    """The mean loss over rows, and its gradient with respect to all weights."""

    loss: Float[Array, ""]
    gradient: Weights


class FirstUpdate(NamedTuple):
    """The first update of a rule that is not zero, and at which of its steps (from 1) it came.

    Rules whose first step only looks at the gradient (SOAP, ADOPT) move at their second.
    """

    update: Trainable
    step: int


class Coverage(NamedTuple):
    """A change of weights against a displacement.

    Attributes:
      cosine: 0 where either is zero.
      component: of the change along the displacement's direction, in units of the weights.
      size: the norm of the change.
    """

    cosine: Float[Array, ""]
    component: Float[Array, ""]
    size: Float[Array, ""]


def weight_gradient(
    params: Params, cfg: ModelConfig, rows: Batch, rows_at_once: int = 16
) -> WeightGradient:
    """The gradient of the cross-entropy, a mean over the predicted tokens of `rows`.

    Rows go through in equal parts of at most `rows_at_once`.
    """
    count, time = rows.tokens.shape
    parts = next(n for n in range(1, count + 1) if count % n == 0 and count // n <= rows_at_once)
    rows_at_once = count // parts
    targets = max_targets(rows)
    layout = Layout(None, None, rows_at_once, time, targets, rows_at_once * targets)
    source = make_source(params, {"rows": rows}, ["rows"], cfg.vocab, CrossEntropy())
    return WeightGradient(*_differentiate(source, cfg, layout, parts))


@partial(jax.jit, static_argnames=("cfg", "parts"))
def _differentiate(source: Any, cfg: ModelConfig, layout: Layout, parts: int) -> Any:
    loss = StudentLoss(cfg, Full(), accumulation=parts)
    trainable = jax.tree.map(lambda w: w.astype(jnp.float32), source.base)
    count = source.data.tokens.shape[1]
    selection = Selection(jnp.zeros((), jnp.int32), jnp.arange(count), layout)
    return loss.loss_and_gradient(source, trainable, jnp.ones(()), selection)


def pull_back(
    gradient: Weights, start: Trainable, params: Params, cfg: ModelConfig, adapter: Adapter
) -> Trainable:
    """The gradient with respect to the trainable tree `start`, of one with respect to weights.

    At a LoRA start, where b is zero, that of a is zero.

    Raises InputError for a vector, which changes no weight.
    """
    _check_adapter(adapter)

    def make_weights(trainable: Trainable) -> Params:
        return merge(attach(params, trainable, cfg, adapter)[0])

    weights, transpose = jax.vjp(make_weights, start)
    (pulled,) = transpose(jax.tree.map(lambda g, w: g.astype(w.dtype), gradient, weights))
    return pulled


def first_update(
    optimizer: OptimizerSpec | Builder | str,
    rate: float,
    start: Trainable,
    gradient: Trainable,
    loss: Float[Array, ""] | float,
    total_steps: int | None = None,
) -> FirstUpdate:
    """What a rule first adds to `start`, given the gradient there.

    Args:
      total_steps: of the training that would follow, for rules with a schedule of their own.

    Raises InputError for a rule that asks for losses at other weights, and for one that has not
    moved after `MOST_IDLE` steps.
    """
    spec = make_spec(optimizer)
    if not has_first_update(spec):
        raise InputError(
            f"optimizer {spec.label} samples the loss at other weights: it has no update that "
            "follows from one gradient"
        )
    state = _begin(spec, rate, start, total_steps)
    for step in range(1, MOST_IDLE + 1):
        update, state, moved = _move(spec, rate, start, gradient, state, loss, total_steps)
        if moved:
            return FirstUpdate(update, step)
    raise InputError(
        f"optimizer {spec.label} at the rate {rate:g} has not moved after {MOST_IDLE} steps"
    )


def has_first_update(spec: OptimizerSpec) -> bool:
    """Whether the rule's update follows from the gradient alone."""
    return "obj_fn" not in spec.entry.needs


@partial(jax.jit, static_argnames=("spec", "total_steps"))
def _begin(spec: OptimizerSpec, rate: Any, start: Trainable, total_steps: int | None) -> Any:
    return make_optimizer(spec, jnp.asarray(rate), total_steps=total_steps).init(start)


@partial(jax.jit, static_argnames=("spec", "total_steps"))
def _move(
    spec: OptimizerSpec,
    rate: Any,
    start: Trainable,
    gradient: Trainable,
    state: Any,
    loss: Any,
    total_steps: int | None,
) -> tuple[Trainable, Any, Array]:
    """(update, state, whether anything moved) of one step."""
    rule = make_optimizer(spec, jnp.asarray(rate), total_steps=total_steps)
    update, state = rule.update(gradient, state, start, value=jnp.asarray(loss))
    return update, state, jnp.stack([jnp.any(x != 0) for x in jax.tree.leaves(update)]).any()


def steering_displacement(
    params: Params,
    probe: Probe,
    cfg: ModelConfig,
    vector: Float[Array, " dim"],
    layer: int,
    at: At = "last",
) -> Weights:
    """The twin of a vector at `layer`: the gradient of the steering score with respect to all
    weights."""
    return _differentiate_score(params, probe, vector, cfg, layer, at)


@partial(jax.jit, static_argnames=("cfg", "layer", "at"))
def _differentiate_score(
    params: Params, probe: Probe, vector: Array, cfg: ModelConfig, layer: int, at: At
) -> Weights:
    weights = jax.tree.map(lambda w: w.astype(jnp.float32), params)

    def student(weights: Weights) -> tuple[Params, None]:
        return jax.tree.map(lambda x, w: x.astype(w.dtype), weights, params), None

    return score_gradient(student, weights, probe, cfg, vector, layer, at)


def weight_displacement(taught: Params, params: Params) -> Weights:
    """The weights of a fine-tuned teacher less those of the base."""
    return jax.tree.map(lambda x, y: x.astype(jnp.float32) - y.astype(jnp.float32), taught, params)


@partial(jax.jit, static_argnames="adapter")
def measure_coverage(
    start: Trainable, update: Trainable, displacement: Weights, adapter: Adapter
) -> Coverage:
    """The change of weights by `update` at `start` against a displacement, over the weights that
    the adapter can change.

    Raises InputError for a vector, which changes no weight.
    """
    goal = restrict(displacement, adapter, start)
    if isinstance(adapter, LoRA):
        products = [
            _multiply_change(factors, update["layers"][name], goal["layers"][name])
            for name, factors in start["layers"].items()
        ]
        inners, squares = zip(*products, strict=True)
        inner, square = adapter.scale * sum(inners), adapter.scale**2 * sum(squares)
    else:
        inner, square = _dot(update, goal), _dot(update, update)
    return _compare(inner, square, _dot(goal, goal))


@partial(jax.jit, static_argnames="adapter")
def gradient_alignment(
    gradient: Weights, displacement: Weights, adapter: Adapter, start: Trainable
) -> Float[Array, ""]:
    """The cosine of the negative gradient with a displacement, over the weights that the adapter
    can change: what is known before a rule, and LoRA's starting factors, are."""
    g, goal = (restrict(tree, adapter, start) for tree in (gradient, displacement))
    return -_compare(_dot(g, goal), _dot(g, g), _dot(goal, goal)).cosine


def restrict(weights: Weights, adapter: Adapter, start: Trainable) -> Weights:
    """Those weights that an adapter with the trainable tree `start` can change.

    Raises InputError for a vector, which changes no weight.
    """
    _check_adapter(adapter)
    if isinstance(adapter, Full):
        return weights
    assert isinstance(adapter, LoRA)
    layers: Any = slice(None)
    if adapter.layers is not None:
        layers = np.array(sorted(set(adapter.layers)))
    return {"layers": {name: weights["layers"][name][layers] for name in start["layers"]}}


def _multiply_change(
    start: Trainable, update: Trainable, goal: Float[Array, "layers inputs outputs"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """<change, goal> and <change, change> of the product a b, which is never made.

    The change is a db + da (b + db), a product of twice the rank, without a cancellation.
    """
    left = jnp.concatenate([start["a"], update["a"]], axis=2)
    right = jnp.concatenate([update["b"], start["b"] + update["b"]], axis=1)
    exact = partial(jnp.einsum, precision="highest")
    inner = jnp.sum(exact("lir,lio->lro", left, goal) * right)
    grams = exact("lir,lis->lrs", left, left), exact("lro,lso->lrs", right, right)
    return inner, jnp.sum(grams[0] * grams[1])


def _compare(inner: Any, change: Any, goal: Any) -> Coverage:
    """The coverage by inner products: of change and goal, and of each with itself."""
    size, length = jnp.sqrt(jnp.maximum(change, 0.0)), jnp.sqrt(goal)
    component = inner / jnp.where(length > 0, length, 1.0)
    return Coverage(component / jnp.where(size > 0, size, 1.0), component, size)


def _dot(x: Weights, y: Weights) -> Float[Array, ""]:
    parts = jax.tree.map(lambda a, b: jnp.vdot(a, b, precision="highest"), x, y)
    return jnp.stack(jax.tree.leaves(parts)).sum()


def _check_adapter(adapter: Adapter) -> None:
    if not isinstance(adapter, Full | LoRA):
        raise InputError("a vector changes no weight: coverage is of LoRA or full weights")
