"""Optimizers by name, each of which sees one leaf a layer and one matrix a projection.

    spec = OptimizerSpec.parse("adamw:b1=0.8,weight_decay=0.01")
    optimizer = make_optimizer(spec, learning_rate)        # float, traced scalar or schedule
    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params, value=loss, obj_fn=loss_of_params)
    params = optax.apply_updates(params, updates)
    evaluate(optimizer.eval_params(params, state))

A user's own rule needs no entry: a builder ``(learning_rate, **hyper) ->
optax.GradientTransformation`` is accepted wherever a spec is (and as ``my_module:my_rule,b1=0.8``
on the command line), or gets a name from `register_optimizer`.

What changes any rule (clipping, caution, rates of their own for LoRA's factors, a rotated basis)
is no entry of its own but a modifier, written before a rule: see `modifiers`.

To add a rule to the package:

1. Write a builder. One of optax will do where it is the paper's rule; a rule of our own goes into
   `rules`, or a file of its name. Pass the learning rate on as it comes (it may be a traced scalar
   or a schedule), never through ``float`` or ``if``.
2. If the rule looks at a leaf as a whole (norms, row means, singular vectors), wrap that part in
   `stacking.per_layer`; if it treats matrices apart, ask `stacking.matrix_axes`. Rules for single
   coordinates and rules over the whole tree stay as they are. Divide by nothing that may be zero.
3. Add an `Entry` to `table.TABLE`: builder, paper, kind, what the learning rate means, a grid in
   half decades, all hyper-parameters with their defaults and ranges (weight decay 0), the extra
   arguments of `update` that it needs, and a note where it departs from the paper or from optax.
4. Run ``pytest tests/training/test_optimizers.py``: its tests run over the registry, so the new
   name is tested for stacking, kind, zero gradients, mapping over learning rates, schedules,
   donation, compilation and progress on a quadratic without further work. One test asks for more:
   ten steps of every rule are compared with a reference in float64, written from the paper, in
   tests/training/optimizer_references.py.
"""

from subliminal_jax.training.optimizers.entries import Entry, Hyper
from subliminal_jax.training.optimizers.modifiers import MODIFIERS
from subliminal_jax.training.optimizers.registry import OPTIMIZERS, Builder, register_optimizer
from subliminal_jax.training.optimizers.spec import (
    Optimizer,
    OptimizerSpec,
    describe,
    describe_modifiers,
    digest_sources,
    make_optimizer,
    make_spec,
)

__all__ = [
    "MODIFIERS",
    "OPTIMIZERS",
    "Builder",
    "Entry",
    "Hyper",
    "Optimizer",
    "OptimizerSpec",
    "describe",
    "describe_modifiers",
    "digest_sources",
    "make_optimizer",
    "make_spec",
    "register_optimizer",
]
