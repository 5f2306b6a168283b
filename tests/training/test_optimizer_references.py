"""Every rule of the registry against a reference in float64 that was written from its paper.

    python -m tests.training.test_optimizer_references

prints the table: rule, source, largest difference after ten steps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from subliminal_jax.training.optimizers import (
    MODIFIERS,
    OPTIMIZERS,
    OptimizerSpec,
    make_optimizer,
)
from subliminal_jax.training.optimizers.shampoo import draw_probe
from tests.training.matrix_references import MATRIX_REFERENCES
from tests.training.modifier_references import MODIFIER_REFERENCES
from tests.training.optimizer_references import REFERENCES, TOTAL_STEPS, Context, run

RULES = REFERENCES | MATRIX_REFERENCES | MODIFIER_REFERENCES
LAYERS = 2
SHAPES = {
    "embed": (5, 3),
    "final_norm": (3,),
    "layers.q": (LAYERS, 3, 4),
    "layers.attn_norm": (LAYERS, 3),
    "layers.up.a": (LAYERS, 3, 2),
    "layers.up.b": (LAYERS, 2, 4),
}
# A warm-up and a decay, in units of the middle of a rule's grid.
SCHEDULE = (0.3, 0.6, 1.0, 1.0, 0.9, 0.8, 0.7, 0.5, 0.3, 0.1)
# Float32 against float64. The parameters themselves round by 7e-9, which counts where the first
# steps are short.
TOLERANCE = 1e-4


@functools.cache
def draw(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: scale * rng.normal(size=shape) for name, shape in SHAPES.items()}


def start():
    leaves = draw(0, 0.1)
    return {**leaves, "layers.up.b": np.zeros(SHAPES["layers.up.b"])}


def nest(leaves):
    """The tree of arrays, layers stacked, of leaves by dotted name."""
    tree = {}
    for name, leaf in leaves.items():
        *path, last = name.split(".")
        place = tree
        for key in path:
            place = place.setdefault(key, {})
        place[last] = jnp.asarray(leaf, jnp.float32)
    return tree


def split(leaves):
    """One leaf a layer, as "layers.q.0"."""
    parts = {}
    for name, leaf in leaves.items():
        if name.startswith("layers."):
            parts |= {f"{name}.{i}": leaf[i] for i in range(LAYERS)}
        else:
            parts[name] = leaf
    return parts


def flatten(tree, prefix=""):
    parts = {}
    for name, leaf in tree.items():
        if isinstance(leaf, dict):
            parts |= flatten(leaf, f"{prefix}{name}.")
        else:
            parts[f"{prefix}{name}"] = np.asarray(leaf, np.float64)
    return parts


def run_registry(text, rates, moment, curvature):
    """The leaves after ten steps of the registry's rule, and the rotations in its state."""

    def loss(params):
        terms = jax.tree.map(lambda c, x: 0.5 * jnp.sum(c * x**2), nest(curvature), params)
        return optax.tree.sum(terms)

    schedule = jnp.asarray(rates, jnp.float32)
    optimizer = make_optimizer(
        OptimizerSpec.parse(text), lambda count: schedule[count], total_steps=TOTAL_STEPS
    )
    gradients = [nest(draw(t + 1, 1e-2)) for t in range(TOTAL_STEPS)]

    def step(carry, g):
        params, state = carry
        updates, state = optimizer.update(g, state, params, obj_fn=loss)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def train(params, gradients):
        state = optimizer.init(params)
        if text.startswith(("frozen_map", "adamw_masked")):
            state = optax.tree.set(state, moment=nest(moment))
        (params, state), _ = jax.lax.scan(step, (params, state), gradients)
        return params, getattr(state, "rotations", {})

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)
    params, rotations = train(nest(start()), stacked)
    return split(flatten(params)), rotations


def make_contexts(moment, curvature, rotations):
    moments, curvatures = split(moment), split(curvature)
    values = np.concatenate([v.ravel() for v in moments.values()])
    limit = np.sort(values)[-round(0.1 * values.size) - 1]
    logs = -0.5 * np.log(values + 1e-8)
    means = float(np.exp(logs[values > limit].mean())), float(np.exp(logs.mean()))

    def rotation(name):
        leaf = moments[name]
        n = leaf.shape[-1] if leaf.ndim == 1 or ".b." in name else leaf.shape[0]
        if not name.startswith("layers."):
            return rotations.get(f"{n}")
        stack = rotations.get(f"{LAYERS} layers of {n}")
        return None if stack is None else stack[int(name[-1])]

    return {
        name: Context(
            name=name,
            curvature=curvatures[name],
            moment=moments[name],
            bottom=moments[name] > limit,
            geometric_means=means,
            rotation=None if (R := rotation(name)) is None else np.asarray(R, np.float64),
            probes=tuple(
                np.asarray(draw_probe(0, jnp.int32(t), moments[name].shape), np.float64)
                for t in range(TOTAL_STEPS if moments[name].ndim == 2 else 0)
            ),
        )
        for name in moments
    }


@functools.cache
def largest_difference(text):
    """After ten steps, over all leaves: relative to the largest movement of a coordinate."""
    moment = {name: (1e-3 * x) ** 2 for name, x in draw(90).items()}
    curvature = {name: 1 + np.abs(x) for name, x in draw(91).items()}
    grid = OptimizerSpec.parse(text).entry.grid
    rates = [grid[len(grid) // 2] * share for share in SCHEDULE]
    ours, rotations = run_registry(text, rates, moment, curvature)
    gradients = [split(draw(t + 1, 1e-2)) for t in range(TOTAL_STEPS)]
    contexts = make_contexts(moment, curvature, rotations)
    before = split(start())
    theirs = run(text, RULES[text][0], before, gradients, rates, contexts)[-1]
    moved = max(np.abs(theirs[name] - before[name]).max() for name in before)
    assert moved > 0
    return max(np.abs(ours[name] - theirs[name]).max() for name in before) / moved


def test_every_rule_has_a_reference():
    specs = [OptimizerSpec.parse(text) for text in RULES]
    assert {spec.name for spec in specs} == set(OPTIMIZERS)
    assert {name for spec in specs for name, _ in spec.modifiers} == set(MODIFIERS)


@pytest.mark.parametrize("text", RULES)
def test_ten_steps_are_those_of_the_reference(text):
    assert largest_difference(text) < TOLERANCE


if __name__ == "__main__":
    for text, (_, source) in RULES.items():
        print(f"| {text} | {source} | {largest_difference(text):.1e} |")
