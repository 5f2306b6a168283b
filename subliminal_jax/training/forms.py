"""How the weights of a sweep's students are kept between steps: as trees, or each as one vector.

LoRA's factors are many small leaves, and each operation of an optimizer on each leaf is a piece of
the compiled program. Of students that are vectors, rules for single coordinates take one operation
where they took one a leaf. The forward pass, rules that look at matrices and diagnostics see the
tree, and a checkpoint holds it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subliminal_jax.models.mesh import DATA, MODEL, axis_size
from subliminal_jax.training.adapters import Trainable
from subliminal_jax.training.arms import Group
from subliminal_jax.training.guards import Guard
from subliminal_jax.training.optimizers import OptimizerSpec, make_optimizer

Kept = Any  # a `Trainable`, or the vector that stands for it, float[size]


@dataclass(frozen=True)
class Form:
    """The tree of one student's weights and how it is kept; `structure` is None for a tree."""

    structure: Any = None  # its `PyTreeDef`
    shapes: tuple[tuple[int, ...], ...] = ()

    def pack(self, tree: Trainable) -> Kept:
        """What is kept of a tree, whose leaves may have leading axes; on the host for numpy's."""
        if self.structure is None:
            return tree
        leaves = jax.tree.leaves(tree)
        lead = leaves[0].shape[: leaves[0].ndim - len(self.shapes[0])]
        xp = np if isinstance(leaves[0], np.ndarray) else jnp
        return xp.concatenate([leaf.reshape(*lead, -1) for leaf in leaves], axis=-1)

    def unpack(self, kept: Kept) -> Trainable:
        """The tree, whose leaves have the leading axes of what is kept."""
        if self.structure is None:
            return kept
        leaves, start = [], 0
        for shape in self.shapes:
            stop = start + math.prod(shape)
            leaves.append(kept[..., start:stop].reshape(*kept.shape[:-1], *shape))
            start = stop
        return jax.tree.unflatten(self.structure, leaves)

    def pack_state(self, state: Any) -> Any:
        """The state of an optimizer that takes what is kept, from that over trees."""
        if self.structure is None:
            return state

        def is_tree(x: Any) -> bool:
            return jax.tree.structure(x) == self.structure

        return jax.tree.map(lambda x: self.pack(x) if is_tree(x) else x, state, is_leaf=is_tree)

    def unpack_state(self, state: Any) -> Any:
        """The inverse of `pack_state`; leaves have the axis of students."""
        if self.structure is None:
            return state
        size = sum(map(math.prod, self.shapes))
        return jax.tree.map(lambda x: self.unpack(x) if x.shape[1:] == (size,) else x, state)

    def takes(self, spec: OptimizerSpec) -> bool:
        """Whether a rule updates what is kept as it is, and not the tree: it moves every coordinate
        by that coordinate alone, and asks for no loss of other weights."""
        entry = spec.entry
        return self.structure is None or (
            entry.kind == "elementwise" and not spec.modifiers and not entry.needs
        )

    def show(self, spec: OptimizerSpec, kept: Kept) -> Any:
        """What a rule sees of weights, or of a gradient, that are kept."""
        return kept if self.takes(spec) else self.unpack(kept)

    def eval_point(self, spec: OptimizerSpec, kept: Kept, optimizer_state: Any) -> Kept:
        """The point to evaluate a student at."""
        point = make_optimizer(spec, 0.0).eval_params(self.show(spec, kept), optimizer_state)
        return point if self.takes(spec) else self.pack(point)


TREE = Form()


def choose_form(trainable: Any, groups: Sequence[Group], guard: Guard) -> Form:
    """Vectors for LoRA's factors of one rank on one device, else trees.

    Args:
      trainable: the tree of one student, or its shapes.
    """
    leaves, structure = jax.tree.flatten(trainable)
    one_device = axis_size(DATA) * axis_size(MODEL) == 1
    one_rank = len({group.rank for group in groups}) == 1 and groups[0].rank is not None
    if not (one_device and one_rank) or guard.projects:
        return TREE
    return Form(structure, tuple(tuple(leaf.shape) for leaf in leaves))
