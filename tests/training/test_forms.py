"""Students kept as vectors against students kept as trees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subliminal_jax.training import loop
from subliminal_jax.training.adapters import Full, LoRA, Vector
from subliminal_jax.training.arms import Arm, TrainConfig
from subliminal_jax.training.forms import TREE, Form
from subliminal_jax.training.loop import run_sweep
from subliminal_jax.training.optimizers import OPTIMIZERS, OptimizerSpec, make_optimizer
from subliminal_jax.training.sweep import Sweep
from tests.training.tiny import CFG, base, close, identical, rows

TREE_SHAPES = {"q": {"a": (3, 6, 2), "b": (3, 2, 5)}, "up": {"a": (3, 6, 2), "b": (3, 2, 7)}}


def draw(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "layers": jax.tree.map(
            lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
            TREE_SHAPES,
            is_leaf=lambda x: isinstance(x, tuple),
        )
    }


LEAVES, STRUCTURE = jax.tree.flatten(draw(0))
VECTOR = Form(STRUCTURE, tuple(leaf.shape for leaf in LEAVES))
TAKEN = [name for name in OPTIMIZERS if VECTOR.takes(OptimizerSpec.parse(name))]


def test_a_tree_is_what_its_vector_says_with_and_without_leading_axes():
    trees = [draw(1), draw(2)]
    identical(VECTOR.unpack(VECTOR.pack(trees[0])), trees[0])
    many = jax.tree.map(lambda *x: jnp.stack(x), *trees)
    identical(VECTOR.pack(many), jnp.stack([VECTOR.pack(tree) for tree in trees]))
    identical(VECTOR.unpack(VECTOR.pack(many)), many)
    on_host = VECTOR.pack(jax.tree.map(np.asarray, many))
    assert isinstance(on_host, np.ndarray)
    identical(on_host, np.asarray(VECTOR.pack(many)))


@pytest.mark.parametrize("name", TAKEN)
def test_a_rule_that_takes_vectors_moves_them_as_trees(name):
    optimizer = make_optimizer(name, 0.01, total_steps=6)
    tree = draw(0)
    vector = VECTOR.pack(tree)
    states = optimizer.init(tree), optimizer.init(vector)
    for seed in (1, 2, 3):
        gradient = draw(seed)
        update, tree_state = optimizer.update(gradient, states[0], tree)
        moved, vector_state = optimizer.update(VECTOR.pack(gradient), states[1], vector)
        states = tree_state, vector_state
        close(moved, VECTOR.pack(update), 1e-6)
        tree, vector = jax.tree.map(jnp.add, tree, update), vector + moved
    close(
        optimizer.eval_params(vector, states[1]),
        VECTOR.pack(optimizer.eval_params(tree, states[0])),
    )
    stacked = [jax.tree.map(lambda x: jnp.asarray(x)[None], state) for state in states]
    assert jax.tree.structure(VECTOR.pack_state(stacked[0])) == jax.tree.structure(stacked[1])
    identical(VECTOR.unpack_state(VECTOR.pack_state(stacked[0])), stacked[0])


def test_rules_that_look_at_leaves_or_losses_get_the_tree():
    assert {"sgd", "adamw", "signum", "frozen_map"} <= set(TAKEN)
    for text in ("muon", "lamb", "dog", "sophia", "by_factor:adamw", "cautious:adamw"):
        assert not VECTOR.takes(OptimizerSpec.parse(text))
        assert TREE.takes(OptimizerSpec.parse(text))


CONFIG = TrainConfig(steps=4, batch_size=4, adapter=LoRA(rank=2, targets=("q", "up")), log_every=2)


def make_sweep(config=CONFIG, ranks=(None, None)):
    rules = ("adamw", "schedule_free_adamw", "muon", "sophia")
    arms = [
        Arm(OptimizerSpec(rule), 1e-2, seed, "x", rank)
        for seed, (rule, rank) in enumerate(zip(rules, (*ranks, *ranks), strict=True))
    ]
    return Sweep(base(), CFG, arms, {"x": rows(10)}, config)


def test_a_sweep_of_vectors_trains_the_students_of_a_sweep_of_trees(tmp_path, monkeypatch):
    vectors = make_sweep()
    assert vectors.form is not TREE
    end = run_sweep(vectors, tmp_path / "run")
    assert jax.tree.leaves(end.trainables)[0].ndim == 2
    with monkeypatch.context() as patch:
        patch.setattr("subliminal_jax.training.sweep.choose_form", lambda *_: TREE)
        trees = make_sweep()
    expected = run_sweep(trees)
    close(vectors.students(end), trees.students(expected), 1e-4)  # muon amplifies rounding
    for arm in range(4):
        close(vectors.student(end, arm), trees.student(expected, arm), 1e-4)
    # What a checkpoint holds is the same, so that a run goes on under a mesh, which keeps trees.
    stored = loop.to_stored(vectors, end)
    assert jax.tree.structure(stored) == jax.tree.structure(expected)
    close(stored, expected, 1e-4)
    identical(loop.from_stored(vectors, stored), end)
    resumed = run_sweep(trees, tmp_path / "run")
    identical(resumed, stored)


@pytest.mark.parametrize(
    ("config", "ranks"),
    [
        (CONFIG, (1, 2)),
        (TrainConfig(steps=4, batch_size=4, adapter=Full(), log_every=2), (None, None)),
        (TrainConfig(steps=4, batch_size=4, adapter=Vector(1), log_every=2), (None, None)),
    ],
)
def test_several_ranks_whole_weights_and_single_vectors_stay_trees(config, ranks):
    assert make_sweep(config, ranks).form is TREE
