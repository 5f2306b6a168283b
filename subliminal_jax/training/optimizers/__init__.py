"""Optimizers by name, each of which sees one leaf a layer and one matrix a projection.

    spec = OptimizerSpec.parse("adamw:b1=0.8,weight_decay=0.01")
    optimizer = make_optimizer(spec, learning_rate)        # float, traced scalar or schedule
    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params, value=loss, obj_fn=loss_of_params)
    params = optax.apply_updates(params, updates)
    evaluate(optimizer.eval_params(params, state))

How to add an optimizer:

1. Write a builder ``build(learning_rate, **hyper) -> optax.GradientTransformation``. One of optax
   will do as it is; a rule of our own goes into `rules`. Pass the learning rate on as it comes
   (it may be a traced scalar or a schedule), never through ``float`` or ``if``.
2. If the rule looks at a leaf as a whole (norms, row means, singular vectors), wrap that part in
   `stacking.per_layer`; if it treats matrices apart, ask `stacking.matrix_axes`. Rules for single
   coordinates and rules over the whole tree stay as they are. Divide by nothing that may be zero.
3. Add an `Entry` to `registry.OPTIMIZERS`: builder, paper, kind, what the learning rate means, a
   grid in half decades, all defaults (weight decay 0), the extra arguments of `update` that it
   needs, and a note where a default departs from the paper or from optax.
4. Run ``pytest tests/training/test_optimizers.py``: its tables run over the registry, so the new
   name is tested for stacking, kind, zero gradients, mapping over learning rates, schedules,
   donation, compilation and progress on a quadratic without further work.
"""

from subliminal_jax.training.optimizers.registry import OPTIMIZERS, Entry
from subliminal_jax.training.optimizers.spec import (
    Optimizer,
    OptimizerSpec,
    default_grid,
    describe,
    make_optimizer,
)

__all__ = [
    "OPTIMIZERS",
    "Entry",
    "Optimizer",
    "OptimizerSpec",
    "default_grid",
    "describe",
    "make_optimizer",
]
